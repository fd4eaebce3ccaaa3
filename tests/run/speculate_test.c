/* Guessing ahead: the text is the one that comes without, whoever guesses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../golden/model.h"
#include "base/memory.h"
#include "junto/junto.h"
#include "run/ahead.h"

enum { PROMPT = 12, TOKENS = 60 };

typedef struct writer {
    jt_model *model;
    jt_session *session;
    float temperature;
    char text[16 * TOKENS];
    size_t len;
    jt_generate_result result;
} writer;

static void open_writer(writer *w, const char *name)
{
    *w = (writer){.model = golden_model(name)};
    assert_non_null(w->model);
    jt_session_options options = {.threads = 1, .n_ctx = PROMPT + TOKENS};
    assert_int_equal(jt_session_new(&w->session, w->model, &options, NULL), JT_OK);
}

static void close_writer(writer *w)
{
    jt_session_free(w->session);
    jt_model_free(w->model);
}

static int keep_text(void *user, const char *text, size_t len)
{
    writer *w = user;
    if (w->len + len <= sizeof w->text)
        memcpy(w->text + w->len, text, len);
    w->len += len;
    return 0;
}

static jt_status write_text(writer *w, const jt_speculation *how, int most, jt_err *err)
{
    int32_t prompt[PROMPT];
    jt_sampling sampling = jt_sampling_default();
    jt_sampler *sampler;
    jt_model_info info;
    jt_model_describe(w->model, &info);
    for (int i = 0; i < PROMPT; i++)
        prompt[i] = 20 + i % 4;
    sampling.temperature = w->temperature;
    sampling.repeat_penalty = 1.1f;
    sampling.seed = 7;
    jt_status status = jt_sampler_new(&sampler, &sampling, (size_t)info.n_vocab, err);
    if (status != JT_OK)
        return status;
    jt_generate_options options = {.max_tokens = most,
                                   .ignore_end = true,
                                   .on_text = keep_text,
                                   .user = w,
                                   .thinking_budget = -1,
                                   .speculation = how};
    w->len = 0;
    jt_session_truncate(w->session, 0);
    status =
        jt_generate(w->session, sampler, prompt, PROMPT, &options, &w->result, err);
    jt_sampler_free(sampler);
    return status;
}

/* ---- those who guess ---- */

/* Guesses from the known text: right, but each `wrong`-th one. */
typedef struct oracle {
    int32_t known[PROMPT + TOKENS];
    size_t count, wrong, asked;
} oracle;

static jt_status foretell(void *self, const int32_t *text, size_t count, int32_t *draft,
                          size_t most, size_t *n, jt_err *err)
{
    oracle *o = self;
    (void)err;
    (void)text;
    for (*n = 0; *n < most && count + *n < o->count; ++*n) {
        bool lies = o->wrong && ++o->asked % o->wrong == 0;
        draft[*n] = o->known[count + *n] ^ (int32_t)lies;
    }
    return JT_OK;
}

/* Remembers the text as it grows. */
static jt_status note(void *self, const int32_t *text, size_t count, int32_t *draft,
                      size_t most, size_t *n, jt_err *err)
{
    oracle *o = self;
    (void)draft;
    (void)most;
    (void)err;
    memcpy(o->known, text, count * sizeof *text);
    o->count = count;
    *n = 0;
    return JT_OK;
}

/* The text with `how` is that of `plain`, and so is what the session holds after it. */
static void same_text(writer *w, const writer *plain, const jt_speculation *how)
{
    jt_err err;
    if (write_text(w, how, TOKENS, &err) != JT_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(w->len, plain->len);
    assert_memory_equal(w->text, plain->text, plain->len);
    assert_int_equal(w->result.tokens, plain->result.tokens);
    assert_int_equal(w->result.finish, plain->result.finish);
    assert_int_equal(jt_session_length(w->session), jt_session_length(plain->session));
    /* every pass gives one token and those that were guessed; the last is sampled only
     */
    assert_int_equal(w->result.passes + w->result.accepted + 1, w->result.tokens);
}

static void any_guess(void **state)
{
    for (int sampled = 0; sampled < 2; sampled++) {
        writer plain, w;
        open_writer(&plain, *state);
        open_writer(&w, *state);
        plain.temperature = w.temperature = sampled ? 0.9f : 0.0f;
        assert_int_equal(write_text(&plain, NULL, TOKENS, NULL), JT_OK);
        assert_int_equal(plain.result.tokens, TOKENS);
        assert_int_equal(plain.result.passes, TOKENS - 1);
        oracle o = {0};
        jt_speculation how = {{&o, note}, 6};
        same_text(&w, &plain, &how);
        assert_int_equal(w.result.drafted, 0);
        how.drafter.propose = foretell;
        same_text(&w, &plain, &how);
        assert_int_equal(w.result.accepted, w.result.drafted); /* all right */
        assert_true(w.result.passes <= TOKENS / 6 + 2);
        size_t best = w.result.passes;
        for (o.wrong = 1; o.wrong < 5; o.wrong++) {
            o.asked = 0;
            same_text(&w, &plain, &how);
            assert_true(w.result.passes > best);
            assert_true(o.wrong > 1 || w.result.accepted == 0);
        }
        close_writer(&w);
        close_writer(&plain);
    }
}

/* The likeliest tokens after a prompt, by hand. */
static void write_greedily(jt_session *s, const jt_speculation *how, int32_t *out,
                           size_t count)
{
    static const int32_t prompt[] = {3, 1, 4, 1, 5, 9, 2, 6};
    jt_ahead a;
    size_t vocab = (size_t)s->model->params.n_vocab;
    assert_int_equal(jt_ahead_init(&a, s, how, NULL), JT_OK);
    assert_int_equal(jt_session_eval(s, prompt, 8, NULL, NULL), JT_OK);
    for (size_t i = 0; i < count; i++) {
        const float *logits = jt_ahead_logits(&a);
        out[i] = 0;
        for (size_t id = 1; id < vocab; id++)
            out[i] = logits[id] > logits[out[i]] ? (int32_t)id : out[i];
        assert_int_equal(jt_ahead_length(&a), 8 + i);
        assert_int_equal(jt_ahead_push(&a, out[i], count, NULL), JT_OK);
    }
    jt_ahead_free(&a);
}

/* Layers that keep only their window go back behind wrong guesses. */
static void windows_go_back(void **state)
{
    enum { COUNT = 40 };
    int32_t plain[COUNT], guessed[COUNT];
    jt_model *model = golden_model(*state);
    assert_non_null(model);
    jt_session *s;
    jt_session_options options = {.threads = 1, .chunk = 8, .n_ctx = 8 + COUNT};
    assert_int_equal(jt_session_new(&s, model, &options, NULL), JT_OK);
    write_greedily(s, NULL, plain, COUNT);
    oracle o = {.count = 8 + COUNT};
    memcpy(o.known + 8, plain, sizeof plain);
    for (o.wrong = 0; o.wrong < 4; o.wrong++) {
        jt_speculation how = {{&o, foretell}, 5};
        jt_session_truncate(s, 0);
        write_greedily(s, &how, guessed, COUNT);
        assert_memory_equal(guessed, plain, sizeof plain);
    }
    jt_session_free(s);
    jt_model_free(model);
}

/* Wrong guesses cost ever less: most tokens go without. */
static void gives_up(void **state)
{
    (void)state;
    writer w;
    open_writer(&w, "mixtral");
    oracle o = {.wrong = 1};
    jt_speculation how = {{&o, note}, 4};
    assert_int_equal(write_text(&w, &how, TOKENS, NULL), JT_OK);
    how.drafter.propose = foretell;
    assert_int_equal(write_text(&w, &how, TOKENS, NULL), JT_OK);
    assert_int_equal(w.result.accepted, 0);
    assert_in_range(w.result.drafted, 1, TOKENS / 4);
    close_writer(&w);
}

static void a_model_guesses(void **state)
{
    (void)state;
    writer plain, w;
    open_writer(&plain, "mixtral");
    open_writer(&w, "mixtral");
    jt_session *s;
    jt_session_options options = {.n_ctx = PROMPT + 20, .beside = w.session};
    assert_int_equal(jt_session_new(&s, w.model, &options, NULL), JT_OK);
    jt_draft_model draft = {s, 0.0f};
    jt_speculation how = {jt_model_drafter(&draft), 5};
    assert_int_equal(write_text(&plain, NULL, TOKENS, NULL), JT_OK);
    same_text(&w, &plain, &how);
    assert_true(w.result.drafted > 0); /* its context is shorter than the text */
    draft.min_p = 1.0f;                /* never so sure */
    same_text(&w, &plain, &how);
    assert_int_equal(w.result.drafted, 0);
    jt_session_free(s);
    close_writer(&w);
    close_writer(&plain);
}

static void looks_up(void **state)
{
    (void)state;
    static const int32_t text[] = {1, 2, 3, 4, 9, 2, 3, 5, 7, 2, 3};
    jt_lookup lookup = {1, 3};
    jt_drafter d = jt_lookup_drafter(&lookup);
    int32_t draft[8];
    size_t n;
    assert_int_equal(d.propose(d.self, text, 11, draft, 8, &n, NULL), JT_OK);
    assert_int_equal(n, 4); /* after the last "2 3": 5 7 2 3 */
    assert_memory_equal(draft, text + 7, 4 * sizeof *text);
    assert_int_equal(d.propose(d.self, text, 11, draft, 2, &n, NULL), JT_OK);
    assert_int_equal(n, 2);
    assert_int_equal(d.propose(d.self, text, 5, draft, 8, &n, NULL), JT_OK);
    assert_int_equal(n, 0); /* 9 is new */
    assert_int_equal(d.propose(d.self, text, 1, draft, 8, &n, NULL), JT_OK);
    assert_int_equal(n, 0);
    lookup.least = 3;
    assert_int_equal(d.propose(d.self, text, 11, draft, 8, &n, NULL), JT_OK);
    assert_int_equal(n, 0); /* "7 2 3" is new */
}

static void refusals(void **state)
{
    (void)state;
    writer w, other;
    jt_err err;
    jt_lookup lookup = {1, 3};
    jt_speculation how = {jt_lookup_drafter(&lookup), 0};
    open_writer(&w, "mixtral");
    assert_int_equal(write_text(&w, &how, 4, &err), JT_E_ARG);
    how.most = 1000;
    assert_int_equal(write_text(&w, &how, 4, &err), JT_E_ARG);
    how.most = 4;
    jt_status status = JT_E_MEMORY;
    for (long i = 0; status == JT_E_MEMORY; i++) {
        jt_fault_after(i);
        status = write_text(&w, &how, 4, &err);
        jt_fault_after(-1);
    }
    assert_int_equal(status, JT_OK);
    assert_int_equal(jt_check_draft_vocabulary(w.model, w.model, &err), JT_OK);
    open_writer(&other, "olmoe"); /* a file without one */
    assert_int_equal(jt_check_draft_vocabulary(w.model, other.model, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "vocabulary"));
    close_writer(&other);
    close_writer(&w);
}

static void states_do_not_go_back(void **state)
{
    (void)state;
    jt_model *model = golden_model("lfm2moe");
    assert_non_null(model);
    jt_session *s;
    jt_ahead a;
    jt_err err;
    jt_lookup lookup = {1, 3};
    jt_speculation how = {jt_lookup_drafter(&lookup), 4};
    assert_int_equal(jt_session_new(&s, model, NULL, NULL), JT_OK);
    assert_int_equal(jt_ahead_init(&a, s, &how, &err), JT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "lfm2moe"));
    jt_ahead_free(&a);
    jt_session_free(s);
    jt_model_free(model);
}

#define ANY(name)                                                          \
    {                                                                      \
        "any guess: " name, any_guess, NULL, NULL, (void *)(uintptr_t)name \
    }

#define BACK(name)                                                             \
    {                                                                          \
        "windows: " name, windows_go_back, NULL, NULL, (void *)(uintptr_t)name \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        ANY("mixtral"),
        ANY("llama"),
        BACK("gpt-oss"),
        BACK("gemma3"),
        cmocka_unit_test(gives_up),
        cmocka_unit_test(a_model_guesses),
        cmocka_unit_test(looks_up),
        cmocka_unit_test(refusals),
        cmocka_unit_test(states_do_not_go_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
