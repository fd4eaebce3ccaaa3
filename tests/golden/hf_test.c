/* Hugging Face folders: what they compute against transformers, and conversion there
 * and back again. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "golden.h"
#include "junto/convert.h"
#include "junto/safetensors.h"
#include "scratch.h"

static const double tolerance = 1e-4; /* of the largest logit */

static void must(jt_status status, const jt_err *err)
{
    if (status != JT_OK)
        fail_msg("%s", err->msg);
}

/* All logits at full precision. */
static float *run(golden *g)
{
    jt_session_options o = {.cpu = "scalar", .chunk = 4096, .kv_type = "f32"};
    return golden_run(g, &o, NULL);
}

static void convert(const char *from, const char *to, const char *type)
{
    jt_convert_options o = {.type = type, .shard_bytes = 20000};
    jt_convert_report report;
    jt_err err = {0};
    must(jt_convert(from, to, &o, &report, &err), &err);
    assert_true(report.tensors > 10);
    assert_true(report.bytes > 10000);
}

/* The model at `path` computes `logits`, bit for bit. */
static void check_same_logits(golden *g, const char *path, const float *logits)
{
    jt_err err = {0};
    jt_model *direct = g->model;
    must(jt_model_load(&g->model, path, &err), &err);
    float *again = run(g);
    assert_memory_equal(again, logits, g->count * g->vocab * sizeof *logits);
    free(again);
    jt_model_free(g->model);
    g->model = direct;
}

static void check_same_tensors(const char *before, const char *after)
{
    jt_safetensors *a, *b;
    jt_err err = {0};
    must(jt_safetensors_open(&a, before, &err), &err);
    must(jt_safetensors_open(&b, after, &err), &err);
    assert_int_equal(jt_safetensors_count(a), jt_safetensors_count(b));
    for (size_t i = 0; i < jt_safetensors_count(a); i++) {
        const jt_safetensor *x = jt_safetensors_at(a, i);
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int)x->name.len, x->name.data);
        const jt_safetensor *y = jt_safetensors_find(b, name);
        if (!y)
            fail_msg("'%s' is gone", name);
        if (x->type != y->type || x->n_dims != y->n_dims || x->bytes != y->bytes ||
            memcmp(x->shape, y->shape, sizeof x->shape) != 0 ||
            memcmp(x->data, y->data, x->bytes) != 0)
            fail_msg("'%s' came back differently", name);
    }
    jt_safetensors_close(a);
    jt_safetensors_close(b);
}

static void remove_folder(const char *path)
{
    scratch s;
    snprintf(s.dir, sizeof s.dir, "%.190s", path);
    scratch_free(&s);
}

/* To a file, back to a folder, and to a file again. */
static void check_round_trip(golden *g, const char *folder, const float *logits,
                             bool exact)
{
    char file[256], back[216], again[256];
    snprintf(file, sizeof file, "%s/a.gguf", scratch_dir.dir);
    snprintf(back, sizeof back, "%s/b", scratch_dir.dir);
    snprintf(again, sizeof again, "%s/c.gguf", scratch_dir.dir);
    convert(folder, file, NULL);
    check_same_logits(g, file, logits);
    convert(file, back, NULL);
    if (exact)
        check_same_tensors(folder, back);
    check_same_logits(g, back, logits);
    convert(back, again, NULL);
    check_same_logits(g, again, logits);
    remove_folder(back);
}

static void check_folder(const char *name, bool exact)
{
    golden g;
    char model[64], reference[64], path[512];
    snprintf(model, sizeof model, "hf/%s", name);
    snprintf(reference, sizeof reference, "hf/%s.ref.gguf", name);
    golden_open_files(&g, model, reference);
    float *logits = run(&g);
    double error = golden_error(logits, g.logits, g.count * g.vocab);
    print_message("  %-12s error %.2e\n", name, error);
    assert_true(error < tolerance);
    check_round_trip(&g, golden_path(path, sizeof path, model), logits, exact);
    free(logits);
    golden_close(&g);
}

static void check_lossless(void **state)
{
    check_folder(*state, true);
}

static void check_fp8(void **state)
{
    check_folder(*state, false);
}

/* Multipliers do not come out of the matrices again. */
static void check_multiplied(void **state)
{
    check_folder(*state, false);
}

#define FOLDER(name, check)                              \
    {                                                    \
        name, check, NULL, NULL, (void *)(uintptr_t)name \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        FOLDER("llama", check_lossless),
        FOLDER("mistral", check_lossless),
        FOLDER("mixtral", check_lossless),
        FOLDER("qwen2", check_lossless),
        FOLDER("qwen2moe", check_lossless),
        FOLDER("qwen3", check_lossless),
        FOLDER("qwen3moe", check_lossless),
        FOLDER("olmoe", check_lossless),
        FOLDER("deepseek2", check_lossless),
        FOLDER("deepseek3", check_lossless),
        FOLDER("deepseek2-lite", check_lossless),
        FOLDER("glm4moe-norm", check_lossless),
        FOLDER("gpt-oss", check_lossless),
        FOLDER("ernie4_5", check_lossless),
        FOLDER("ernie4_5-moe", check_lossless),
        FOLDER("dots1", check_lossless),
        FOLDER("minimax-m2", check_lossless),
        FOLDER("hunyuan-moe", check_lossless),
        FOLDER("hunyuan-dense", check_lossless),
        FOLDER("afmoe", check_lossless),
        FOLDER("exaone-moe", check_lossless),
        FOLDER("granite", check_lossless),
        FOLDER("granitemoe", check_lossless),
        FOLDER("granitemoe-shared", check_lossless),
        FOLDER("phi3", check_lossless),
        FOLDER("phimoe", check_lossless),
        FOLDER("qwen3moe-fp8", check_fp8),
        FOLDER("deepseek3-fp8", check_fp8),
        FOLDER("qwen3moe-fp8", check_fp8),
        FOLDER("gemma", check_lossless),
        FOLDER("gemma2", check_lossless),
        FOLDER("gemma3", check_lossless),
        FOLDER("olmo", check_lossless),
        FOLDER("olmo2", check_lossless),
        FOLDER("smollm3", check_lossless),
        FOLDER("phi2", check_lossless),
        FOLDER("glm4", check_lossless),
        FOLDER("seed_oss", check_lossless),
        FOLDER("exaone4", check_lossless),
        FOLDER("cohere2", check_lossless),
        FOLDER("nemotron", check_lossless),
        FOLDER("mistral3", check_lossless),
        FOLDER("llama4", check_lossless),
        FOLDER("qwen3next", check_lossless),
        FOLDER("qwen35", check_lossless),
        FOLDER("qwen35moe", check_lossless),
        FOLDER("jamba", check_lossless),
        FOLDER("lfm2", check_lossless),
        FOLDER("lfm2moe", check_lossless),
        FOLDER("nemotron_h", check_lossless),
        FOLDER("nemotron_h_moe", check_lossless),
        FOLDER("granitehybrid", check_lossless),
        FOLDER("granitehybrid-dense", check_lossless),
        FOLDER("falcon-h1", check_multiplied),
        FOLDER("falcon-h1-tied", check_multiplied),
        FOLDER("kimi-linear", check_lossless),
        FOLDER("minimax-01", check_lossless),
        FOLDER("minimax-01-published", check_lossless),
        FOLDER("gemma4", check_lossless),
        FOLDER("gemma4-moe", check_lossless),
        FOLDER("glm4-flash", check_lossless),
        FOLDER("solar-open", check_lossless),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
