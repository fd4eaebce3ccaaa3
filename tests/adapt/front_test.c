/* Virtual tokens before a text, in sessions: what truncating, windows, states, types of
 * keys and other adapters do to them. parity_test.c has what peft computes with them.
 */
#include <stdlib.h>
#include <string.h>

#include "adapted.h"
#include "base/memory.h"
#include "run/session.h"
#include "scratch.h"

static const jt_session_options exact = {.cpu = "scalar", .kv_type = "f32"};
static const float one = 1.0f;

static jt_session *open_session(const adapted *a, const jt_session_options *o)
{
    jt_session *s;
    jt_err err = {0};
    adapted_must(jt_session_new(&s, a->g.model, o, &err), &err);
    adapted_must(jt_session_add_adapter(s, a->adapter, one, &err), &err);
    return s;
}

static void check_logits(jt_session *s, const float *wanted, size_t vocab)
{
    assert_memory_equal(jt_session_logits(s), wanted, vocab * sizeof *wanted);
}

static void eval(jt_session *s, const adapted *a, size_t first, size_t count)
{
    jt_err err = {0};
    adapted_must(jt_session_eval(s, a->g.tokens + first, count, NULL, &err), &err);
}

/* Back to any length, and to none, and on again: the bits of a fresh session. Passes of
 * 3 tokens let windows move on. */
static void check_back(void **state)
{
    const char *const *name = *state;
    adapted a;
    adapted_open(&a, name[0], name[1]);
    size_t n = a.g.count, vocab = a.g.vocab;
    float *logits = adapted_run(&a.g, &exact, &a.adapter, &one, 1);
    jt_session_options o = exact;
    o.chunk = 3;
    jt_session *s = open_session(&a, &o);
    eval(s, &a, 0, n);
    check_logits(s, logits + (n - 1) * vocab, vocab);
    assert_int_equal(jt_session_length(s), n);
    for (size_t length = n; length-- > 0;) {
        jt_session_truncate(s, (int)length);
        eval(s, &a, length, 1);
        check_logits(s, logits + length * vocab, vocab);
    }
    jt_session_truncate(s, 0);
    eval(s, &a, 0, n);
    check_logits(s, logits + (n - 1) * vocab, vocab);
    size_t kept = jt_session_reuse(s, a.g.tokens, 5); /* 0 where a state has gone on */
    assert_true(kept == 4 || (kept == 0 && s->cache.has_state));
    eval(s, &a, kept, 5 - kept);
    check_logits(s, logits + 4 * vocab, vocab);
    free(logits);
    jt_session_free(s);
    adapted_close(&a);
}

/* What a session remembers goes over to another, with its virtual tokens. */
static void check_adopt(void **state)
{
    const char *const *name = *state;
    adapted a;
    adapted_open(&a, name[0], name[1]);
    float *logits = adapted_run(&a.g, &exact, &a.adapter, &one, 1);
    jt_session *from = open_session(&a, &exact), *to = open_session(&a, &exact);
    eval(from, &a, 0, 9);
    assert_true(jt_session_is_plain(from));
    jt_session_adopt(to, &from->cache, from->ids);
    eval(to, &a, 9, 1);
    check_logits(to, logits + 9 * a.g.vocab, a.g.vocab);
    free(logits);
    jt_session_free(from);
    jt_session_free(to);
    adapted_close(&a);
}

/* Keys in tiles of F16, and in blocks. */
static void check_types(void **state)
{
    static const char *const types[] = {"f16", "q8_0"};
    adapted a;
    (void)state;
    adapted_open(&a, "gpt-oss", "gpt-oss-prefix");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        jt_session_options o = {.kv_type = types[i]};
        if (i && a.g.model->layers[0].attention.k_dim % 32)
            continue;
        float *logits = adapted_run(&a.g, &o, &a.adapter, &one, 1);
        assert_true(golden_error(logits, a.g.logits, a.g.count * a.g.vocab) < 1e-2);
        free(logits);
    }
    adapted_close(&a);
}

/* They take room of the context. */
static void check_room(void **state)
{
    enum { TOKENS = 7, CONTEXT = 16 };
    adapted a;
    jt_err err = {0};
    jt_session *s;
    (void)state;
    adapted_open(&a, "llama", "llama-prompt");
    jt_adapter_info info;
    jt_adapter_describe(a.adapter, &info);
    assert_int_equal(info.n_params, TOKENS * a.g.model->params.d_model);
    jt_session_options o = exact;
    o.n_ctx = CONTEXT;
    s = open_session(&a, &o);
    assert_int_equal(jt_session_capacity(s), CONTEXT - TOKENS);
    eval(s, &a, 0, CONTEXT - TOKENS);
    assert_int_equal(jt_session_eval(s, a.g.tokens, 1, NULL, &err), JT_E_LIMIT);
    jt_session_free(s);
    o.n_ctx = TOKENS;
    adapted_must(jt_session_new(&s, a.g.model, &o, &err), &err);
    assert_int_equal(jt_session_add_adapter(s, a.adapter, one, &err), JT_E_LIMIT);
    eval(s, &a, 0, 2); /* it is as it was */
    jt_session_free(s);
    adapted_close(&a);
}

/* PEFT folders that other models cannot have: for their embeddings, or for layers
 * without keys and values. */
static void check_folder(const char *folder, const char *model, const char *says)
{
    char file[128], path[512];
    golden g;
    jt_adapter *a;
    jt_err err = {0};
    snprintf(file, sizeof file, "hf/%s", model);
    snprintf(path, sizeof path, "hf/%s.ref.gguf", model);
    golden_open_files(&g, file, path);
    snprintf(file, sizeof file, "../adapters/%s", folder);
    assert_int_equal(
        jt_adapter_open(&a, golden_path(path, sizeof path, file), g.model, &err),
        JT_E_UNSUPPORTED);
    if (!strstr(err.msg, says))
        fail_msg("'%s', expected '%s'", err.msg, says);
    golden_close(&g);
}

static void check_models(void **state)
{
    (void)state;
    check_folder("llama-prompt", "falcon-h1", "without their multiplier");
    check_folder("llama-prefix", "deepseek2", "keeps no keys and values");
    check_folder("llama-prefix", "lfm2", "keeps no keys and values");
}

static void check_refused(void **state)
{
    adapted a, b;
    jt_session *s;
    jt_err err = {0};
    (void)state;
    adapted_open(&a, "llama", "llama-prompt");
    adapted_open(&b, "llama", "llama-prefix");
    adapted_must(jt_session_new(&s, a.g.model, &exact, &err), &err);
    assert_int_equal(jt_session_add_adapter(s, a.adapter, 0.5f, &err), JT_E_ARG);
    adapted_must(jt_session_add_adapter(s, a.adapter, one, &err), &err);
    assert_int_equal(jt_session_add_adapter(s, a.adapter, one, &err), JT_E_UNSUPPORTED);
    adapted_must(jt_session_add_adapter(s, a.adapter, 0.0f, &err), &err);
    jt_session_free(s);
    assert_int_equal(
        jt_adapter_save(a.adapter, "unused", JT_ADAPTER_GGUF, a.g.model, &err),
        JT_E_UNSUPPORTED);
    adapted_close(&a);
    adapted_close(&b);
}

/* Beside LoRA, in both orders: embeddings go through the layers with it at work, keys
 * and values are what they are. Alone it gives something else. */
static void check_beside(void **state)
{
    const char *const *name = *state;
    const float ones[] = {1.0f, 1.0f};
    adapted a, lora;
    adapted_open(&a, name[0], name[1]);
    adapted_open(&lora, "llama", "llama-lora");
    jt_adapter *const before[] = {a.adapter, lora.adapter};
    jt_adapter *const after[] = {lora.adapter, a.adapter};
    float *x = adapted_run(&a.g, &exact, before, ones, 2);
    float *y = adapted_run(&a.g, &exact, after, ones, 2);
    size_t n = a.g.count * a.g.vocab;
    assert_memory_equal(x, y, n * sizeof *x);
    assert_true(golden_error(x, a.g.logits, n) > 1e-2);
    assert_true(golden_error(x, lora.g.logits, n) > 1e-2);
    free(x);
    free(y);
    adapted_close(&a);
    adapted_close(&lora);
}

static jt_status use(const adapted *a, const char *path, jt_err *err)
{
    const jt_session_options o = {.n_ctx = 24, .chunk = 4, .threads = 1};
    char out[300];
    jt_adapter *own;
    jt_session *s;
    snprintf(out, sizeof out, "%s/peft", scratch_dir.dir);
    JT_TRY(jt_adapter_open(&own, path, a->g.model, err));
    jt_status status = jt_adapter_save(own, out, JT_ADAPTER_PEFT, a->g.model, err);
    if (status == JT_OK)
        status = jt_session_new(&s, a->g.model, &o, err);
    if (status == JT_OK) {
        status = jt_session_add_adapter(s, own, one, err);
        if (status == JT_OK)
            status = jt_session_eval(s, a->g.tokens, 5, NULL, err);
        if (status == JT_E_MEMORY) /* and once more, in what is left of it */
            assert_int_equal(jt_session_eval(s, a->g.tokens, 5, NULL, err), JT_OK);
        jt_session_free(s);
    }
    jt_adapter_free(own);
    return status;
}

/* One allocation after the other fails, from the folder to the logits and back. */
static void check_memory(void **state)
{
    const char *const *name = *state;
    char path[512], file[128];
    jt_status status = JT_E_MEMORY;
    adapted a;
    adapted_open(&a, name[0], name[1]);
    snprintf(file, sizeof file, "../adapters/%s", name[1]);
    golden_path(path, sizeof path, file);
    for (long n = 0; status != JT_OK; n++) {
        jt_err err = {0};
        jt_fault_after(n);
        status = use(&a, path, &err);
        jt_fault_after(-1);
        if (status != JT_OK && status != JT_E_MEMORY)
            fail_msg("allocation %ld: %s", n, err.msg);
        assert_true(n < 5000);
    }
    adapted_close(&a);
    scratch peft;
    snprintf(peft.dir, sizeof peft.dir, "%.180s/peft", scratch_dir.dir);
    scratch_free(&peft);
}

#define ON(test, folder, adapter)                                                \
    {                                                                            \
#test " " adapter, test, NULL, NULL, (void *)(uintptr_t)(const char *[]) \
        {                                                                        \
            folder, adapter                                                      \
        }                                                                        \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(check_back, "llama", "llama-prompt"),
        ON(check_back, "llama", "llama-prefix"),
        ON(check_back, "gemma2", "gemma2-prompt"),
        ON(check_back, "gpt-oss", "gpt-oss-prefix"),
        ON(check_back, "lfm2", "lfm2-prompt"),
        ON(check_adopt, "llama", "llama-prompt"),
        ON(check_adopt, "gpt-oss", "gpt-oss-prefix"),
        ON(check_adopt, "lfm2", "lfm2-prompt"),
        ON(check_beside, "llama", "llama-prompt"),
        ON(check_beside, "llama", "llama-prefix"),
        ON(check_memory, "llama", "llama-prompt"),
        ON(check_memory, "phi3", "phi3-prefix"),
        cmocka_unit_test(check_types),
        cmocka_unit_test(check_room),
        cmocka_unit_test(check_refused),
        cmocka_unit_test(check_models),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
