#include "hf_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "junto/convert.h"
#include "junto/safetensors.h"
#include "scratch.h"

const double hf_tolerance = 1e-4;

static void must(jt_status status, const jt_err *err)
{
    if (status != JT_OK)
        fail_msg("%s", err->msg);
}

void hf_convert(const char *from, const char *to, const char *type)
{
    jt_convert_options o = {.type = type};
    jt_convert_report report;
    jt_err err = {0};
    must(jt_convert(from, to, &o, &report, &err), &err);
    assert_true(report.tensors > 10);
    assert_true(report.bytes > 10000);
}

float *hf_logits(const golden *g, int n_ctx)
{
    jt_session_options o = {
        .cpu = "scalar", .chunk = 4096, .kv_type = "f32", .n_ctx = n_ctx};
    return golden_run(g, &o, NULL);
}

/* The same with another model. */
static float *logits_of(const golden *g, const char *path)
{
    jt_err err = {0};
    golden other = *g;
    must(jt_model_load(&other.model, path, &err), &err);
    float *logits = hf_logits(&other, 0);
    jt_model_free(other.model);
    return logits;
}

double hf_error(const golden *g, const char *path)
{
    float *logits = logits_of(g, path);
    double error = golden_error(logits, g->logits, g->count * g->vocab);
    free(logits);
    return error;
}

void hf_check_same(golden *g, const char *path, const float *logits)
{
    float *again = logits_of(g, path);
    assert_memory_equal(again, logits, g->count * g->vocab * sizeof *logits);
    free(again);
}

void hf_remove(const char *folder)
{
    scratch s;
    snprintf(s.dir, sizeof s.dir, "%.190s", folder);
    scratch_free(&s);
}

/* ---- tensors ---- */

static bool same(const jt_safetensor *x, const jt_safetensor *y)
{
    return x->type == y->type && x->n_dims == y->n_dims && x->bytes == y->bytes &&
           memcmp(x->shape, y->shape, sizeof x->shape) == 0 &&
           memcmp(x->data, y->data, x->bytes) == 0;
}

/* Golden models with predictors have two layers before them. */
static bool is_predictor(const char *name)
{
    return strstr(name, "mtp") || strstr(name, ".layers.2.");
}

/* Those of `before` lie in `after`, and no others; returns how many are missing. */
static size_t compare(const jt_safetensors *before, const jt_safetensors *after)
{
    size_t missing = 0;
    for (size_t i = 0; i < jt_safetensors_count(before); i++) {
        const jt_safetensor *x = jt_safetensors_at(before, i);
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int)x->name.len, x->name.data);
        const jt_safetensor *y = jt_safetensors_find(after, name);
        if (!y && !is_predictor(name))
            fail_msg("'%s' is gone", name);
        if (y && !same(x, y))
            fail_msg("'%s' came back differently", name);
        missing += !y;
    }
    assert_int_equal(jt_safetensors_count(before),
                     jt_safetensors_count(after) + missing);
    return missing;
}

static void check_tensors(const char *before, const char *after, hf_back back)
{
    jt_safetensors *a, *b;
    jt_err err = {0};
    if (back == HF_OTHER_TYPES)
        return;
    must(jt_safetensors_open(&a, before, &err), &err);
    must(jt_safetensors_open(&b, after, &err), &err);
    size_t missing = compare(a, b);
    assert_true((missing > 0) == (back == HF_WITHOUT));
    jt_safetensors_close(a);
    jt_safetensors_close(b);
}

/* ---- the whole ---- */

/* To a file, and back to a folder. */
static void check_round_trip(golden *g, const char *room, const char *folder,
                             const float *logits, hf_back back)
{
    char file[256], again[216];
    snprintf(file, sizeof file, "%s/a.gguf", room);
    snprintf(again, sizeof again, "%s/b", room);
    hf_convert(folder, file, NULL);
    hf_check_same(g, file, logits);
    hf_convert(file, again, NULL);
    check_tensors(folder, again, back);
    hf_check_same(g, again, logits);
    hf_remove(again);
}

void hf_check_folder(const char *room, const char *name, hf_back back)
{
    hf_check_files(room, name, name, back);
}

void hf_check_files(const char *room, const char *name, const char *text, hf_back back)
{
    golden g;
    char model[64], reference[64], path[512];
    snprintf(model, sizeof model, "hf/%s", name);
    snprintf(reference, sizeof reference, "hf/%s.ref.gguf", text);
    golden_open_files(&g, model, reference);
    float *logits = hf_logits(&g, 0);
    double error = golden_error(logits, g.logits, g.count * g.vocab);
    print_message("  %-12s error %.2e\n", name, error);
    assert_true(error < hf_tolerance);
    for (size_t t = 0; t < g.count; t++)
        assert_int_equal(golden_argmax(logits + t * g.vocab, g.vocab),
                         golden_argmax(g.logits + t * g.vocab, g.vocab));
    check_round_trip(&g, room, golden_path(path, sizeof path, model), logits, back);
    free(logits);
    golden_close(&g);
}
