/* Folders in forms beside those of save_pretrained: weights in 8 and 4 bits, ropes that
 * depend on the length of the text. */
#include <stdlib.h>
#include <string.h>

#include "format/gguf_file.h"
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

/* What was cut for several devices is whole in a folder that is written. */
static void check_joined(void **state)
{
    hf_check_folder(scratch_dir.dir, *state, HF_OTHER_TYPES);
}

/* Without one of its files a folder is refused. */
static void missing_parts(void **state)
{
    static const struct {
        const char *file, *message;
    } cases[] = {{"pytorch_model-00003-TP-003.safetensors", "3 part(s) of 3"},
                 {"pytorch_model-00002-TP-002.safetensors", "2 part(s) of 3"},
                 {"pytorch_model-00004-TP-common.safetensors", "is missing"}};
    char folder[512];
    (void)state;
    golden_path(folder, sizeof folder, "hf/grok2-cut");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch some = scratch_new();
        DIR *dir = opendir(folder);
        for (struct dirent *e; dir && (e = readdir(dir));) {
            char from[800];
            snprintf(from, sizeof from, "%s/%s", folder, e->d_name);
            if (e->d_name[0] != '.' && strcmp(e->d_name, cases[i].file) != 0)
                assert_int_equal(symlink(from, scratch_path(&some, e->d_name)), 0);
        }
        closedir(dir);
        jt_err err = {0};
        jt_model *model = NULL;
        assert_int_equal(jt_model_load(&model, some.dir, &err), JT_E_FORMAT);
        if (!strstr(err.msg, cases[i].message))
            fail_msg("%s", err.msg);
        scratch_free(&some);
    }
}

/* ---- MXFP4, NVFP4 ---- */

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

static void check_holds(const char *folder, const char *name)
{
    jt_safetensors *s;
    assert_int_equal(jt_safetensors_open(&s, folder, NULL), JT_OK);
    assert_non_null(jt_safetensors_find(s, name));
    jt_safetensors_close(s);
}

/* Blocks are kept in a file, and their values are those that transformers reads: as
 * BF16, which holds codes times scales, they compute the same but for rounding. Folders
 * that are written have the wide type `back_type`, which holds all values, in a tensor
 * `whole`. Leaves the blocks in `blocks`. */
static void check_blocks(const char *name, char blocks[256], const char *back_type,
                         const char *whole)
{
    golden g;
    char model[64], reference[64], folder[512], wide[256], back[216];
    snprintf(model, sizeof model, "hf/%s", name);
    snprintf(reference, sizeof reference, "hf/%s.ref.gguf", name);
    golden_open_files(&g, model, reference);
    golden_path(folder, sizeof folder, model);
    snprintf(blocks, 256, "%s/blocks.gguf", scratch_dir.dir);
    snprintf(wide, sizeof wide, "%s/wide.gguf", scratch_dir.dir);
    snprintf(back, sizeof back, "%s/back", scratch_dir.dir);
    float *logits = hf_logits(&g, 0);
    double error = golden_error(logits, g.logits, g.count * g.vocab);
    assert_true(error < 0.05); /* inputs of blocks have 8 bits */
    hf_convert(folder, blocks, NULL);
    hf_check_same(&g, blocks, logits);
    free(logits);
    hf_convert(folder, wide, "bf16");
    double wide_error = hf_error(&g, wide);
    print_message("  %-16s error %.2e, of BF16 %.2e\n", name, error, wide_error);
    assert_true(wide_error < hf_tolerance);
    hf_convert(blocks, back, back_type);
    check_holds(back, whole);
    assert_true(hf_error(&g, back) < hf_tolerance);
    hf_remove(back);
    golden_close(&g);
}

static void mxfp4(void **state)
{
    (void)state;
    char blocks[256];
    check_blocks("gpt-oss-mxfp4", blocks, NULL,
                 "model.layers.1.mlp.experts.gate_up_proj");
    assert_int_equal(type_of(blocks, "blk.0.ffn_gate_exps.weight"), JT_MXFP4);
    assert_int_equal(type_of(blocks, "blk.1.ffn_down_exps.weight"), JT_MXFP4);
}

/* Rows of 48 values are BF16, with a factor as others. */
static void nvfp4_modelopt(void **state)
{
    (void)state;
    char blocks[256];
    check_blocks("qwen3moe-nvfp4", blocks, "f32",
                 "model.layers.1.mlp.experts.2.up_proj.weight");
    assert_int_equal(type_of(blocks, "blk.0.ffn_gate_exps.weight"), JT_NVFP4);
    assert_int_equal(type_of(blocks, "blk.1.attn_q.weight"), JT_NVFP4);
    assert_int_equal(type_of(blocks, "blk.1.attn_q.scale"), JT_F32);
    assert_int_equal(type_of(blocks, "blk.1.attn_output.weight"), JT_BF16);
    assert_int_equal(type_of(blocks, "blk.1.attn_output.scale"), JT_F32);
}

/* Experts have factors of their own as well, which are in the same tensor of GGUF. */
static void nvfp4_twice(void **state)
{
    (void)state;
    char blocks[256];
    check_blocks("gemma4-moe-nvfp4", blocks, "f32", "model.layers.1.experts.down_proj");
    assert_int_equal(type_of(blocks, "blk.0.ffn_gate_exps.weight"), JT_NVFP4);
    assert_int_equal(type_of(blocks, "blk.0.ffn_down_exps.scale"), JT_F32);
}

/* Rows of q and k go to other places as blocks. */
static void nvfp4_compressed_tensors(void **state)
{
    (void)state;
    char blocks[256];
    check_blocks("mixtral-nvfp4", blocks, "f32",
                 "model.layers.1.block_sparse_moe.experts.2.w2.weight");
    assert_int_equal(type_of(blocks, "blk.0.attn_k.weight"), JT_NVFP4);
    assert_int_equal(type_of(blocks, "blk.1.ffn_down_exps.scale"), JT_F32);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        HF_FOLDER("mimo", check_predicting),
        HF_FOLDER("qwen3moe-fp8", check_fp8),
        HF_FOLDER("deepseek3-fp8", check_fp8),
        HF_FOLDER("grok2-cut", check_joined),
        cmocka_unit_test(missing_parts),
        cmocka_unit_test(mxfp4),
        cmocka_unit_test(nvfp4_modelopt),
        cmocka_unit_test(nvfp4_compressed_tensors),
        cmocka_unit_test(nvfp4_twice),
        cmocka_unit_test(longrope),
        cmocka_unit_test(longrope_back),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
