/* Setting up a trainer, and taking it down. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "learn/train.h"

/* ---- the model ---- */

static jt_status find_router(const jt_config_router *c, jt_router *r, jt_err *err)
{
    bool random = strcmp(c->score, "random") == 0;
    r->scorer = jt_scorer_find(random ? "linear" : c->score);
    r->selector = jt_selector_find(c->select);
    if (!r->scorer)
        return jt_fail(err, JT_E_ARG, "router.score: '%s' is not known", c->score);
    if (!r->selector)
        return jt_fail(err, JT_E_ARG, "router.select: '%s' is not known", c->select);
    r->gating = strcmp(c->gating, "sigmoid") ? JT_GATE_SOFTMAX : JT_GATE_SIGMOID;
    r->gate_after = c->gate_after;
    r->renormalise = c->renormalise;
    r->scale = (float)c->scale;
    r->temperature = (float)c->temperature;
    r->n_groups = c->groups;
    r->groups_used = c->groups_used;
    r->top_p = (float)c->top_p;
    r->n_null = c->null_experts;
    return JT_OK;
}

jt_status jt_config_sizes(const jt_config *config, int n_vocab, jt_sizes *out,
                          jt_err *err)
{
    const jt_config_model *m = &config->model;
    *out = (jt_sizes){
        .family = m->family,
        .name = m->name,
        .n_layers = m->layers,
        .n_dense_layers = m->experts ? m->dense_layers : 0,
        .d_model = m->width,
        .n_heads = m->heads,
        .n_kv_heads = m->kv_heads ? m->kv_heads : m->heads,
        .head_dim = m->head_dim ? m->head_dim : m->width / (m->heads ? m->heads : 1),
        .dense_width = m->ffn_width,
        .n_experts = m->experts,
        .n_experts_used = m->experts_used,
        .expert_width = m->expert_width,
        .shared_width = m->shared_width,
        .n_ctx = m->context ? m->context : config->data.seq_len,
        .n_vocab = m->vocab ? m->vocab : n_vocab,
        .rope_base = (float)m->rope_base,
        .norm_eps = (float)m->norm_eps,
        .tied = m->tied,
        .selection_bias =
            config->balance.bias_rate > 0.0 || config->balance.bip_rounds > 0,
    };
    return find_router(&config->router, &out->router, err);
}

static jt_status create_fresh(jt_trainer *t, const jt_gguf *vocabulary, int n_vocab,
                              jt_err *err)
{
    jt_sizes sizes;
    jt_blueprint blueprint;
    JT_TRY(jt_config_sizes(t->config, n_vocab, &sizes, err));
    JT_TRY(jt_blueprint_new(&blueprint, &sizes, (float)t->config->model.init_std, err));
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

/* ---- the data ---- */

static jt_status open_data(jt_trainer *t, const jt_tokenizer *tok, size_t n_vocab,
                           jt_err *err)
{
    const jt_config_data *c = &t->config->data;
    jt_data_source *sources = jt_calloc(c->n_sources, sizeof *sources);
    if (!sources)
        return jt_fail_memory(err, "opening the data");
    for (size_t i = 0; i < c->n_sources; i++)
        sources[i] = (jt_data_source){.path = c->source[i].path,
                                      .domain = c->source[i].domain,
                                      .weight = c->source[i].weight,
                                      .separator = c->source[i].separator};
    int64_t seed = c->seed >= 0 ? c->seed : t->config->train.seed;
    jt_data_options options = {
        .seq_len = (size_t)c->seq_len,
        .held_out = c->held_out,
        .seed = (uint64_t)seed,
        .chat = jt_chat_format_named(c->chat),
        .progress = t->options->progress,
    };
    jt_status status =
        options.chat
            ? jt_data_open(&t->data, sources, c->n_sources, tok, n_vocab, &options, err)
            : jt_fail(err, JT_E_ARG, "data.chat: '%s' is not known", c->chat);
    free(sources);
    return status;
}

/* ---- the checkpoint ---- */

static jt_status prepare_folder(jt_trainer *t, jt_err *err)
{
    const char *dir = t->config->output.dir;
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return jt_fail(err, JT_E_IO, "cannot make the folder '%s': %s", dir,
                       strerror(errno));
    size_t room = strlen(dir) + sizeof "/checkpoint.gguf";
    t->checkpoint = jt_alloc(room, 1);
    if (!t->checkpoint)
        return jt_fail_memory(err, "starting a training");
    snprintf(t->checkpoint, room, "%s/checkpoint.gguf", dir);
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

/* Data first, so that nothing is written when it is no good. */
static jt_status begin_with(jt_trainer *t, const jt_gguf *vocabulary,
                            const jt_tokenizer *tok, const jt_model *from, jt_err *err)
{
    int n_vocab = t->config->model.vocab;
    if (from)
        n_vocab = from->params.n_vocab;
    else if (!n_vocab && tok)
        n_vocab = (int)jt_vocab_size(tok);
    if (!n_vocab)
        return jt_fail(err, JT_E_ARG,
                       "model.vocab: say how many tokens there are, or give a "
                       "data.tokenizer");
    JT_TRY(open_data(t, tok, (size_t)n_vocab, err));
    if (t->options->resume)
        return JT_OK;
    return from ? import_model(t, from, err)
                : create_fresh(t, vocabulary, n_vocab, err);
}

static jt_status begin(jt_trainer *t, jt_err *err)
{
    const char *init = t->config->model.init, *path = t->config->data.tokenizer;
    if (t->options->resume)
        init = t->checkpoint;
    jt_status status;
    if (*init) {
        jt_model *from;
        JT_TRY(jt_model_load(&from, init, err));
        status = begin_with(t, NULL, jt_model_tokenizer(from), from, err);
        jt_model_free(from);
        return status;
    }
    if (!*path)
        return begin_with(t, NULL, NULL, NULL, err);
    jt_gguf *vocabulary;
    jt_tokenizer *tok = NULL;
    JT_TRY(jt_gguf_open(&vocabulary, path, err));
    status = jt_tokenizer_new(&tok, vocabulary, err);
    if (status == JT_OK)
        status = begin_with(t, vocabulary, tok, NULL, err);
    else
        jt_fail_within(err, status, "'%s'", path);
    jt_tokenizer_free(tok);
    jt_gguf_close(vocabulary);
    return status;
}

/* ---- what trains ---- */

/* Groups in the order in which they are tried: what never trains, those of the
 * configuration, vectors (without weight decay), all others. */
static jt_status make_optim(jt_trainer *t, jt_err *err)
{
    enum { OURS = 5 };
    const jt_config_optim *c = &t->config->optim;
    jt_optim_group usual = {.pattern = "*",
                            .lr_scale = 1.0f,
                            .weight_decay = (float)c->weight_decay,
                            .beta1 = (float)c->beta1,
                            .beta2 = (float)c->beta2,
                            .eps = (float)c->eps,
                            .momentum = (float)c->momentum,
                            .nesterov = c->nesterov};
    jt_optim_kind_named(c->kind, &usual.kind);
    jt_optim_group *groups = jt_alloc(c->n_groups + OURS, sizeof *groups);
    if (!groups)
        return jt_fail_memory(err, "making an optimiser");
    size_t n = 0;
    groups[n++] = (jt_optim_group){.pattern = "*exp_probs_b.bias", .frozen = true};
    if (strcmp(t->config->router.score, "random") == 0)
        groups[n++] = (jt_optim_group){.pattern = "*ffn_gate_inp.*", .frozen = true};
    for (size_t i = 0; i < c->n_groups; i++) {
        const jt_config_group *g = &c->group[i];
        groups[n] = usual;
        groups[n].pattern = g->pattern;
        groups[n].frozen = g->frozen;
        groups[n].lr_scale = (float)g->lr_scale;
        if (g->weight_decay >= 0.0)
            groups[n].weight_decay = (float)g->weight_decay;
        if (*g->kind)
            jt_optim_kind_named(g->kind, &groups[n].kind);
        n++;
    }
    groups[n] = usual;
    groups[n].weight_decay = 0.0f;
    groups[n++].pattern = "*norm.weight";
    groups[n] = usual;
    groups[n].weight_decay = 0.0f;
    groups[n++].pattern = "*.bias";
    groups[n++] = usual;
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
static void set_routers(jt_trainer *t)
{
    const jt_config_router *c = &t->config->router;
    for (int i = 0; i < t->model->params.n_layers; i++) {
        jt_layer *layer = &t->model->layers[i];
        if (!layer->is_mixture)
            continue;
        layer->mixture.router.jitter = (float)c->jitter;
        layer->mixture.router.noise = (float)c->noise;
        layer->mixture.router.capacity = (float)c->capacity;
        layer->mixture.router.drop_position = strcmp(c->drop, "position") == 0;
    }
}

static jt_status make_balance(jt_trainer *t, jt_err *err)
{
    const jt_config_balance *c = &t->config->balance;
    jt_balance_options options = {.loss = (float)c->loss,
                                  .micro_loss = (float)c->micro_loss,
                                  .null_mean = c->null_mean,
                                  .z_loss = (float)c->z_loss,
                                  .bias_rate = (float)c->bias_rate,
                                  .bip_rounds = c->bip_rounds,
                                  .seq_len = (size_t)t->config->data.seq_len};
    jt_balance_scope_named(c->scope, &options.scope);
    JT_TRY(jt_balance_new(&t->balance, t->model, &options, err));
    return jt_balance_attach(t->balance, &t->hooks, err);
}

/* Keys and values of a micro-batch, for each layer; with activation checkpointing the
 * layers share them. */
static jt_status make_kv(jt_trainer *t, jt_err *err)
{
    const jt_params *p = &t->model->params;
    size_t tokens = t->batch.n_seqs * t->batch.seq_len, layers = (size_t)p->n_layers;
    size_t k = tokens * (size_t)(p->n_kv_heads * p->k_dim);
    size_t v = tokens * (size_t)(p->n_kv_heads * p->v_dim);
    size_t kept = t->config->train.checkpoint_activations ? 1 : layers;
    t->kv = jt_alloc(layers, sizeof *t->kv);
    t->kv_memory = jt_alloc(kept * (k + v), sizeof *t->kv_memory);
    if (!t->kv || !t->kv_memory)
        return jt_fail_memory(err, "starting a training");
    for (size_t i = 0; i < layers; i++) {
        float *at = t->kv_memory + (kept == 1 ? 0 : i) * (k + v);
        t->kv[i] = (jt_kv_layer){at, at + k, JT_F32, tokens};
    }
    return JT_OK;
}

static jt_status set_up(jt_trainer *t, jt_err *err)
{
    const jt_config_train *c = &t->config->train;
    JT_TRY(prepare_folder(t, err));
    JT_TRY(jt_context_init(&t->ctx, c->threads, *c->cpu ? c->cpu : NULL, err));
    JT_TRY(begin(t, err));
    JT_TRY(jt_model_load(&t->model, t->checkpoint, err));
    JT_TRY(jt_variables_take(&t->variables, t->model, err));
    JT_TRY(make_optim(t, err));
    JT_TRY(jt_checkpoint_restore(t->model, t->optim, err));
    t->made = jt_checkpoint_made(t->model);
    make_schedule(t);
    set_routers(t);
    JT_TRY(make_balance(t, err));
    JT_TRY(jt_batch_new(&t->batch, (size_t)c->batch, (size_t)t->config->data.seq_len,
                        err));
    return make_kv(t, err);
}

jt_status jt_trainer_new(jt_trainer **out, const jt_config *config,
                         const jt_train_options *options, jt_err *err)
{
    jt_trainer *t = jt_calloc(1, sizeof *t);
    if (!t)
        return jt_fail_memory(err, "starting a training");
    t->config = config;
    t->options = options;
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
    free(t->kv);
    free(t->kv_memory);
    jt_batch_free(&t->batch);
    jt_balance_free(t->balance);
    jt_optim_free(t->optim);
    jt_variables_free(&t->variables);
    jt_model_free(t->model);
    jt_data_free(t->data);
    jt_context_free(&t->ctx);
    free(t->checkpoint);
    free(t);
}

jt_status jt_trainer_save(jt_trainer *t, jt_err *err)
{
    return jt_checkpoint_save(t->checkpoint, t->model, &t->variables, t->optim,
                              &t->made, err);
}

jt_status jt_trainer_export(jt_trainer *t, jt_err *err)
{
    jt_dtype dtype;
    const char *dir = t->config->output.dir;
    size_t room = strlen(dir) + sizeof "/model.gguf";
    if (!jt_dtype_from_name(t->config->output.type, &dtype))
        return jt_fail(err, JT_E_ARG, "output.type: unknown type '%s'",
                       t->config->output.type);
    char *path = jt_alloc(room, 1);
    if (!path)
        return jt_fail_memory(err, "writing a model");
    snprintf(path, room, "%s/model.gguf", dir);
    jt_status status = jt_checkpoint_export(path, t->model, &t->variables, dtype, err);
    free(path);
    return status;
}
