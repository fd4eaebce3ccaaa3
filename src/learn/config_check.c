#include <string.h>

#include "junto/dtype.h"
#include "learn/chat_format.h"
#include "learn/config_impl.h"
#include "model/family.h"

#define FAIL(...) jt_fail(err, JT_E_ARG, __VA_ARGS__)

static bool is(const char *text, const char *word)
{
    return strcmp(text, word) == 0;
}

/* ---- the model ---- */

static jt_status check_attention(jt_config_model *m, jt_err *err)
{
    if (m->kv_heads == 0)
        m->kv_heads = m->heads;
    if (m->heads % m->kv_heads != 0)
        return FAIL("model.kv_heads: %d does not divide model.heads (%d)", m->kv_heads,
                    m->heads);
    if (m->head_dim == 0 && m->width % m->heads != 0)
        return FAIL("model.heads: %d does not divide model.width (%d); give "
                    "model.head_dim, or other sizes",
                    m->heads, m->width);
    if (m->head_dim == 0)
        m->head_dim = m->width / m->heads;
    if (m->head_dim % 2 != 0)
        return FAIL("model.head_dim: %d is odd; rotary positions turn pairs",
                    m->head_dim);
    return JT_OK;
}

static jt_status check_blocks(const jt_config_model *m, jt_err *err)
{
    if (m->dense_layers > m->layers)
        return FAIL("model.dense_layers: %d, but model.layers is %d", m->dense_layers,
                    m->layers);
    bool dense = m->experts == 0 || m->dense_layers > 0;
    if (dense && m->ffn_width == 0)
        return FAIL("model.ffn_width: dense layers need one");
    if (m->experts > 0 && m->experts_used > m->experts)
        return FAIL("model.experts_used: %d, but model.experts is %d", m->experts_used,
                    m->experts);
    return JT_OK;
}

/* Rows of a quantised matrix are whole blocks. */
static jt_status check_type(const jt_config_model *m, const char *type, jt_err *err)
{
    const struct {
        const char *name;
        int width;
    } rows[] = {{"width", m->width},
                {"heads * model.head_dim", m->heads * m->head_dim},
                {"ffn_width", m->ffn_width},
                {"expert_width", m->experts > 0 ? m->expert_width : 0},
                {"shared_width", m->shared_width}};
    jt_dtype dtype;
    if (!jt_dtype_from_name(type, &dtype))
        return FAIL("output.type: unknown type '%.40s'", type);
    if (!jt_dtype_is_weight(dtype) || !jt_dtype_can_quantize(dtype))
        return FAIL("output.type: matrices cannot be written as %s", type);
    int block = (int)jt_dtype_block_values(dtype);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].width % block != 0)
            return FAIL("output.type: %s needs multiples of %d, but model.%s is %d",
                        type, block, rows[i].name, rows[i].width);
    }
    return JT_OK;
}

static jt_status check_model(jt_config *c, jt_err *err)
{
    jt_config_model *m = &c->model;
    if (!is(m->family, "junto") && !jt_family_find(m->family, strlen(m->family)))
        return FAIL("model.family: unknown family '%.40s'", m->family);
    JT_TRY(check_attention(m, err));
    JT_TRY(check_blocks(m, err));
    if (m->context == 0)
        m->context = c->data.seq_len;
    if (m->context < c->data.seq_len)
        return FAIL("model.context: %d is less than data.seq_len (%d)", m->context,
                    c->data.seq_len);
    if (m->vocab == 0 && !*c->data.tokenizer)
        return FAIL("model.vocab: without data.tokenizer it must be given");
    return check_type(m, c->output.type, err);
}

/* ---- routing ---- */

static jt_status check_groups(const jt_config *c, jt_err *err)
{
    const jt_config_router *r = &c->router;
    const jt_config_model *m = &c->model;
    bool grouped = is(r->select, "grouped"), limited = is(r->select, "group_limited");
    if (!grouped && !limited)
        return r->groups ? FAIL("router.groups: without meaning for router.select = %s",
                                r->select)
                         : JT_OK;
    if (r->groups == 0 || m->experts % r->groups != 0)
        return FAIL("router.groups: %d does not divide model.experts (%d)", r->groups,
                    m->experts);
    if (grouped && m->experts_used % r->groups != 0)
        return FAIL("router.groups: %d does not divide model.experts_used (%d): each "
                    "group gives the same number",
                    r->groups, m->experts_used);
    if (limited && (r->groups_used < 1 || r->groups_used > r->groups))
        return FAIL("router.groups_used: %d, expected 1 to router.groups (%d)",
                    r->groups_used, r->groups);
    if (limited && m->experts_used > r->groups_used * (m->experts / r->groups))
        return FAIL("model.experts_used: %d, but router.groups_used groups have only "
                    "%d experts",
                    m->experts_used, r->groups_used * (m->experts / r->groups));
    return JT_OK;
}

static jt_status check_routing(const jt_config *c, jt_err *err)
{
    const jt_config_router *r = &c->router;
    const jt_config_model *m = &c->model;
    if (m->experts == 0)
        return JT_OK;
    JT_TRY(check_groups(c, err));
    if (r->ahead && c->train.checkpoint_activations)
        return FAIL("router.ahead: not with train.checkpoint_activations, which run a "
                    "layer again without the one before it");
    if (r->used_from > m->experts_used)
        return FAIL("router.used_from: %d is more than model.experts_used (%d)",
                    r->used_from, m->experts_used);
    if (r->used_from && is(r->select, "grouped"))
        return FAIL("router.used_from: with router.select = grouped the number of "
                    "experts cannot rise one by one");
    if (m->experts_used == 1 && (r->renormalise || r->gate_after) &&
        is(r->gating, "softmax") && is(r->select, "topk") && !is(r->score, "random"))
        return FAIL("router.%s: with model.experts_used = 1 every weight is 1 and the "
                    "router cannot learn; set it to false",
                    r->renormalise ? "renormalise" : "gate_after");
    return JT_OK;
}

/* ---- the rest ---- */

/* Are these token files, which need no tokenizer? */
static bool has_tokens(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot && (is(dot, ".npy") || is(dot, ".bin"));
}

static jt_status check_data(jt_config *c, jt_err *err)
{
    jt_config_data *d = &c->data;
    if (d->seed < 0)
        d->seed = c->train.seed;
    if (!jt_chat_format_named(d->chat))
        return FAIL("data.chat: unknown format '%.40s'", d->chat);
    if (d->n_sources == 0)
        return FAIL("data.source: nothing to learn from: add [[data.source]] with a "
                    "path");
    size_t weighted = 0;
    for (size_t i = 0; i < d->n_sources; i++) {
        const jt_config_source *s = &d->source[i];
        weighted += s->weight > 0;
        if (!*s->path)
            return FAIL("data.source.%zu.path: is missing", i);
        if (!*d->tokenizer && !*c->model.init && !has_tokens(s->path))
            return FAIL("data.tokenizer: is missing, and '%.200s' is text", s->path);
    }
    if (weighted != 0 && weighted != d->n_sources)
        return FAIL("data.source: give all a weight, or none");
    if ((int64_t)c->train.batch * d->seq_len > INT32_MAX)
        return FAIL("train.batch: %d sequences of %d tokens are too many",
                    c->train.batch, d->seq_len);
    return JT_OK;
}

static jt_status check_optim(jt_config *c, jt_err *err)
{
    jt_config_optim *o = &c->optim;
    int64_t steps = c->train.steps;
    if (o->final_lr < 0)
        o->final_lr = o->lr / 10;
    if (o->warmup < 0)
        o->warmup = steps / 20;
    if (o->decay_steps < 0)
        o->decay_steps = steps / 5;
    if (o->final_lr > o->lr)
        return FAIL("optim.final_lr: %g is more than optim.lr (%g)", o->final_lr,
                    o->lr);
    if (o->warmup > steps)
        return FAIL("optim.warmup: %lld, but train.steps is %lld", (long long)o->warmup,
                    (long long)steps);
    if (is(o->schedule, "wsd") && o->decay_steps > steps - o->warmup)
        return FAIL("optim.decay_steps: %lld, but after the warm-up there are %lld",
                    (long long)o->decay_steps, (long long)(steps - o->warmup));
    if (is(o->kind, "sgd") && o->nesterov && o->momentum == 0)
        return FAIL("optim.nesterov: needs optim.momentum");
    for (size_t i = 0; i < o->n_groups; i++) {
        jt_config_group *g = &o->group[i];
        if (!*g->pattern)
            return FAIL("optim.group.%zu.pattern: is missing", i);
        if (!*g->kind)
            g->kind = o->kind;
        if (g->weight_decay < 0)
            g->weight_decay = o->weight_decay;
    }
    return JT_OK;
}

/* Routers may be among what an adapter changes, but selection stays that of the model.
 */
static jt_status check_adapter(const jt_config *c, jt_err *err)
{
    if (!*c->model.init)
        return FAIL("adapter.kind: needs a model.init");
    if (c->balance.bias_rate > 0 || c->balance.bip_rounds > 0)
        return FAIL("balance.%s: not with an adapter, which leaves the model as it is",
                    c->balance.bias_rate > 0 ? "bias_rate" : "bip_rounds");
    if (c->router.null_experts)
        return FAIL("router.null_experts: not with an adapter");
    for (size_t i = 0; is(c->adapter.kind, "phi-4") && i < c->adapter.n_parts; i++) {
        if (!*c->adapter.part[i].marker)
            return FAIL("adapter.part.%zu.marker: is missing", i);
    }
    if (is(c->adapter.kind, "phi-4") && !c->adapter.n_parts)
        return FAIL("adapter.part: phi-4 needs adapters, each with a marker");
    if (is(c->adapter.kind, "p-adapter") && !*c->adapter.marker)
        return FAIL("adapter.marker: is missing: where does a prompt end?");
    if (c->adapter.choose && !is(c->adapter.kind, "k-shot"))
        return FAIL("adapter.choose: only with k-shot");
    int bits = c->adapter.bits;
    if (bits != 1 && bits != 2 && bits != 4 && bits != 8)
        return FAIL("adapter.bits: %d, expected 1, 2, 4 or 8", bits);
    if (c->adapter.only_routing && (!is(c->adapter.kind, "poly") || !*c->adapter.init))
        return FAIL("adapter.only_routing: needs a poly adapter in adapter.init");
    return JT_OK;
}

jt_status jt_config_settle(jt_config *c, jt_err *err)
{
    JT_TRY(check_data(c, err));
    if (!*c->model.init) {
        JT_TRY(check_model(c, err));
        JT_TRY(check_routing(c, err));
    }
    if (!is(c->adapter.kind, "none"))
        JT_TRY(check_adapter(c, err));
    if (c->balance.bias_rate > 0 && c->balance.bip_rounds > 0)
        return FAIL("balance.bip_rounds: not together with balance.bias_rate");
    if (!*c->output.dir)
        return FAIL("output.dir: is missing");
    return check_optim(c, err);
}
