/* Reports of made-up traces: figures that are known, labels that try to be markup, and
 * traces that are cut, empty or of another model. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "junto/report.h"
#include "routes.h"
#include "scratch.h"
#include "watch/report_impl.h"

enum { LAYERS = 3, EXPERTS = 16, K = 2 };

/* What a test writes: the experts of token t in a layer. */
typedef void route_fn(jt_rng *rng, int layer, int t, int32_t expert[K]);

static void fixed(jt_rng *rng, int layer, int t, int32_t expert[K])
{
    (void)rng;
    (void)t;
    expert[0] = layer;
    expert[1] = layer + 1;
}

static void any(jt_rng *rng, int layer, int t, int32_t expert[K])
{
    (void)layer;
    (void)t;
    expert[0] = (int32_t)jt_rng_below(rng, EXPERTS);
    expert[1] = (expert[0] + 1 + (int32_t)jt_rng_below(rng, EXPERTS - 1)) % EXPERTS;
}

/* For 32 tokens in a row two experts of four; those of a layer follow from those of
 * the layer before. */
static void local(jt_rng *rng, int layer, int t, int32_t expert[K])
{
    static int32_t first;
    if (layer == 0) {
        if (t % 32 == 0)
            first = 4 * (int32_t)jt_rng_below(rng, EXPERTS / 4);
        expert[0] = first + (int32_t)jt_rng_below(rng, 2);
    } else {
        expert[0] = (first + 4 * layer) % EXPERTS + (int32_t)jt_rng_below(rng, 2);
    }
    expert[1] = expert[0] + 2;
}

/* `tokens` tokens in texts of 100; every other text has the first label. */
static void write_trace(const char *path, route_fn *fn, int tokens, uint64_t model,
                        const char *const labels[2])
{
    jt_trace_writer *w;
    jt_err err = {0};
    jt_rng rng = {.seed = 7};
    jt_trace_head head = even_head(LAYERS, EXPERTS, K, 64);
    head.fingerprint = model;
    head.columns |= 1u << JT_TRACE_SCORE;
    if (jt_trace_writer_new_head(&w, path, &head, NULL, &err) != JT_OK)
        fail_msg("%s", err.msg);
    jt_watcher watcher = jt_trace_watcher(w);
    float scores[EXPERTS];
    for (int e = 0; e < EXPERTS; e++)
        scores[e] = 1.0f / EXPERTS;
    for (int32_t t = 0; t < tokens; t++) {
        int32_t position = t % 100;
        if (labels && position == 0)
            assert_int_equal(jt_trace_label(w, labels[t / 100 % 2], NULL), JT_OK);
        for (int l = 0; l < LAYERS; l++) {
            int32_t expert[K];
            float weight[K] = {0.5f, 0.5f};
            jt_route_site site = {.layer = l, .token_ids = &t, .positions = &position};
            fn(&rng, l, t, expert);
            jt_route route = {.n_tokens = 1,
                              .n_experts = EXPERTS,
                              .k = K,
                              .expert = expert,
                              .weight = weight,
                              .n_rows = EXPERTS,
                              .scores = scores};
            watcher.on_route(watcher.self, &site, &route);
        }
    }
    assert_int_equal(jt_trace_finish(w, NULL), JT_OK);
}

typedef struct made {
    jt_trace *trace;
    jt_report *report;
} made;

static made open_report(const char *path, size_t sample, int threads)
{
    made m;
    jt_err err = {0};
    jt_report_options o = {.sample = sample, .threads = threads};
    if (jt_trace_open(&m.trace, path, &err) != JT_OK ||
        jt_report_new(&m.report, m.trace, &o, &err) != JT_OK)
        fail_msg("%s", err.msg);
    return m;
}

static void close_report(made *m)
{
    jt_report_free(m->report);
    jt_trace_close(m->trace);
}

static char *load(const char *path)
{
    static char text[1 << 20];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    return text;
}

/* ---- figures ---- */

static void test_fixed_routes(void **state)
{
    (void)state;
    const char *path = scratch_path(&scratch_dir, "fixed.trace");
    write_trace(path, fixed, 450, 1, NULL);
    made m = open_report(path, 0, 1);
    const jt_report_info *info = jt_report_about(m.report);
    assert_int_equal(info->texts, 5);
    assert_int_equal(info->sample, 450);
    assert_int_equal(info->labels.n, 0);
    for (int l = 0; l < LAYERS; l++) {
        const jt_report_layer *layer = &jt_report_layers(m.report)[l];
        assert_int_equal(layer->picks, 900);
        assert_int_equal(layer->load[l], 450);
        assert_int_equal(layer->dead, EXPERTS - 2);
        assert_int_equal(layer->dominant, 2);
        assert_float_equal(layer->busiest, EXPERTS / 2.0, 1e-12);
        assert_float_equal(layer->load_entropy, log(2) / log(EXPERTS), 1e-12);
        assert_float_equal(layer->entropy, 1.0, 1e-3); /* scores all alike */
        assert_float_equal(layer->locality.srp[0].value, 1.0, 1e-12);
        assert_float_equal(layer->shuffled.srp[0].value, 1.0, 1e-12);
        assert_false(layer->locality.srp[3].segments); /* no text is as long */
        for (jt_caching c = 0; c < JT_CACHES; c++)
            assert_float_equal(layer->locality.hits[c][1], 1.0, 1e-12);
        assert_float_equal(layer->together.bits, 0.0, 1e-9);
        assert_true(layer->congested);
        assert_true(layer->gamma >= 0.0);
    }
    assert_float_equal(info->locality.gaps[0], 1.0, 1e-12);
    close_report(&m);
}

static void test_local_is_above_chance(void **state)
{
    (void)state;
    const char *path = scratch_path(&scratch_dir, "local.trace");
    write_trace(path, local, 6000, 1, NULL);
    made m = open_report(path, 0, 2);
    const jt_report_info *info = jt_report_about(m.report);
    assert_true(info->locality.srp[1].value > info->shuffled.srp[1].value + 0.2);
    for (jt_caching c = 0; c < JT_CACHES; c++)
        assert_true(info->locality.hits[c][3] > info->shuffled.hits[c][3] + 0.2);
    const jt_report_layer *layers = jt_report_layers(m.report);
    for (int l = 0; l < LAYERS; l++) {
        /* Of 4 groups: 2 bits of the next layer, of which chance knows nothing. */
        assert_int_equal(layers[l].next.measured, l + 1 < LAYERS);
        if (l + 1 < LAYERS)
            assert_float_equal(layers[l].next.bits, 2.0, 0.05);
        assert_true(layers[l].next.chance < 0.05);
        assert_true(layers[l].together.chance < 0.05);
        assert_true(layers[l].together.n_top > 0);
        assert_int_equal(layers[l].together.top[0].b, layers[l].together.top[0].a + 2);
        assert_true(layers[l].together.top[0].lift > 3.0);
    }
    close_report(&m);
    write_trace(path, any, 6000, 1, NULL);
    m = open_report(path, 0, 2);
    info = jt_report_about(m.report);
    for (int i = 0; i < 3; i++)
        assert_float_equal(info->locality.srp[i].value, info->shuffled.srp[i].value,
                           0.01);
    for (jt_caching c = 0; c < JT_CACHES; c++)
        assert_float_equal(info->locality.hits[c][3], info->shuffled.hits[c][3], 0.02);
    /* The order of slots and the ban on pairs of one say a little. */
    assert_true(jt_report_layers(m.report)[0].together.bits < 0.02);
    close_report(&m);
}

static void by_label(jt_rng *rng, int layer, int t, int32_t expert[K])
{
    (void)layer;
    int32_t half = t / 100 % 2 * (EXPERTS / 2);
    expert[0] = half + (int32_t)jt_rng_below(rng, EXPERTS / 4);
    expert[1] = expert[0] + EXPERTS / 4;
}

static void test_labels(void **state)
{
    (void)state;
    static const char *const labels[2] = {"prose", "code"};
    const char *path = scratch_path(&scratch_dir, "labels.trace");
    write_trace(path, by_label, 2000, 1, labels);
    made m = open_report(path, 0, 1);
    const jt_report_info *info = jt_report_about(m.report);
    assert_int_equal(info->labels.n, 2);
    assert_string_equal(info->labels.names[1], "code");
    assert_int_equal(info->labels.tokens[0], 1000);
    const jt_report_layer *layer = jt_report_layers(m.report);
    assert_float_equal(layer->label.information, 1.0, 1e-12);
    assert_true(layer->label.shuffled < 0.01);
    uint64_t picks = 0;
    for (size_t e = 0; e < EXPERTS; e++)
        picks += layer->label.counts[e * 2];
    assert_int_equal(picks, 2000);
    close_report(&m);
}

/* ---- the sample ---- */

static void test_sample(void **state)
{
    (void)state;
    report_sample s = {0};
    assert_int_equal(jt_report_sample_new(&s, 100000, 4, 3 * REPORT_STRETCH, NULL),
                     JT_OK);
    assert_int_equal(s.n, 3 * REPORT_STRETCH);
    int32_t next = 0;
    for (uint64_t row = 0; row < 100000; row++) {
        int32_t place = jt_report_sample_place(&s, row);
        if (place >= 0)
            assert_int_equal(place, next++);
    }
    assert_int_equal(next, s.n);
    int begins = 0;
    uint64_t sum = 0;
    for (size_t i = 0; i < s.n; i++) {
        begins += s.begins[i];
        sum += s.order[i];
    }
    assert_int_equal(begins, 3);
    assert_int_equal(sum, s.n * (s.n - 1) / 2);
    jt_report_sample_free(&s);
}

static void test_sampled_report(void **state)
{
    (void)state;
    const char *path = scratch_path(&scratch_dir, "long.trace");
    write_trace(path, local, 10000, 1, NULL);
    made all = open_report(path, 0, 2), some = open_report(path, 5000, 1);
    const jt_report_info *a = jt_report_about(all.report),
                         *b = jt_report_about(some.report);
    assert_int_equal(b->sample, REPORT_STRETCH);
    for (int i = 0; i < 3; i++) /* of all tokens in both */
        assert_true(a->locality.srp[i].value == b->locality.srp[i].value);
    assert_true(a->locality.hits[JT_CACHE_LRU][3] == b->locality.hits[JT_CACHE_LRU][3]);
    assert_float_equal(a->locality.hits[JT_CACHE_BELADY][3],
                       b->locality.hits[JT_CACHE_BELADY][3], 0.03);
    assert_float_equal(a->shuffled.srp[1].value, b->shuffled.srp[1].value, 0.02);
    close_report(&all);
    close_report(&some);
}

/* ---- the page ---- */

static void test_page_escapes(void **state)
{
    (void)state;
    static const char *const labels[2] = {"<script>alert(\"x\")</script>",
                                          "a&b\xff\x01"};
    const char *path = scratch_path(&scratch_dir, "label.trace");
    const char *page = scratch_path(&scratch_dir, "label.html");
    write_trace(path, local, 1000, 1, labels);
    made m = open_report(path, 0, 1);
    jt_err err = {0};
    assert_int_equal(
        jt_report_write_html((const jt_report *[]){m.report, m.report}, 2, page, &err),
        JT_OK);
    const char *text = load(page);
    assert_null(strstr(text, "<script"));
    assert_non_null(strstr(text, "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;"));
    assert_non_null(strstr(text, "a&amp;b\xef\xbf\xbd?"));
    assert_non_null(strstr(text, "</html>"));
    assert_null(strstr(text, "nan"));
    assert_int_equal(jt_report_write_html((const jt_report *[]){m.report}, 1,
                                          "/no/such/folder/x.html", &err),
                     JT_E_IO);
    assert_int_equal(jt_report_write_html(NULL, 0, page, &err), JT_E_ARG);
    close_report(&m);
}

/* ---- what cannot be reported ---- */

static void test_other_model(void **state)
{
    (void)state;
    const char *a = scratch_path(&scratch_dir, "a.trace"),
               *b = scratch_path(&scratch_dir, "b.trace");
    const char *page = scratch_path(&scratch_dir, "two.html");
    write_trace(a, local, 300, 1, NULL);
    write_trace(b, local, 300, 2, NULL);
    made x = open_report(a, 0, 1), y = open_report(b, 0, 1);
    jt_err err = {0};
    assert_int_equal(
        jt_report_write_html((const jt_report *[]){x.report, y.report}, 2, page, &err),
        JT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "b.trace' is a trace of another model"));
    assert_int_equal(access(page, F_OK), -1);
    close_report(&x);
    close_report(&y);
}

static void test_cut_and_empty(void **state)
{
    (void)state;
    const char *path = scratch_path(&scratch_dir, "cut.trace");
    write_trace(path, local, 300, 1, NULL);
    FILE *f = fopen(path, "rb");
    fseek(f, 0, SEEK_END);
    long bytes = ftell(f);
    fclose(f);
    assert_int_equal(truncate(path, bytes - 5), 0);
    made m = open_report(path, 0, 1);
    assert_int_equal(jt_report_about(m.report)->trace.tokens, 256);
    assert_int_equal(jt_report_layers(m.report)->picks, 512);
    close_report(&m);
    write_trace(path, local, 0, 1, NULL);
    jt_trace *trace;
    jt_report *report = NULL;
    jt_err err = {0};
    assert_int_equal(jt_trace_open(&trace, path, &err), JT_OK);
    assert_int_equal(jt_report_new(&report, trace, NULL, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "has no tokens"));
    assert_null(report);
    jt_trace_close(trace);
}

static void test_one_token(void **state)
{
    (void)state;
    const char *path = scratch_path(&scratch_dir, "one.trace");
    const char *page = scratch_path(&scratch_dir, "one.html");
    write_trace(path, local, 1, 1, NULL);
    made m = open_report(path, 0, 1);
    jt_err err = {0};
    assert_int_equal(
        jt_report_write_html((const jt_report *[]){m.report}, 1, page, &err), JT_OK);
    assert_null(strstr(load(page), "nan"));
    close_report(&m);
}

static void test_memory_fails(void **state)
{
    (void)state;
    const char *path = scratch_path(&scratch_dir, "memory.trace");
    const char *page = scratch_path(&scratch_dir, "memory.html");
    write_trace(path, local, 120, 1, (const char *const[2]){"x", "y"});
    jt_trace *trace;
    assert_int_equal(jt_trace_open(&trace, path, NULL), JT_OK);
    jt_report_options o = {.threads = 1};
    jt_report *report = NULL;
    jt_err err = {0};
    jt_status status = JT_E_MEMORY;
    int failed = 0;
    for (long n = 0; status != JT_OK; n++) {
        jt_fault_after(n);
        status = jt_report_new(&report, trace, &o, &err);
        jt_fault_after(-1);
        assert_true(status == JT_OK || status == JT_E_MEMORY);
        failed += status != JT_OK;
    }
    assert_true(failed > 100);
    status = JT_E_MEMORY;
    for (long n = 0; status != JT_OK; n++) {
        jt_fault_after(n);
        status = jt_report_write_html((const jt_report *[]){report}, 1, page, &err);
        jt_fault_after(-1);
        assert_true(status == JT_OK || status == JT_E_MEMORY);
        assert_int_equal(access(page, F_OK), status == JT_OK ? 0 : -1);
    }
    jt_report_free(report);
    jt_trace_close(trace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixed_routes),
        cmocka_unit_test(test_local_is_above_chance),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_sample),
        cmocka_unit_test(test_sampled_report),
        cmocka_unit_test(test_page_escapes),
        cmocka_unit_test(test_other_model),
        cmocka_unit_test(test_cut_and_empty),
        cmocka_unit_test(test_one_token),
        cmocka_unit_test(test_memory_fails),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
