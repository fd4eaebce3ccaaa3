/* Choosing among adapters: samples, how much alike adapters are, groups; and among
 * texts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapted.h"
#include "junto/choose.h"
#include "scratch.h"

/* ---- samples ---- */

static const char *samples_path(const char *text)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/samples.jsonl", scratch_dir.dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static jt_samples_score score(const golden *g, const char *text, size_t n,
                              size_t *count)
{
    jt_samples *samples;
    jt_session *session;
    jt_samples_score s;
    jt_err err = {0};
    adapted_must(jt_samples_open(&samples, samples_path(text), g->model, n, &err),
                 &err);
    adapted_must(jt_session_new(&session, g->model, NULL, &err), &err);
    adapted_must(jt_samples_score_session(&s, samples, session, &err), &err);
    *count = jt_samples_count(samples);
    jt_session_free(session);
    jt_samples_free(samples);
    return s;
}

/* Prompts are not scored: the completion's tokens and the end are; two samples are
 * weighed by their tokens. */
static void check_samples(void **state)
{
    static const char one[] = "{\"prompt\": \"a b\", \"completion\": \" c\"}\n";
    static const char two[] = "{\"prompt\": \"a b\", \"completion\": \" c\"}\n"
                              "{\"prompt\": \"x\", \"completion\": \" y z\"}\n";
    golden g;
    size_t n;
    (void)state;
    golden_open(&g, "mixtral");
    jt_samples_score a = score(&g, one, 0, &n), b = score(&g, two, 0, &n);
    assert_int_equal(n, 2);
    jt_samples_score first = score(&g, two, 1, &n);
    assert_int_equal(n, 1);
    assert_memory_equal(&a, &first, sizeof a);
    assert_true(b.tokens > a.tokens && a.tokens >= 1);
    assert_true(a.nll > 0.0 && fabs(a.perplexity - exp(a.nll)) < 1e-9 * a.perplexity);
    assert_true(a.exact == 0.0);
    golden_close(&g);
}

static void check_bad_samples(void **state)
{
    jt_samples *samples;
    jt_err err = {0};
    golden g;
    (void)state;
    golden_open(&g, "mixtral");
    assert_int_equal(
        jt_samples_open(&samples, samples_path("{\"x\": 1}\n"), g.model, 0, &err),
        JT_E_FORMAT);
    assert_non_null(strstr(err.msg, "samples.jsonl"));
    assert_int_equal(jt_samples_open(&samples, samples_path(""), g.model, 0, &err),
                     JT_E_FORMAT);
    golden_close(&g);
}

/* ---- texts ---- */

static const char *write_pool(void)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/pool.jsonl", scratch_dir.dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("{\"text\": \"\"}\n" /* nothing to learn: skipped, but a record */
          "\n"
          "{\"text\": \"1 2 3 4 5 6\"}\n"
          "{\"text\": \"a b a b a b\"}\n"
          "{\"text\": \"1 2 3 4 5 6\", \"again\": true}\n"
          "{\"text\": \"b a b a b a a\"}",
          f);
    fclose(f);
    return path;
}

static void read_back(const char *path, char *text, size_t size)
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, size - 1, f)] = '\0';
    fclose(f);
}

/* The text that is the sample comes first; its twin is left away, and so is what is too
 * far to be looked at. */
static void check_pick(void **state)
{
    const char *pool = write_pool();
    jt_pick_options o = {.most = 3, .apart = 0.1};
    jt_samples *samples;
    jt_session *session;
    jt_err err = {0};
    char out[256], text[512];
    size_t picked;
    golden g;
    (void)state;
    golden_open(&g, "mixtral");
    snprintf(out, sizeof out, "%s/out.jsonl", scratch_dir.dir);
    adapted_must(jt_samples_open(&samples,
                                 samples_path("{\"text\": \"1 2 3 4 5 6\"}\n"), g.model,
                                 0, &err),
                 &err);
    adapted_must(jt_session_new(&session, g.model, NULL, &err), &err);
    adapted_must(jt_texts_pick(out, pool, samples, session, &o, &picked, &err), &err);
    read_back(out, text, sizeof text);
    assert_int_equal(picked, 2);
    assert_int_equal(strncmp(text, "{\"text\": \"1 2 3 4 5 6\"}\n", 24), 0);
    assert_null(strstr(text, "again"));
    assert_true(strstr(text, "a b") && text[strlen(text) - 1] == '\n');
    o.apart = 0.0;
    adapted_must(jt_texts_pick(out, pool, samples, session, &o, &picked, &err), &err);
    read_back(out, text, sizeof text);
    assert_int_equal(picked, 3);
    assert_non_null(strstr(text, "again"));
    o.most = 0;
    assert_int_equal(jt_texts_pick(out, pool, samples, session, &o, &picked, &err),
                     JT_E_ARG);
    assert_int_equal(
        jt_texts_pick(out, "pool.txt", samples, session, &o, &picked, &err), JT_E_ARG);
    jt_session_free(session);
    jt_samples_free(samples);
    golden_close(&g);
}

/* ---- how much alike ---- */

static void check_similarity(void **state)
{
    adapted a, b, c;
    double matrix[9];
    jt_err err = {0};
    (void)state;
    adapted_open(&a, "llama", "llama-lora");
    adapted_open(&b, "llama", "llama-rslora");
    adapted_open(&c, "llama", "llama-dora");
    jt_adapter *list[] = {a.adapter, b.adapter, c.adapter};
    adapted_must(jt_adapter_similarity(matrix, list, 3, &err), &err);
    assert_float_equal(matrix[0], 1.0, 1e-6);
    assert_float_equal(matrix[4], 1.0, 1e-6);
    assert_true(matrix[1] == matrix[3] && matrix[1] > 0.0 && matrix[1] < 0.2);
    assert_true(isnan(matrix[2]) && isnan(matrix[8])); /* DoRA */
    adapted_close(&a);
    adapted_close(&b);
    adapted_close(&c);
}

/* ---- groups ---- */

/* Of five, the worst by both is not on a list of four; 0 and 1 are the same one. */
static void check_groups(void **state)
{
    static const jt_samples_score scores[] = {{10, 1.0, 2.7, 0.9},
                                              {10, 1.1, 3.0, 0.9},
                                              {10, 1.2, 3.3, 0.5},
                                              {10, 3.0, 20.0, 0.1},
                                              {10, 0.9, 2.5, 0.4}};
    double matrix[25];
    jt_adapter_group groups[2];
    jt_group_options o = {.size = 2, .shortlist = 4, .most = 2};
    size_t found;
    jt_err err = {0};
    (void)state;
    for (size_t i = 0; i < 25; i++)
        matrix[i] = i / 5 == i % 5 ? 1.0 : 0.5;
    matrix[1] = matrix[5] = 1.0;
    matrix[2 * 5 + 4] = matrix[4 * 5 + 2] = 0.1;
    matrix[3] = matrix[15] = 0.0; /* 3 is too bad for the list */
    matrix[1 * 5 + 2] = matrix[2 * 5 + 1] = 0.2;
    adapted_must(jt_adapter_groups(groups, &found, scores, matrix, 5, &o, &err), &err);
    assert_int_equal(found, 2);
    assert_int_equal(groups[0].member[0], 2);
    assert_int_equal(groups[0].member[1], 4);
    assert_int_equal(groups[1].member[0], 1);
    assert_int_equal(groups[1].member[1], 2);
    assert_float_equal(groups[1].similarity, 0.2, 1e-12);
    o.size = 6;
    assert_int_equal(jt_adapter_groups(groups, &found, scores, matrix, 5, &o, &err),
                     JT_E_ARG);
    o = (jt_group_options){.size = 2, .most = 2};
    for (size_t i = 0; i < 25; i++)
        matrix[i] = (double)NAN;
    adapted_must(jt_adapter_groups(groups, &found, scores, matrix, 5, &o, &err), &err);
    assert_int_equal(found, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_samples), cmocka_unit_test(check_bad_samples),
        cmocka_unit_test(check_pick),    cmocka_unit_test(check_similarity),
        cmocka_unit_test(check_groups),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
