/* Gradients of whole tiny models, every family and every parameter, against central
 * differences of the loss. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

#include "base/random.h"
#include "learn/output_loss.h"
#include "model/parameters.h"
#include "model/transformer.h"
#include "store/mapped.h"
#include "tensor/tape.h"

enum { MAX_PARAMETERS = 128, DOCUMENT = 17, SLICE = 5 };

typedef struct training {
    golden g;
    jt_context ctx;
    jt_cache cache;
    jt_tensor parameter[MAX_PARAMETERS];
    char name[MAX_PARAMETERS][96];
    float *kept[MAX_PARAMETERS]; /* gradients, to compare */
    int n_parameters;
    int32_t *targets, *positions, *first;
} training;

static size_t values_of(const jt_tensor *t)
{
    return jt_rows(t) * jt_cols(t);
}

/* Parameters become copies in memory, with gradients. */
static void own(void *user, const char *name, jt_tensor *t)
{
    training *tr = user;
    size_t n = values_of(t);
    float *copy = malloc(n * sizeof *copy);
    jt_kernels_level(JT_CPU_SCALAR)->dequant[t->dtype](copy, t->data, n);
    t->data = copy;
    t->dtype = JT_F32;
    t->grad = calloc(n, sizeof(float));
    assert_in_range(tr->n_parameters, 0, MAX_PARAMETERS - 1);
    snprintf(tr->name[tr->n_parameters], sizeof tr->name[0], "%s", name);
    tr->parameter[tr->n_parameters++] = *t;
}

/* Two packed documents; the last token of each has no target. */
static void pack(training *tr)
{
    size_t n = tr->g.count;
    tr->targets = malloc(n * sizeof(int32_t));
    tr->positions = malloc(n * sizeof(int32_t));
    tr->first = malloc(n * sizeof(int32_t));
    for (size_t t = 0; t < n; t++) {
        int32_t start = t < DOCUMENT ? 0 : DOCUMENT;
        bool last = t + 1 == DOCUMENT || t + 1 == n;
        tr->first[t] = start;
        tr->positions[t] = (int32_t)t - start;
        tr->targets[t] = last ? -1 : tr->g.tokens[t + 1];
    }
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
                      .count = tr->g.count,
                      .ids = tr->g.tokens,
                      .positions = tr->positions,
                      .first = tr->first,
                      .hidden = true,
                      .checkpoint = how == CHECKPOINTED};
    jt_tensor hidden =
        jt_transformer_forward(ctx, tr->g.model, &chunk, &jt_store_mapped, &none);
    /* differences of the whole loss check the gradients of one in slices */
    size_t most = how == LOSS ? 0 : SLICE * jt_rows(&tr->g.model->output);
    double loss =
        jt_output_loss(ctx, tr->g.model, &hidden, tr->targets, 1.0f, most, NULL);
    if (how != LOSS)
        jt_tape_backward(ctx);
    if (jt_failed(ctx))
        fail_msg("%s", ctx->err.msg);
    ctx->tape = NULL;
    jt_arena_rewind(&ctx->scratch, mark);
    return loss;
}

/* Slope of the loss along a random direction: what the gradient says, and what a
 * difference says. */
static void measure(training *tr, int which, jt_rng *rng, float step, double *said,
                    double *measured)
{
    jt_tensor *t = &tr->parameter[which];
    float *x = t->data;
    size_t n = values_of(t);
    float *origin = malloc(n * sizeof *origin), *direction = malloc(n * sizeof *origin);
    double loss[2];
    memcpy(origin, x, n * sizeof *origin);
    jt_rng_normals(rng, direction, n);
    *said = 0.0;
    for (size_t i = 0; i < n; i++)
        *said += (double)t->grad[i] * direction[i];
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < n; i++)
            x[i] = origin[i] + (side ? -step : step) * direction[i];
        loss[side] = loss_of(tr, LOSS);
    }
    memcpy(x, origin, n * sizeof *origin);
    *measured = (loss[0] - loss[1]) / (2.0 * (double)step);
    free(origin);
    free(direction);
}

static void check_parameter(training *tr, int which, jt_rng *rng)
{
    enum { TRIALS = 4 }; /* a step may lead some token to another expert */
    const jt_tensor *t = &tr->parameter[which];
    double size = 0.0, said, measured;
    bool agree = false;
    for (size_t i = 0; i < values_of(t); i++)
        size += pow((double)t->grad[i], 2.0);
    /* A difference of two F32 losses is uncertain by about 1e-6 / step; a clamp has
     * kinks, which some values cross on the way. */
    double share = tr->g.model->params.clamp > 0.0f ? 2e-2 : 1e-3;
    for (int trial = 0; trial < TRIALS && !agree; trial++) {
        float step = 2e-4f / (float)(1 << trial);
        measure(tr, which, rng, step, &said, &measured);
        agree = fabs(measured - said) <= share * sqrt(size) + 1e-6 / (double)step;
    }
    if (!agree)
        fail_msg("%s: gradient says %.6g, difference %.6g (norm %.3g)", tr->name[which],
                 said, measured, sqrt(size));
    if (strstr(tr->name[which], "exp_probs_b")) /* what was chosen has no slope */
        assert_true(size == 0.0);
    else if (!strstr(tr->name[which], "attn_k.bias")) /* softmax: no matter */
        assert_true(size > 0.0);
}

/* Layers that are run again, and other threads, give the same gradients, bit for bit.
 */
static void check_same(training *tr, mode how, int threads)
{
    jt_context two = tr->ctx;
    assert_int_equal(jt_context_init(&tr->ctx, threads, NULL, NULL), JT_OK);
    for (int i = 0; i < tr->n_parameters; i++) {
        jt_tensor *t = &tr->parameter[i];
        size_t bytes = values_of(t) * sizeof(float);
        tr->kept[i] = malloc(bytes);
        memcpy(tr->kept[i], t->grad, bytes);
        memset(t->grad, 0, bytes);
    }
    loss_of(tr, how);
    for (int i = 0; i < tr->n_parameters; i++) {
        const jt_tensor *t = &tr->parameter[i];
        assert_memory_equal(tr->kept[i], t->grad, values_of(t) * sizeof(float));
        free(tr->kept[i]);
    }
    jt_context_free(&tr->ctx);
    tr->ctx = two;
}

/* Routers that decide a layer early. */
static void decide_early(jt_model *model)
{
    model->params.router.ahead = true;
    for (int i = 0; i < model->params.n_layers; i++)
        model->layers[i].mixture.router.ahead = true;
}

static void check_gradients(const char *name, bool ahead)
{
    training tr = {0};
    jt_rng rng = {.seed = 11};
    golden_open(&tr.g, name);
    if (ahead)
        decide_early(tr.g.model);
    jt_model_each_parameter(tr.g.model, own, &tr);
    pack(&tr);
    assert_int_equal(jt_context_init(&tr.ctx, 2, NULL, NULL), JT_OK);
    assert_int_equal(
        jt_cache_init_train(&tr.cache, tr.g.model, 1, tr.g.count, false, NULL), JT_OK);
    loss_of(&tr, GRADIENTS);
    for (int i = 0; i < tr.n_parameters; i++)
        check_parameter(&tr, i, &rng);
    if (!ahead) /* they do not run again alone */
        check_same(&tr, CHECKPOINTED, 2);
    check_same(&tr, GRADIENTS, 1);
    jt_cache_free(&tr.cache);
    jt_context_free(&tr.ctx);
    for (int i = 0; i < tr.n_parameters; i++) {
        free(tr.parameter[i].data);
        free(tr.parameter[i].grad);
    }
    free(tr.targets);
    free(tr.positions);
    free(tr.first);
    golden_close(&tr.g);
}

static void check_model(void **state)
{
    check_gradients(*state, false);
}

static void routers_that_decide_early(void **state)
{
    (void)state;
    check_gradients("qwen3moe", true);
}

#define MODEL(name)                                            \
    {                                                          \
        name, check_model, NULL, NULL, (void *)(uintptr_t)name \
    }

/* Models with parts that have no gradients are not trained at all. */
static void check_refused(void **state)
{
    golden g;
    jt_err err;
    golden_open(&g, *state);
    jt_family family = *g.model->family;
    family.untrained = true;
    g.model->family = &family;
    assert_int_equal(jt_model_trains(g.model, &err), JT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "is not supported"));
    golden_close(&g);
}

#define REFUSED(name)                                            \
    {                                                            \
        name, check_refused, NULL, NULL, (void *)(uintptr_t)name \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        MODEL("llama"),
        MODEL("mixtral"),
        MODEL("qwen2"),
        MODEL("qwen2moe"),
        MODEL("qwen2moe-norm"),
        MODEL("qwen3"),
        MODEL("qwen3moe"),
        MODEL("olmoe"),
        MODEL("olmoe-clip"),
        MODEL("phimoe"),
        MODEL("granite"),
        MODEL("granitemoe"),
        MODEL("granitemoe-shared"),
        MODEL("glm4"),
        MODEL("glm4moe"),
        MODEL("glm4moe-norm"),
        MODEL("ernie4_5"),
        MODEL("ernie4_5-moe"),
        MODEL("dots1"),
        MODEL("minimax-m2"),
        MODEL("seed_oss"),
        MODEL("gemma"),
        MODEL("olmo"),
        MODEL("olmo2"),
        MODEL("olmo3"),
        MODEL("phi2"),
        MODEL("nemotron"),
        MODEL("afmoe"),
        MODEL("exaone-moe"),
        MODEL("dbrx"),
        MODEL("mistral3"),
        MODEL("deepseek"),
        MODEL("bailingmoe"),
        MODEL("bailingmoe2"),
        MODEL("grok"),
        MODEL("grok2"),
        MODEL("arctic"),
        MODEL("pangu-pro-moe"),
        MODEL("smollm3"),
        MODEL("phi3"),
        MODEL("phi3-long"),
        MODEL("gemma2"),
        MODEL("gemma3"),
        MODEL("gpt-oss"),
        MODEL("cohere2"),
        MODEL("exaone4"),
        MODEL("llama4"),
        MODEL("hunyuan-dense"),
        MODEL("hunyuan-moe"),
        MODEL("deepseek2"),
        MODEL("deepseek2-lite"),
        MODEL("deepseek3"),
        MODEL("jamba"),
        MODEL("lfm2"),
        MODEL("lfm2moe"),
        MODEL("granitehybrid"),
        MODEL("granitehybrid-dense"),
        MODEL("nemotron_h"),
        MODEL("nemotron_h_moe"),
        MODEL("qwen3next"),
        MODEL("qwen35"),
        MODEL("qwen35moe"),
        MODEL("falcon-h1"),
        MODEL("gemma4"),
        MODEL("gemma4-moe"),
        MODEL("gemma4-e2b"),
        MODEL("kimi-linear"),
        MODEL("minimax-01"),
        cmocka_unit_test(routers_that_decide_early),
        REFUSED("mixtral"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
