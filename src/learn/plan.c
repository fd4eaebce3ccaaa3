/* What a run will cost, before it begins. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/process.h"
#include "learn/peak.h"
#include "learn/train.h"
#include "model/parameters.h"

/* ---- arithmetic ---- */

/* Two operations a weight and token forward, twice that backward; attention looks at
 * half a sequence on average. Recomputing is not counted. */
static double flops_per_token(uint64_t active, double looks, int seq_len)
{
    return 6.0 * ((double)active + 0.5 * seq_len * looks);
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

/* What the optimiser will have, from the names and shapes of the parameters. */
static jt_status plan_optimiser(const jt_config *config, jt_param *params, size_t count,
                                jt_train_plan *plan, jt_err *err)
{
    static float nothing;
    jt_optim_group *groups;
    jt_optim_size size = {0};
    size_t n_groups;
    JT_TRY(jt_config_groups(config, &groups, &n_groups, err));
    for (size_t i = 0; i < count; i++)
        params[i].grad = &nothing;
    jt_status status = jt_optim_measure(params, count, groups, n_groups, &size, err);
    free(groups);
    plan->optimiser_bytes = size.bytes;
    plan->n_trained_params = size.trained;
    return status;
}

/* Of a model that is there. */
static jt_status plan_loaded(const jt_config *config, jt_model *model,
                             jt_train_plan *plan, jt_err *err)
{
    jt_variables v;
    jt_model_info info;
    jt_model_describe(model, &info);
    JT_TRY(jt_variables_list(&v, model, err));
    plan->n_params = v.values;
    plan->n_active_params = info.n_active_params;
    jt_status status = plan_optimiser(config, v.list, v.count, plan, err);
    jt_variables_free(&v);
    return status;
}

/* Of one that its sizes describe. */
static jt_status plan_fresh(const jt_config *config, const jt_sizes *sizes,
                            jt_train_plan *plan, jt_err *err)
{
    jt_blueprint b;
    JT_TRY(jt_blueprint_new(&b, sizes, 0.0f, err));
    plan->n_params = jt_blueprint_params(&b);
    plan->n_active_params = jt_blueprint_active(&b);
    jt_param *params = jt_calloc(b.n_tensors, sizeof *params);
    for (size_t i = 0; params && i < b.n_tensors; i++) {
        const jt_blueprint_tensor *t = &b.tensor[i];
        int n = t->n_dims;
        params[i] = (jt_param){.name = t->name,
                               .count = n > 2 ? t->shape[0] : 1,
                               .rows = n > 1 ? t->shape[n - 2] : 1,
                               .cols = t->shape[n - 1]};
    }
    jt_status status = params ? plan_optimiser(config, params, b.n_tensors, plan, err)
                              : jt_fail_memory(err, "planning a training");
    free(params);
    jt_blueprint_free(&b);
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
                            jt_model *model, jt_train_plan *plan, jt_err *err)
{
    const double usual_share = 0.5;
    if (model)
        JT_TRY(jt_model_trains(model, err));
    JT_TRY(model ? plan_loaded(config, model, plan, err)
                 : plan_fresh(config, sizes, plan, err));
    plan->flops_per_token = flops_per_token(
        plan->n_active_params, jt_plan_looks(sizes, model), config->data.seq_len);
    plan->weight_bytes = plan->gradient_bytes = plan->n_params * sizeof(float);
    JT_TRY(jt_plan_activation_bytes(&plan->activation_bytes, sizes, model, NULL, config,
                                    err));
    plan->total_bytes = plan->weight_bytes + plan->gradient_bytes +
                        plan->optimiser_bytes + plan->activation_bytes +
                        plan->data_bytes;
    JT_TRY(measure_peak(&config->train, &plan->peak_flops, err));
    plan->seconds =
        (double)plan->tokens * plan->flops_per_token / (plan->peak_flops * usual_share);
    return JT_OK;
}

jt_status jt_plan_tuning(jt_train_plan *plan, const jt_config *config,
                         const jt_sizes *sizes, const jt_model *model,
                         jt_tuning *tuning, jt_err *err)
{
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
    plan->weight_bytes = info.file_bytes + v.values * sizeof(float) +
                         2 * tuning->part_values * sizeof(float);
    if (tuning
            ->mosa) /* the part at work, with gradients, and whose entries are whose */
        plan->weight_bytes += jt_mosa_values(tuning->mosa) * (2 * sizeof(float) + 1);
    plan->gradient_bytes = v.values * sizeof(float);
    plan->optimiser_bytes = size.bytes;
    jt_variables_free(&v);
    JT_TRY(status);
    return jt_plan_activation_bytes(&plan->activation_bytes, sizes, model,
                                    tuning->adapter, config, err);
}

/* What the store leaves in memory, instead of the whole file. */
static jt_status plan_store(const jt_config *config, const jt_train_options *options,
                            const jt_model *model, jt_train_plan *plan, jt_err *err)
{
    jt_cached *cached;
    plan->store.process = jt_process_memory();
    JT_TRY(jt_stored_divide(&cached, &plan->store, model, config, options, plan, err));
    jt_cached_free(cached);
    plan->weight_bytes = plan->store.process;
    plan->weight_bytes -= plan->data_bytes < plan->weight_bytes ? plan->data_bytes : 0;
    plan->expert_bytes = (uint64_t)plan->store.slots * plan->store.slot;
    return JT_OK;
}

/* A forward pass and half of the backward one go through the model; the adapter is
 * small beside it. */
static jt_status plan_at_work(const jt_config *config, const jt_train_options *options,
                              const jt_sizes *sizes, const jt_model *model,
                              jt_tuning *tuning, jt_train_plan *plan, jt_err *err)
{
    const double usual_share = 0.5;
    JT_TRY(jt_plan_tuning(plan, config, sizes, model, tuning, err));
    if (jt_is_stored(options))
        JT_TRY(plan_store(config, options, model, plan, err));
    plan->flops_per_token = 4.0 * (double)plan->n_active_params;
    plan->total_bytes = plan->weight_bytes + plan->expert_bytes + plan->gradient_bytes +
                        plan->optimiser_bytes + plan->activation_bytes +
                        plan->data_bytes;
    JT_TRY(measure_peak(&config->train, &plan->peak_flops, err));
    plan->seconds =
        (double)plan->tokens * plan->flops_per_token / (plan->peak_flops * usual_share);
    return JT_OK;
}

static jt_status plan_adapter(const jt_config *config, const jt_train_options *options,
                              const jt_sizes *sizes, const jt_model *model,
                              jt_train_plan *plan, jt_err *err)
{
    jt_context ctx;
    jt_tuning *tuning;
    JT_TRY(jt_model_trains(model, err));
    JT_TRY(jt_context_init(&ctx, config->train.threads, NULL, err));
    jt_status status = jt_tuning_new(&tuning, config, model, &ctx, err);
    if (status == JT_OK) {
        status = plan_at_work(config, options, sizes, model, tuning, plan, err);
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
    JT_TRY(jt_stored_check(config, options, err));
    JT_TRY(jt_start_open(&start, config, NULL, jt_is_stored(options), err));
    jt_status status = jt_start_sizes(&start, config, &sizes, err);
    if (status == JT_OK)
        status = jt_config_data_open(&data, config, start.tok, (size_t)sizes.n_vocab,
                                     &options->progress, err);
    if (status == JT_OK) {
        plan_data(config, data, plan);
        status = jt_is_tuning(config)
                     ? plan_adapter(config, options, &sizes, start.model, plan, err)
                     : plan_model(config, &sizes, start.model, plan, err);
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
