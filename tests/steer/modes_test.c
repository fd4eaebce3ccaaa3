/* MoDES: its rule, its search against the whole grid, its file. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "golden.h"
#include "scratch.h"
#include "steer/modes.h"

static jt_rng rng = {.seed = 11};

/* ---- the search ---- */

enum { GRID = 24 };

typedef struct surface {
    size_t n, m;
    double skipped[GRID * GRID], cost[GRID * GRID];
    bool asked[GRID * GRID];
    size_t calls;
} surface;

/* Rises with i and with j. */
static void make_surface(surface *s, double *of)
{
    for (size_t i = 0; i < s->n; i++) {
        for (size_t j = 0; j < s->m; j++) {
            double left = j ? of[i * s->m + j - 1] : 0.0;
            double up = i ? of[(i - 1) * s->m + j] : 0.0;
            of[i * s->m + j] =
                fmax(left, up) + jt_rng_double(&rng) * jt_rng_double(&rng);
        }
    }
}

static jt_status measure(void *user, size_t i, size_t j, double *skipped, double *cost,
                         jt_err *err)
{
    surface *s = user;
    size_t at = i * s->m + j;
    (void)err;
    assert_true(i < s->n && j < s->m);
    s->calls += !s->asked[at];
    s->asked[at] = true;
    *skipped = s->skipped[at];
    *cost = s->cost[at];
    return JT_OK;
}

static void the_search_finds_what_the_whole_grid_has(void **state)
{
    (void)state;
    for (int round = 0; round < 300; round++) {
        surface s = {.n = 1 + jt_rng_below(&rng, GRID),
                     .m = 1 + jt_rng_below(&rng, GRID)};
        make_surface(&s, s.skipped);
        make_surface(&s, s.cost);
        double target = 1.1 * jt_rng_double(&rng) * s.skipped[s.n * s.m - 1];
        double best = INFINITY;
        for (size_t at = 0; at < s.n * s.m; at++) {
            if (s.skipped[at] >= target)
                best = fmin(best, s.cost[at]);
        }
        jt_frontier frontier = {s.n, s.m, measure, &s};
        size_t i = 0, j = 0;
        bool found;
        assert_int_equal(jt_frontier_search(&frontier, target, &i, &j, &found, NULL),
                         JT_OK);
        assert_int_equal(found, isfinite(best));
        if (found) {
            assert_true(s.skipped[i * s.m + j] >= target);
            assert_true(s.cost[i * s.m + j] == best);
        }
        assert_true(s.calls <= s.n + s.m + 6);
    }
}

/* ---- the rule ---- */

static void experts_below_the_threshold_are_skipped(void **state)
{
    (void)state;
    enum { T = 30, K = 4, LAYERS = 3 };
    float alpha[2 * LAYERS] = {0, 0.5f, 0.25f, 0, 0.1f, 1.0f};
    int32_t second[] = {7, 9}, ids[T], expert[T * K];
    float weight[T * K], before[T * K];
    jt_ids list = {second, 2};
    jt_modes_rule rule = {
        .n_layers = LAYERS, .alpha = alpha, .second = &list, .tau = {0.1f, 0.05f}};
    jt_route route = {
        .n_tokens = T, .n_experts = 9, .k = K, .expert = expert, .weight = weight};
    uint64_t skipped = 0, slots = 0;
    for (int layer = 1; layer < LAYERS; layer++) {
        for (int s = 0; s < T * K; s++) {
            ids[s / K] = (int32_t)jt_rng_below(&rng, 12);
            expert[s] = (int32_t)jt_rng_below(&rng, 10) - 1;
            before[s] = weight[s] = expert[s] < 0 ? 0.0f : jt_rng_float(&rng);
        }
        jt_route_site site = {.layer = layer, .token_ids = ids};
        int32_t kept[T * K];
        memcpy(kept, expert, sizeof kept);
        jt_modes_skip(&rule, &site, &route);
        for (int s = 0; s < T * K; s++) {
            int class = ids[s / K] == 7 || ids[s / K] == 9;
            double sum = 0.0;
            for (int j = 0; j < K; j++)
                sum += (double)before[s / K * K + j];
            double value = (double)alpha[class * LAYERS + layer] * before[s] / sum;
            bool skip = kept[s] >= 0 && value < (double)rule.tau[class];
            assert_int_equal(expert[s], skip ? -1 : kept[s]);
            assert_true(weight[s] == (skip ? 0.0f : before[s])); /* not scaled */
            slots += kept[s] >= 0;
            skipped += skip;
        }
    }
    assert_int_equal(rule.slots, slots);
    assert_int_equal(rule.skipped, skipped);
    assert_true(skipped > 0 && skipped < slots);
}

/* ---- from a model to a policy ---- */

enum { TOKENS = 64 };

static jt_modes *calibrate(const jt_model *model, const int32_t *tokens,
                           const int32_t *second, size_t n_second)
{
    static const float targets[] = {0.25f, 0.5f};
    jt_modes *modes;
    jt_err err;
    jt_modes_options options = {.targets = targets,
                                .n_targets = 2,
                                .window = 32,
                                .grid = 12,
                                .second = second,
                                .n_second = n_second};
    if (jt_modes_calibrate(&modes, model, tokens, TOKENS, &options, &err) != JT_OK)
        fail_msg("%s", err.msg);
    return modes;
}

static void make_tokens(int32_t *tokens)
{
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = (i * 37 + i * i) % 60;
}

static void check_points(const jt_modes_info *info)
{
    assert_int_equal(info->n_points, 2 * JT_MODES_POWERS);
    for (int c = 0; c < info->n_classes; c++) {
        double sum = 0.0;
        for (int i = 0; i < info->n_layers; i++)
            sum += (double)info->importance[c * info->n_layers + i];
        assert_true(fabs(sum - 1.0) < 1e-5);
    }
    for (size_t i = 0; i < info->n_points; i++) {
        assert_true(info->points[i].skipped >= info->points[i].target);
        assert_true(info->points[i].kl >= 0.0);
        assert_true(info->points[i].tau[0] > 0.0f);
    }
}

/* What the policy skips is what the calibration has promised for its own text. */
static void check_policy(const jt_model *model, const char *path, const int32_t *tokens,
                         double promised)
{
    char text[600];
    snprintf(text, sizeof text, "modes:file=%s,skip=0.5,power=1", path);
    steered s =
        steer(model, (const char *[]){text, NULL}, &(jt_session_options){.n_ctx = 32});
    jt_usage *usage;
    assert_int_equal(jt_usage_new(&usage, model, NULL), JT_OK);
    jt_watcher watcher = jt_usage_watcher(usage);
    assert_int_equal(jt_session_add_watcher(s.session, &watcher, NULL), JT_OK);
    for (int i = 0; i < TOKENS; i += 32) {
        jt_session_truncate(s.session, 0);
        assert_int_equal(jt_session_eval(s.session, tokens + i, 32, NULL, NULL), JT_OK);
    }
    double used = 0.0, all = 0.0;
    for (size_t i = 0; i < jt_usage_layers(usage); i++) {
        jt_layer_usage layer;
        jt_usage_layer(usage, i, &layer);
        for (int e = 0; e < layer.n_experts; e++)
            used += (double)layer.counts[e];
        all += 2.0 * (double)layer.tokens;
    }
    assert_true(fabs(1.0 - used / all - promised) < 1e-6);
    jt_usage_free(usage);
    unsteer(&s);
}

static void a_calibration_keeps_its_promise(void **state)
{
    (void)state;
    int32_t tokens[TOKENS];
    scratch folder = scratch_new();
    const char *path = scratch_path(&folder, "modes.json");
    jt_model *model = golden_model("mixtral");
    jt_modes *again;
    jt_modes_info info, read;
    make_tokens(tokens);
    jt_modes *modes = calibrate(model, tokens, NULL, 0);
    jt_modes_describe(modes, &info);
    check_points(&info);
    assert_int_equal(jt_modes_write(modes, path, NULL), JT_OK);
    assert_int_equal(jt_modes_open(&again, path, NULL), JT_OK);
    jt_modes_describe(again, &read);
    assert_int_equal(read.n_points, info.n_points);
    assert_true(read.model == info.model && read.tokens == TOKENS);
    for (size_t i = 0; i < info.n_points; i++)
        assert_true(read.points[i].tau[0] == info.points[i].tau[0]);
    check_policy(model, path, tokens, info.points[1].skipped);
    jt_steering *steering;
    jt_err err;
    jt_model *other = golden_model("olmoe");
    char text[600];
    snprintf(text, sizeof text, "modes:file=%s,skip=0.6", path);
    assert_int_equal(jt_steering_new(&steering, model, NULL), JT_OK);
    assert_int_equal(jt_steering_add(steering, text, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "no thresholds for so large a share as 0.6"));
    jt_steering_free(steering);
    assert_int_equal(jt_steering_new(&steering, other, NULL), JT_OK);
    assert_int_equal(jt_steering_add(steering, text, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "another model"));
    jt_steering_free(steering);
    scratch_free(&folder);
    jt_modes_free(again);
    jt_modes_free(modes);
    jt_model_free(other);
    jt_model_free(model);
}

static void two_classes_have_thresholds_of_their_own(void **state)
{
    (void)state;
    int32_t tokens[TOKENS];
    const int32_t second[] = {1, 4, 9, 16, 37, 38, 42, 47, 51};
    jt_model *model = golden_model("mixtral");
    jt_modes_info info;
    make_tokens(tokens);
    jt_modes *modes = calibrate(model, tokens, second, 9);
    jt_modes_describe(modes, &info);
    assert_int_equal(info.n_classes, 2);
    check_points(&info);
    jt_modes_free(modes);
    jt_model_free(model);
}

static void between_two_points_thresholds_lie_between(void **state)
{
    (void)state;
    jt_modes_point points[] = {{.power = 1, .target = 0.2, .tau = {0.1f}, .kl = 1},
                               {.power = 1, .target = 0.4, .tau = {0.3f}, .kl = 3},
                               {.power = 0, .target = 0.2, .tau = {0.5f}, .kl = 2},
                               {.power = 0, .target = 0.4, .tau = {0.9f}, .kl = 2}};
    jt_modes modes = {.n_layers = 1, .n_classes = 1, .point = points, .n_points = 4};
    static const struct {
        float power, found;
        double skip, tau;
    } cases[] = {{1, 1, 0.2, 0.1}, {1, 1, 0.3, 0.2},  {1, 1, 0.1, 0.05},
                 {0, 0, 0.4, 0.9}, {-1, 1, 0.2, 0.1}, {-1, 0, 0.3, 0.7},
                 {-1, 0, 0.4, 0.9}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float tau[2], power = cases[i].power;
        assert_int_equal(jt_modes_thresholds(&modes, &power, cases[i].skip, tau, NULL),
                         JT_OK);
        assert_true(power == cases[i].found);
        assert_true(fabs((double)tau[0] - cases[i].tau) < 1e-6);
    }
    float tau[2], power = -1;
    assert_int_equal(jt_modes_thresholds(&modes, &power, 0.5, tau, NULL), JT_E_ARG);
}

static void bad_files_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "{}",
        "[]",
        "{\"format\": \"junto modes\"}",
        "{\"format\": \"junto modes\", \"version\": 2, \"model\": "
        "\"0123456789abcdef\"}",
        "{\"format\": \"junto modes\", \"version\": 1, \"model\": \"xyz\"}",
        "{\"format\": \"junto modes\", \"model\": \"0123456789abcdef\", "
        "\"importance\": [[1, 2], [3]]}",
        "{\"format\": \"junto modes\", \"model\": \"0123456789abcdef\", "
        "\"importance\": [[-1]]}",
        "{\"format\": \"junto modes\", \"model\": \"0123456789abcdef\", "
        "\"importance\": [[1]], \"second\": [3]}",
        "{\"format\": \"junto modes\", \"model\": \"0123456789abcdef\", "
        "\"importance\": [[1]], \"points\": [{\"tau\": [1, 2, 3]}]}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        jt_modes *modes;
        jt_status status = jt_modes_parse(&modes, texts[i], strlen(texts[i]), NULL);
        if (status != JT_E_FORMAT && status != JT_E_UNSUPPORTED)
            fail_msg("'%s' is taken", texts[i]);
    }
}

static void options_without_sense_are_refused(void **state)
{
    (void)state;
    int32_t tokens[TOKENS];
    const float good[] = {0.5f}, bad[] = {1.0f};
    jt_model *model = golden_model("mixtral"), *dense = golden_model("llama");
    jt_modes *modes;
    jt_modes_options o = {.window = 32};
    make_tokens(tokens);
    assert_int_equal(jt_modes_calibrate(&modes, model, tokens, TOKENS, &o, NULL),
                     JT_E_ARG);
    o.targets = bad;
    o.n_targets = 1;
    assert_int_equal(jt_modes_calibrate(&modes, model, tokens, TOKENS, &o, NULL),
                     JT_E_ARG);
    o.targets = good;
    assert_int_equal(jt_modes_calibrate(&modes, model, tokens, 31, &o, NULL), JT_E_ARG);
    assert_int_equal(jt_modes_calibrate(&modes, dense, tokens, TOKENS, &o, NULL),
                     JT_E_UNSUPPORTED);
    jt_model_free(model);
    jt_model_free(dense);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_search_finds_what_the_whole_grid_has),
        cmocka_unit_test(experts_below_the_threshold_are_skipped),
        cmocka_unit_test(a_calibration_keeps_its_promise),
        cmocka_unit_test(two_classes_have_thresholds_of_their_own),
        cmocka_unit_test(between_two_points_thresholds_lie_between),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(options_without_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
