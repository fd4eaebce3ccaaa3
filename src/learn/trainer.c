/* Setting up a trainer, and taking it down. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/process.h"
#include "learn/shira_mask.h"
#include "learn/train.h"
#include "model/parameters.h"
#include "store/mapped.h"

/* ---- the model ---- */

static jt_status create_fresh(jt_trainer *t, const jt_gguf *vocabulary,
                              const jt_sizes *sizes, jt_err *err)
{
    jt_blueprint blueprint;
    JT_TRY(jt_blueprint_new(&blueprint, sizes, (float)t->config->model.init_std, err));
    jt_status status = jt_checkpoint_create(t->checkpoint, &blueprint, vocabulary,
                                            (uint64_t)t->config->train.seed, err);
    jt_blueprint_free(&blueprint);
    return status;
}

static jt_status import_model(jt_trainer *t, const jt_model *from, jt_err *err)
{
    int n_null = t->config->router.null_experts;
    for (int i = 0; i < from->params.n_layers && n_null; i++) {
        const jt_layer *layer = &from->layers[i];
        if (layer->is_mixture && layer->mixture.router.n_null)
            n_null = 0; /* it has its own */
    }
    return jt_checkpoint_import(t->checkpoint, from, n_null,
                                t->config->model.experts_used, err);
}

/* ---- the checkpoint ---- */

char *jt_trainer_path(const jt_trainer *t, const char *name)
{
    const char *dir = t->config->output.dir;
    size_t room = strlen(dir) + strlen(name) + 2;
    char *path = jt_alloc(room, 1);
    if (path)
        snprintf(path, room, "%s/%s", dir, name);
    return path;
}

static jt_status find_checkpoint(jt_trainer *t, jt_err *err)
{
    t->checkpoint = jt_trainer_path(t, "checkpoint.gguf");
    if (!t->checkpoint)
        return jt_fail_memory(err, "starting a training");
    bool there = access(t->checkpoint, F_OK) == 0;
    if (there && !t->options->resume)
        return jt_fail(err, JT_E_ARG,
                       "'%s' is there already: go on from it with --resume, or choose "
                       "another output.dir",
                       t->checkpoint);
    if (!there && t->options->resume)
        return jt_fail(err, JT_E_IO, "there is no '%s' to resume from", t->checkpoint);
    return JT_OK;
}

static jt_status make_folder(const jt_trainer *t, jt_err *err)
{
    const char *dir = t->config->output.dir;
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return jt_fail(err, JT_E_IO, "cannot make the folder '%s': %s", dir,
                       strerror(errno));
    return JT_OK;
}

/* Data first, so that nothing is written when it is no good. */
static jt_status begin_at(jt_trainer *t, const jt_start_point *start, jt_err *err)
{
    jt_sizes sizes;
    JT_TRY(jt_start_sizes(start, t->config, &sizes, err));
    JT_TRY(jt_config_data_open(&t->data, t->config, start->tok, (size_t)sizes.n_vocab,
                               &t->options->progress, err));
    if (t->options->resume)
        return JT_OK;
    JT_TRY(make_folder(t, err));
    if (jt_is_tuning(t->config))
        return JT_OK;
    return start->model ? import_model(t, start->model, err)
                        : create_fresh(t, start->vocabulary, &sizes, err);
}

static jt_status begin(jt_trainer *t, jt_err *err)
{
    jt_start_point start;
    bool resumes = t->options->resume && !jt_is_tuning(t->config);
    JT_TRY(
        jt_start_open(&start, t->config, resumes ? t->checkpoint : NULL, false, err));
    jt_status status = begin_at(t, &start, err);
    jt_start_close(&start);
    return status;
}

/* ---- what trains ---- */

/* Before memory is taken for all that the plan counts. */
static jt_status open_store(jt_trainer *t, jt_err *err)
{
    jt_sizes sizes = jt_sizes_of(t->model);
    jt_train_plan plan = {0};
    if (!jt_is_stored(t->options))
        return JT_OK;
    t->budget.process = jt_process_memory();
    JT_TRY(jt_plan_tuning(&plan, t->config, &sizes, t->model, t->tuning, err));
    JT_TRY(jt_stored_divide(&t->cached, &t->budget, t->model, t->config, t->options,
                            &plan, err));
    JT_TRY(jt_cached_open(t->cached, t->budget.slots, t->ctx.pool, err));
    t->store = jt_cached_store(t->cached);
    t->ctx.tender = jt_cached_tender(t->cached);
    return JT_OK;
}

/* The adapter's parameters, or all of the model. */
static jt_status take_parameters(jt_trainer *t, jt_err *err)
{
    const jt_config *c = t->config;
    bool tuning = jt_is_tuning(c);
    const char *path = tuning ? c->model.init : t->checkpoint;
    JT_TRY(jt_is_stored(t->options) ? jt_model_load_apart(&t->model, path, err)
                                    : jt_model_load(&t->model, path, err));
    JT_TRY(jt_model_trains(t->model, err));
    if (!tuning)
        return jt_variables_take(&t->variables, t->model, err);
    JT_TRY(jt_tuning_new(&t->tuning, c, t->model, &t->ctx, err));
    JT_TRY(jt_tuning_label(t->tuning, t->data, err));
    JT_TRY(open_store(t, err));
    return jt_tuning_variables(t->tuning, &t->variables, err);
}

/* What the checkpoint has beside the model. */
static jt_status restore(jt_trainer *t, jt_err *err)
{
    jt_gguf *file;
    if (!t->tuning) {
        t->made = jt_checkpoint_made(jt_model_file(t->model));
        return jt_checkpoint_restore(jt_model_file(t->model), t->optim, err);
    }
    if (!t->options->resume)
        return JT_OK;
    JT_TRY(jt_gguf_open(&file, t->checkpoint, err));
    t->made = jt_checkpoint_made(file);
    jt_status status = jt_checkpoint_read_variables(file, &t->variables, err);
    if (status == JT_OK)
        status = jt_checkpoint_restore(file, t->optim, err);
    jt_gguf_close(file);
    return status;
}

static jt_status make_optim(jt_trainer *t, jt_err *err)
{
    jt_optim_group *groups;
    size_t n;
    JT_TRY(jt_config_groups(t->config, &groups, &n, err));
    jt_status status = jt_optim_new(&t->optim, t->ctx.kernels, t->variables.list,
                                    t->variables.count, groups, n, err);
    free(groups);
    return status;
}

static void make_schedule(jt_trainer *t)
{
    const jt_config_optim *c = &t->config->optim;
    t->schedule = (jt_schedule){.lr = (float)c->lr,
                                .final_lr = (float)c->final_lr,
                                .warmup_steps = c->warmup,
                                .steps = t->config->train.steps,
                                .decay_steps = c->decay_steps};
    jt_schedule_kind_named(c->schedule, &t->schedule.kind);
}

/* Router slots that only training has: the file does not keep them. */
static jt_status set_routers(jt_trainer *t, jt_err *err)
{
    const jt_config_router *c = &t->config->router;
    for (int i = 0; i < t->model->params.n_layers; i++) {
        jt_layer *layer = &t->model->layers[i];
        if (!layer->is_mixture)
            continue;
        jt_router *router = &layer->mixture.router;
        router->jitter = (float)c->jitter;
        router->noise = (float)c->noise;
        router->capacity = (float)c->capacity;
        router->drop_position = strcmp(c->drop, "position") == 0;
        JT_TRY(jt_router_check(router, err));
    }
    return JT_OK;
}

static jt_status make_balance(jt_trainer *t, jt_err *err)
{
    const jt_config_balance *c = &t->config->balance;
    const jt_mixture *const *instead = jt_tuning_mixtures(t->tuning);
    double loss = instead ? t->config->adapter.balance : c->loss;
    jt_balance_options options = {.loss = (float)loss,
                                  .instead = instead,
                                  .micro_loss = (float)c->micro_loss,
                                  .null_mean = c->null_mean,
                                  .z_loss = (float)c->z_loss,
                                  .bias_rate = (float)c->bias_rate,
                                  .bip_rounds = c->bip_rounds,
                                  .seq_len = (size_t)t->config->data.seq_len};
    jt_balance_scope_named(c->scope, &options.scope);
    JT_TRY(jt_balance_new(&t->balance, t->model, &options, err));
    JT_TRY(jt_balance_attach(t->balance, &t->hooks, err));
    if (instead)
        t->tuning->balance = t->hooks.term[t->hooks.n_terms - 1];
    return JT_OK;
}

/* One block of scratch memory from the start: pieces that do not fit together would
 * take more. What is not used of it is not touched. */
static jt_status reserve_scratch(jt_trainer *t, jt_err *err)
{
    jt_sizes sizes = jt_sizes_of(t->model);
    uint64_t bytes;
    JT_TRY(jt_plan_activation_bytes(&bytes, &sizes, t->model,
                                    t->tuning ? t->tuning->adapter : NULL, t->config,
                                    err));
    if (!jt_arena_reserve(&t->ctx.scratch, (size_t)jt_scratch_room(bytes)))
        return jt_fail(
            err, JT_E_MEMORY,
            "out of memory for the activations of a micro-batch (%zu MiB): a "
            "smaller train.batch or train.checkpoint_activations may help",
            (size_t)(bytes >> 20));
    if (t->budget.ram)
        t->ctx.scratch.limit = t->ctx.scratch.total;
    return JT_OK;
}

static jt_status set_up(jt_trainer *t, jt_err *err)
{
    const jt_config_train *c = &t->config->train;
    size_t seq_len = (size_t)t->config->data.seq_len;
    JT_TRY(jt_stored_check(t->config, t->options, err));
    JT_TRY(find_checkpoint(t, err));
    JT_TRY(jt_context_init(&t->ctx, c->threads, *c->cpu ? c->cpu : NULL, err));
    if (strcmp(c->precision, "bf16") == 0)
        t->ctx.precision = JT_PRECISION_BF16;
    JT_TRY(begin(t, err));
    JT_TRY(take_parameters(t, err));
    JT_TRY(jt_batch_new(&t->batch, (size_t)c->batch, seq_len, err));
    JT_TRY(jt_cache_init_train(&t->cache, t->model, (size_t)c->batch, seq_len,
                               c->checkpoint_activations, err));
    JT_TRY(reserve_scratch(t, err));
    JT_TRY(jt_shira_choose(t, err));
    JT_TRY(make_optim(t, err));
    JT_TRY(restore(t, err));
    make_schedule(t);
    JT_TRY(set_routers(t, err));
    return make_balance(t, err);
}

jt_status jt_trainer_new(jt_trainer **out, const jt_config *config,
                         const jt_train_options *options, jt_err *err)
{
    jt_trainer *t = jt_calloc(1, sizeof *t);
    if (!t)
        return jt_fail_memory(err, "starting a training");
    t->config = config;
    t->options = options;
    t->store = &jt_store_mapped;
    jt_status status = set_up(t, err);
    if (status != JT_OK) {
        jt_trainer_free(t);
        return status;
    }
    *out = t;
    return JT_OK;
}

void jt_trainer_free(jt_trainer *t)
{
    if (!t)
        return;
    jt_cache_free(&t->cache);
    jt_batch_free(&t->batch);
    jt_balance_free(t->balance);
    jt_optim_free(t->optim);
    jt_variables_free(&t->variables);
    jt_tuning_free(t->tuning);
    jt_cached_free(t->cached);
    jt_model_free(t->model);
    jt_data_free(t->data);
    jt_context_free(&t->ctx);
    free(t->checkpoint);
    free(t);
}

jt_status jt_trainer_save(jt_trainer *t, jt_err *err)
{
    if (t->tuning)
        return jt_checkpoint_save_variables(t->checkpoint, &t->variables, t->optim,
                                            &t->made, err);
    return jt_checkpoint_save(t->checkpoint, t->model, &t->variables, t->optim,
                              &t->made, err);
}

const char *jt_trainer_product(const jt_trainer *t)
{
    return t->tuning ? "adapter.safetensors" : "model.gguf";
}

jt_status jt_trainer_export(jt_trainer *t, jt_err *err)
{
    jt_dtype dtype;
    if (!jt_dtype_from_name(t->config->output.type, &dtype))
        return jt_fail(err, JT_E_ARG, "output.type: unknown type '%s'",
                       t->config->output.type);
    char *path = jt_trainer_path(t, jt_trainer_product(t));
    jt_tuning_begin(t->tuning, JT_ADAPTER_NO_TASK, 0); /* what is kept follows */
    if (!path)
        return jt_fail_memory(err, "writing a model");
    jt_status status =
        t->tuning
            ? jt_adapter_save(t->tuning->adapter, path, JT_ADAPTER_JUNTO, NULL, err)
            : jt_checkpoint_export(path, t->model, &t->variables, dtype, err);
    free(path);
    return status;
}
