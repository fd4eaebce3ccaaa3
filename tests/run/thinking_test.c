/* Thoughts and their budget. What the model says is a script: the linker puts the
 * function below in the place of jt_sampler_next, everything else is as it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../golden/model.h"
#include "run/thoughts.h"

static jt_model *model;
static jt_tokens script;
static size_t said;

int32_t __wrap_jt_sampler_next(jt_sampler *sampler, const float *logits);
int32_t __wrap_jt_sampler_next(jt_sampler *sampler, const float *logits)
{
    (void)sampler;
    assert_non_null(logits);
    return said < script.count ? script.ids[said++]
                               : jt_token_eos(jt_model_tokenizer(model));
}

static int open_model(void **state)
{
    (void)state;
    model = golden_model("mixtral");
    return model ? 0 : -1;
}

static int close_model(void **state)
{
    (void)state;
    jt_model_free(model);
    return 0;
}

static jt_tokens encode(const char *text)
{
    jt_tokens out = {0};
    assert_int_equal(jt_encode(jt_model_tokenizer(model), text, strlen(text),
                               JT_ENCODE_PARSE_SPECIAL, &out, NULL),
                     JT_OK);
    return out;
}

static size_t count_tokens(const char *text)
{
    jt_tokens tokens = encode(text);
    free(tokens.ids);
    return tokens.count;
}

/* <|pad|> is one special token, the end takes several plain ones. */
static const jt_thinking marks = {.open = "<|pad|>",
                                  .close = "<|im_start|>",
                                  .cut = " no.<|im_start|>\n",
                                  .skip = "<|im_start|>\n"};

typedef struct heard {
    char answer[256], thought[256];
    jt_generate_result result;
    int length; /* of the context, at the end */
} heard;

static int on_text(void *user, const char *text, size_t len)
{
    heard *h = user;
    strncat(h->answer, text, len);
    return 0;
}

static int on_thought(void *user, const char *text, size_t len)
{
    heard *h = user;
    strncat(h->thought, text, len);
    return 0;
}

/* Let the model say `says`, with the options that matter here. */
static heard listen(const char *says, jt_generate_options options)
{
    heard h = {0};
    jt_session *session;
    jt_sampler *sampler;
    jt_session_options small = {.n_ctx = 100};
    jt_sampling sampling = jt_sampling_default();
    jt_tokens prompt = encode("Hi");
    script = encode(says);
    said = 0;
    options.max_tokens = options.max_tokens ? options.max_tokens : -1;
    options.on_text = on_text;
    options.on_thought = on_thought;
    options.user = &h;
    assert_int_equal(jt_session_new(&session, model, &small, NULL), JT_OK);
    assert_int_equal(jt_sampler_new(&sampler, &sampling, 272, NULL), JT_OK);
    assert_int_equal(jt_generate(session, sampler, prompt.ids, prompt.count, &options,
                                 &h.result, NULL),
                     JT_OK);
    h.length = jt_session_length(session);
    jt_session_free(session);
    jt_sampler_free(sampler);
    free(prompt.ids);
    free(script.ids);
    return h;
}

static heard listen_within(const char *says, int budget)
{
    return listen(says,
                  (jt_generate_options){.thinking = &marks, .thinking_budget = budget});
}

static void thoughts_and_answers_go_their_ways(void **state)
{
    (void)state;
    heard h = listen_within("<|pad|>\nlet me see <|im_start|>\n\nyes.", -1);
    assert_string_equal(h.thought, "let me see ");
    assert_string_equal(h.answer, "yes.");
    assert_int_equal(h.result.thought_tokens, count_tokens("\nlet me see "));
    assert_int_equal(h.result.forced_tokens, 0);
    assert_int_equal(h.result.finish, JT_FINISH_END);

    h = listen("<|pad|>see<|im_start|>yes", (jt_generate_options){0});
    assert_string_equal(h.answer, "seeyes"); /* no marks: all of it is answer */
    assert_int_equal(h.result.thought_tokens, 0);
}

static void a_prompt_may_have_begun_the_thought(void **state)
{
    (void)state;
    heard h =
        listen("see<|im_start|>yes", (jt_generate_options){.thinking = &marks,
                                                           .in_thought = true,
                                                           .thinking_budget = -1});
    assert_string_equal(h.thought, "see");
    assert_string_equal(h.answer, "yes");
    assert_int_equal(h.result.thought_tokens, count_tokens("see"));
}

/* For every budget up to the whole thought, exactly that many of its tokens are
 * sampled, the closing words follow, and the answer begins. */
static void the_budget_is_exact(void **state)
{
    (void)state;
    static const char thought[] = "abcdefgh";
    int whole = (int)count_tokens(thought);
    int forced = (int)count_tokens(marks.cut), room = (int)count_tokens("Hi");
    assert_true(whole > 4);
    for (int budget = 1; budget < whole; budget++) {
        /* What the model says after the cut is the rest of the script. */
        heard h = listen_within("<|pad|>abcdefgh", budget);
        jt_tokens all = encode(thought);
        char *begin, *rest;
        size_t len;
        const jt_tokenizer *tok = jt_model_tokenizer(model);
        assert_int_equal(
            jt_decode(tok, all.ids, (size_t)budget, true, &begin, &len, NULL), JT_OK);
        assert_int_equal(jt_decode(tok, all.ids + budget, (size_t)(whole - budget),
                                   true, &rest, &len, NULL),
                         JT_OK);
        char expected[64];
        snprintf(expected, sizeof expected, "%s no.", begin);
        assert_string_equal(h.thought, expected);
        assert_string_equal(h.answer, rest);
        assert_int_equal(h.result.thought_tokens, budget);
        assert_int_equal(h.result.forced_tokens, forced);
        assert_int_equal(h.result.tokens, 1 + whole + 1); /* open, all, end */
        assert_int_equal(h.length, room + 1 + whole + forced);
        free(begin);
        free(rest);
        free(all.ids);
    }
}

static void a_thought_within_its_budget_is_left_alone(void **state)
{
    (void)state;
    static const char says[] = "<|pad|>abcdefgh<|im_start|>yes";
    int whole = (int)count_tokens("abcdefgh");
    heard h = listen_within(says, whole + 1);
    assert_string_equal(h.thought, "abcdefgh");
    assert_string_equal(h.answer, "yes");
    assert_int_equal(h.result.forced_tokens, 0);
    assert_int_equal(h.result.thought_tokens, whole);
}

static void no_budget_is_no_thought(void **state)
{
    (void)state;
    heard h = listen_within("<|pad|>yes", 0);
    assert_string_equal(h.thought, "");
    assert_string_equal(h.answer, "yes");
    assert_int_equal(h.result.thought_tokens, 0);
    assert_int_equal(h.result.forced_tokens, count_tokens(marks.skip));

    h = listen("yes", (jt_generate_options){.thinking = &marks, .in_thought = true});
    assert_string_equal(h.thought, "");
    assert_string_equal(h.answer, "yes");
    assert_int_equal(h.result.forced_tokens, count_tokens(marks.skip));
}

/* Several thoughts of a reply share one budget. */
static void a_second_thought_has_what_is_left(void **state)
{
    (void)state;
    int first = (int)count_tokens("ab");
    heard h = listen_within("<|pad|>ab<|im_start|>x<|pad|>y", first);
    assert_string_equal(h.thought, "ab no."); /* the cut came before its end */
    assert_string_equal(h.answer, "xy");      /* nothing is left for another */
    h = listen_within("<|pad|>ab<|im_start|>x<|pad|>cdz", first + 1);
    assert_int_equal(h.result.thought_tokens, first + 1);
    assert_string_equal(h.answer, "xdz");
}

static void what_does_not_fit_ends_the_reply(void **state)
{
    (void)state;
    jt_thinking wordy = marks;
    char cut[256] = "";
    while (strlen(cut) < 200)
        strcat(cut, "0123456789");
    strcat(cut, marks.cut);
    wordy.cut = cut;
    heard h = listen("<|pad|>abcdef",
                     (jt_generate_options){.thinking = &wordy, .thinking_budget = 2});
    assert_int_equal(h.result.finish, JT_FINISH_CONTEXT);
    assert_int_equal(h.result.forced_tokens, 0);
    assert_int_equal(h.result.thought_tokens, 2);
}

static void length_counts_what_is_sampled(void **state)
{
    (void)state;
    heard h = listen("<|pad|>abcdefgh", (jt_generate_options){.thinking = &marks,
                                                              .thinking_budget = 3,
                                                              .max_tokens = 5});
    assert_int_equal(h.result.finish, JT_FINISH_LENGTH);
    assert_int_equal(h.result.tokens, 5);
    assert_int_equal(h.result.thought_tokens, 3);
    assert_true(h.result.forced_tokens > 0);
}

/* ---- the marks of published models, in pieces of any size ---- */

static jt_status collect(void *user, bool thought, const char *text, size_t len,
                         jt_err *err)
{
    (void)err;
    heard *h = user;
    strncat(thought ? h->thought : h->answer, text, len);
    return JT_OK;
}

/* Feed `text` in pieces of `size` bytes; what stands in <| |> is special. */
static heard split(const char *source, const char *text, size_t size)
{
    heard h = {0};
    jt_thoughts t = {.marks = jt_thinking_find(source, strlen(source), NULL),
                     .out = collect,
                     .user = &h};
    assert_non_null(t.marks);
    for (const char *at = text; *at;) {
        const char *end = strncmp(at, "<|", 2) ? NULL : strchr(at, '>');
        end = end && end[-1] == '|' ? end : NULL;
        const char *next = strstr(at + 1, "<|");
        size_t left = next ? (size_t)(next - at) : strlen(at);
        size_t len = end ? (size_t)(end + 1 - at) : size < left ? size : left;
        assert_int_equal(jt_thoughts_add(&t, at, len, end != NULL, NULL), JT_OK);
        at += len;
    }
    assert_int_equal(jt_thoughts_finish(&t, NULL), JT_OK);
    jt_thoughts_free(&t);
    return h;
}

static void published_marks(void **state)
{
    (void)state;
    static const struct {
        const char *source, *text, *thought, *answer;
    } cases[] = {
        {"{{ '<think>' }}</think>", "<think>\na < b\n</think>\n\n<b>yes</b>", "a < b\n",
         "<b>yes</b>"},
        {"[THINK]..[/THINK]", "[THINK]a[0][/THINK]yes", "a[0]", "yes"},
        {"<seed:think></seed:think>", "<seed:think>a</seed:think>yes", "a", "yes"},
        {"<|START_THINKING|><|END_THINKING|>",
         "<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>yes<|END_RESPONSE|>",
         "a", "yes"},
        {"<|channel>thought\n<channel|>", "<|channel>thought\na<channel|>yes", "a",
         "yes"},
        {"<|channel|>",
         "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final"
         "<|message|>yes",
         "a", "yes"},
        {"<|channel|>", "<|channel|>commentary<|message|>tool", "", "commentarytool"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t size = 1; size < 20; size++) {
            heard h = split(cases[i].source, cases[i].text, size);
            assert_string_equal(h.thought, cases[i].thought);
            assert_string_equal(h.answer, cases[i].answer);
        }
    }
    assert_null(jt_thinking_find("plain", 5, NULL));
}

static void prompts_that_open_a_thought(void **state)
{
    (void)state;
    const jt_thinking *m = jt_thinking_find("</think>", 8, NULL);
    assert_true(jt_thinking_opened(m, "x<think>\n", 9));
    assert_true(jt_thinking_opened(m, "<think>", 7));
    assert_false(jt_thinking_opened(m, "<think>\n\n</think>\n\n", 19));
    assert_false(jt_thinking_opened(m, "think>", 6));
    assert_false(jt_thinking_opened(NULL, "<think>", 7));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thoughts_and_answers_go_their_ways),
        cmocka_unit_test(a_prompt_may_have_begun_the_thought),
        cmocka_unit_test(the_budget_is_exact),
        cmocka_unit_test(a_thought_within_its_budget_is_left_alone),
        cmocka_unit_test(no_budget_is_no_thought),
        cmocka_unit_test(a_second_thought_has_what_is_left),
        cmocka_unit_test(what_does_not_fit_ends_the_reply),
        cmocka_unit_test(length_counts_what_is_sampled),
        cmocka_unit_test(published_marks),
        cmocka_unit_test(prompts_that_open_a_thought),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
