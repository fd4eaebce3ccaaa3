/* Files of adapters that are wrong: each is refused with a message that names what is
 * wrong, and no allocation that fails does harm. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/files.h"
#include "adapted.h"
#include "base/memory.h"
#include "scratch.h"

enum { D = 48 };
static const char target[] = "blk.0.attn_q.weight";

static golden g;

static int open_model(void **state)
{
    (void)state;
    golden_open(&g, "llama");
    return scratch_setup(state);
}

static int close_model(void **state)
{
    golden_close(&g);
    return scratch_teardown(state);
}

/* ---- files of Junto ---- */

typedef struct file {
    const char *kind, *version, *family, *model, *alpha; /* NULL: not there */
    const char *name;                                    /* of the target */
    uint64_t a[2], b[2];
    jt_safetensor_type type;
    float value;
    bool no_b, extra;
} file;

static const file good = {"lora", "1",    "llama",   "0",  "4",   target,
                          {2, D}, {D, 2}, JT_ST_F32, 0.5f, false, false};

static void set(jt_safetensors_writer *w, const char *key, const char *value)
{
    jt_err err = {0};
    if (value)
        adapted_must(jt_safetensors_set_metadata(w, key, value, &err), &err);
}

static void add(jt_safetensors_writer *w, const char *name, const char *part,
                jt_safetensor_type type, const uint64_t shape[2])
{
    char full[200];
    jt_err err = {0};
    snprintf(full, sizeof full, "%s.%s", name, part);
    adapted_must(jt_safetensors_add(w, full, type, 2, shape, &err), &err);
}

static const char *write_file(const file *f)
{
    static char path[256];
    float values[D * 8];
    jt_safetensors_writer *w;
    jt_err err = {0};
    for (size_t i = 0; i < D * 8; i++)
        values[i] = f->value;
    snprintf(path, sizeof path, "%s/a.safetensors", scratch_dir.dir);
    adapted_must(jt_safetensors_begin(&w, path, &err), &err);
    set(w, "junto.adapter", f->version);
    set(w, "junto.adapter.kind", f->kind);
    set(w, "junto.adapter.family", f->family);
    set(w, "junto.adapter.model", f->model);
    set(w, "junto.adapter.alpha", f->alpha);
    size_t bytes = jt_safetensor_type_bytes(f->type);
    add(w, f->name, "lora_a", f->type, f->a);
    if (!f->no_b)
        add(w, f->name, "lora_b", f->type, f->b);
    if (f->extra)
        add(w, f->name, "lora_c", f->type, f->b);
    adapted_must(jt_safetensors_write(w, values, f->a[0] * f->a[1] * bytes, &err),
                 &err);
    for (int i = 0; i < !f->no_b + f->extra; i++)
        adapted_must(jt_safetensors_write(w, values, f->b[0] * f->b[1] * bytes, &err),
                     &err);
    adapted_must(jt_safetensors_writer_finish(w, &err), &err);
    return path;
}

static void refuses(const file *f, jt_status status, const char *says)
{
    jt_adapter *a;
    jt_err err = {0};
    jt_status got = jt_adapter_open(&a, write_file(f), g.model, &err);
    if (got == JT_OK) { /* what only a session can tell */
        jt_session *s;
        adapted_must(jt_session_new(&s, g.model, NULL, &err), &err);
        got = jt_session_add_adapter(s, a, 1.0f, &err);
        jt_session_free(s);
        jt_adapter_free(a);
    }
    if (got != status || !strstr(err.msg, says))
        fail_msg("status %d, '%s', expected %d and '%s'", got, err.msg, status, says);
}

static void check_good(void **state)
{
    jt_adapter *a;
    jt_err err = {0};
    jt_adapter_info info;
    jt_adapter_target_info t;
    (void)state;
    adapted_must(jt_adapter_open(&a, write_file(&good), g.model, &err), &err);
    jt_adapter_describe(a, &info);
    assert_string_equal(info.kind, "lora");
    assert_int_equal(info.n_targets, 1);
    jt_adapter_target_at(a, 0, &t);
    assert_int_equal(t.rank, 2);
    assert_true(t.scale == 2.0f);
    /* every value of B A is 2 * 0.5 * 0.5 */
    assert_true(fabs(t.norm - 2.0 * 0.5 * D) < 1e-4);
    jt_adapter_free(a);
}

static void check_files(void **state)
{
    file f;
    (void)state;
#define BROKEN(change, status, says) \
    f = good;                        \
    change;                          \
    refuses(&f, status, says)
    BROKEN(f.version = NULL, JT_E_FORMAT, "'junto.adapter' is missing");
    BROKEN(f.version = "7", JT_E_UNSUPPORTED, "version 7");
    BROKEN(f.version = "one", JT_E_FORMAT, "expected a number");
    BROKEN(f.kind = NULL, JT_E_FORMAT, "'junto.adapter.kind' is missing");
    BROKEN(f.kind = "vera", JT_E_UNSUPPORTED, "kind 'vera'");
    BROKEN(f.kind = "dora", JT_E_FORMAT, "dora_m' is missing");
    BROKEN(f.kind = "shira", JT_E_FORMAT, "not known in a 'shira'");
    BROKEN(f.family = "mamba", JT_E_UNSUPPORTED, "family 'mamba', not 'llama'");
    BROKEN(f.model = "1234", JT_E_UNSUPPORTED, "for another model");
    BROKEN(f.alpha = NULL, JT_E_FORMAT, "'junto.adapter.alpha' is missing");
    BROKEN(f.alpha = "0", JT_E_FORMAT, "alpha 0 makes no sense");
    BROKEN(f.alpha = "nan", JT_E_FORMAT, "makes no sense");
    BROKEN(f.name = "blk.9.attn_q.weight", JT_E_UNSUPPORTED, "'blk.9.attn_q.weight'");
    BROKEN(f.name = "blk.0.attn_norm.weight", JT_E_UNSUPPORTED, "attn_norm");
    BROKEN(f.a[0] = 0, JT_E_FORMAT, "rank 0");
    BROKEN(f.a[0] = 3, JT_E_FORMAT, "does not go with the others");
    BROKEN(f.a[1] = 16, JT_E_FORMAT, target);
    BROKEN(f.b[0] = 16, JT_E_FORMAT, target);
    BROKEN(f.value = NAN, JT_E_FORMAT, "not finite");
    BROKEN(f.value = INFINITY, JT_E_FORMAT, "'blk.0.attn_q.weight.lora_a'");
    BROKEN(f.type = JT_ST_I32, JT_E_FORMAT, "has type I32");
    BROKEN(f.no_b = true, JT_E_FORMAT, "lora_b' is missing");
    BROKEN(f.extra = true, JT_E_FORMAT, "lora_c' is not known");
#undef BROKEN
}

/* ---- sessions ---- */

static void check_sessions(void **state)
{
    jt_adapter *a;
    jt_session *s;
    jt_err err = {0};
    (void)state;
    adapted_must(jt_adapter_open(&a, write_file(&good), g.model, &err), &err);
    adapted_must(jt_session_new(&s, g.model, NULL, &err), &err);
    assert_int_equal(jt_session_add_adapter(s, a, NAN, &err), JT_E_ARG);
    for (int i = 0; i < 64; i++)
        adapted_must(jt_session_add_adapter(s, a, 0.01f, &err), &err);
    assert_int_equal(jt_session_add_adapter(s, a, 1.0f, &err), JT_E_LIMIT);
    adapted_must(jt_session_eval(s, g.tokens, 3, NULL, &err), &err);
    assert_int_equal(jt_session_add_adapter(s, a, 1.0f, &err), JT_E_ARG);
    jt_session_free(s);
    jt_adapter_free(a);
}

/* One allocation after the other fails. */
static void check_memory(void **state)
{
    const char *const paths[] = {write_file(&good), "hf"};
    char peft[512];
    golden folder;
    (void)state;
    golden_open_files(&folder, "hf/llama", "hf/llama.ref.gguf");
    golden_path(peft, sizeof peft, "../adapters/llama-dora");
    for (int i = 0; i < 2; i++) {
        jt_status status = JT_E_MEMORY;
        for (long n = 0; status != JT_OK; n++) {
            jt_adapter *a = NULL;
            jt_err err = {0};
            jt_fault_after(n);
            status = jt_adapter_open(&a, i ? peft : paths[0],
                                     i ? folder.model : g.model, &err);
            jt_fault_after(-1);
            if (status != JT_OK && status != JT_E_MEMORY)
                fail_msg("allocation %ld: %s", n, err.msg);
            jt_adapter_free(a);
            assert_true(n < 5000);
        }
    }
    golden_close(&folder);
}

/* ---- PEFT folders ---- */

/* llama-lora with a line of its configuration changed. */
static void refuses_config(const char *config, jt_status status, const char *says)
{
    char from[512], path[300], folder[216];
    jt_adapter *a;
    jt_err err = {0};
    golden hf;
    golden_open_files(&hf, "hf/llama", "hf/llama.ref.gguf");
    golden_path(from, sizeof from, "../adapters/llama-lora/adapter_model.safetensors");
    snprintf(folder, sizeof folder, "%s/peft", scratch_dir.dir);
    adapted_must(
        jt_adapter_open(&a, golden_path(path, sizeof path, "../adapters/llama-lora"),
                        hf.model, &err),
        &err);
    adapted_must(jt_adapter_save(a, folder, JT_ADAPTER_PEFT, hf.model, &err), &err);
    jt_adapter_free(a);
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    scratch_write(path, config, strlen(config));
    jt_status got = jt_adapter_open(&a, folder, hf.model, &err);
    if (got != status || !strstr(err.msg, says))
        fail_msg("status %d, '%s', expected %d and '%s'", got, err.msg, status, says);
    scratch s;
    snprintf(s.dir, sizeof s.dir, "%.190s", folder);
    scratch_free(&s);
    golden_close(&hf);
}

static void check_configs(void **state)
{
    (void)state;
    refuses_config("{", JT_E_FORMAT, "line 1");
    refuses_config("[]", JT_E_FORMAT, "no object");
    refuses_config("{\"peft_type\": \"IA3\"}", JT_E_UNSUPPORTED, "'IA3'");
    refuses_config("{\"peft_type\": \"CPT\"}", JT_E_UNSUPPORTED, "'CPT'");
    refuses_config("{\"peft_type\": \"MULTITASK_PROMPT_TUNING\"}", JT_E_UNSUPPORTED,
                   "'MULTITASK_PROMPT_TUNING'");
    refuses_config("{\"peft_type\": \"PREFIX_TUNING\"}", JT_E_FORMAT,
                   "'prompt_embeddings' is missing");
    refuses_config("{\"peft_type\": \"P_TUNING\", \"num_transformer_submodules\": 2}",
                   JT_E_UNSUPPORTED, "an encoder and a decoder");
    refuses_config("{\"peft_type\": \"LORA\", \"bias\": \"all\"}", JT_E_UNSUPPORTED,
                   "biases");
    refuses_config("{\"peft_type\": \"LORA\", \"modules_to_save\": [\"x\"]}",
                   JT_E_UNSUPPORTED, "'modules_to_save'");
    refuses_config("{\"peft_type\": \"LORA\", \"r\": 4}", JT_E_FORMAT,
                   "'lora_alpha' is no number");
    refuses_config("{\"peft_type\": \"LORA\", \"r\": 5, \"lora_alpha\": 1}",
                   JT_E_FORMAT, "has rank 4, adapter_config.json says 5");
    refuses_config("{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 1,"
                   " \"alpha_pattern\": {\"(\": 2}}",
                   JT_E_ARG, "pattern '('");
    refuses_config("{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 1,"
                   " \"use_dora\": true}",
                   JT_E_FORMAT, "lora_magnitude_vector");
}

/* Latent attention reads some weights in parts: an adapter would do nothing there. */
static void check_latent(void **state)
{
    static const char *const names[] = {"blk.0.attn_k_b.weight",
                                        "blk.0.attn_v_b.weight"};
    (void)state;
    golden latent;
    size_t shape[3];
    jt_err err = {0};
    golden_open(&latent, "deepseek2");
    const jt_gguf *weights = jt_model_file(latent.model);
    for (int i = 0; i < 2; i++)
        assert_int_equal(jt_adapter_target(weights,
                                           (jt_str){names[i], strlen(names[i])}, shape,
                                           &err),
                         JT_E_UNSUPPORTED);
    golden_close(&latent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_good),     cmocka_unit_test(check_files),
        cmocka_unit_test(check_sessions), cmocka_unit_test(check_memory),
        cmocka_unit_test(check_configs),  cmocka_unit_test(check_latent),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
