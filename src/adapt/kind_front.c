/* Virtual tokens, which stand before a text (adapt/front.h).
 *
 *   soft-prompt   their embeddings (Lester et al. 2021, "The power of scale for
 *                 parameter-efficient prompt tuning", section 2; Liu et al. 2021, "GPT
 *                 understands, too", whose encoder is not needed any more)
 *   prefix        their keys and values in every layer (Li & Liang 2021,
 * "Prefix-tuning: optimizing continuous prompts for generation", section 4.2; the net
 *                 that they came from, section 4.3, is not needed any more)
 *
 * They are there as a whole or, with a scale of 0, not at all. */
#include <string.h>

#include "adapt/front.h"
#include "adapt/made.h"
#include "model/cache.h"

enum { KEYS, VALUES };

static const char soft_prompt[] = "soft_prompt";
static const char *const prefix_tails[] = {"prefix_k", "prefix_v"};

static const jt_tensor *part(const jt_adapter *a, int which)
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

static jt_status refuse_start(jt_adapter *a, const jt_adapter_options *o, jt_err *err)
{
    (void)o;
    return jt_fail(err, JT_E_UNSUPPORTED,
                   "adapter.kind: adapters of kind '%s' can be used, not tuned",
                   a->kind->name);
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

static const jt_tensor *embeddings(const jt_adapter *a)
{
    return part(a, 0);
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

static void lay_prefix(const jt_adapter *a, const jt_kernels *kernels,
                       const jt_model *model, jt_cache *cache)
{
    const jt_tensor *k = part(a, KEYS), *v = part(a, VALUES);
    size_t n = front(a);
    jt_cache_feed(cache, 0, n);
    for (size_t row = 0; row < n * (size_t)model->params.n_layers; row++)
        jt_attention_remember(kernels, &model->layers[row / n].attention,
                              &cache->layer[row / n].kv, row % n, jt_row(k, row),
                              jt_row(v, row));
}

/* ---- the kinds ---- */

static const jt_adapter_making soft_prompt_making = {.start = refuse_start,
                                                     .bind = bind_soft_prompts};
static const jt_adapter_making prefix_making = {.start = refuse_start,
                                                .bind = bind_prefixes};

const jt_adapter_kind jt_adapter_soft_prompt = {
    .name = "soft-prompt",
    .what = "embeddings of virtual tokens before a text",
    .by_token = true,
    .making = &soft_prompt_making,
    .scale = one,
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
    .lay = lay_prefix,
    .is_fresh_place = never_fresh};
