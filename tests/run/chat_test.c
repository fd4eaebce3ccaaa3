/* Chats: which template, what it is given, the tokens of its text, and sessions that
 * keep what two turns share. */
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

static jt_model *model;

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

static jt_chat *open_chat(const char *source)
{
    jt_chat *chat;
    assert_int_equal(jt_chat_new(&chat, jt_model_file(model), jt_model_tokenizer(model),
                                 source, source ? strlen(source) : 0, NULL),
                     JT_OK);
    return chat;
}

static char *render(const char *source, const char *messages,
                    const jt_chat_options *options)
{
    jt_chat *chat = open_chat(source);
    char *text;
    size_t len;
    jt_err err = {0};
    if (jt_chat_render(chat, messages, strlen(messages), options, &text, &len, &err) !=
        JT_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(strlen(text), len);
    jt_chat_free(chat);
    return text;
}

static void check(const char *expected, const char *source, const char *messages,
                  jt_chat_options options)
{
    char *text = render(source, messages, &options);
    assert_string_equal(text, expected);
    free(text);
}

#define TALK                                       \
    "[{\"role\":\"system\",\"content\":\"Be.\"},"  \
    "{\"role\":\"user\",\"content\":\"Hi\"},"      \
    "{\"role\":\"assistant\",\"content\":\"Ho\"}," \
    "{\"role\":\"user\",\"content\":\"So?\"}]"

static void templates(void **state)
{
    (void)state;
    jt_chat_options ask = {.add_generation_prompt = true};
    static const char chatml[] =
        "<|im_start|>system\nBe.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHo<|im_end|>\n<|im_start|>user\nSo?<|im_end|>\n"
        "<|im_start|>assistant\n";
    check(chatml, NULL, TALK, ask); /* that of the file is of this form, too */
    check(chatml, jt_chat_builtin("chatml"), TALK, ask);
    check("<|start_header_id|>system<|end_header_id|>\n\nBe.<|eot_id|>"
          "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
          "<|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|>"
          "<|start_header_id|>user<|end_header_id|>\n\nSo?<|eot_id|>",
          jt_chat_builtin("llama3"), TALK, (jt_chat_options){0});
    check("<|system|>\nBe.\n<|user|>\nHi\n<|assistant|>\nHo<|im_end|>\n<|user|>\nSo?\n"
          "<|assistant|>\n",
          jt_chat_builtin("zephyr"), TALK, ask);
    check("Be.\nHiHo\nSo?", jt_chat_builtin("plain"), TALK, ask);
    assert_null(jt_chat_builtin("morse"));
}

static void what_a_template_is_given(void **state)
{
    (void)state;
    static const char source[] =
        "{{ tools is none }} {{ documents is none }} {{ bos_token }} {{ eos_token }} "
        "{{ enable_thinking is defined and enable_thinking }} "
        "{{ enable_thinking is defined }} {{ x | default('none') }}";
    check("True True <|endoftext|> <|im_end|> False False none", source, "[]",
          (jt_chat_options){0});
    check("True True <|endoftext|> <|im_end|> True True 7", source, "[]",
          (jt_chat_options){
              .think = JT_THINK_ON, .variables = "{\"x\": 7}", .variables_len = 8});
    check("True True <|endoftext|> <|im_end|> False True none", source, "[]",
          (jt_chat_options){.think = JT_THINK_OFF});
    check("f", "{{ tools[0].name }}", "[]",
          (jt_chat_options){.tools = "[{\"name\":\"f\"}]", .tools_len = 14});
}

static void thoughts_have_several_names(void **state)
{
    (void)state;
    static const char source[] = "{% for m in messages %}{{ m.reasoning_content }},{{ "
                                 "m.thinking }};{% endfor %}";
    check("a,a;b,b;c,c;,;d,e;", source,
          "[{\"reasoning_content\":\"a\"},{\"thinking\":\"b\"},{\"reasoning\":\"c\"},"
          "{\"thinking\":\"\"},{\"reasoning_content\":\"d\",\"thinking\":\"e\"}]",
          (jt_chat_options){0});
    check("b,None;", source, "[{\"thinking\":null,\"reasoning\":\"b\"}]",
          (jt_chat_options){0});
}

static void failures(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_chat *chat;
    char *text;
    size_t len;
    assert_int_equal(jt_chat_new(&chat, NULL, NULL, "{% if", 5, &err), JT_E_FORMAT);
    chat = open_chat("{{ raise_exception('roles must take turns') }}");
    jt_chat_options none = {0};
    assert_int_equal(jt_chat_render(chat, "{}", 2, &none, &text, &len, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "not a JSON list"));
    assert_int_equal(jt_chat_render(chat, "[", 1, &none, &text, &len, &err), JT_E_ARG);
    assert_int_equal(jt_chat_render(chat, "[]", 2, &none, &text, &len, &err),
                     JT_E_FORMAT);
    assert_non_null(strstr(err.msg, "roles must take turns"));
    jt_chat_free(chat);
    for (long n = 0; n < 20; n++) {
        jt_fault_after(n);
        jt_status status =
            jt_chat_new(&chat, jt_model_file(model), NULL, NULL, 0, &err);
        jt_fault_after(-1);
        assert_true(status == JT_OK || status == JT_E_MEMORY);
        if (status == JT_OK)
            jt_chat_free(chat);
    }
}

static void tokens_begin_as_the_vocabulary_asks(void **state)
{
    (void)state;
    jt_chat *chat = open_chat(NULL);
    const jt_tokenizer *tok = jt_model_tokenizer(model);
    static const char text[] = "<|im_start|>user\n";
    jt_tokens got = {0}, expected = {0};
    assert_int_equal(jt_chat_encode(chat, text, strlen(text), &got, NULL), JT_OK);
    assert_int_equal(jt_encode(tok, text, strlen(text),
                               JT_ENCODE_ADD_SPECIAL | JT_ENCODE_PARSE_SPECIAL,
                               &expected, NULL),
                     JT_OK);
    assert_int_equal(got.count, expected.count);
    assert_memory_equal(got.ids, expected.ids, got.count * sizeof *got.ids);
    assert_int_equal(got.ids[0], jt_token_find(tok, "<|im_start|>", 12));
    free(got.ids);
    free(expected.ids);
    jt_chat_free(chat);
}

static jt_generate_result generate(jt_session *s, const int32_t *prompt, size_t count)
{
    jt_sampling greedy = {.top_p = 1, .typical_p = 1, .repeat_penalty = 1};
    jt_sampler *sampler;
    jt_generate_options options = {.max_tokens = 4, .ignore_end = true, .whole = true};
    jt_generate_result result;
    assert_int_equal(jt_sampler_new(&sampler, &greedy, 272, NULL), JT_OK);
    assert_int_equal(jt_generate(s, sampler, prompt, count, &options, &result, NULL),
                     JT_OK);
    jt_sampler_free(sampler);
    return result;
}

static void a_whole_prompt_reuses_the_session(void **state)
{
    (void)state;
    static const int32_t first[] = {1, 2, 3, 4, 5, 6}, second[] = {1, 2, 3, 9, 8};
    jt_session *kept, *fresh;
    assert_int_equal(jt_session_new(&kept, model, NULL, NULL), JT_OK);
    assert_int_equal(jt_session_new(&fresh, model, NULL, NULL), JT_OK);
    jt_generate_result r = generate(kept, first, 6);
    assert_int_equal(r.kept_tokens, 0);
    assert_int_equal(r.prompt_tokens, 6);
    r = generate(kept, first, 6); /* the same again: only the last token runs */
    assert_int_equal(r.kept_tokens, 5);
    assert_int_equal(r.prompt_tokens, 1);
    r = generate(kept, second, 5);
    assert_int_equal(r.kept_tokens, 3);
    generate(fresh, second, 5);
    assert_int_equal(jt_session_length(kept), jt_session_length(fresh));
    int32_t next = 7;
    assert_int_equal(jt_session_eval(kept, &next, 1, NULL, NULL), JT_OK);
    assert_int_equal(jt_session_eval(fresh, &next, 1, NULL, NULL), JT_OK);
    assert_memory_equal(jt_session_logits(kept), jt_session_logits(fresh),
                        272 * sizeof(float));
    jt_session_free(kept);
    jt_session_free(fresh);
}

static void sampling_of_a_file(void **state)
{
    (void)state;
    jt_gguf_writer *w;
    jt_gguf *file;
    jt_sampling s = jt_sampling_default();
    assert_int_equal(jt_sampling_from_file(&s, jt_model_file(model)), 0);
    assert_int_equal(jt_gguf_writer_new_memory(&w, NULL), JT_OK);
    assert_int_equal(jt_gguf_set_f32(w, "general.sampling.temp", 0.6f, NULL), JT_OK);
    assert_int_equal(jt_gguf_set_u32(w, "general.sampling.top_k", 20, NULL), JT_OK);
    assert_int_equal(jt_gguf_set_f32(w, "general.sampling.top_p", 7.0f, NULL), JT_OK);
    assert_int_equal(jt_gguf_writer_open(&file, w, "memory", (jt_gguf_owner){0}, NULL),
                     JT_OK);
    assert_int_equal(jt_sampling_from_file(&s, file), 2);
    assert_float_equal(s.temperature, 0.6f, 0);
    assert_int_equal(s.top_k, 20);
    assert_float_equal(s.top_p, 0.95f, 0); /* 7 is no probability */
    jt_gguf_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(templates),
        cmocka_unit_test(what_a_template_is_given),
        cmocka_unit_test(thoughts_have_several_names),
        cmocka_unit_test(failures),
        cmocka_unit_test(tokens_begin_as_the_vocabulary_asks),
        cmocka_unit_test(a_whole_prompt_reuses_the_session),
        cmocka_unit_test(sampling_of_a_file),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
