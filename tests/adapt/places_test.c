/* Adapters that stand at places: what they give by hand, the same bits for any chunk,
 * and files that are wrong, tensor by tensor. Gradients are in grad_test.c, files that
 * are right in kinds_test.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/files.h"
#include "adapt/made.h"
#include "adapted.h"
#include "base/random.h"
#include "learn/tuning.h"
#include "model/model.h"
#include "scratch.h"

enum { D = 48, RANK = 3 };

static const jt_session_options exact = {.cpu = "scalar", .kv_type = "f32"};
static const float one = 1.0f;
static golden g;

static int open_model(void **state)
{
    (void)state;
    golden_open(&g, "llama");
    assert_int_equal(g.model->params.d_model, D);
    return scratch_setup(state);
}

static int close_model(void **state)
{
    golden_close(&g);
    return scratch_teardown(state);
}

/* An adapter as tuning begins it, with values everywhere. */
static jt_adapter *shaken(jt_config_adapter options)
{
    char path[300];
    jt_config config = {.adapter = options, .data = {.n_sources = 1}};
    jt_context ctx;
    jt_tuning *tuning;
    jt_variables v;
    jt_adapter *a;
    jt_err err = {0};
    jt_rng rng = {.seed = 3};
    assert_int_equal(jt_context_init(&ctx, 1, NULL, NULL), JT_OK);
    adapted_must(jt_tuning_new(&tuning, &config, g.model, &ctx, &err), &err);
    adapted_must(jt_tuning_variables(tuning, &v, &err), &err);
    for (size_t i = 0; i < v.count; i++) {
        for (size_t j = 0; j < v.list[i].count * v.list[i].rows * v.list[i].cols; j++)
            v.list[i].value[j] = 0.3f * jt_rng_normal(&rng);
    }
    snprintf(path, sizeof path, "%s/shaken.safetensors", scratch_dir.dir);
    adapted_must(jt_adapter_save(tuning->adapter, path, JT_ADAPTER_JUNTO, NULL, &err),
                 &err);
    adapted_must(jt_adapter_open(&a, path, g.model, &err), &err);
    remove(path);
    jt_variables_free(&v);
    jt_tuning_free(tuning);
    jt_context_free(&ctx);
    return a;
}

static jt_config_adapter bottleneck(const char *place, bool gated)
{
    return (jt_config_adapter){.kind = "bottleneck",
                               .init = "",
                               .place = place,
                               .activation = "silu",
                               .gated = gated,
                               .rank = RANK,
                               .alpha = 6.0};
}

/* ---- by hand ---- */

static const float *tensor(const jt_adapter *a, size_t i)
{
    return a->source[a->place[0].source[i]].t.data;
}

static double line(const float *w, const float *bias, const float *x, size_t r,
                   size_t n)
{
    double sum = bias[r];
    for (size_t i = 0; i < n; i++)
        sum += (double)w[r * n + i] * x[i];
    return sum;
}

/* y + s (U (silu(G x + g) * (D x + d)) + u) */
static void check_formula(void **state)
{
    jt_context ctx;
    jt_rng rng = {.seed = 4};
    float x[D], y[D], h[RANK];
    (void)state;
    jt_adapter *a = shaken(bottleneck("blk[.]1[.]ffn[.]beside", true));
    assert_int_equal(a->n_places, 1);
    assert_string_equal(a->place[0].name, "blk.1.ffn.beside");
    assert_true(a->place[0].scale == 2.0f);
    assert_int_equal(jt_context_init(&ctx, 1, NULL, NULL), JT_OK);
    jt_rng_normals(&rng, x, D);
    jt_rng_normals(&rng, y, D);
    jt_tensor in = {.data = x, .dtype = JT_F32, .n_dims = 2, .shape = {1, D}};
    jt_tensor out = jt_new(&ctx, 1, D);
    memcpy(out.data, y, sizeof y);
    a->kind->at_place(a, &a->place[0], &ctx, &in, 2.0f, NULL, &out);
    for (size_t r = 0; r < RANK; r++) {
        double gate = line(tensor(a, 4), tensor(a, 5), x, r, D);
        h[r] = (float)(gate / (1.0 + exp(-gate)) *
                       line(tensor(a, 0), tensor(a, 1), x, r, D));
    }
    for (size_t r = 0; r < D; r++) {
        double expected = y[r] + 2.0 * line(tensor(a, 2), tensor(a, 3), h, r, RANK);
        assert_float_equal(jt_row(&out, 0)[r], expected, 1e-5);
    }
    jt_context_free(&ctx);
    jt_adapter_free(a);
}

/* ---- in sessions ---- */

static void check_chunks(void **state)
{
    const char *const places[] = {"before", "beside", "after", "."};
    jt_session_options pieces = exact;
    float *plain = adapted_run(&g, &exact, NULL, NULL, 0);
    (void)state;
    pieces.chunk = 5;
    pieces.threads = 2;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const float nothing = 0.0f;
        jt_adapter *a = shaken(bottleneck(places[i], i == 1));
        float *all = adapted_run(&g, &exact, &a, &one, 1);
        float *some = adapted_run(&g, &pieces, &a, &one, 1);
        float *off = adapted_run(&g, &exact, &a, &nothing, 1);
        assert_memory_equal(all, some, g.count * g.vocab * sizeof *all);
        assert_memory_equal(off, plain, g.count * g.vocab * sizeof *all);
        assert_true(golden_error(all, plain, g.count * g.vocab) > 1e-2);
        free(all);
        free(some);
        free(off);
        jt_adapter_free(a);
    }
    free(plain);
}

static void halve(void *self, const int32_t *ids, const int32_t *positions,
                  size_t n_tokens, size_t n_adapters, float *weights)
{
    (void)self;
    (void)ids;
    (void)positions;
    for (size_t i = 0; i < n_tokens * n_adapters; i++)
        weights[i] = 0.5f;
}

/* Tokens that want half of it get what half the scale gives. */
static void check_weights(void **state)
{
    const jt_adapter_weigher weigher = {NULL, halve};
    const float half = 0.5f;
    jt_adapter *a = shaken(bottleneck("ffn.after|attn.before", false));
    jt_session *s;
    jt_err err = {0};
    (void)state;
    float *expected = adapted_run(&g, &exact, &a, &half, 1);
    adapted_must(jt_session_new(&s, g.model, &exact, &err), &err);
    adapted_must(jt_session_add_adapter(s, a, 1.0f, &err), &err);
    adapted_must(jt_session_weigh_adapters(s, &weigher, &err), &err);
    adapted_must(jt_session_eval(s, g.tokens, g.count, NULL, &err), &err);
    assert_true(golden_error(jt_session_logits(s), expected + (g.count - 1) * g.vocab,
                             g.vocab) < 1e-5);
    jt_session_free(s);
    free(expected);
    jt_adapter_free(a);
}

/* ---- files that are wrong ---- */

typedef struct file {
    const char *place, *activation;
    uint64_t down[2], down_bias, up[2], up_bias;
    float value;
} file;

static const file good = {"blk.0.ffn.after", "1", {2, D}, 2, {D, 2}, D, 0.5f};

static const char *write_file(const file *f)
{
    static const char *const tails[] = {"down", "down_bias", "up", "up_bias"};
    static char path[300];
    const uint64_t bias[2][1] = {{f->down_bias}, {f->up_bias}};
    const uint64_t *shape[] = {f->down, bias[0], f->up, bias[1]};
    float values[8 * D];
    jt_safetensors_writer *w;
    jt_err err = {0};
    for (size_t i = 0; i < 8 * D; i++)
        values[i] = f->value;
    snprintf(path, sizeof path, "%s/a.safetensors", scratch_dir.dir);
    adapted_must(jt_safetensors_begin(&w, path, &err), &err);
    const char *const metadata[][2] = {{"junto.adapter", "1"},
                                       {"junto.adapter.kind", "bottleneck"},
                                       {"junto.adapter.family", "llama"},
                                       {"junto.adapter.model", "0"},
                                       {"junto.adapter.alpha", "4"},
                                       {"junto.adapter.activation", f->activation}};
    for (size_t i = 0; i < sizeof metadata / sizeof *metadata; i++)
        adapted_must(
            jt_safetensors_set_metadata(w, metadata[i][0], metadata[i][1], &err), &err);
    for (int i = 0; i < 4; i++) {
        char name[100];
        snprintf(name, sizeof name, "%s.%s", f->place, tails[i]);
        adapted_must(jt_safetensors_add(w, name, JT_ST_F32, 2 - i % 2, shape[i], &err),
                     &err);
    }
    for (int i = 0; i < 4; i++) {
        uint64_t n = shape[i][0] * (i % 2 ? 1 : shape[i][1]);
        adapted_must(jt_safetensors_write(w, values, n * sizeof *values, &err), &err);
    }
    adapted_must(jt_safetensors_writer_finish(w, &err), &err);
    return path;
}

static void refuses(const file *f, jt_status status, const char *says)
{
    jt_adapter *a;
    jt_err err = {0};
    jt_status got = jt_adapter_open(&a, write_file(f), g.model, &err);
    if (got != status || !strstr(err.msg, says))
        fail_msg("status %d, '%s', expected %d and '%s'", got, err.msg, status, says);
}

static void check_files(void **state)
{
    file f = good;
    jt_adapter *a;
    jt_err err = {0};
    (void)state;
    adapted_must(jt_adapter_open(&a, write_file(&f), g.model, &err), &err);
    jt_adapter_free(a);
#define BROKEN(change, status, says) \
    f = good;                        \
    change;                          \
    refuses(&f, status, says)
    BROKEN(f.place = "blk.9.ffn.after", JT_E_UNSUPPORTED, "'blk.9.ffn.after'");
    BROKEN(f.place = "blk.0.ffn.above", JT_E_FORMAT, "no place of a model");
    BROKEN(f.place = "blk.00.ffn.after", JT_E_FORMAT, "no place of a model");
    BROKEN(f.activation = "2", JT_E_FORMAT, "'junto.adapter.activation' is 2");
    BROKEN(f.down[0] = 0, JT_E_FORMAT, "ffn.after.down");
    BROKEN(f.down[0] = 3, JT_E_FORMAT, "ffn.after.down_bias");
    BROKEN(f.down_bias = 1, JT_E_FORMAT, "ffn.after.down_bias");
    BROKEN(f.up[1] = 3, JT_E_FORMAT, "tensor 'blk.0.ffn.after.up'");
    BROKEN(f.up_bias = 2, JT_E_FORMAT, "ffn.after.up_bias");
    BROKEN(f.value = NAN, JT_E_FORMAT, "'blk.0.ffn.after.down' has a value");
    BROKEN((f.down[1] = f.up[0] = 8, f.up_bias = 8), JT_E_FORMAT,
           "for a model of width 8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_formula),
        cmocka_unit_test(check_chunks),
        cmocka_unit_test(check_weights),
        cmocka_unit_test(check_files),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
