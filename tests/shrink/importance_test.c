/* What the importance watcher sums, its files, and experts without data. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "golden.h"
#include "scratch.h"
#include "watch/importance.h"

enum { WINDOW = 8 };

static jt_importance *gather(const golden *g, size_t first, int threads)
{
    jt_importance *m;
    jt_session *s;
    jt_err err = {0};
    jt_session_options o = {.threads = threads, .chunk = 3};
    assert_int_equal(jt_importance_new(&m, &err), JT_OK);
    assert_int_equal(jt_session_new(&s, g->model, &o, &err), JT_OK);
    if (jt_importance_gather(m, s, g->tokens, g->count, WINDOW, first, "text",
                             (jt_progress){0}, &err) != JT_OK)
        fail_msg("%s", err.msg);
    jt_session_free(s);
    return m;
}

/* q, k and v of the first layer read the same: the normalised embedding, computed here
 * by itself. */
static void test_sums(void **state)
{
    (void)state;
    golden g;
    golden_open(&g, "mixtral");
    jt_importance *m = gather(&g, 0, 1);
    const jt_gguf *file = jt_model_file(g.model);
    const jt_gguf_tensor *table = jt_gguf_find(file, "token_embd.weight");
    const float *norm = jt_gguf_find(file, "blk.0.attn_norm.weight")->data;
    size_t d = (size_t)table->shape[1], windows = g.count / WINDOW;
    float eps = 0;
    assert_true(jt_gguf_get_f32(file, "llama.attention.layer_norm_rms_epsilon", &eps));
    double *sums = calloc(d, sizeof *sums);
    for (size_t t = 0; t < windows * WINDOW; t++) {
        const float *x = jt_gguf_row(table, (uint64_t)g.tokens[t]);
        double square = 0;
        for (size_t i = 0; i < d; i++)
            square += (double)x[i] * (double)x[i] / (double)d;
        for (size_t i = 0; i < d; i++)
            sums[i] += pow((double)x[i] * (double)norm[i], 2) / (square + (double)eps);
    }
    const char *names[] = {"blk.0.attn_q.weight", "blk.0.attn_k.weight",
                           "blk.0.attn_v.weight"};
    for (int n = 0; n < 3; n++) {
        const jt_seen *seen = jt_importance_find(m, names[n]);
        assert_non_null(seen);
        assert_int_equal(seen->counts[0], windows * WINDOW);
        for (size_t i = 0; i < d; i++)
            assert_true(fabs(seen->sums[i] - sums[i]) < 1e-4 * sums[i]);
    }
    free(sums);
    jt_importance_free(m);
    golden_close(&g);
}

/* Each token reaches k experts of each layer; the same sums whatever the threads. */
static void test_experts(void **state)
{
    (void)state;
    golden g;
    golden_open(&g, "mixtral");
    jt_importance *m = gather(&g, 0, 1), *again = gather(&g, 0, 3);
    for (size_t i = 0; i < m->count; i++) {
        const jt_seen *a = &m->seen[i], *b = &again->seen[i];
        uint64_t tokens = 0;
        for (size_t e = 0; e < a->n_matrices; e++)
            tokens += a->counts[e];
        if (a->n_matrices > 1)
            assert_int_equal(tokens, g.count / WINDOW * WINDOW * (size_t)g.k);
        assert_memory_equal(a->sums, b->sums,
                            a->n_matrices * a->n_columns * sizeof *a->sums);
    }
    jt_importance_free(m);
    jt_importance_free(again);
    golden_close(&g);
}

/* Two parts, the first saved and read again, are the whole. */
static void test_file(void **state)
{
    (void)state;
    golden g;
    scratch dir = scratch_new();
    const char *path = scratch_path(&dir, "m.gguf");
    jt_err err = {0};
    golden_open(&g, "mixtral");
    jt_importance *whole = gather(&g, 0, 1), *last = gather(&g, 1, 1), *read;
    assert_int_equal(jt_importance_save(whole, path, &err), JT_OK);
    assert_int_equal(jt_importance_load(&read, path, &err), JT_OK);
    assert_int_equal(read->chunks, g.count / WINDOW);
    assert_int_equal(read->chunk_size, WINDOW);
    assert_string_equal(read->datasets[0], "text");
    assert_null(jt_importance_find(read, "token_embd.weight")); /* saw nothing */
    for (size_t i = 0; i < read->count; i++) {
        const jt_seen *a = &read->seen[i], *b = jt_importance_find(whole, a->name);
        assert_memory_equal(a->counts, b->counts, a->n_matrices * sizeof *a->counts);
        for (size_t j = 0; j < a->n_matrices * a->n_columns; j++)
            assert_true(fabs(a->sums[j] - b->sums[j]) <= 1e-6 * b->sums[j]);
    }
    assert_int_equal(last->chunks, whole->chunks - 1);
    /* goes on from a file */
    jt_session *s;
    assert_int_equal(jt_session_new(&s, g.model, NULL, &err), JT_OK);
    assert_int_equal(jt_importance_gather(read, s, g.tokens, g.count, WINDOW, 0, "text",
                                          (jt_progress){0}, &err),
                     JT_OK);
    assert_int_equal(read->n_datasets, 1);
    const jt_seen *twice = jt_importance_find(read, "blk.1.attn_q.weight");
    const jt_seen *once = jt_importance_find(whole, "blk.1.attn_q.weight");
    assert_int_equal(twice->counts[0], 2 * once->counts[0]);
    jt_session_free(s);
    jt_importance_free(whole);
    jt_importance_free(last);
    jt_importance_free(read);
    golden_close(&g);
    scratch_free(&dir);
}

/* Another model's importance is refused; so is an empty one. */
static void test_refused(void **state)
{
    (void)state;
    golden g, other;
    jt_err err = {0};
    golden_open(&g, "mixtral");
    golden_open(&other, "olmoe");
    jt_importance *m = gather(&g, 0, 1), *none;
    jt_session *s;
    assert_int_equal(jt_session_new(&s, other.model, NULL, &err), JT_OK);
    assert_int_equal(jt_importance_gather(m, s, g.tokens, g.count, WINDOW, 0, "text",
                                          (jt_progress){0}, &err),
                     JT_E_FORMAT);
    assert_int_equal(jt_importance_gather(m, s, g.tokens, 3, WINDOW, 0, "text",
                                          (jt_progress){0}, &err),
                     JT_E_ARG);
    assert_int_equal(jt_importance_new(&none, &err), JT_OK);
    assert_int_equal(jt_importance_save(none, "/nowhere/x.gguf", &err), JT_E_ARG);
    jt_session_free(s);
    jt_importance_free(none);
    jt_importance_free(m);
    golden_close(&g);
    golden_close(&other);
}

static void test_weights(void **state)
{
    (void)state;
    double sums[] = {100, 300, 0, 0, 5, 0, 0, 0};
    uint64_t counts[] = {100, 0, 5, 0};
    jt_seen seen = {"x", 4, 2, sums, counts};
    float w[8];
    size_t unseen, few;
    assert_true(jt_importance_tell(&seen, &unseen, &few));
    assert_int_equal(unseen, 2);
    assert_int_equal(few, 1);
    jt_importance_weights(&seen, w);
    float mean[] = {1, 300.0f / 105};
    for (int c = 0; c < 2; c++) { /* those without tokens: the mean of the layer */
        assert_true(fabsf(w[2 + c] - mean[c]) < 1e-5f);
        assert_true(fabsf(w[6 + c] - mean[c]) < 1e-5f);
    }
    assert_true(w[0] > 0.99f && w[0] < 1.01f && w[1] > 2.9f && w[1] < 3);
    assert_true(w[5] > 2.5f && w[5] < mean[1]); /* 5 tokens say 0, 64 say the mean */
    seen.n_matrices = 1;                        /* alone: its own */
    jt_importance_weights(&seen, w);
    assert_true(fabsf(w[0] - 1) < 1e-6f && fabsf(w[1] - 3) < 1e-6f);
    sums[0] = 0; /* never zero */
    jt_importance_weights(&seen, w);
    assert_true(w[0] > 0 && w[0] < 1e-3f * w[1]);
    counts[0] = 0;
    assert_false(jt_importance_tell(&seen, &unseen, &few));
}

static void test_no_memory(void **state)
{
    (void)state;
    golden g;
    scratch dir = scratch_new();
    const char *path = scratch_path(&dir, "m.gguf");
    jt_err err = {0};
    golden_open(&g, "mixtral");
    jt_importance *m = gather(&g, 0, 1), *read = NULL;
    assert_int_equal(jt_importance_save(m, path, &err), JT_OK);
    jt_status status = JT_E_MEMORY;
    long n = 0;
    for (; status != JT_OK; n++) {
        jt_fault_after(n);
        status = jt_importance_load(&read, path, &err);
        jt_fault_after(-1);
        assert_true(status == JT_OK || status == JT_E_MEMORY);
    }
    assert_true(n > 10);
    jt_importance_free(read);
    jt_importance_free(m);
    golden_close(&g);
    scratch_free(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums),    cmocka_unit_test(test_experts),
        cmocka_unit_test(test_file),    cmocka_unit_test(test_refused),
        cmocka_unit_test(test_weights), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
