/* Tasks: what a file may hold, likelihoods and replies against the plain way, answers
 * that survive. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "golden.h"
#include "scratch.h"
#include "run/session.h"
#include "watch/task.h"

static jt_task *parse(const char *text)
{
    jt_task *task;
    jt_err err = {0};
    if (jt_task_parse(&task, "made", text, strlen(text), &err) != JT_OK)
        fail_msg("%s", err.msg);
    return task;
}

static jt_model *load(void)
{
    char path[512];
    jt_model *model;
    assert_int_equal(
        jt_model_load(&model, golden_path(path, sizeof path, "mixtral.gguf"), NULL),
        JT_OK);
    return model;
}

static jt_session *open_session(const jt_model *model, int n_ctx)
{
    jt_session *s;
    jt_session_options options = {.n_ctx = n_ctx, .threads = 1, .kv_type = "f32"};
    assert_int_equal(jt_session_new(&s, model, &options, NULL), JT_OK);
    return s;
}

static jt_answers *in_memory(const jt_model *model)
{
    jt_answers *a;
    assert_int_equal(jt_answers_open(&a, NULL, model, "", NULL), JT_OK);
    return a;
}

/* ---- reading ---- */

#define Q "{\"question\": \"a\", \"choices\": [\"b\", \"c\"], \"gold\": 1}\n"

static void test_wrong_files_name_the_line(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "no question"},
        {"\n\n", "no question"},
        {"{\"task\": {\"name\": \"x\"}}\n", "no question"},
        {Q "\n{\"question\": ", "line 3: bad JSON"},
        {Q "[1]", "line 2: no JSON object"},
        {Q "7", "line 2: bad JSON"},
        {"{\"question\": 1, \"choices\": [\"b\", \"c\"], \"gold\": 1}",
         "line 1: a record"},
        {"{\"question\": \"a\", \"text\": \"b\"}", "line 1: a record has"},
        {"{\"question\": \"a\"}", "neither \"choices\" nor \"answer\""},
        {"{\"question\": \"a\", \"choices\": [\"b\"], \"gold\": 0}", "list of 2 to"},
        {"{\"question\": \"a\", \"choices\": [\"b\", 3], \"gold\": 0}", "item 2 of"},
        {"{\"question\": \"a\", \"choices\": [\"b\", \"\"], \"gold\": 0}", "item 2 of"},
        {"{\"question\": \"a\", \"choices\": [\"b\", \"c\"], \"gold\": 2}",
         "in 0 to 1"},
        {"{\"question\": \"a\", \"choices\": [\"b\", \"c\"], \"gold\": -1}",
         "in 0 to 1"},
        {"{\"question\": \"a\", \"choices\": [\"b\", \"c\"], \"gold\": \"b\"}",
         "in 0 to"},
        {"{\"question\": \"a\", \"choices\": [\"b\", \"c\"]}", "\"gold\" is not"},
        {"{\"question\": \"a\", \"answer\": []}", "list of 1 to"},
        {Q "{\"text\": \"a\"}",
         "line 2: a question of kind text among those of kind choice"},
        {"{\"text\": \"a\", \"domain\": 3}", "\"domain\" is not a string"},
        {"{\"task\": {\"nam\": \"x\"}}\n" Q, "line 1: a task has no setting \"nam\""},
        {"{\"task\": {\"stop\": \"x\"}}\n" Q, "\"stop\" is not a list"},
        {"{\"task\": {\"stop\": [\"\"]}}\n" Q, "\"stop\" is not a list"},
        {"{\"task\": {\"max_tokens\": 0}}\n" Q, "\"max_tokens\" is not in"},
        {"{\"task\": {\"filter\": \"(a\"}}\n" Q, "\"filter\", character 2"},
        {"{\"task\": {\"filter\": 1}}\n" Q, "\"filter\" is not a string"},
        {"{\"task\": {\"ignore_case\": 1}}\n" Q, "true or false"},
        {Q "{\"task\": {\"name\": \"x\"}}\n", "line 2: a record has"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        jt_task *task = NULL;
        jt_err err = {0};
        assert_int_equal(
            jt_task_parse(&task, "made", cases[i].text, strlen(cases[i].text), &err),
            JT_E_FORMAT);
        assert_null(task);
        if (!strstr(err.msg, cases[i].says) || !strstr(err.msg, "task 'made'"))
            fail_msg("'%s' does not say '%s'", err.msg, cases[i].says);
    }
}

static void test_a_task_is_what_it_says(void **state)
{
    (void)state;
    jt_task *task =
        parse("\xef\xbb\xbf{\"task\": {\"name\": \"n\", \"delimiter\": \" \"}}\n"
              "\n" Q "{\"query\": \"d\", \"endings\": [\"e\", \"f\"], "
              "\"label\": 0, \"domain\": \"z\", \"other\": [1]}");
    jt_task_info info;
    jt_task_describe(task, &info);
    assert_string_equal(info.name, "n");
    assert_int_equal(info.kind, JT_TASK_CHOICE);
    assert_int_equal(info.questions, 2);
    assert_int_equal(task->questions[0].line, 3);
    assert_int_equal(task->questions[0].gold, 1);
    assert_int_equal(task->questions[1].n_options, 2);
    assert_string_equal(task->domains[task->questions[1].domain], "z");
    jt_task_limit(task, 1);
    jt_task_describe(task, &info);
    assert_int_equal(info.questions, 1);
    jt_task_free(task);
}

static void test_memory_may_end(void **state)
{
    static const char text[] =
        "{\"task\": {\"stop\": [\"a\", \"b\"], \"filter\": \"x\", \"name\": \"n\"}}\n" Q
            Q;
    (void)state;
    for (long n = 0;; n++) {
        jt_task *task = NULL;
        jt_fault_after(n);
        jt_status status = jt_task_parse(&task, "made", text, sizeof text - 1, NULL);
        jt_fault_after(-1);
        jt_task_free(task);
        if (status == JT_OK)
            break;
        assert_int_equal(status, JT_E_MEMORY);
        assert_true(n < 100);
    }
}

/* ---- likelihoods ---- */

typedef struct rows {
    float *data;
    size_t vocab;
} rows;

static jt_status keep_rows(void *user, size_t first, const float *logits, size_t n,
                           jt_err *err)
{
    rows *r = user;
    (void)err;
    memcpy(r->data + first * r->vocab, logits, n * r->vocab * sizeof *logits);
    return JT_OK;
}

/* -log p of all tokens from `first` on, from the logits of one pass, in doubles. */
static double plain_nll(const jt_model *model, const jt_tokens *t, size_t first)
{
    jt_session *s = open_session(model, 64);
    size_t vocab = jt_vocab_size(jt_model_tokenizer(model));
    rows r = {calloc(t->count * vocab, sizeof(float)), vocab};
    jt_eval_options options = {.on_logits = keep_rows, .user = &r};
    assert_int_equal(jt_session_eval(s, t->ids, t->count, &options, NULL), JT_OK);
    double nll = 0;
    for (size_t i = first; i < t->count; i++) {
        const float *row = r.data + (i - 1) * vocab;
        double sum = 0;
        for (size_t v = 0; v < vocab; v++)
            sum += exp((double)row[v] - (double)row[t->ids[i]]);
        nll += log(sum);
    }
    free(r.data);
    jt_session_free(s);
    return nll;
}

static void test_choices_have_their_likelihood(void **state)
{
    (void)state;
    jt_model *model = load();
    const jt_tokenizer *tok = jt_model_tokenizer(model);
    jt_session *s = open_session(model, 64);
    jt_answers *answers = in_memory(model);
    jt_task *task =
        parse("{\"question\": \"the old house\", \"choices\": [\" is red\", "
              "\"s\", \" and the sea\"], \"gold\": 2}");
    assert_int_equal(jt_task_run(task, &s, 1, answers, (jt_progress){0}, NULL), JT_OK);
    const jt_question *q = &task->questions[0];
    const json_t *nll = json_object_get(jt_answers_find(answers, task, q), "nll");
    assert_int_equal(json_array_size(nll), 3);
    double least = INFINITY, least_norm = INFINITY;
    size_t best = 0, best_norm = 0;
    for (size_t i = 0; i < 3; i++) {
        char text[64];
        jt_tokens a = {0}, b = {0};
        snprintf(text, sizeof text, "the old house%s", q->options[i].data);
        assert_int_equal(jt_encode(tok, text, 13, 1, &a, NULL), JT_OK);
        assert_int_equal(jt_encode(tok, text, strlen(text), 1, &b, NULL), JT_OK);
        size_t first = 0;
        while (first < a.count && a.ids[first] == b.ids[first])
            first++;
        double expected = plain_nll(model, &b, first);
        assert_float_equal(json_real_value(json_array_get(nll, i)), expected,
                           1e-4 * expected);
        double norm = expected / (double)q->options[i].len;
        best = expected < least ? i : best;
        least = fmin(least, expected);
        best_norm = norm < least_norm ? i : best_norm;
        least_norm = fmin(least_norm, norm);
        free(a.ids);
        free(b.ids);
    }
    jt_task_result r;
    assert_int_equal(jt_task_score_answers(task, answers, &r, NULL), JT_OK);
    assert_true(r.all.accuracy == (best == 2) &&
                r.all.accuracy_norm == (best_norm == 2));
    assert_true(isnan(r.all.error) && fabs(r.all.chance - 1.0 / 3) < 1e-12);
    jt_task_result_free(&r);
    jt_answers_close(answers, NULL);
    jt_task_free(task);
    jt_session_free(s);
    jt_model_free(model);
}

static void test_texts_and_long_questions(void **state)
{
    (void)state;
    jt_model *model = load();
    const jt_tokenizer *tok = jt_model_tokenizer(model);
    jt_session *s = open_session(model, 64), *narrow = open_session(model, 4);
    jt_answers *answers = in_memory(model);
    jt_task *task = parse("{\"text\": \"one day the sea\", \"domain\": \"a\"}\n"
                          "{\"text\": \"a red house\", \"domain\": \"b\"}");
    assert_int_equal(jt_task_run(task, &s, 1, answers, (jt_progress){0}, NULL), JT_OK);
    jt_task_result r;
    assert_int_equal(jt_task_score_answers(task, answers, &r, NULL), JT_OK);
    assert_int_equal(r.n_domains, 2);
    double sum = 0;
    for (size_t i = 0; i < 2; i++) {
        jt_tokens t = {0};
        jt_str text = task->questions[i].context;
        assert_int_equal(jt_encode(tok, text.data, text.len, 1, &t, NULL), JT_OK);
        double nll = plain_nll(model, &t, 1);
        assert_int_equal(r.domains[i].tokens, t.count - 1);
        assert_float_equal(r.domains[i].nll, nll / (double)(t.count - 1), 1e-3);
        assert_float_equal(r.domains[i].bits_per_byte, nll / log(2) / (double)text.len,
                           1e-3);
        sum += nll;
        free(t.ids);
    }
    assert_float_equal(r.all.nll, sum / (double)r.all.tokens, 1e-3);
    jt_task_result_free(&r);
    jt_task_free(task);

    task = parse("{\"question\": \"one day the sea was red and old\", "
                 "\"choices\": [\" a\", \" b\"], \"gold\": 0}");
    assert_int_equal(jt_task_run(task, &narrow, 1, answers, (jt_progress){0}, NULL),
                     JT_OK);
    assert_int_equal(jt_task_score_answers(task, answers, &r, NULL), JT_OK);
    assert_int_equal(r.all.cut, 1);
    jt_task_result_free(&r);
    jt_task_free(task);
    jt_err err = {0};
    task = parse("\n{\"question\": \"a\", \"choices\": [\" one day the sea was red and "
                 "old and so was the house\", \" b\"], \"gold\": 0}");
    assert_int_equal(jt_task_run(task, &narrow, 1, answers, (jt_progress){0}, &err),
                     JT_E_LIMIT);
    assert_non_null(strstr(err.msg, "line 2: choice 0 has"));
    jt_task_free(task);
    jt_answers_close(answers, NULL);
    jt_session_free(s);
    jt_session_free(narrow);
    jt_model_free(model);
}

/* ---- replies ---- */

typedef struct text {
    char data[4096];
    size_t len;
} text;

static int add_text(void *user, const char *data, size_t len)
{
    text *t = user;
    memcpy(t->data + t->len, data, len);
    t->len += len;
    return 0;
}

/* As `junto run --temp 0` writes it. */
static void generate(jt_session *s, const char *question, text *out)
{
    jt_sampling how = jt_sampling_default();
    how.temperature = 0;
    jt_sampler *sampler;
    jt_tokens t = {0};
    jt_generate_result result;
    jt_generate_options options = {
        .max_tokens = 9, .on_text = add_text, .user = out, .thinking_budget = -1};
    const jt_tokenizer *tok = jt_model_tokenizer(s->model);
    assert_int_equal(jt_encode(tok, question, strlen(question), 1, &t, NULL), JT_OK);
    assert_int_equal(jt_sampler_new(&sampler, &how, jt_vocab_size(tok), NULL), JT_OK);
    jt_session_truncate(s, 0);
    assert_int_equal(jt_generate(s, sampler, t.ids, t.count, &options, &result, NULL),
                     JT_OK);
    free(t.ids);
    jt_sampler_free(sampler);
}

static void test_replies_do_not_depend_on_company(void **state)
{
    static const char file[] =
        "{\"task\": {\"max_tokens\": 9}}\n"
        "{\"question\": \"the sea\", \"answer\": \"x\"}\n"
        "{\"question\": \"one old red house\", \"answer\": [\"x\", \"y\"]}\n"
        "{\"question\": \"a\", \"answer\": \"x\"}\n"
        "{\"question\": \"day and night\", \"answer\": \"x\"}\n";
    (void)state;
    jt_model *model = load();
    jt_session *s[3];
    for (int i = 0; i < 3; i++)
        s[i] = open_session(model, 64);
    jt_task *task = parse(file);
    jt_answers *alone = in_memory(model), *together = in_memory(model);
    assert_int_equal(jt_task_run(task, s, 1, alone, (jt_progress){0}, NULL), JT_OK);
    assert_int_equal(jt_task_run(task, s, 3, together, (jt_progress){0}, NULL), JT_OK);
    for (size_t i = 0; i < 4; i++) {
        const jt_question *q = &task->questions[i];
        const json_t *a = jt_answers_find(alone, task, q);
        assert_true(json_equal(a, jt_answers_find(together, task, q)));
        text plain = {0};
        generate(s[0], q->context.data, &plain);
        const json_t *reply = json_object_get(a, "reply");
        bool utf8 = strchr(json_string_value(reply), '?') == NULL;
        if (utf8)
            assert_memory_equal(json_string_value(reply), plain.data, plain.len);
        assert_int_equal(json_string_length(reply), plain.len);
    }
    jt_answers_close(alone, NULL);
    jt_answers_close(together, NULL);
    jt_task_free(task);
    for (int i = 0; i < 3; i++)
        jt_session_free(s[i]);
    jt_model_free(model);
}

static void test_what_a_reply_says(void **state)
{
    static const struct {
        const char *head, *reply;
        bool right;
    } cases[] = {
        {"{}", " 42\n", true},
        {"{}", "42!", false},
        {"{}", "", false},
        {"{\"filter\": \"(-?[0-9]+)\"}", "It is 42, I think", true},
        {"{\"filter\": \"[0-9]+\"}", "It is 42, I think", true},
        {"{\"filter\": \"[0-9]+\"}", "It is 4 or 42", false},
        {"{\"filter\": \"[0-9]+\"}", "I do not know", false},
        {"{\"filter\": \"^(a+)+$\"}", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
         false},
        {"{\"ignore_case\": true}", "Forty-Two", true},
        {"{}", "Forty-Two", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char file[256];
        snprintf(file, sizeof file,
                 "{\"task\": %s}\n{\"question\": \"q\", \"answer\": [\"42\", "
                 "\"forty-two\"]}\n",
                 cases[i].head);
        jt_task *task = parse(file);
        jt_str reply = {cases[i].reply, strlen(cases[i].reply)};
        assert_int_equal(jt_reply_is_right(task, &task->questions[0], reply),
                         cases[i].right);
        jt_task_free(task);
    }
}

/* ---- answers on disk ---- */

static const char three[] =
    Q "{\"question\": \"the sea\", \"choices\": [\" is\", \" a b\"], "
      "\"gold\": 1}\n" Q;

static jt_status run_to(const jt_model *model, jt_session *s, const char *path,
                        const char *settings, jt_err *err)
{
    jt_answers *answers;
    jt_task *task = parse(three);
    jt_status status = jt_answers_open(&answers, path, model, settings, err);
    if (status == JT_OK) {
        assert_int_equal(jt_task_run(task, &s, 1, answers, (jt_progress){0}, NULL),
                         JT_OK);
        assert_int_equal(jt_answers_count(answers, task), 3);
        assert_int_equal(jt_answers_close(answers, NULL), JT_OK);
    }
    jt_task_free(task);
    return status;
}

/* Wherever the process ends, the next one writes the same bytes. */
static void test_a_run_goes_on(void **state)
{
    (void)state;
    scratch dir = scratch_new();
    jt_model *model = load();
    jt_session *s = open_session(model, 64);
    const char *path = scratch_path(&dir, "answers.jsonl");
    char *whole, *again;
    size_t bytes, n;
    jt_err err = {0};
    assert_int_equal(run_to(model, s, path, "x", NULL), JT_OK);
    assert_int_equal(jt_read_file(&whole, &bytes, path, 1 << 20, NULL), JT_OK);
    for (size_t cut = 0; cut <= bytes; cut += cut < 20 ? 1 : 13) {
        scratch_write(path, whole, cut);
        if (run_to(model, s, path, "x", &err) != JT_OK)
            assert_true(cut > 0 && cut < 16 && err.code == JT_E_FORMAT);
        else {
            assert_int_equal(jt_read_file(&again, &n, path, 1 << 20, NULL), JT_OK);
            assert_int_equal(n, bytes);
            assert_memory_equal(again, whole, bytes);
            free(again);
        }
    }
    scratch_write(path, whole, bytes);
    assert_int_equal(run_to(model, s, path, "y", &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "of settings 'x', not 'y'"));
    scratch_write(path, "precious\n", 9);
    assert_int_equal(run_to(model, s, path, "x", &err), JT_E_FORMAT);
    assert_int_equal(jt_read_file(&again, &n, path, 1 << 20, NULL), JT_OK);
    assert_string_equal(again, "precious\n");
    free(again);
    free(whole);
    jt_session_free(s);
    jt_model_free(model);
    scratch_free(&dir);
}

/* Shares and their errors, from answers that are made up; and answers that are none. */
static void test_scores(void **state)
{
    static const char *const made[] = {"[1.0, 2.0]", "[3.0, 2.0]", "[5.0, 4.5]", "[1]",
                                       "[\"a\", 1]"};
    (void)state;
    jt_model *model = load();
    jt_task *task = parse(
        "{\"question\": \"a\", \"choices\": [\"b\", \"cdef\"], \"gold\": 0}\n" Q Q);
    jt_answers *answers = in_memory(model);
    jt_task_result r;
    assert_int_equal(jt_task_score_answers(task, answers, &r, NULL), JT_E_ARG);
    for (size_t i = 0; i < 3; i++) {
        json_t *record = json_pack("{s:o}", "nll", json_loads(made[i], 0, NULL));
        assert_int_equal(
            jt_answers_add(answers, task, &task->questions[i], record, NULL), JT_OK);
    }
    assert_int_equal(jt_task_score_answers(task, answers, &r, NULL), JT_OK);
    assert_float_equal(r.all.accuracy, 1.0, 1e-9);
    assert_float_equal(r.all.accuracy_norm, 2.0 / 3, 1e-9);
    assert_float_equal(r.all.error_norm, sqrt(2.0 / 9 / 2), 1e-9);
    assert_int_equal(r.n_domains, 0);
    jt_task_result_free(&r);
    for (size_t i = 3; i < 5; i++) {
        json_t *record = json_pack("{s:o}", "nll", json_loads(made[i], 0, NULL));
        assert_int_equal(
            jt_answers_add(answers, task, &task->questions[0], record, NULL), JT_OK);
        assert_int_equal(jt_task_score_answers(task, answers, &r, NULL), JT_E_FORMAT);
    }
    jt_answers_close(answers, NULL);
    jt_task_free(task);
    jt_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_files_name_the_line),
        cmocka_unit_test(test_a_task_is_what_it_says),
        cmocka_unit_test(test_memory_may_end),
        cmocka_unit_test(test_choices_have_their_likelihood),
        cmocka_unit_test(test_texts_and_long_questions),
        cmocka_unit_test(test_replies_do_not_depend_on_company),
        cmocka_unit_test(test_what_a_reply_says),
        cmocka_unit_test(test_a_run_goes_on),
        cmocka_unit_test(test_scores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
