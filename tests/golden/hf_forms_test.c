/* Folders and files in forms beside those of save_pretrained and of today's converters:
 * weights in 8 and 4 bits, ropes that depend on the length of the text, older files. */
#include <stdlib.h>
#include <string.h>

#include "format/gguf_file.h"
#include "format/gguf_writer.h"
#include "hf_folder.h"
#include "junto/safetensors.h"
#include "scratch.h"

static void check_predicting(void **state)
{
    hf_check_folder(scratch_dir.dir, *state, HF_WITHOUT);
}

static void check_fp8(void **state)
{
    hf_check_folder(scratch_dir.dir, *state, HF_OTHER_TYPES);
}

/* ---- MXFP4 ---- */

static jt_dtype type_of(const char *file, const char *name)
{
    jt_gguf *gguf;
    assert_int_equal(jt_gguf_open(&gguf, file, NULL), JT_OK);
    const jt_gguf_tensor *t = jt_gguf_find(gguf, name);
    assert_non_null(t);
    jt_dtype dtype = t->dtype;
    jt_gguf_close(gguf);
    return dtype;
}

/* Blocks are kept in a file, and their values are those that transformers reads: as
 * BF16, which holds them, they compute the same but for rounding. Folders that are
 * written have BF16. */
static void mxfp4(void **state)
{
    (void)state;
    golden g;
    char folder[512], blocks[256], wide[256], back[216];
    golden_open_files(&g, "hf/gpt-oss-mxfp4", "hf/gpt-oss-mxfp4.ref.gguf");
    golden_path(folder, sizeof folder, "hf/gpt-oss-mxfp4");
    snprintf(blocks, sizeof blocks, "%s/blocks.gguf", scratch_dir.dir);
    snprintf(wide, sizeof wide, "%s/wide.gguf", scratch_dir.dir);
    snprintf(back, sizeof back, "%s/back", scratch_dir.dir);
    float *logits = hf_logits(&g, 0);
    assert_true(golden_error(logits, g.logits, g.count * g.vocab) < 0.05);
    hf_convert(folder, blocks, NULL);
    assert_int_equal(type_of(blocks, "blk.0.ffn_gate_exps.weight"), JT_MXFP4);
    assert_int_equal(type_of(blocks, "blk.1.ffn_down_exps.weight"), JT_MXFP4);
    hf_check_same(&g, blocks, logits);
    free(logits);
    hf_convert(folder, wide, "bf16");
    assert_true(hf_error(&g, wide) < hf_tolerance);
    hf_convert(blocks, back, NULL);
    jt_safetensors *s;
    assert_int_equal(jt_safetensors_open(&s, back, NULL), JT_OK);
    assert_non_null(jt_safetensors_find(s, "model.layers.1.mlp.experts.gate_up_proj"));
    jt_safetensors_close(s);
    assert_true(hf_error(&g, back) < hf_tolerance);
    hf_remove(back);
    golden_close(&g);
}

/* ---- long and short texts ---- */

/* transformers takes the factors by the length of the text, a session by that of its
 * context, which keeps what it remembers valid: they agree where the context is as
 * long as the text. */
static void longrope(void **state)
{
    (void)state;
    static const struct {
        const char *reference;
        int n_ctx;
    } texts[] = {{"hf/phimoe.ref.gguf", 32}, {"hf/phimoe-long.ref.gguf", 48}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        golden g;
        golden_open_files(&g, "hf/phimoe", texts[i].reference);
        float *logits = hf_logits(&g, texts[i].n_ctx);
        double error = golden_error(logits, g.logits, g.count * g.vocab);
        print_message("  %s error %.2e\n", texts[i].reference, error);
        assert_true(error < hf_tolerance);
        free(logits);
        if (i == 0) { /* the factors of long texts do not fit a short one */
            logits = hf_logits(&g, 48);
            assert_true(golden_error(logits, g.logits, g.count * g.vocab) > 0.01);
            free(logits);
        }
        golden_close(&g);
    }
}

/* The whole folder, with the factors of long texts. */
static void longrope_back(void **state)
{
    (void)state;
    hf_check_files(scratch_dir.dir, "phimoe", "phimoe-long", HF_ALL);
}

/* ---- files in forms that are not made from folders ---- */

/* The golden file NAME.gguf as a folder computes what the file does. */
static void check_file(void **state)
{
    golden g;
    char name[64], path[512], folder[216];
    golden_open(&g, *state);
    snprintf(name, sizeof name, "%s.gguf", (const char *)*state);
    snprintf(folder, sizeof folder, "%s/f", scratch_dir.dir);
    hf_convert(golden_path(path, sizeof path, name), folder, NULL);
    double error = hf_error(&g, folder);
    print_message("  %-12s error %.2e\n", (const char *)*state, error);
    assert_true(error < hf_tolerance);
    hf_remove(folder);
    golden_close(&g);
}

/* A copy of a file with one layer more, which predicts the token after the next. */
static void write_predicting(const char *from, const char *to)
{
    jt_gguf *source;
    jt_gguf_writer *w;
    int64_t layers;
    float values[4] = {1.0f, 2.0f, 3.0f, 4.0f};
    uint64_t shape[] = {4};
    assert_int_equal(jt_gguf_open(&source, from, NULL), JT_OK);
    assert_int_equal(jt_gguf_writer_new(&w, to, NULL), JT_OK);
    for (size_t i = 0; i < jt_gguf_kv_count(source); i++)
        assert_int_equal(jt_gguf_set_kv(w, NULL, jt_gguf_kv_at(source, i), NULL),
                         JT_OK);
    assert_true(jt_gguf_get_i64(source, "glm4moe.block_count", &layers));
    char extra[64];
    snprintf(extra, sizeof extra, "blk.%d.nextn.enorm.weight", (int)layers);
    jt_gguf_set_u32(w, "glm4moe.block_count", (uint32_t)layers + 1, NULL);
    jt_gguf_set_u32(w, "glm4moe.nextn_predict_layers", 1, NULL);
    for (size_t i = 0; i < jt_gguf_tensor_count(source); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(source, i);
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
        assert_int_equal(
            jt_gguf_add_tensor(w, name, t->dtype, t->n_dims, t->shape, NULL), JT_OK);
    }
    assert_int_equal(jt_gguf_add_tensor(w, extra, JT_F32, 1, shape, NULL), JT_OK);
    for (size_t i = 0; i < jt_gguf_tensor_count(source); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(source, i);
        assert_int_equal(jt_gguf_write(w, t->data, t->bytes, NULL), JT_OK);
    }
    assert_int_equal(jt_gguf_write(w, values, sizeof values, NULL), JT_OK);
    assert_int_equal(jt_gguf_writer_finish(w, NULL), JT_OK);
    jt_gguf_close(source);
}

static void predicting_file(void **state)
{
    (void)state;
    golden g;
    char path[512], file[256], folder[216];
    golden_open(&g, "glm4moe");
    snprintf(file, sizeof file, "%s/predicting.gguf", scratch_dir.dir);
    snprintf(folder, sizeof folder, "%s/f", scratch_dir.dir);
    write_predicting(golden_path(path, sizeof path, "glm4moe.gguf"), file);
    hf_convert(file, folder, NULL);
    assert_true(hf_error(&g, folder) < hf_tolerance);
    hf_remove(folder);
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HF_FOLDER("mimo", check_predicting),
        HF_FOLDER("qwen3moe-fp8", check_fp8),
        HF_FOLDER("deepseek3-fp8", check_fp8),
        cmocka_unit_test(mxfp4),
        cmocka_unit_test(longrope),
        cmocka_unit_test(longrope_back),
        HF_FOLDER("deepseek2-lite", check_file),
        HF_FOLDER("glm4moe-norm", check_file),
        HF_FOLDER("grok", check_file),
        HF_FOLDER("dbrx", check_file),
        cmocka_unit_test(predicting_file),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
