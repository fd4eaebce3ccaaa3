/* The memory that activations take, counted as the operations take it: nearly every one
 * has a gradient beside it. All counts are floats for one token of a micro-batch. */
#include <math.h>
#include <string.h>

#include "learn/output_loss.h"
#include "learn/plan_adapter.h"
#include "learn/train.h"
#include "nn/scan.h"
#include "tensor/back.h"

/* Values that the tape keeps of a tensor that an operation makes. */
static double kept(double values)
{
    return 2.0 * values; /* itself and its gradient */
}

/* A norm keeps its input too. */
static double kept_norm(double values)
{
    return kept(values) + values;
}

/* The form in which the product with w reads `n` values: it stays beside them, where it
 * is another. */
static double packed(const jt_kernels *kernels, const jt_tensor *w, double n)
{
    jt_act act = kernels->matmul[w->dtype].act;
    if (!jt_has(w) || w->dtype == JT_F32 || act == JT_ACT_F32)
        return 0.0;
    return (double)jt_act_bytes(act, (size_t)n) / sizeof(float);
}

/* ---- layers ---- */

/* Layer `index` of a model that is not there yet, as far as a plan looks at it. */
static jt_layer fresh_layer(const jt_sizes *s, int index)
{
    const jt_family *family = jt_family_find(s->family, strlen(s->family));
    jt_layer layer = {.mixer = JT_MIX_ATTENTION,
                      .attention = {.n_heads = s->n_heads,
                                    .n_kv_heads = s->n_kv_heads,
                                    .k_dim = s->head_dim,
                                    .v_dim = s->head_dim,
                                    .qk_norm = family->qk_norm}};
    for (int i = 0; i < JT_NORM_PLACES; i++) /* before the parts: the first is RMS */
        if (i != JT_BEFORE_ATTENTION && i != JT_BEFORE_FFN)
            layer.norm[i].kind = JT_NORM_NONE;
    layer.is_mixture = s->n_experts && index >= s->n_dense_layers;
    if (layer.is_mixture) {
        layer.mixture.experts.width = (size_t)s->expert_width;
        layer.mixture.shared.width = (size_t)s->shared_width;
    } else {
        layer.dense.width = (size_t)s->dense_width;
    }
    return layer;
}

static jt_layer layer_of(const jt_sizes *s, const jt_model *model, int index)
{
    return model ? model->layers[index] : fresh_layer(s, index);
}

/* ---- token mixers ---- */

static double attention_values(const jt_kernels *kernels, const jt_attention *a)
{
    double q = (double)a->n_heads * a->k_dim, out = (double)a->n_heads * a->v_dim;
    double k = (double)a->n_kv_heads * a->k_dim, v = (double)a->n_kv_heads * a->v_dim;
    double values = kept(q + k + v);
    if (a->qk_norm != JT_QK_NORM_NONE)
        values += kept_norm(q + k);
    if (a->v_norm)
        values += kept_norm(v);
    if (a->gated) /* what holds both */
        values += kept(2.0 * q);
    else if (jt_has(&a->gate))
        values += kept(out);
    if (a->clamp > 0.0f)
        values += q + k + v;
    values +=
        packed(kernels, &a->q, (double)jt_cols(&a->q)) + packed(kernels, &a->o, out);
    return values + q + out + a->n_heads /* in the order of the kernel, and sums */
           + kept(out);
}

static double latent_values(const jt_latent *l)
{
    double heads = l->attention.n_heads, rank = l->rank, rope = l->rope;
    double values = kept(heads * (l->nope + l->rope)) + kept(rank + rope) + kept(rank) +
                    kept_norm(rank) + kept(rope) + heads + kept(heads * l->v_dim);
    if (jt_has(&l->q_a))
        values += kept((double)jt_rows(&l->q_a)) + kept_norm((double)jt_rows(&l->q_a));
    return values;
}

/* A scan keeps its result, and its state once a piece. */
static double scan_values(double heads, double rows, double n)
{
    return kept(heads * rows) + heads * rows * n / JT_SCAN_PIECE;
}

static double mamba_values(const jt_mamba *m)
{
    double inner = (double)jt_rows(&m->a), n = (double)jt_cols(&m->a);
    double all = (double)jt_rows(&m->x);
    double values = kept(2.0 * inner) + kept(inner) + 2.0 * kept(all) + kept(inner) +
                    scan_values(1.0, inner, n) + inner;
    return jt_has(&m->dt_norm) ? values + kept_norm(all) : values;
}

static double mamba2_values(const jt_mamba2 *m)
{
    double inner = (double)(m->heads * m->head_dim), heads = (double)m->heads;
    double values = kept((double)jt_rows(&m->in)) +
                    kept((double)jt_rows(&m->conv.weight)) + kept(heads) + heads +
                    scan_values(heads, (double)m->head_dim, (double)m->d_state) + inner;
    return jt_has(&m->norm) ? values + kept_norm(inner) : values;
}

static double delta_net_values(const jt_delta_net *m)
{
    double keys = (double)(m->k_heads * m->k_dim), heads = (double)m->v_heads;
    double values = heads * (double)m->v_dim;
    return 2.0 * kept(2.0 * keys + values) + kept(values) + kept(4.0 * heads) + heads +
           kept(2.0 * keys) + kept_norm(2.0 * keys) +
           scan_values(heads, (double)m->v_dim, (double)m->k_dim) + kept_norm(values) +
           values;
}

static double kimi_delta_values(const jt_kimi_delta *m)
{
    double heads = (double)m->heads, dim = (double)m->dim, width = heads * dim;
    return 2.0 * kept(3.0 * width) + kept(heads) +
           2.0 * kept((double)jt_rows(&m->f_a)) + kept(2.0 * width) +
           kept_norm(2.0 * width) + width + scan_values(heads, dim, dim) +
           kept_norm(width) + kept(width);
}

static double lightning_values(const jt_lightning *m)
{
    double heads = (double)m->heads, dim = (double)m->dim, width = heads * dim;
    return 2.0 * kept(3.0 * width) + 3.0 * width + kept(width) + heads +
           scan_values(heads, dim, dim) + kept_norm(width) + kept(width);
}

static double recurrent_values(const jt_recurrent *r)
{
    switch (r->kind) {
    case JT_RECURRENT_NONE:
        break;
    case JT_SHORT_CONV: /* B, C and x; what goes into the convolution, what comes out,
                           and that times C */
        return 6.0 * kept((double)jt_rows(&r->short_conv.out));
    case JT_MAMBA:
        return mamba_values(&r->mamba);
    case JT_MAMBA2:
        return mamba2_values(&r->mamba2);
    case JT_DELTA_NET:
        return delta_net_values(&r->delta_net);
    case JT_KIMI_DELTA:
        return kimi_delta_values(&r->kimi_delta);
    case JT_LIGHTNING:
        return lightning_values(&r->lightning);
    }
    return 0.0;
}

/* With what it adds to the residual stream. */
static double mixer_values(const jt_kernels *kernels, const jt_layer *layer, double d)
{
    switch (layer->mixer) {
    case JT_MIX_ATTENTION:
        return attention_values(kernels, &layer->attention) + kept(d);
    case JT_MIX_LATENT:
        return latent_values(&layer->latent) + kept(d);
    case JT_MIX_RECURRENT:
        return recurrent_values(&layer->recurrent) + kept(d);
    case JT_MIX_BOTH:
        return attention_values(kernels, &layer->attention) +
               recurrent_values(&layer->recurrent) + 2.0 * kept(d);
    case JT_MIX_NONE:
        break;
    }
    return 0.0;
}

/* Keys and values, which lie beside the tape. */
static double cache_values(const jt_layer *layer)
{
    return (double)jt_cache_token_bytes(layer, JT_F32, JT_F32) / sizeof(float);
}

/* What gradients of a mixer take on top for a while. Of latent attention each thread
 * has the keys and values of a head. */
static double mixer_back_values(const jt_layer *layer, int threads)
{
    const jt_attention *a = &layer->attention;
    const jt_latent *l = &layer->latent;
    double latent = l->nope + l->rope + l->v_dim;
    if (layer->mixer == JT_MIX_LATENT)
        return (l->attention.n_heads + threads) * latent;
    if (layer->mixer != JT_MIX_ATTENTION && layer->mixer != JT_MIX_BOTH)
        return 0.0;
    return (double)(a->n_heads + a->n_kv_heads) * (a->k_dim + a->v_dim);
}

/* ---- FFNs ---- */

/* An FFN of that width for `rows` rows a token, without gradients. */
static double ffn_values(const jt_kernels *kernels, const jt_bank *bank, double d,
                         double rows)
{
    double width = (double)bank->width;
    return rows * (3.0 * width + d) + packed(kernels, &bank->part[JT_PART_UP], d) +
           rows * packed(kernels, &bank->part[JT_PART_DOWN], width);
}

/* The gradients in it, in memory that all FFNs share. */
static double ffn_gradients(double d, double rows, double width)
{
    return rows * (2.0 * width + d);
}

/* Rows of experts for each token; picks of null experts have none. */
static double expert_rows(const jt_sizes *s)
{
    int router_rows = s->n_experts + s->router.n_null;
    return router_rows ? (double)s->n_experts_used * s->n_experts / router_rows : 0.0;
}

static double mixture_values(const jt_kernels *kernels, const jt_sizes *s,
                             const jt_mixture *m)
{
    double d = s->d_model, k = s->n_experts_used;
    double router_rows = s->n_experts + s->router.n_null;
    double values = kept(2.0 * router_rows) + 8.0 * k + kept(d);
    values += ffn_values(kernels, &m->experts, d, expert_rows(s));
    if (m->shared.width)
        values += ffn_values(kernels, &m->shared, d, 1.0) + 5.0;
    return values;
}

static double part_values(const jt_kernels *kernels, const jt_sizes *s,
                          const jt_layer *layer)
{
    double values =
        layer->is_mixture ? mixture_values(kernels, s, &layer->mixture) : 0.0;
    if (layer->dense.width)
        values += 5.0 + ffn_values(kernels, &layer->dense, s->d_model, 1.0);
    return values;
}

/* What gradients of FFNs take for a while. */
static double ffn_back_values(const jt_sizes *s, const jt_layer *layer)
{
    double d = s->d_model, rows = expert_rows(s);
    double values =
        ffn_gradients(d, layer->dense.width ? 1.0 : 0.0, (double)layer->dense.width);
    if (!layer->is_mixture)
        return values;
    values = fmax(values, ffn_gradients(d, rows, (double)layer->mixture.experts.width));
    return fmax(values, ffn_gradients(d, 1.0, (double)layer->mixture.shared.width));
}

/* ---- all of it ---- */

static double norm_values(const jt_layer *layer, double d)
{
    double values = 0.0;
    for (int i = 0; i < JT_NORM_PLACES; i++) {
        if (layer->norm[i].kind != JT_NORM_NONE)
            values += kept_norm(d);
        if (layer->norm[i].kind == JT_NORM_LAYER) /* what is centred */
            values += kept(d);
    }
    return values;
}

typedef struct view {
    const jt_sizes *s;
    const jt_model *model;     /* or NULL */
    const jt_adapter *adapter; /* that is trained; or NULL: the model is */
    const jt_kernels *kernels;
    int threads;
} view;

/* What the tape keeps of a layer. */
static double layer_values(const view *v, const jt_layer *layer, int index)
{
    double d = v->s->d_model;
    double values = norm_values(layer, d) + mixer_values(v->kernels, layer, d);
    values += jt_plan_adapter_instead(v->adapter, index)
                  ? jt_plan_adapter_ffn(v->adapter, index, d)
                  : part_values(v->kernels, v->s, layer);
    if (v->adapter)
        values += jt_plan_adapter_values(v->adapter, index, expert_rows(v->s));
    return values;
}

/* Most floats at a time for one token: all layers, their ends, and what gradients take:
 * those of FFNs; and those of mixers, or of the tokens of experts or adapters, of which
 * each row has its own. *shared: what
 * of that is there for a while, when the head is done. */
static double activation_values(const view *v, bool checkpoint, double *shared)
{
    const jt_sizes *s = v->s;
    double d = s->d_model, rows = expert_rows(s) * d;
    double layers = 0.0, largest = 0.0, cache = 0.0, others = rows, ffns = 0.0;
    for (int i = 0; i < s->n_layers; i++) {
        jt_layer layer = layer_of(s, v->model, i);
        double values = layer_values(v, &layer, i);
        layers += checkpoint ? d : values + cache_values(&layer);
        largest = fmax(largest, values);
        cache = fmax(cache, cache_values(&layer));
        others = fmax(others, mixer_back_values(&layer, v->threads));
        if (v->adapter)
            others = fmax(others, jt_plan_adapter_back(v->adapter, i));
        if (!jt_plan_adapter_instead(v->adapter, i))
            ffns = fmax(ffns, ffn_back_values(s, &layer));
    }
    double ends = kept(d) + kept(s->head_dim) + kept_norm(d) + 2.0;
    if (v->adapter)
        ends += jt_plan_adapter_ahead(v->adapter, d);
    if (!checkpoint) { /* the room for gradients in FFNs is there from the start */
        *shared = others;
        return layers + ends + ffns;
    }
    *shared = largest + ffns + others; /* of the layer that runs again */
    return layers + ends + cache;
}

/* Logits, as many as there are at a time, with gradients, and probabilities. */
static double head_values(const view *v, double tokens)
{
    double vocab = v->s->n_vocab, rows = fmax(1.0, floor(JT_OUTPUT_VALUES / vocab));
    return kept(fmin(tokens, rows) * (vocab + v->s->d_model)) + v->threads * vocab;
}

/* Two draws that shall agree have the probabilities of both, and all logits, with
 * gradients and probabilities, until all gradients are there. */
static double agreeing_values(const view *v)
{
    return (2.0 + 1.0) * v->s->n_vocab + kept(v->s->n_vocab);
}

/* Weights of other types are decoded for gradients of what they read. */
static double decoded_values(const view *v)
{
    const jt_tensor *head = v->model ? &v->model->output : NULL;
    if (!head || head->dtype == JT_F32)
        return 0.0;
    return fmin(JT_DECODED_VALUES, (double)jt_rows(head) * (double)jt_cols(head));
}

jt_status jt_plan_activation_bytes(uint64_t *out, const jt_sizes *sizes,
                                   const jt_model *model, const jt_adapter *adapter,
                                   const jt_config *config, jt_err *err)
{
    const jt_config_train *c = &config->train;
    double tokens = (double)c->batch * config->data.seq_len, shared;
    view v = {.s = sizes,
              .model = model,
              .adapter = adapter,
              .threads = c->threads ? c->threads : jt_processors()};
    JT_TRY(jt_kernels_choose(&v.kernels, *c->cpu ? c->cpu : NULL, err));
    double values = activation_values(&v, c->checkpoint_activations, &shared) * tokens;
    if (!strcmp(config->adapter.kind, "mosa") && config->adapter.agree > 0.0)
        values += (agreeing_values(&v) + shared) * tokens;
    else
        values += fmax(shared * tokens, head_values(&v, tokens));
    values += decoded_values(&v);
    bool latent = model && model->family->latent;
    double rooms = latent ? 3.0 : 1.0; /* for the products of each thread, at a time */
    *out = (uint64_t)(values * sizeof(float) +
                      rooms * v.threads * (double)jt_gemm_scratch());
    return JT_OK;
}

double jt_plan_looks(const jt_sizes *s, const jt_model *model)
{
    double values = 0.0;
    for (int i = 0; i < s->n_layers; i++) {
        jt_layer layer = layer_of(s, model, i);
        const jt_attention *a = &layer.attention;
        const jt_latent *l = &layer.latent;
        if (layer.mixer == JT_MIX_ATTENTION || layer.mixer == JT_MIX_BOTH)
            values += (double)a->n_heads * (a->k_dim + a->v_dim);
        else if (layer.mixer == JT_MIX_LATENT)
            values += (double)l->attention.n_heads * (l->nope + l->rope + l->v_dim);
    }
    return values;
}
