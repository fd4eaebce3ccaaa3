/* From a configuration to what the parts of a trainer take. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "learn/train.h"

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
    r->ahead = c->ahead;
    r->scale = (float)c->scale;
    r->temperature = (float)c->temperature;
    r->n_groups = c->groups;
    r->groups_used = c->groups_used;
    r->top_p = (float)c->top_p;
    r->n_null = c->null_experts;
    return JT_OK;
}

static jt_status fresh_sizes(const jt_config *config, int n_vocab, jt_sizes *out,
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

/* ---- where a run begins ---- */

static jt_status open_vocabulary(jt_start_point *start, const char *path, jt_err *err)
{
    JT_TRY(jt_gguf_open(&start->vocabulary, path, err));
    jt_status status = jt_tokenizer_new(&start->own_tok, start->vocabulary, err);
    if (status != JT_OK)
        return jt_fail_within(err, status, "'%s'", path);
    start->tok = start->own_tok;
    return JT_OK;
}

jt_status jt_start_open(jt_start_point *out, const jt_config *config,
                        const char *checkpoint, bool apart, jt_err *err)
{
    const char *init = checkpoint ? checkpoint : config->model.init;
    *out = (jt_start_point){0};
    if (*init) {
        JT_TRY(apart ? jt_model_load_apart(&out->model, init, err)
                     : jt_model_load(&out->model, init, err));
        out->tok = jt_model_tokenizer(out->model);
        return JT_OK;
    }
    if (!*config->data.tokenizer)
        return JT_OK;
    jt_status status = open_vocabulary(out, config->data.tokenizer, err);
    if (status != JT_OK)
        jt_start_close(out);
    return status;
}

void jt_start_close(jt_start_point *start)
{
    jt_model_free(start->model);
    jt_tokenizer_free(start->own_tok);
    jt_gguf_close(start->vocabulary);
    *start = (jt_start_point){0};
}

jt_status jt_start_sizes(const jt_start_point *start, const jt_config *config,
                         jt_sizes *out, jt_err *err)
{
    int n_vocab = config->model.vocab;
    if (start->model) {
        *out = jt_sizes_of(start->model);
        return JT_OK;
    }
    if (!n_vocab && start->tok)
        n_vocab = (int)jt_vocab_size(start->tok);
    if (!n_vocab)
        return jt_fail(err, JT_E_ARG,
                       "model.vocab: say how many tokens there are, or give a "
                       "data.tokenizer");
    return fresh_sizes(config, n_vocab, out, err);
}

/* ---- the optimiser ---- */

/* [optim] as one group. */
static jt_optim_group usual_group(const jt_config_optim *c)
{
    jt_optim_group usual = {.pattern = "*",
                            .lr_scale = 1.0f,
                            .weight_decay = (float)c->weight_decay,
                            .beta1 = (float)c->beta1,
                            .beta2 = (float)c->beta2,
                            .eps = (float)c->eps,
                            .momentum = (float)c->momentum,
                            .nesterov = c->nesterov};
    jt_optim_kind_named(c->kind, &usual.kind);
    return usual;
}

static jt_optim_group own_group(const jt_config_optim *c, const jt_config_group *g)
{
    jt_optim_group group = usual_group(c);
    group.pattern = g->pattern;
    group.frozen = g->frozen;
    group.lr_scale = (float)g->lr_scale;
    if (g->weight_decay >= 0.0)
        group.weight_decay = (float)g->weight_decay;
    if (*g->kind)
        jt_optim_kind_named(g->kind, &group.kind);
    return group;
}

jt_status jt_config_groups(const jt_config *config, jt_optim_group **out, size_t *count,
                           jt_err *err)
{
    static const char *const vectors[] = {"*norm.weight", "*.bias", "*.ssm_a",
                                          "*.ssm_d", "*.dora_m"};
    enum { VECTORS = sizeof vectors / sizeof *vectors, OURS = VECTORS + 3 };
    const jt_config_optim *c = &config->optim;
    jt_optim_group *groups = jt_alloc(c->n_groups + OURS, sizeof *groups);
    size_t n = 0;
    if (!groups)
        return jt_fail_memory(err, "making an optimiser");
    groups[n++] = (jt_optim_group){.pattern = "*exp_probs_b.bias", .frozen = true};
    if (strcmp(config->router.score, "random") == 0)
        groups[n++] = (jt_optim_group){.pattern = "*ffn_gate_inp.*", .frozen = true};
    for (size_t i = 0; i < c->n_groups; i++)
        groups[n++] = own_group(c, &c->group[i]);
    for (size_t i = 0; i < VECTORS; i++) {
        groups[n] = usual_group(c);
        groups[n].weight_decay = 0.0f;
        groups[n++].pattern = vectors[i];
    }
    groups[n++] = usual_group(c);
    *out = groups;
    *count = n;
    return JT_OK;
}

/* ---- the data ---- */

static jt_status open_sources(jt_data **out, const jt_config *config,
                              const jt_data_source *sources, const jt_tokenizer *tok,
                              size_t n_vocab, const jt_progress *progress, jt_err *err)
{
    const jt_config_data *c = &config->data;
    jt_data_options options = {
        .seq_len = (size_t)c->seq_len,
        .held_out = c->held_out,
        .most = (size_t)c->most,
        .front = jt_tuning_front(config),
        .seed = (uint64_t)(c->seed >= 0 ? c->seed : config->train.seed),
        .alone = jt_is_tuning(config) && jt_tuning_by_task(config),
        .chat = jt_chat_format_named(c->chat),
        .progress = *progress,
    };
    if (!options.chat)
        return jt_fail(err, JT_E_ARG, "data.chat: '%s' is not known", c->chat);
    return jt_data_open(out, sources, c->n_sources, tok, n_vocab, &options, err);
}

jt_status jt_config_data_open(jt_data **out, const jt_config *config,
                              const jt_tokenizer *tok, size_t n_vocab,
                              const jt_progress *progress, jt_err *err)
{
    const jt_config_data *c = &config->data;
    jt_data_source *sources = jt_calloc(c->n_sources, sizeof *sources);
    if (!sources)
        return jt_fail_memory(err, "opening the data");
    for (size_t i = 0; i < c->n_sources; i++)
        sources[i] = (jt_data_source){.path = c->source[i].path,
                                      .domain = c->source[i].domain,
                                      .weight = c->source[i].weight,
                                      .separator = c->source[i].separator};
    jt_status status = open_sources(out, config, sources, tok, n_vocab, progress, err);
    free(sources);
    return status;
}
