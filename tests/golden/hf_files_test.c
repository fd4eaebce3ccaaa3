/* Every golden file, as llama.cpp's converters write them, as a folder: these say less
 * than files that were made from folders, and hold tensors in other forms. */
#include <stdlib.h>
#include <string.h>

#include "format/gguf_file.h"
#include "format/gguf_writer.h"
#include "hf_folder.h"
#include "scratch.h"

/* The golden file NAME.gguf as a folder. */
static void check_file(void **state)
{
    golden g;
    char name[64], path[512], folder[216];
    golden_open(&g, *state);
    snprintf(name, sizeof name, "%s.gguf", (const char *)*state);
    snprintf(folder, sizeof folder, "%s/%s", scratch_dir.dir, (const char *)*state);
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
        cmocka_unit_test(predicting_file),
        HF_FOLDER("llama", check_file),
        HF_FOLDER("llama-linear", check_file),
        HF_FOLDER("llama-llama3", check_file),
        HF_FOLDER("mixtral", check_file),
        HF_FOLDER("qwen2", check_file),
        HF_FOLDER("qwen2-yarn", check_file),
        HF_FOLDER("qwen2moe", check_file),
        HF_FOLDER("qwen2moe-norm", check_file),
        HF_FOLDER("qwen3", check_file),
        HF_FOLDER("qwen3moe", check_file),
        HF_FOLDER("olmoe", check_file),
        HF_FOLDER("olmoe-clip", check_file),
        HF_FOLDER("phimoe", check_file),
        HF_FOLDER("granite", check_file),
        HF_FOLDER("granitemoe", check_file),
        HF_FOLDER("granitemoe-shared", check_file),
        HF_FOLDER("glm4", check_file),
        HF_FOLDER("glm4moe", check_file),
        HF_FOLDER("glm4moe-norm", check_file),
        HF_FOLDER("ernie4_5", check_file),
        HF_FOLDER("ernie4_5-moe", check_file),
        HF_FOLDER("dots1", check_file),
        HF_FOLDER("minimax-m2", check_file),
        HF_FOLDER("seed_oss", check_file),
        HF_FOLDER("gemma", check_file),
        HF_FOLDER("olmo", check_file),
        HF_FOLDER("olmo2", check_file),
        HF_FOLDER("olmo3", check_file),
        HF_FOLDER("phi2", check_file),
        HF_FOLDER("nemotron", check_file),
        HF_FOLDER("hunyuan-moe", check_file),
        HF_FOLDER("hunyuan-dense", check_file),
        HF_FOLDER("exaone-moe", check_file),
        HF_FOLDER("afmoe", check_file),
        HF_FOLDER("mistral3", check_file),
        HF_FOLDER("dbrx", check_file),
        HF_FOLDER("deepseek", check_file),
        HF_FOLDER("bailingmoe", check_file),
        HF_FOLDER("bailingmoe2", check_file),
        HF_FOLDER("grok", check_file),
        HF_FOLDER("grok2", check_file),
        HF_FOLDER("arctic", check_file),
        HF_FOLDER("pangu-pro-moe", check_file),
        HF_FOLDER("smollm3", check_file),
        HF_FOLDER("llama4", check_file),
        HF_FOLDER("phi3", check_file),
        HF_FOLDER("phi3-long", check_file),
        HF_FOLDER("gemma2", check_file),
        HF_FOLDER("gemma3", check_file),
        HF_FOLDER("gpt-oss", check_file),
        HF_FOLDER("cohere2", check_file),
        HF_FOLDER("exaone4", check_file),
        HF_FOLDER("deepseek2", check_file),
        HF_FOLDER("deepseek2-lite", check_file),
        HF_FOLDER("deepseek3", check_file),
        HF_FOLDER("jamba", check_file),
        HF_FOLDER("lfm2", check_file),
        HF_FOLDER("lfm2moe", check_file),
        HF_FOLDER("granitehybrid", check_file),
        HF_FOLDER("granitehybrid-dense", check_file),
        HF_FOLDER("qwen3next", check_file),
        HF_FOLDER("qwen35", check_file),
        HF_FOLDER("qwen35moe", check_file),
        HF_FOLDER("nemotron_h", check_file),
        HF_FOLDER("nemotron_h_moe", check_file),
        HF_FOLDER("gemma4", check_file),
        HF_FOLDER("kimi-linear", check_file),
        HF_FOLDER("minimax-01", check_file),
        HF_FOLDER("falcon-h1", check_file),
        HF_FOLDER("gemma4-moe", check_file),
        HF_FOLDER("gemma4-e2b", check_file),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
