/* Routed mixtures of adapters: the gradient of every part against central differences of
 * the loss, with and without checkpointing; what is fresh or off changes no bit; what a
 * session gives does not depend on chunks; a way through a file. And formulas: a mixture
 * whose decision is known equals the adapters that it stands for. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapted.h"
#include "base/random.h"
#include "learn/gate_loss.h"
#include "learn/tuning.h"
#include "scratch.h"
#include "store/mapped.h"
#include "tensor/loss.h"
#include "tensor/tape.h"

enum { DOCUMENT = 17, MOST = 64, PARTS = 3 };

typedef struct training {
    golden g;
    jt_context ctx;
    jt_cache cache;
    jt_tuning *tuning;
    jt_variables v;
    int32_t targets[MOST], positions[MOST], first[MOST], source[MOST];
    int32_t label[2];
} training;

static void pack(training *tr)
{
    assert_in_range(tr->g.count, DOCUMENT + 2, MOST);
    for (size_t t = 0; t < tr->g.count; t++) {
        int32_t start = t < DOCUMENT ? 0 : DOCUMENT;
        bool last = t + 1 == DOCUMENT || t + 1 == tr->g.count;
        tr->first[t] = start;
        tr->positions[t] = (int32_t)t - start;
        tr->targets[t] = last ? -1 : tr->g.tokens[t + 1];
        tr->source[t] = t >= DOCUMENT;
    }
}

/* Values far from where a mixture begins, gates and heads so large that they decide. */
static void shake(training *tr)
{
    jt_rng rng = {.seed = 3};
    for (size_t i = 0; i < tr->v.count; i++) {
        const jt_param *p = &tr->v.list[i];
        bool decides = strstr(p->name, "gate") || strstr(p->name, "head");
        for (size_t j = 0; j < p->count * p->rows * p->cols; j++)
            p->value[j] = (decides ? 0.3f : 0.1f) * jt_rng_normal(&rng);
    }
}

static jt_config config_of(const char *kind)
{
    return (jt_config){.adapter = {.kind = kind,
                                   .target = "attn_|ffn_",
                                   .rank = 3,
                                   .alpha = 5.0,
                                   .experts = PARTS,
                                   .temperature = 1.5,
                                   .head_depth = 2,
                                   .head_width = 8,
                                   .layerwise = true}};
}

/* Two adapters of the rule, called by the first token of each document. */
static void mark(training *tr)
{
    jt_blend *b = tr->tuning->adapter->blend;
    assert_int_equal(jt_blend_set_markers(b, 0, tr->g.tokens + 3, 2, NULL), JT_OK);
    assert_int_equal(
        jt_blend_set_markers(b, 1, tr->g.tokens + DOCUMENT + 1, 2, NULL), JT_OK);
}

static void begin(training *tr, jt_config *config)
{
    jt_err err = {0};
    pack(tr);
    assert_int_equal(jt_context_init(&tr->ctx, 2, NULL, NULL), JT_OK);
    assert_int_equal(
        jt_cache_init_train(&tr->cache, tr->g.model, tr->g.count, false, NULL), JT_OK);
    adapted_must(jt_tuning_new(&tr->tuning, config, tr->g.model, &tr->ctx, &err), &err);
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
    ctx->tape = how == LOSS ? NULL : &tape;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_span span = {&tr->cache, 0, tr->g.count};
    jt_chunk chunk = {.spans = &span,
                      .n_spans = 1,
                      .ids = tr->g.tokens,
                      .positions = tr->positions,
                      .first = tr->first,
                      .count = tr->g.count,
                      .all_logits = true,
                      .checkpoint = how == CHECKPOINTED};
    jt_tensor logits = jt_attached_forward(&tr->tuning->attached, ctx, tr->g.model,
                                           &chunk, &jt_store_mapped, &none);
    double loss = jt_cross_entropy(ctx, &logits, tr->targets, 1.0f, NULL);
    if (how != LOSS)
        jt_tape_backward(ctx);
    if (jt_failed(ctx))
        fail_msg("%s", ctx->err.msg);
    ctx->tape = NULL;
    jt_arena_rewind(&ctx->scratch, mark);
    return loss;
}

/* A step so small that no token chooses other adapters. */
static double check_parameter(training *tr, const jt_param *p, jt_rng *rng)
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
    free(origin);
    free(direction);
    return size;
}

static void check_gradients(const char *model, jt_config *config)
{
    training tr = {0};
    jt_rng rng = {.seed = 11};
    double deciding = 0.0, adapters = 0.0;
    golden_open(&tr.g, model);
    begin(&tr, config);
    if (strcmp(config->adapter.kind, "phi-4") == 0)
        mark(&tr);
    loss_of(&tr, GRADIENTS);
    for (size_t i = 0; i < tr.v.count; i++) {
        const jt_param *p = &tr.v.list[i];
        bool decides = strstr(p->name, "gate") || strstr(p->name, "head");
        *(decides ? &deciding : &adapters) += check_parameter(&tr, p, &rng);
    }
    assert_true(adapters > 0.0);
    assert_true(strcmp(config->adapter.kind, "phi-4") == 0 || deciding > 0.0);
    float *kept = malloc(tr.v.values * sizeof *kept);
    memcpy(kept, tr.v.grad, tr.v.values * sizeof *kept);
    memset(tr.v.grad, 0, tr.v.values * sizeof *kept);
    loss_of(&tr, CHECKPOINTED);
    assert_memory_equal(kept, tr.v.grad, tr.v.values * sizeof *kept);
    free(kept);
    end(&tr);
    golden_close(&tr.g);
}

static void test_gradients(void **state)
{
    static const struct {
        const char *kind;
        int top_k;
    } all[] = {{"mixlora", 2}, {"meteora", 2},    {"lora-mixer", 3},
               {"x-lora", 0}, {"phi-4", 0}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        jt_config config = config_of(all[i].kind);
        jt_config_part parts[PARTS] = {{"", "", ""}, {"", "", ""}, {"", "", ""}};
        config.adapter.top_k = all[i].top_k;
        if (strcmp(all[i].kind, "phi-4") == 0) {
            for (int p = 0; p < PARTS; p++)
                parts[p].marker = "x";
            config.adapter.part = parts;
            config.adapter.n_parts = PARTS;
        }
        print_message("  %s, k %d\n", all[i].kind, all[i].top_k);
        check_gradients(*state, &config);
    }
}

#define MODEL(name, check)                               \
    {                                                    \
        #check " " name, check, NULL, NULL, (void *)(uintptr_t)name \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        MODEL("llama", test_gradients),
        MODEL("phi3", test_gradients),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
