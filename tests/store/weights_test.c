/* What belongs to the weights of an expert that is read, beside its bytes: factors, and
 * the adapters that change it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "families.h"
#include "junto/junto.h"

enum { PROMPT = 24, EXPERTS = 5 };

static void must(jt_status status, const jt_err *err)
{
    if (status != JT_OK)
        fail_msg("%s", err->msg);
}

static const char *model_path(void)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/qwen3moe.gguf", golden_dir());
    return path;
}

/* Logits after a prompt, mapped or with few experts in memory; the caller frees them.
 */
static float *logits_of(const char *path, bool stored, const jt_adapter *adapter,
                        size_t *vocab)
{
    jt_err err = {0};
    jt_model *model;
    jt_session *s;
    jt_model_info info;
    int32_t prompt[PROMPT];
    must(stored ? jt_model_load_apart(&model, path, &err)
                : jt_model_load(&model, path, &err),
         &err);
    jt_model_describe(model, &info);
    for (int i = 0; i < PROMPT; i++)
        prompt[i] = (i * 37 + 11) % info.n_vocab;
    jt_session_options options = {
        .threads = 2, .n_ctx = 64, .store = {.slots = stored ? 6 : 0}};
    must(jt_session_new(&s, model, &options, &err), &err);
    if (adapter)
        must(jt_session_add_adapter(s, adapter, 1.0f, &err), &err);
    must(jt_session_eval(s, prompt, PROMPT, NULL, &err), &err);
    *vocab = (size_t)info.n_vocab;
    float *logits = malloc(*vocab * sizeof *logits);
    assert_non_null(logits);
    memcpy(logits, jt_session_logits(s), *vocab * sizeof *logits);
    jt_session_free(s);
    jt_model_free(model);
    return logits;
}

/* Mapped and stored agree to the bit; and it matters: without, they are others. */
static void agree(const char *path, const jt_adapter *adapter)
{
    size_t vocab;
    float *without = logits_of(model_path(), false, NULL, &vocab);
    float *mapped = logits_of(path, false, adapter, &vocab);
    float *stored = logits_of(path, true, adapter, &vocab);
    assert_memory_not_equal(mapped, without, vocab * sizeof *mapped);
    assert_memory_equal(stored, mapped, vocab * sizeof *mapped);
    free(without);
    free(mapped);
    free(stored);
}

/* A LoRA adapter of rank 1 for the up matrices of the experts of a layer. */
static void write_adapter(const char *path)
{
    static const char *const names[] = {"blk.1.ffn_up_exps.weight.lora_a",
                                        "blk.1.ffn_up_exps.weight.lora_b"};
    jt_err err = {0};
    jt_gguf *model;
    jt_gguf_writer *w;
    must(jt_gguf_open(&model, model_path(), &err), &err);
    const uint64_t *shape = jt_gguf_find(model, "blk.1.ffn_up_exps.weight")->shape;
    uint64_t shapes[2][3] = {{shape[0], 1, shape[2]}, {shape[0], shape[1], 1}};
    must(jt_gguf_writer_new(&w, path, &err), &err);
    must(jt_gguf_set_str(w, "general.type", "adapter", &err), &err);
    must(jt_gguf_set_str(w, "general.architecture", "qwen3moe", &err), &err);
    must(jt_gguf_set_str(w, "adapter.type", "lora", &err), &err);
    must(jt_gguf_set_f32(w, "adapter.lora.alpha", 1.0f, &err), &err);
    for (int i = 0; i < 2; i++)
        must(jt_gguf_add_tensor(w, names[i], JT_F32, 3, shapes[i], &err), &err);
    for (int i = 0; i < 2; i++) {
        uint64_t count = shapes[i][0] * shapes[i][1] * shapes[i][2];
        for (uint64_t j = 0; j < count; j++) {
            float value = (float)(j % 7) * 0.1f - 0.25f;
            must(jt_gguf_write(w, &value, sizeof value, &err), &err);
        }
    }
    must(jt_gguf_writer_finish(w, &err), &err);
    jt_gguf_close(model);
}

static void new_path(char *path)
{
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
}

static void adapters_change_experts_that_are_read(void **state)
{
    (void)state;
    char path[] = "/tmp/junto-adapter-XXXXXX";
    jt_err err = {0};
    jt_adapter *adapter;
    new_path(path);
    write_adapter(path);
    must(jt_adapter_open(&adapter, path, NULL, &err), &err);
    agree(model_path(), adapter);
    jt_adapter_free(adapter);
    unlink(path);
}

/* A copy of the model with a factor for each expert of some parts. */
static void write_with_factors(const char *path)
{
    static const char *const names[] = {"blk.0.ffn_up_exps.scale",
                                        "blk.1.ffn_down_exps.scale"};
    jt_err err = {0};
    jt_gguf *from;
    jt_gguf_writer *w;
    float factors[EXPERTS];
    uint64_t shape = EXPERTS;
    must(jt_gguf_open(&from, model_path(), &err), &err);
    assert_int_equal(jt_gguf_find(from, "blk.0.ffn_up_exps.weight")->shape[0], EXPERTS);
    must(jt_gguf_writer_new(&w, path, &err), &err);
    for (size_t i = 0; i < jt_gguf_kv_count(from); i++)
        must(jt_gguf_set_kv(w, NULL, jt_gguf_kv_at(from, i), &err), &err);
    for (size_t i = 0; i < jt_gguf_tensor_count(from); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(from, i);
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
        must(jt_gguf_add_tensor(w, name, t->dtype, t->n_dims, t->shape, &err), &err);
    }
    for (int i = 0; i < 2; i++)
        must(jt_gguf_add_tensor(w, names[i], JT_F32, 1, &shape, &err), &err);
    for (size_t i = 0; i < jt_gguf_tensor_count(from); i++)
        must(jt_gguf_write_tensor(w, jt_gguf_tensor_at(from, i), &err), &err);
    for (int i = 0; i < 2; i++) {
        for (int e = 0; e < EXPERTS; e++)
            factors[e] = 0.5f + 0.25f * (float)(e + i);
        must(jt_gguf_write(w, factors, sizeof factors, &err), &err);
    }
    must(jt_gguf_writer_finish(w, &err), &err);
    jt_gguf_close(from);
}

static void factors_of_experts_that_are_read(void **state)
{
    (void)state;
    char path[] = "/tmp/junto-factors-XXXXXX";
    new_path(path);
    write_with_factors(path);
    agree(path, NULL);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adapters_change_experts_that_are_read),
        cmocka_unit_test(factors_of_experts_that_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
