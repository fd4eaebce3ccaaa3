#include "learn/tuning.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/pattern.h"
#include "base/memory.h"
#include "format/gguf_file.h"
#include "learn/output_loss.h"
#include "learn/shira_mask.h"
#include "learn/tuning_domains.h"
#include "model/apart.h"
#include "model/model.h"

bool jt_is_tuning(const jt_config *config)
{
    return strcmp(config->adapter.kind, "none") != 0;
}

/* ---- first values ---- */

typedef struct fresh {
    const jt_config *config;
    const jt_gguf_tensor *t; /* the weight of the slot */
    jt_adapter *a;
    uint64_t stream; /* of random numbers: one for each slot */
    jt_err *err;
} fresh;

static void start_low_rank(const fresh *f, const jt_adapter_slot *s)
{
    float *b = s->part[JT_LOW_B].data;
    jt_low_rank_start_a(s->part[JT_LOW_A].data, s->count * s->rank * s->cols, s->cols,
                        (uint64_t)f->config->train.seed, f->stream);
    memset(b, 0, s->count * s->rows * s->rank * sizeof *b);
}

static jt_status start_magnitude(const fresh *f, const jt_adapter_slot *s)
{
    float *m = s->part[JT_LOW_M].data, *row = jt_alloc(s->cols, sizeof *row);
    if (!row)
        return jt_fail_memory(f->err, "starting an adapter");
    for (size_t r = 0; r < s->count * s->rows; r++) {
        double sum = 0.0;
        jt_gguf_read_row(f->t, r, row);
        for (size_t c = 0; c < s->cols; c++)
            sum += (double)row[c] * (double)row[c];
        m[r] = sum > 0.0 ? (float)sqrt(sum) : 1.0f;
    }
    free(row);
    return JT_OK;
}

/* ---- slots ---- */

/* Can the kind stand at the weight? Domain adapters only at the second matrix of dense
 * FFNs. */
static bool suits(const jt_adapter_kind *kind, const char *name)
{
    return kind != &jt_adapter_mixda || strstr(name, ".ffn_down.weight");
}

static jt_status add_slot(fresh *f, const size_t shape[3])
{
    const jt_config_adapter *c = &f->config->adapter;
    const jt_adapter_kind *kind = f->a->kind;
    size_t rank = (size_t)c->rank, per = rank * (shape[1] + shape[2]);
    jt_adapter_slot *s;
    if (kind->sparse && (per > shape[1] * shape[2] || per * shape[0] > INT32_MAX))
        return jt_fail(f->err, JT_E_ARG,
                       "adapter.rank: %d asks for %zu values of '%.*s', which has %zu",
                       c->rank, per, JT_GGUF_SHOW(f->t->name), shape[1] * shape[2]);
    JT_TRY(jt_adapter_add(f->a, &s, f->t->name, shape,
                          kind->sparse ? per * shape[0] : rank,
                          kind->sparse ? 1.0f : (float)c->alpha, f->err));
    f->stream++;
    if (kind->sparse)
        return jt_shira_start(s, f->t, per, f->config->adapter.mask,
                              (uint64_t)f->config->train.seed, f->stream, f->err);
    if (kind->making)
        return JT_OK; /* when all slots are there */
    start_low_rank(f, s);
    if (kind->start_more)
        kind->start_more(s, (uint64_t)f->config->train.seed, f->stream);
    return kind->magnitude ? start_magnitude(f, s) : JT_OK;
}

static jt_status add_slots(fresh *f, const jt_model *model)
{
    const jt_gguf *file = jt_model_file(model);
    jt_pattern *pattern;
    jt_status status = JT_OK;
    JT_TRY(jt_pattern_new(&pattern, f->config->adapter.target, f->err));
    for (size_t i = 0; i < jt_gguf_tensor_count(file) && status == JT_OK; i++) {
        size_t shape[3];
        char name[128];
        jt_err ignored;
        f->t = jt_gguf_tensor_at(file, i);
        snprintf(name, sizeof name, "%.*s", JT_GGUF_SHOW(f->t->name));
        if (jt_pattern_matches(pattern, name, false) &&
            strcmp(name, "token_embd.weight") != 0 && suits(f->a->kind, name) &&
            !(f->a->blend && jt_blend_find(f->a->blend, f->t->name)) &&
            jt_adapter_target(file, f->t->name, shape, &ignored) == JT_OK) {
            status = add_slot(f, shape);
            jt_apart_forget(model->apart);
        }
    }
    jt_pattern_free(pattern);
    if (status == JT_OK && !f->a->count && !f->a->blend)
        return jt_fail(f->err, JT_E_ARG,
                       "adapter.target: no weight has a name with '%.100s' in it",
                       f->config->adapter.target);
    return status;
}

/* ---- places ---- */

/* Place number `i` of a model that has 6 in each layer. */
static jt_status add_place(const fresh *f, const jt_model *model,
                           const jt_pattern *pattern, int i)
{
    const jt_config_adapter *c = &f->config->adapter;
    char name[JT_PLACE_NAME];
    jt_adapter_place *place;
    jt_half half = (jt_half)(i / 3 % 2);
    jt_place_name(name, i / 6, half, (jt_where)(i % 3));
    if (!jt_pattern_matches(pattern, name, false) ||
        !jt_model_has_place(model, i / 6, half))
        return JT_OK;
    return jt_adapter_add_place(f->a, &place, (jt_str){name, strlen(name)},
                                (size_t)model->params.d_model, (size_t)c->rank,
                                (float)c->alpha, f->err);
}

static jt_status add_places(const fresh *f, const jt_model *model)
{
    jt_adapter_place *place;
    size_t d = (size_t)model->params.d_model;
    jt_pattern *pattern;
    if (f->a->kind->rewrite || f->a->kind->front)
        return jt_adapter_add_place(
            f->a, &place, (jt_str){"embedding", 9}, f->a->kind->give ? 0 : d,
            f->a->kind->front ? (size_t)f->config->adapter.front : d / 2, 1.0f, f->err);
    jt_status status = JT_OK;
    JT_TRY(jt_pattern_new(&pattern, f->config->adapter.place, f->err));
    for (int i = 0; i < 6 * model->params.n_layers && status == JT_OK; i++)
        status = add_place(f, model, pattern, i);
    jt_pattern_free(pattern);
    if (status == JT_OK && !f->a->n_places)
        return jt_fail(f->err, JT_E_ARG,
                       "adapter.place: no place has a name with '%.100s' in it",
                       f->config->adapter.place);
    return status;
}

/* ---- life ---- */

static bool is_mosa(const jt_config *config)
{
    return strcmp(config->adapter.kind, "mosa") == 0;
}

static const jt_adapter_kind *kind_of(const jt_config *config)
{
    const char *name = jt_tuning_method(config) ? "lora" : config->adapter.kind;
    if (is_mosa(config))
        return &jt_adapter_bottleneck;
    return jt_adapter_kind_find(name, strlen(name));
}

bool jt_tuning_by_task(const jt_config *config)
{
    return kind_of(config) == &jt_adapter_poly;
}

size_t jt_tuning_front(const jt_config *config)
{
    const jt_adapter_kind *kind = jt_is_tuning(config) ? kind_of(config) : NULL;
    return kind && kind->front ? (size_t)config->adapter.front : 0;
}

static jt_adapter_options options_of(const jt_config *config)
{
    const jt_config_adapter *c = &config->adapter;
    return (jt_adapter_options){.rank = (size_t)c->rank,
                                .alpha = (float)c->alpha,
                                .shards = (size_t)c->shards,
                                .budget = (size_t)c->budget,
                                .own = (size_t)c->own,
                                .tables = c->tables,
                                .skills = (size_t)c->skills,
                                .heads = (size_t)c->heads,
                                .tasks = config->data.n_sources,
                                .front = (size_t)c->front,
                                .only_routing = c->only_routing,
                                .activation = c->activation,
                                .gated = c->gated,
                                .bits = (size_t)c->bits,
                                .active = (size_t)(c->active ? c->active : c->rank),
                                .grow = c->grow,
                                .heat = (float)c->heat,
                                .threshold = (float)c->threshold,
                                .seed = (uint64_t)config->train.seed};
}

/* First values of what parts are made of. */
static jt_status start_sources(jt_tuning *t, const jt_config *config,
                               const jt_model *model, jt_context *ctx,
                               const jt_adapter_options *o, jt_err *err)
{
    const jt_adapter_kind *kind = t->adapter->kind;
    jt_adapter_options own = *o;
    jt_tokens marker = {0}, text = {0};
    jt_status status = JT_OK;
    if (kind->rewrite)
        status = jt_tuning_marker(&marker, model, config->adapter.marker,
                                  "adapter.marker", err);
    if (kind->front && *config->adapter.text)
        status =
            jt_tuning_marker(&text, model, config->adapter.text, "adapter.text", err);
    own.marker = marker.ids;
    own.n_marker = marker.count;
    own.text = text.ids;
    own.n_text = text.count;
    own.model = model;
    own.ctx = ctx;
    if (status == JT_OK)
        status = kind->making->start(t->adapter, &own, err);
    jt_apart_forget(model->apart); /* a prefix looks at what experts make of a text */
    free(marker.ids);
    free(text.ids);
    return status;
}

static jt_status make_fresh(jt_tuning *t, const jt_config *config,
                            const jt_model *model, jt_context *ctx,
                            const jt_adapter_options *o, jt_err *err)
{
    fresh f = {.config = config, .a = t->adapter, .err = err};
    if (t->adapter->kind == &jt_adapter_mixda) {
        t->adapter->setting[JT_MIXDA_DOMAINS] = 1.0f;
        t->adapter->setting[JT_MIXDA_GATE_WIDTH] = jt_domains_gate_width(config, model);
    }
    JT_TRY(t->adapter->kind->is_fresh_place ? add_places(&f, model)
                                            : add_slots(&f, model));
    if (t->adapter->kind == &jt_adapter_mora)
        jt_mora_set(t->adapter, o);
    return t->adapter->kind->making ? start_sources(t, config, model, ctx, o, err)
                                    : JT_OK;
}

/* Gradients of parts are not variables: they go on to the sources. */
static jt_status make_room(jt_tuning *t, jt_err *err)
{
    jt_adapter *a = t->adapter;
    for (int pass = 0; a->kind->making && pass < 2; pass++) {
        size_t n = 0;
        for (size_t i = 0; i < 2 * a->count; i++) {
            jt_tensor *part = &a->slot[i / 2].part[i % 2];
            part->grad = pass ? t->part_grad + n : NULL;
            n += jt_rows(part) * jt_cols(part);
        }
        t->part_values = n;
        if (!pass && !(t->part_grad = jt_calloc(n, sizeof *t->part_grad)))
            return jt_fail_memory(err, "starting an adapter");
    }
    return JT_OK;
}

/* Batches have as many virtual tokens as the configuration says. */
static jt_status check_front(const jt_adapter *a, const jt_config *config, jt_err *err)
{
    size_t said = jt_tuning_front(config), has = said ? a->kind->front(a) : 0;
    if (said == has)
        return JT_OK;
    return jt_fail(err, JT_E_ARG,
                   "adapter.front: is %zu, and adapter.init has %zu virtual tokens",
                   said, has);
}

static jt_status set_up(jt_tuning *t, const jt_config *config, const jt_model *model,
                        jt_context *ctx, jt_err *err)
{
    const jt_blend_method *method = jt_tuning_method(config);
    jt_adapter_options o = options_of(config);
    t->config = config;
    if (!method && *config->adapter.init) {
        JT_TRY(jt_adapter_continue(&t->adapter, config->adapter.init, kind_of(config),
                                   model, &o, err));
        JT_TRY(check_front(t->adapter, config, err));
    } else if (kind_of(config) == &jt_adapter_mixda && config->adapter.n_parts) {
        JT_TRY(jt_domains_join(t, model, err));
    } else {
        JT_TRY(jt_adapter_new(&t->adapter, kind_of(config), "(new)", err));
        if (method)
            JT_TRY(jt_tuning_blend(&t->adapter->blend, config, model, err));
        if (!method || method->producer == JT_BY_LAYER)
            JT_TRY(make_fresh(t, config, model, ctx, &o, err));
    }
    JT_TRY(jt_adapter_set_model(t->adapter, model, err));
    JT_TRY(make_room(t, err));
    JT_TRY(jt_domains_keep(t, err));
    JT_TRY(jt_attach(&t->attached, ctx, model, t->adapter, 1.0f, true, err));
    if (is_mosa(config))
        return jt_mosa_new(&t->mosa, t->adapter, (size_t)config->adapter.splits, o.seed,
                           err);
    if (!method)
        return JT_OK;
    t->loss = jt_tuning_gate_loss(config, t->adapter->blend);
    t->term = jt_gate_loss_term(&t->loss);
    t->attached.list[0].blended->term = &t->term;
    return JT_OK;
}

jt_status jt_tuning_new(jt_tuning **out, const jt_config *config, const jt_model *model,
                        jt_context *ctx, jt_err *err)
{
    jt_tuning *t = jt_calloc(1, sizeof *t);
    if (!t)
        return jt_fail_memory(err, "starting an adapter");
    jt_status status = set_up(t, config, model, ctx, err);
    if (status != JT_OK) {
        jt_tuning_free(t);
        return status;
    }
    *out = t;
    return JT_OK;
}

void jt_tuning_free(jt_tuning *t)
{
    if (!t)
        return;
    jt_attached_free(&t->attached);
    jt_mosa_free(t->mosa);
    jt_adapter_free(t->adapter);
    free(t->owner);
    free(t->label);
    free(t->part_grad);
    free(t->kept);
    free(t);
}

/* ---- mixtures ---- */

void jt_tuning_batch(jt_tuning *t, jt_batch *batch, float scale)
{
    jt_blended *m = t ? t->attached.list[0].blended : NULL;
    if (t)
        jt_domains_batch(t, batch, scale);
    if (!m)
        return;
    if (t->owner)
        jt_tuning_label_batch(t, batch);
    t->loss.scale = scale;
    m->term = m->instead && scale > 0.0f ? &t->balance : &t->term;
}

const jt_mixture *const *jt_tuning_mixtures(const jt_tuning *t)
{
    const jt_blended *m = t ? t->attached.list[0].blended : NULL;
    return m ? m->instead : NULL;
}

size_t jt_tuning_output_values(const jt_tuning *t)
{
    const jt_blended *m = t ? t->attached.list[0].blended : NULL;
    bool mixed = m && m->bank && m->bank[m->model->output.weight] >= 0;
    return mixed ? 0 : JT_OUTPUT_VALUES;
}

void jt_tuning_refresh(jt_tuning *t, jt_context *ctx)
{
    if (t)
        jt_attached_refresh(&t->attached, ctx);
}

void jt_tuning_begin(jt_tuning *t, size_t task, uint64_t draw)
{
    const jt_adapter_making *making = t ? t->adapter->kind->making : NULL;
    if (t && t->mosa && draw)
        jt_mosa_begin(t->mosa, draw);
    if (!making || !making->make)
        return;
    t->adapter->task = task;
    t->adapter->draw = draw;
    making->make(t->adapter);
}

void jt_tuning_end(jt_tuning *t)
{
    const jt_adapter_making *making = t ? t->adapter->kind->making : NULL;
    if (making && making->spread) {
        making->spread(t->adapter);
        memset(t->part_grad, 0, t->part_values * sizeof *t->part_grad);
    } else if (t && t->mosa) {
        jt_mosa_end(t->mosa);
    } else if (t && t->adapter->kind->freeze) {
        t->adapter->kind->freeze(t->adapter);
    }
}

float jt_tuning_agrees(const jt_tuning *t)
{
    return t && t->mosa ? (float)t->config->adapter.agree : 0.0f;
}

/* ---- parameters ---- */

/* A matrix, a stack of them, or a vector. */
static jt_param describe(const jt_tensor *t)
{
    jt_param p = {.count = 1, .rows = 1, .cols = jt_rows(t) * jt_cols(t)};
    if (t->n_dims == 3)
        p = (jt_param){.count = t->shape[0], .rows = t->shape[1], .cols = t->shape[2]};
    p.value = t->data;
    return p;
}

static void list_one(jt_variables *v, const char *full_name, jt_tensor *t)
{
    size_t values = jt_rows(t) * jt_cols(t);
    if (v->list) {
        jt_param *p = &v->list[v->count];
        char *name = v->name[v->count];
        snprintf(name, sizeof v->name[0], "%.*s", (int)sizeof v->name[0] - 1,
                 full_name);
        *p = describe(t);
        p->name = name;
        p->grad = t->grad = v->grad + v->values;
    }
    v->count++;
    v->values += values;
}

static void list_all(jt_variables *v, const jt_config *config, const jt_adapter *a)
{
    v->count = v->values = 0;
    for (size_t i = 0; a->blend && i < jt_blend_parts(a->blend); i++) {
        jt_blend_part part = jt_blend_part_at(a->blend, i);
        if (jt_tuning_trains(config, &part))
            list_one(v, part.name, part.tensor);
    }
    for (size_t i = 0; i < a->n_sources; i++) {
        if (a->source[i].trained)
            list_one(v, a->source[i].name, &a->source[i].t);
    }
    for (size_t i = 0; i < a->count && !a->kind->making; i++) {
        for (int j = 0; j < JT_ADAPTER_PARTS && a->kind->part[j]; j++) {
            char name[160];
            snprintf(name, sizeof name, "%s.%s", a->slot[i].target, a->kind->part[j]);
            list_one(v, name, &a->slot[i].part[j]);
        }
    }
}

jt_status jt_tuning_variables(jt_tuning *t, jt_variables *out, jt_err *err)
{
    jt_variables v = {0};
    list_all(&v, t->config, t->adapter);
    v.grad = jt_calloc(v.values, sizeof *v.grad);
    v.name = jt_alloc(v.count, sizeof *v.name);
    v.list = jt_alloc(v.count, sizeof *v.list);
    if (!v.grad || !v.name || !v.list) {
        jt_variables_free(&v);
        return jt_fail_memory(err, "starting an adapter");
    }
    list_all(&v, t->config, t->adapter);
    *out = v;
    return JT_OK;
}
