/* Virtual tokens, which stand before a text (adapt/front.h).
 *
 *   soft-prompt   their embeddings (Lester et al. 2021, "The power of scale for
 *                 parameter-efficient prompt tuning", section 2; Liu et al. 2021, "GPT
 *                 understands, too", whose encoder is not needed any more)
 *   prefix        their keys and values in every layer (Li & Liang 2021,
 * "Prefix-tuning: optimizing continuous prompts for generation", section 4.2; the net
 *                 that they came from, section 4.3, is not needed any more)
 *
 * They are there as a whole or, with a scale of 0, not at all. A fresh one is what the
 * model makes of tokens of its vocabulary: a text (Li & Liang, section 7.4: real words
 * are better than random values; Lester et al., section 3.2). */
#include <string.h>

#include "adapt/front.h"
#include "adapt/made.h"

enum { KEYS, VALUES };

static const char soft_prompt[] = "soft_prompt";
static const char *const prefix_tails[] = {"prefix_k", "prefix_v"};

static jt_tensor *part(const jt_adapter *a, int which)
{
    return &a->source[a->place[0].source[which]].t;
}

static size_t front(const jt_adapter *a)
{
    return a->place[0].rank;
}

static bool never_fresh(const jt_adapter *a, const jt_adapter_place *p)
{
    (void)a;
    (void)p;
    return false;
}

static float one(float alpha, size_t rank)
{
    (void)alpha;
    (void)rank;
    return 1.0f;
}

/* A tensor of a fresh adapter, with zeros. */
static jt_status add_part(jt_adapter *a, int which, const char *tail, int n_dims,
                          const size_t *shape, jt_err *err)
{
    jt_adapter_place *p = &a->place[0];
    JT_TRY(jt_adapter_add_source(a, &p->source[which],
                                 (jt_str){p->name, strlen(p->name)}, tail, JT_F32,
                                 n_dims, shape, err));
    a->source[p->source[which]].trained = true;
    return JT_OK;
}

static jt_status check_one_place(const jt_adapter *a, jt_err *err)
{
    if (a->n_places == 1 && a->place[0].layer < 0)
        return JT_OK;
    return jt_fail(err, JT_E_FORMAT, "a '%s' adapter has one place, the embedding",
                   a->kind->name);
}

/* ---- embeddings ---- */

static jt_status bind_soft_prompt(jt_adapter *a, size_t at, jt_str target, float alpha,
                                  jt_err *err)
{
    jt_adapter_place *p;
    const jt_tensor *t = &a->source[at].t;
    if (t->dtype != JT_F32 || t->n_dims != 2)
        return jt_adapter_fail_source(a, at, err);
    JT_TRY(jt_adapter_add_place(a, &p, target, t->shape[1], t->shape[0], alpha, err));
    p->source[0] = at;
    a->source[at].trained = true; /* its values are what there is to count */
    return JT_OK;
}

static jt_status bind_soft_prompts(jt_adapter *a, float alpha, jt_err *err)
{
    JT_TRY(jt_adapter_bind_each(a, soft_prompt, bind_soft_prompt, alpha, err));
    return check_one_place(a, err);
}

static jt_status soft_prompt_fits(const jt_adapter *a, const jt_model *model,
                                  jt_err *err)
{
    (void)a;
    if (!model->params.layer_width)
        return JT_OK;
    return jt_fail(err, JT_E_UNSUPPORTED,
                   "a soft prompt for a model that has embeddings for each layer: "
                   "virtual tokens have none");
}

static const jt_tensor *embeddings(const jt_adapter *a)
{
    return part(a, 0);
}

static jt_status start_soft_prompt(jt_adapter *a, const jt_adapter_options *o,
                                   jt_err *err)
{
    const size_t shape[] = {o->front, (size_t)o->model->params.d_model};
    JT_TRY(add_part(a, 0, soft_prompt, 2, shape, err));
    return jt_front_embed(part(a, 0), o, err);
}

/* ---- keys and values ---- */

static jt_status bind_prefix(jt_adapter *a, size_t at, jt_str target, float alpha,
                             jt_err *err)
{
    jt_adapter_place *p;
    size_t values;
    JT_TRY(jt_adapter_need_source(a, target, prefix_tails[KEYS], JT_F32, 3, &at, err));
    JT_TRY(jt_adapter_need_source(a, target, prefix_tails[VALUES], JT_F32, 3, &values,
                                  err));
    const jt_tensor *k = &a->source[at].t, *v = &a->source[values].t;
    if (k->shape[0] != v->shape[0] || k->shape[1] != v->shape[1])
        return jt_adapter_fail_source(a, values, err);
    JT_TRY(jt_adapter_add_place(a, &p, target, 0, k->shape[1], alpha, err));
    p->source[KEYS] = at;
    p->source[VALUES] = values;
    a->source[at].trained = a->source[values].trained = true;
    return JT_OK;
}

static jt_status bind_prefixes(jt_adapter *a, float alpha, jt_err *err)
{
    JT_TRY(jt_adapter_bind_each(a, prefix_tails[KEYS], bind_prefix, alpha, err));
    return check_one_place(a, err);
}

jt_status jt_front_check_layers(const jt_model *model, jt_err *err)
{
    if (model->params.borrowers)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "a prefix for a model of which %d layers have no keys and "
                       "values of their own",
                       model->params.borrowers);
    for (int i = 0; i < model->params.n_layers; i++) {
        if (model->layers[i].mixer != JT_MIX_ATTENTION)
            return jt_fail(err, JT_E_UNSUPPORTED,
                           "a prefix in layer %d, which keeps no keys and values of "
                           "tokens as attention does",
                           i);
    }
    return JT_OK;
}

static jt_status prefix_fits(const jt_adapter *a, const jt_model *model, jt_err *err)
{
    const jt_tensor *k = part(a, KEYS), *v = part(a, VALUES);
    size_t layers = (size_t)model->params.n_layers;
    JT_TRY(jt_front_check_layers(model, err));
    if (k->shape[0] != layers)
        return jt_fail(err, JT_E_FORMAT,
                       "the prefix is for a model of %zu layers, this one has %zu",
                       k->shape[0], layers);
    for (size_t i = 0; i < layers; i++) {
        const jt_attention *t = &model->layers[i].attention;
        size_t heads = (size_t)t->n_kv_heads;
        if (k->shape[2] != heads * (size_t)t->k_dim ||
            v->shape[2] != heads * (size_t)t->v_dim)
            return jt_fail(err, JT_E_FORMAT,
                           "the prefix is for keys and values of %zu and %zu numbers, "
                           "layer %zu has %zu heads of %d and %d",
                           k->shape[2], v->shape[2], i, heads, t->k_dim, t->v_dim);
    }
    return JT_OK;
}

static jt_given give_prefix(const jt_adapter *a, int layer)
{
    return (jt_given){.k = jt_slice(part(a, KEYS), (size_t)layer),
                      .v = jt_slice(part(a, VALUES), (size_t)layer)};
}

static jt_status start_prefix(jt_adapter *a, const jt_adapter_options *o, jt_err *err)
{
    const jt_params *params = &o->model->params;
    const jt_attention *first = &o->model->layers[0].attention;
    size_t heads = (size_t)first->n_kv_heads;
    JT_TRY(jt_front_check_layers(o->model, err));
    for (int i = 0; i < 2; i++) {
        size_t dim = (size_t)(i == KEYS ? first->k_dim : first->v_dim);
        const size_t shape[] = {(size_t)params->n_layers, o->front, heads * dim};
        JT_TRY(add_part(a, i, prefix_tails[i], 3, shape, err));
    }
    JT_TRY(prefix_fits(a, o->model, err)); /* the same in all layers */
    return jt_front_remember(part(a, KEYS), part(a, VALUES), o, err);
}

/* ---- the kinds ---- */

static const jt_adapter_making soft_prompt_making = {.start = start_soft_prompt,
                                                     .bind = bind_soft_prompts};
static const jt_adapter_making prefix_making = {.start = start_prefix,
                                                .bind = bind_prefixes};

const jt_adapter_kind jt_adapter_soft_prompt = {
    .name = "soft-prompt",
    .what = "embeddings of virtual tokens before a text",
    .by_token = true,
    .making = &soft_prompt_making,
    .scale = one,
    .fits = soft_prompt_fits,
    .front = front,
    .embeddings = embeddings,
    .is_fresh_place = never_fresh};

const jt_adapter_kind jt_adapter_prefix = {
    .name = "prefix",
    .what = "keys and values of virtual tokens before a text",
    .by_token = true,
    .making = &prefix_making,
    .scale = one,
    .fits = prefix_fits,
    .front = front,
    .give = give_prefix,
    .is_fresh_place = never_fresh};
