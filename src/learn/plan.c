/* What a run will cost, before it begins. Memory is counted as the operations take it:
 * nearly every activation has a gradient beside it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "learn/peak.h"
#include "learn/train.h"
#include "model/parameters.h"

/* ---- memory ---- */

/* Values that the tape keeps of a tensor that an operation makes, for one token. */
static double kept(double values)
{
    return 2.0 * values; /* itself and its gradient */
}

/* A norm keeps its input too. */
static double kept_norm(double values)
{
    return kept(values) + values;
}

/* Floats that attention keeps for one token. */
static double attention_values(const jt_sizes *s, jt_qk_norm qk_norm)
{
    double d = s->d_model, q = s->n_heads * s->head_dim,
           kv = s->n_kv_heads * s->head_dim;
    double values = kept_norm(d) + kept(q + kv + kv);
    if (qk_norm != JT_QK_NORM_NONE)
        values += kept_norm(q + kv);
    values += q + kv;         /* rotated, in the order of the kernel */
    values += q + s->n_heads; /* outputs and sums in that order */
    return values + kept(q) + kept(d);
}

/* The same of an FFN of that width for `rows` rows a token, without gradients. */
static double ffn_values(const jt_sizes *s, double rows, double width)
{
    return rows * (3.0 * width + s->d_model);
}

/* The gradients in it, in memory that all FFNs share. */
static double ffn_gradients(const jt_sizes *s, double rows, double width)
{
    return rows * (2.0 * width + s->d_model);
}

/* Rows of experts for each token; picks of null experts have none. */
static double expert_rows(const jt_sizes *s)
{
    int router_rows = s->n_experts + s->router.n_null;
    return router_rows ? (double)s->n_experts_used * s->n_experts / router_rows : 0.0;
}

static double mixture_values(const jt_sizes *s)
{
    double d = s->d_model, k = s->n_experts_used;
    double router_rows = s->n_experts + s->router.n_null;
    double values = kept_norm(d) + kept(2.0 * router_rows) + 8.0 * k + kept(d);
    values += ffn_values(s, expert_rows(s), s->expert_width);
    if (s->shared_width)
        values += ffn_values(s, 1.0, s->shared_width) + 5.0;
    return values;
}

static double layer_values(const jt_sizes *s, const jt_family *family, int layer)
{
    bool dense = !s->n_experts || layer < s->n_dense_layers;
    double ffn = dense
                     ? kept_norm(s->d_model) + 5.0 + ffn_values(s, 1.0, s->dense_width)
                     : mixture_values(s);
    return attention_values(s, family->qk_norm) + ffn;
}

/* What gradients take on top for a while: those of FFNs; and those of attention, or of
 * the tokens of experts, of which each row has its own. */
static double back_values(const jt_sizes *s)
{
    double q = s->n_heads * s->head_dim, kv = 2.0 * s->n_kv_heads * s->head_dim;
    double attention = 2.0 * q + kv + 0.5 * s->head_dim;
    double rows = expert_rows(s), experts = rows * s->d_model;
    bool dense = !s->n_experts || s->n_dense_layers;
    double ffn = fmax(ffn_gradients(s, rows, s->expert_width),
                      fmax(ffn_gradients(s, 1.0, dense ? s->dense_width : 0.0),
                           ffn_gradients(s, 1.0, s->shared_width)));
    return ffn + fmax(attention, experts);
}

/* Most floats at a time for one token of a micro-batch: all layers, the head, and what
 * gradients take. */
static double activation_values(const jt_sizes *s, bool checkpoint)
{
    const jt_family *family = jt_family_find(s->family, strlen(s->family));
    double d = s->d_model, kv = 2.0 * s->n_kv_heads * s->head_dim;
    double layers = 0.0, largest = 0.0;
    for (int i = 0; i < s->n_layers; i++) {
        double values = layer_values(s, family, i);
        layers += checkpoint ? d : values + kv;
        largest = values > largest ? values : largest;
    }
    double ends = kept(d) + kept(s->head_dim) + kept_norm(d) + kept(s->n_vocab) + 2.0;
    if (checkpoint) /* the layer that runs again comes after the head is done */
        return layers + ends + kv + largest + back_values(s);
    return layers + ends + back_values(s);
}

uint64_t jt_plan_activation_bytes(const jt_sizes *sizes, const jt_config *config)
{
    double tokens = (double)config->train.batch * config->data.seq_len;
    bool checkpoint = config->train.checkpoint_activations;
    return (uint64_t)(tokens * activation_values(sizes, checkpoint) * sizeof(float));
}

/* ---- arithmetic ---- */

/* Two operations a weight and token forward, twice that backward; attention looks at
 * half a sequence on average. Recomputing is not counted. */
static double flops_per_token(const jt_blueprint *b, int seq_len)
{
    const jt_sizes *s = &b->sizes;
    double look = 0.5 * seq_len * s->n_heads * s->head_dim * 2.0;
    return 6.0 * ((double)jt_blueprint_active(b) + s->n_layers * look);
}

/* Operations per second of F32 products, the best of several rounds. */
static jt_status measure_peak(const jt_config_train *c, double *flops, jt_err *err)
{
    enum { ROUNDS = 20 };
    jt_context ctx;
    jt_peak peak;
    *flops = 0.0;
    JT_TRY(jt_context_init(&ctx, c->threads, *c->cpu ? c->cpu : NULL, err));
    jt_status status = jt_peak_init(&peak, ctx.kernels, err);
    for (int round = 0; round < ROUNDS && status == JT_OK; round++) {
        double start = jt_seconds();
        double work = jt_peak_run(&peak, ctx.pool),
               rate = work / (jt_seconds() - start);
        *flops = rate > *flops ? rate : *flops;
    }
    jt_peak_free(&peak);
    jt_context_free(&ctx);
    return status;
}

/* ---- the plan ---- */

static jt_status plan_optimiser(const jt_config *config, const jt_blueprint *b,
                                jt_train_plan *plan, jt_err *err)
{
    static float nothing;
    jt_optim_group *groups;
    jt_optim_size size = {0};
    size_t n_groups;
    jt_param *params = jt_calloc(b->n_tensors, sizeof *params);
    if (!params)
        return jt_fail_memory(err, "planning a training");
    for (size_t i = 0; i < b->n_tensors; i++) {
        const jt_blueprint_tensor *t = &b->tensor[i];
        int n = t->n_dims;
        params[i] = (jt_param){.name = t->name,
                               .grad = &nothing,
                               .count = n > 2 ? t->shape[0] : 1,
                               .rows = n > 1 ? t->shape[n - 2] : 1,
                               .cols = t->shape[n - 1]};
    }
    jt_status status = jt_config_groups(config, &groups, &n_groups, err);
    if (status == JT_OK) {
        status = jt_optim_measure(params, b->n_tensors, groups, n_groups, &size, err);
        free(groups);
    }
    plan->optimiser_bytes = size.bytes;
    plan->n_trained_params = size.trained;
    free(params);
    return status;
}

static void plan_data(const jt_config *config, const jt_data *data, jt_train_plan *plan)
{
    const jt_config_train *c = &config->train;
    plan->steps = c->steps;
    plan->tokens_per_step =
        (uint64_t)c->batch * (uint64_t)c->accumulate * (uint64_t)config->data.seq_len;
    plan->tokens = plan->tokens_per_step * (uint64_t)c->steps;
    plan->epoch_tokens = jt_data_epoch_tokens(data);
    plan->data_bytes = jt_data_bytes(data);
}

static jt_status plan_model(const jt_config *config, const jt_sizes *sizes,
                            jt_train_plan *plan, jt_err *err)
{
    const double usual_share = 0.5;
    jt_blueprint b;
    JT_TRY(jt_blueprint_new(&b, sizes, 0.0f, err));
    plan->n_params = jt_blueprint_params(&b);
    plan->n_active_params = jt_blueprint_active(&b);
    plan->flops_per_token = flops_per_token(&b, config->data.seq_len);
    plan->weight_bytes = plan->gradient_bytes = plan->n_params * sizeof(float);
    plan->activation_bytes = jt_plan_activation_bytes(&b.sizes, config);
    jt_status status = plan_optimiser(config, &b, plan, err);
    jt_blueprint_free(&b);
    JT_TRY(status);
    plan->total_bytes = plan->weight_bytes + plan->gradient_bytes +
                        plan->optimiser_bytes + plan->activation_bytes +
                        plan->data_bytes;
    JT_TRY(measure_peak(&config->train, &plan->peak_flops, err));
    plan->seconds =
        (double)plan->tokens * plan->flops_per_token / (plan->peak_flops * usual_share);
    return JT_OK;
}

/* A forward pass and half of the backward one go through the model; the adapter is
 * small beside it. */
static jt_status plan_tuning(const jt_config *config, const jt_model *model,
                             jt_tuning *tuning, jt_train_plan *plan, jt_err *err)
{
    const double usual_share = 0.5;
    jt_sizes sizes = jt_sizes_of(model);
    jt_variables v;
    jt_model_info info;
    jt_optim_group *groups;
    jt_optim_size size = {0};
    size_t n_groups;
    jt_model_describe(model, &info);
    JT_TRY(jt_tuning_variables(tuning, &v, err));
    jt_status status = jt_config_groups(config, &groups, &n_groups, err);
    if (status == JT_OK) {
        status = jt_optim_measure(v.list, v.count, groups, n_groups, &size, err);
        free(groups);
    }
    plan->n_params = info.n_params;
    plan->n_active_params = info.n_active_params;
    plan->n_trained_params = size.trained;
    plan->weight_bytes = info.file_bytes + v.values * sizeof(float);
    plan->gradient_bytes = v.values * sizeof(float);
    plan->optimiser_bytes = size.bytes;
    plan->activation_bytes = jt_plan_activation_bytes(&sizes, config);
    plan->total_bytes = plan->weight_bytes + plan->gradient_bytes +
                        plan->optimiser_bytes + plan->activation_bytes +
                        plan->data_bytes;
    plan->flops_per_token = 4.0 * (double)info.n_active_params;
    jt_variables_free(&v);
    JT_TRY(status);
    JT_TRY(measure_peak(&config->train, &plan->peak_flops, err));
    plan->seconds =
        (double)plan->tokens * plan->flops_per_token / (plan->peak_flops * usual_share);
    return JT_OK;
}

static jt_status plan_adapter(const jt_config *config, const jt_model *model,
                              jt_train_plan *plan, jt_err *err)
{
    jt_context ctx;
    jt_tuning *tuning;
    JT_TRY(jt_model_trains(model, err));
    JT_TRY(jt_context_init(&ctx, config->train.threads, NULL, err));
    jt_status status = jt_tuning_new(&tuning, config, model, &ctx, err);
    if (status == JT_OK) {
        status = plan_tuning(config, model, tuning, plan, err);
        jt_tuning_free(tuning);
    }
    jt_context_free(&ctx);
    return status;
}

static jt_status dry_run(const jt_config *config, const jt_train_options *options,
                         jt_train_plan *plan, jt_err *err)
{
    jt_start_point start;
    jt_sizes sizes;
    jt_data *data = NULL;
    JT_TRY(jt_start_open(&start, config, NULL, err));
    jt_status status = jt_start_sizes(&start, config, &sizes, err);
    if (status == JT_OK)
        status = jt_config_data_open(&data, config, start.tok, (size_t)sizes.n_vocab,
                                     &options->progress, err);
    if (status == JT_OK) {
        plan_data(config, data, plan);
        status = jt_is_tuning(config) ? plan_adapter(config, start.model, plan, err)
                                      : plan_model(config, &sizes, plan, err);
    }
    jt_data_free(data);
    jt_start_close(&start);
    return status;
}

jt_status jt_train_dry_run(const jt_train_options *options, jt_train_plan *plan,
                           jt_err *err)
{
    jt_config config;
    *plan = (jt_train_plan){0};
    JT_TRY(jt_config_open(&config, options->config, options->json, options->settings,
                          options->n_settings, err));
    jt_status status = dry_run(&config, options, plan, err);
    jt_config_free(&config);
    return status;
}
