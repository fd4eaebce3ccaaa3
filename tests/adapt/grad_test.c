/* Gradients of the parameters of every kind of adapter against central differences of
 * the loss, on a dense model and on mixtures; and through quantised weights against
 * those through the same weights decoded. (Those of bits: kinds_test.c.) */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapted.h"
#include "base/random.h"
#include "junto/convert.h"
#include "learn/tuning.h"
#include "scratch.h"
#include "store/mapped.h"
#include "tensor/loss.h"
#include "tensor/tape.h"

enum { DOCUMENT = 17, MOST = 64, TASKS = 1, DRAW = 5, FRONT = 3 };

typedef struct training {
    golden g;
    const jt_model *model; /* that of g, or another form of it */
    jt_context ctx;
    jt_cache cache;
    jt_tuning *tuning;
    jt_variables v;
    int32_t targets[MOST], positions[MOST], first[MOST];
    int32_t
        front[MOST]; /* of kinds that have virtual tokens: the first of a document */
} training;

/* Two packed documents; the last token of each has no target, nor have virtual ones. */
static void pack(training *tr, int32_t front)
{
    assert_in_range(tr->g.count, DOCUMENT + 2, MOST);
    for (size_t t = 0; t < tr->g.count; t++) {
        int32_t start = t < DOCUMENT ? 0 : DOCUMENT;
        bool last = t + 1 == DOCUMENT || t + 1 == tr->g.count;
        tr->first[t] = start;
        tr->positions[t] = (int32_t)t - start;
        tr->front[t] = tr->positions[t] < front ? tr->positions[t] : -1;
        tr->targets[t] = last || tr->front[t] >= 0 ? -1 : tr->g.tokens[t + 1];
    }
}

/* Values far from where an adapter begins, so that everything has a gradient. */
static void shake(training *tr)
{
    jt_rng rng = {.seed = 3};
    for (size_t i = 0; i < tr->v.count; i++) {
        const jt_param *p = &tr->v.list[i];
        bool magnitude = strstr(p->name, "dora_m") != NULL;
        for (size_t j = 0; j < p->count * p->rows * p->cols; j++)
            p->value[j] = magnitude ? p->value[j] * (1 + 0.1f * jt_rng_normal(&rng))
                                    : 0.1f * jt_rng_normal(&rng);
    }
    jt_tuning_refresh(tr->tuning, &tr->ctx);
}

/* Mixed ones need sizes that can be divided, which those of routers cannot. */
static const char *target_of(const char *kind)
{
    bool divides = !strcmp(kind, "mos") || !strcmp(kind, "poly");
    return divides ? "attn_|ffn_(gate|up|down)(_exps)?[.]" : "attn_|ffn_|output";
}

static jt_adapter *adapter_of(const training *tr)
{
    return tr->tuning->adapter;
}

/* "bottleneck:attn" and "bottleneck:ffn" stand there; a '+' asks for a gate. */
static void begin(training *tr, const jt_model *model, const char *what)
{
    char kind[32], place[64] = "";
    sscanf(what, "%31[^:]:%63[^+]", kind, place);
    jt_config config = {
        .adapter = {.kind = kind,
                    .place = place,
                    .marker = "a",
                    .front = FRONT,
                    .text = "",
                    .activation = strstr(what, "attn") ? "silu" : "gelu",
                    .gated = strchr(what, '+') != NULL,
                    .init = "",
                    .target = target_of(kind),
                    .mask = "random",
                    .rank = strcmp(kind, "shira") ? 3 : 1,
                    .alpha = 5.0,
                    .shards = 2,
                    .budget = 2,
                    .own = 1,
                    .tables = "apart",
                    .skills = 3,
                    .heads = 2,
                    .bits = 1,
                    .active = 3,
                    .head_width = 8,
                    .heat = 0.5,
                    .threshold = -1.0},
        .data = {.n_sources = TASKS}};
    jt_err err = {0};
    tr->model = model;
    pack(tr, (int32_t)jt_tuning_front(&config));
    assert_int_equal(jt_context_init(&tr->ctx, 2, NULL, NULL), JT_OK);
    assert_int_equal(
        jt_cache_init_train(&tr->cache, model, 1, tr->g.count, false, NULL), JT_OK);
    adapted_must(jt_tuning_new(&tr->tuning, &config, model, &tr->ctx, &err), &err);
    if (!strcmp(kind, "p-adapter")) /* the last token of the first document */
        *(int32_t *)adapter_of(tr)->source[adapter_of(tr)->place[0].source[14]].t.data =
            tr->g.tokens[DOCUMENT - 1];
    adapted_must(jt_tuning_variables(tr->tuning, &tr->v, &err), &err);
    shake(tr);
}

static void end(training *tr)
{
    jt_variables_free(&tr->v);
    jt_tuning_free(tr->tuning);
    jt_cache_free(&tr->cache);
    jt_context_free(&tr->ctx);
}

typedef enum mode { LOSS, GRADIENTS, CHECKPOINTED } mode;

static double loss_of(training *tr, mode how)
{
    static const jt_hooks none;
    jt_context *ctx = &tr->ctx;
    jt_tape tape = {0};
    jt_tuning_begin(tr->tuning, 0, DRAW);
    ctx->tape = how == LOSS ? NULL : &tape;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_span span = {&tr->cache, 0, tr->g.count};
    jt_chunk chunk = {.spans = &span,
                      .n_spans = 1,
                      .ids = tr->g.tokens,
                      .positions = tr->positions,
                      .first = tr->first,
                      .front = tr->front,
                      .count = tr->g.count,
                      .all_logits = true,
                      .checkpoint = how == CHECKPOINTED};
    jt_tensor logits = jt_attached_forward(&tr->tuning->attached, ctx, tr->model,
                                           &chunk, &jt_store_mapped, &none);
    double loss = jt_cross_entropy(ctx, &logits, tr->targets, 1.0f, NULL);
    if (how != LOSS) {
        jt_tape_backward(ctx);
        jt_tuning_end(tr->tuning);
    }
    if (jt_failed(ctx))
        fail_msg("%s", ctx->err.msg);
    ctx->tape = NULL;
    jt_arena_rewind(&ctx->scratch, mark);
    return loss;
}

/* The norms of DoRA stay as they are: they are constants of its gradient. */
static void check_parameter(training *tr, const jt_param *p, jt_rng *rng)
{
    const float step = 2e-4f;
    size_t n = p->count * p->rows * p->cols;
    float *origin = malloc(n * sizeof *origin), *direction = malloc(n * sizeof *origin);
    double slope = 0.0, size = 0.0, loss[2];
    memcpy(origin, p->value, n * sizeof *origin);
    jt_rng_normals(rng, direction, n);
    for (size_t i = 0; i < n; i++) {
        slope += (double)p->grad[i] * direction[i];
        size += pow((double)p->grad[i], 2.0);
    }
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < n; i++)
            p->value[i] = origin[i] + (side ? -step : step) * direction[i];
        loss[side] = loss_of(tr, LOSS);
    }
    memcpy(p->value, origin, n * sizeof *origin);
    double measured = (loss[0] - loss[1]) / (2.0 * (double)step);
    if (fabs(measured - slope) > 1e-3 * sqrt(size) + 5e-3)
        fail_msg("%s: gradient says %.6g, difference %.6g (norm %.3g)", p->name, slope,
                 measured, sqrt(size));
    if (!(size > 0.0))
        fail_msg("%s: no gradient", p->name);
    free(origin);
    free(direction);
}

static void check_kind(const char *model, const char *kind)
{
    training tr = {0};
    jt_rng rng = {.seed = 11};
    golden_open(&tr.g, model);
    begin(&tr, tr.g.model, kind);
    loss_of(&tr, GRADIENTS);
    for (size_t i = 0; i < tr.v.count; i++) {
        const char *name = tr.v.list[i].name;
        if (strstr(name, "attn_k_b") || strstr(name, "attn_v_b"))
            continue; /* no products: latent attention reads them itself */
        check_parameter(&tr, &tr.v.list[i], &rng);
    }
    float *kept = malloc(tr.v.values * sizeof *kept);
    memcpy(kept, tr.v.grad, tr.v.values * sizeof *kept);
    memset(tr.v.grad, 0, tr.v.values * sizeof *kept);
    loss_of(&tr, CHECKPOINTED);
    assert_memory_equal(kept, tr.v.grad, tr.v.values * sizeof *kept);
    free(kept);
    end(&tr);
    golden_close(&tr.g);
}

static void check_model(void **state)
{
    static const char *const kinds[] = {
        "lora", "rslora",          "dora",           "shira", "mos", "poly",
        "mora", "bottleneck:attn", "bottleneck:ffn+"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        check_kind(*state, kinds[i]);
    check_kind(*state, "soft-prompt");
    check_kind(*state, "prefix");
    if (!strcmp(*state, "llama") || !strcmp(*state, "mixtral")) /* tokenizers */
        check_kind(*state, "p-adapter");
    if (!strcmp(*state, "llama") || !strcmp(*state, "phi3")) /* dense FFNs */
        check_kind(*state, "mixda");
}

/* Of layers that no adapter changes itself: gradients pass what they hold. */
static void check_lora(void **state)
{
    check_kind(*state, "lora");
    check_kind(*state, "soft-prompt");
}

/* ---- quantised weights ---- */

static float *gradients(training *tr, const char *path, const char *kind)
{
    jt_model *model;
    jt_err err = {0};
    adapted_must(jt_model_load(&model, path, &err), &err);
    begin(tr, model, kind);
    loss_of(tr, GRADIENTS);
    float *grad = malloc(tr->v.values * sizeof *grad);
    memcpy(grad, tr->v.grad, tr->v.values * sizeof *grad);
    end(tr);
    jt_model_free(model);
    return grad;
}

/* How far gradients of a model of some type are from those of the same in F32. */
static double error_of(const char *model, const char *type)
{
    training tr = {0};
    char from[512], small[256], large[256];
    jt_convert_report report;
    jt_err err = {0};
    golden_open(&tr.g, model);
    snprintf(from, sizeof from, "%s", jt_gguf_path(jt_model_file(tr.g.model)));
    snprintf(small, sizeof small, "%s/small.gguf", scratch_dir.dir);
    snprintf(large, sizeof large, "%s/large.gguf", scratch_dir.dir);
    adapted_must(
        jt_convert(from, small, &(jt_convert_options){.type = type}, &report, &err),
        &err);
    adapted_must(
        jt_convert(small, large, &(jt_convert_options){.type = "f32"}, &report, &err),
        &err);
    float *a = gradients(&tr, small, "lora"), *b = gradients(&tr, large, "lora");
    double apart = 0.0, size = 0.0;
    size_t values = 0;
    jt_model *floats;
    adapted_must(jt_model_load(&floats, large, &err), &err);
    begin(&tr, floats, "lora");
    values = tr.v.values;
    end(&tr);
    jt_model_free(floats);
    for (size_t i = 0; i < values; i++) {
        apart += pow((double)a[i] - b[i], 2.0);
        size += pow((double)b[i], 2.0);
    }
    print_message("  %s, %s: error %.4f\n", model, type, sqrt(apart / size));
    assert_true(size > 0.0);
    free(a);
    free(b);
    remove(small);
    remove(large);
    golden_close(&tr.g);
    return sqrt(apart / size);
}

/* Products of quantised weights round their inputs to 8 bits: within a few percent. */
static void check_quantised(void **state)
{
    double error = error_of(*state, "q8_0");
    assert_true(error > 0.0); /* it was another computation */
    assert_true(error < 0.03);
}

static void check_half(void **state)
{
    assert_true(error_of(*state, "f16") < 1e-3);
}

#define MODEL(name, check)                               \
    {                                                    \
        name, check, NULL, NULL, (void *)(uintptr_t)name \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        MODEL("llama", check_model),     MODEL("mixtral", check_model),
        MODEL("qwen2moe", check_model),  MODEL("phi3", check_model),
        MODEL("deepseek2", check_lora),  MODEL("jamba", check_lora),
        MODEL("falcon-h1", check_lora),  MODEL("qwen3next", check_lora),
        MODEL("llama", check_quantised), MODEL("deepseek2", check_half),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
