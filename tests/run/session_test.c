/* Sessions: limits, failures that change nothing, the same bits whatever the chunks. */
#include <math.h>
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

enum { PROMPT = 24 };

static jt_model *model;
static int32_t prompt[PROMPT];
static size_t vocab;

static int open_model(void **state)
{
    (void)state;
    model = golden_model("mixtral");
    if (!model)
        return -1;
    jt_model_info info;
    jt_model_describe(model, &info);
    vocab = (size_t)info.n_vocab;
    for (int i = 0; i < PROMPT; i++)
        prompt[i] = (i * 37 + 11) % 256;
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    jt_model_free(model);
    return 0;
}

static jt_session *open_session(int n_ctx, int chunk, int threads)
{
    jt_session *s;
    jt_session_options options = {.n_ctx = n_ctx, .chunk = chunk, .threads = threads};
    assert_int_equal(jt_session_new(&s, model, &options, NULL), JT_OK);
    return s;
}

static void chunks_and_threads_do_not_matter(void **state)
{
    (void)state;
    static const int chunks[] = {1, 3, 7, 64};
    jt_session *whole = open_session(0, 0, 1);
    assert_int_equal(jt_session_eval(whole, prompt, PROMPT, NULL, NULL), JT_OK);
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        jt_session *s = open_session(0, chunks[i], 2);
        assert_int_equal(jt_session_eval(s, prompt, PROMPT, NULL, NULL), JT_OK);
        assert_memory_equal(jt_session_logits(s), jt_session_logits(whole),
                            vocab * sizeof(float));
        jt_session_free(s);
    }
    jt_session_free(whole);
}

static void truncating_goes_back(void **state)
{
    (void)state;
    jt_session *s = open_session(64, 0, 1);
    float *first = malloc(vocab * sizeof *first);
    assert_null(jt_session_logits(s));
    assert_int_equal(jt_session_eval(s, prompt, 10, NULL, NULL), JT_OK);
    memcpy(first, jt_session_logits(s), vocab * sizeof *first);
    assert_int_equal(jt_session_eval(s, prompt + 10, 5, NULL, NULL), JT_OK);
    jt_session_truncate(s, 9);
    assert_int_equal(jt_session_length(s), 9);
    assert_null(jt_session_logits(s));
    assert_int_equal(jt_session_eval(s, prompt + 9, 1, NULL, NULL), JT_OK);
    assert_memory_equal(jt_session_logits(s), first, vocab * sizeof *first);
    free(first);
    jt_session_free(s);
}

static void what_does_not_fit_is_refused_whole(void **state)
{
    (void)state;
    jt_err err;
    jt_session *s = open_session(16, 4, 1);
    int32_t outside = (int32_t)vocab, negative = -1;
    assert_int_equal(jt_session_eval(s, prompt, 17, NULL, &err), JT_E_LIMIT);
    assert_non_null(strstr(err.msg, "17 tokens"));
    assert_int_equal(jt_session_length(s), 0);
    assert_int_equal(jt_session_eval(s, prompt, 0, NULL, &err), JT_E_ARG);
    assert_int_equal(jt_session_eval(s, &outside, 1, NULL, &err), JT_E_ARG);
    assert_int_equal(jt_session_eval(s, &negative, 1, NULL, &err), JT_E_ARG);
    assert_int_equal(jt_session_eval(s, prompt, 16, NULL, &err), JT_OK);
    assert_int_equal(jt_session_eval(s, prompt, 1, NULL, &err), JT_E_LIMIT);
    jt_session_free(s);
}

static void wrong_options_are_named(void **state)
{
    (void)state;
    jt_err err;
    jt_session *s;
    jt_session_options options = {.n_ctx = 1 << 30};
    assert_int_equal(jt_session_new(&s, model, &options, &err), JT_E_ARG);
    options = (jt_session_options){.cpu = "abacus"};
    assert_int_equal(jt_session_new(&s, model, &options, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "abacus"));
    options = (jt_session_options){.kv_type = "q4_k"};
    assert_int_equal(jt_session_new(&s, model, &options, &err), JT_E_UNSUPPORTED);
    options = (jt_session_options){.kv_type = "papyrus"};
    assert_int_equal(jt_session_new(&s, model, &options, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "papyrus"));
    options = (jt_session_options){.threads = -3};
    assert_int_equal(jt_session_new(&s, model, &options, &err), JT_E_ARG);
}

static int stop_at_second(void *user, const char *what, unsigned long long done,
                          unsigned long long total)
{
    (void)what;
    (void)total;
    (void)done;
    return ++*(int *)user == 2;
}

static void an_interrupted_prompt_leaves_the_context(void **state)
{
    (void)state;
    int calls = 0;
    jt_eval_options options = {.progress = {stop_at_second, &calls}};
    jt_session *s = open_session(64, 4, 1);
    assert_int_equal(jt_session_eval(s, prompt, 5, NULL, NULL), JT_OK);
    assert_int_equal(jt_session_eval(s, prompt, 12, &options, NULL), JT_E_INTERRUPTED);
    assert_int_equal(jt_session_length(s), 5);
    jt_session_free(s);
}

/* Every allocation in turn fails: a clean error, nothing leaked, and then it works. */
static void every_allocation_may_fail(void **state)
{
    (void)state;
    bool done = false;
    for (long n = 0; !done; n++) {
        jt_err err = {0};
        jt_session *s = NULL;
        jt_session_options options = {.n_ctx = 64, .threads = 1};
        jt_fault_after(n);
        jt_status status = jt_session_new(&s, model, &options, &err);
        if (status == JT_OK)
            status = jt_session_eval(s, prompt, PROMPT, NULL, &err);
        jt_fault_after(-1);
        done = status == JT_OK;
        if (!done) {
            assert_int_equal(status, JT_E_MEMORY);
            assert_non_null(strstr(err.msg, "memory"));
        }
        if (!done && s)
            assert_int_equal(jt_session_eval(s, prompt, PROMPT, NULL, &err), JT_OK);
        jt_session_free(s);
        assert_true(n < 1000);
    }
}

typedef struct text {
    char data[4096];
    size_t len;
} text;

static int append(void *user, const char *data, size_t len)
{
    text *t = user;
    memcpy(t->data + t->len, data, len);
    t->len += len;
    return 0;
}

static jt_generate_result generate(text *out, int n_ctx, int max_tokens)
{
    jt_session *s = open_session(n_ctx, 0, 1);
    jt_sampling sampling = jt_sampling_default();
    jt_sampler *sampler;
    jt_generate_options options = {
        .max_tokens = max_tokens, .ignore_end = true, .on_text = append, .user = out};
    jt_generate_result result;
    jt_err err = {0};
    out->len = 0;
    assert_int_equal(jt_sampler_new(&sampler, &sampling, vocab, NULL), JT_OK);
    if (jt_generate(s, sampler, prompt, 6, &options, &result, &err) != JT_OK)
        fail_msg("%s", err.msg);
    jt_sampler_free(sampler);
    jt_session_free(s);
    return result;
}

static void generation_ends_for_a_reason(void **state)
{
    (void)state;
    text a, b;
    jt_generate_result r = generate(&a, 64, 20);
    assert_int_equal(r.finish, JT_FINISH_LENGTH);
    assert_int_equal(r.tokens, 20);
    assert_int_equal(r.prompt_tokens, 6);
    generate(&b, 64, 20);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len); /* same seed, same text */
    r = generate(&a, 16, -1);
    assert_int_equal(r.finish, JT_FINISH_CONTEXT);
    assert_int_equal(r.tokens, 11); /* 6 + 10 fill the context, one more is sampled */
    r = generate(&a, 16, 0);
    assert_int_equal(r.finish, JT_FINISH_LENGTH);
    assert_int_equal(a.len, 0);
}

static void perplexity_is_its_definition(void **state)
{
    (void)state;
    enum { WINDOW = 8 };
    jt_session *s = open_session(64, 3, 1);
    jt_perplexity result;
    jt_err err;
    double sum = 0.0;
    for (int w = 0; w < PROMPT / WINDOW; w++) {
        jt_session_truncate(s, 0);
        for (int i = 0; i + 1 < WINDOW; i++) {
            const int32_t *token = prompt + w * WINDOW + i;
            assert_int_equal(jt_session_eval(s, token, 1, NULL, NULL), JT_OK);
            const float *logits = jt_session_logits(s);
            double total = 0.0;
            for (size_t v = 0; v < vocab; v++)
                total += exp(logits[v]);
            sum += log(total) - logits[token[1]];
        }
    }
    assert_int_equal(jt_measure_perplexity(s, prompt, PROMPT, WINDOW, (jt_progress){0},
                                           &result, &err),
                     JT_OK);
    assert_int_equal(result.windows, PROMPT / WINDOW);
    assert_int_equal(result.scored, PROMPT / WINDOW * (WINDOW - 1));
    assert_true(fabs(result.nll - sum / (double)result.scored) < 1e-5);
    assert_true(fabs(result.perplexity - exp(result.nll)) < 1e-9 * result.perplexity);
    assert_int_equal(
        jt_measure_perplexity(s, prompt, 7, WINDOW, (jt_progress){0}, &result, &err),
        JT_E_ARG);
    jt_session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_and_threads_do_not_matter),
        cmocka_unit_test(truncating_goes_back),
        cmocka_unit_test(what_does_not_fit_is_refused_whole),
        cmocka_unit_test(wrong_options_are_named),
        cmocka_unit_test(an_interrupted_prompt_leaves_the_context),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(generation_ends_for_a_reason),
        cmocka_unit_test(perplexity_is_its_definition),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
