#include "model/scratch.h"

/* Everything that the operations of a layer allocate stays until the layer is done, so
 * what counts is the sum over its tensors. Sizes are in floats per token. */

/* The output of a product. */
static size_t rows_of(const jt_tensor *w)
{
    return jt_has(w) && w->n_dims > 1 ? w->shape[w->n_dims - 2] : 0;
}

/* An input of so many values, packed for quantised weights: at most two bytes each. */
static size_t packed(size_t values)
{
    return values / 2 + 16;
}

/* Queries, keys and values as they are made, rotated, in the order of the kernel, what
 * comes out, that joined and packed, and the output. */
static size_t attention(const jt_attention *a, size_t d)
{
    size_t heads = (size_t)a->n_heads, k = (size_t)a->k_dim, v = (size_t)a->v_dim;
    size_t made = rows_of(&a->qkv) + rows_of(&a->q) + rows_of(&a->k) + rows_of(&a->v) +
                  rows_of(&a->gate);
    made += a->gated ? heads * (k + v) : 0;
    return made + heads * (k + 2 * v) + (size_t)a->n_kv_heads * k + packed(heads * v) +
           packed(d) + d;
}

static size_t latent(const jt_latent *l, size_t d)
{
    size_t heads = (size_t)l->attention.n_heads,
           wide = (size_t)l->rank + (size_t)l->rope;
    size_t made = 2 * rows_of(&l->q_a) + rows_of(&l->q_b) + 2 * rows_of(&l->kv_a);
    size_t absorbed = heads * (2 * wide + (size_t)l->nope + (size_t)l->rank + 2);
    return made + absorbed + 2 * heads * (size_t)l->v_dim + 3 * packed(d) +
           packed(rows_of(&l->q_a)) + d;
}

/* Outputs of products, and once more what a convolution or a scan makes of them. */
static size_t recurrent(const jt_recurrent *layer)
{
    size_t count, sum = 0;
    const jt_recurrent_part *part = jt_recurrent_parts(layer->kind, &count);
    for (size_t i = 0; i < count; i++)
        sum += 3 * rows_of((const jt_tensor *)((const char *)layer + part[i].offset));
    return sum;
}

static size_t mixer(const jt_layer *layer, size_t d)
{
    switch (layer->mixer) {
    case JT_MIX_ATTENTION:
        return attention(&layer->attention, d);
    case JT_MIX_LATENT:
        return latent(&layer->latent, d);
    case JT_MIX_RECURRENT:
        return recurrent(&layer->recurrent) + 3 * d;
    case JT_MIX_BOTH:
        return attention(&layer->attention, d) + recurrent(&layer->recurrent) + 5 * d;
    case JT_MIX_NONE:
        break;
    }
    return 0;
}

/* Per token: `used` experts work, and their outputs are copied to their places. */
static size_t bank(const jt_bank *b, size_t used)
{
    size_t values = 0;
    for (int p = 0; b->n_experts && p < JT_PARTS; p++) {
        const jt_tensor *w = &b->part[p];
        if (jt_has(w))
            values += w->shape[1];
    }
    values += b->fused ? b->width : 0;
    return used * (values + packed(b->width) + b->d) + packed(b->d);
}

static size_t mixture(const jt_mixture *m)
{
    size_t rows = (size_t)jt_router_rows(&m->router), k = (size_t)m->router.k;
    size_t weighed = m->router.weigh_input ? k * 2 * m->experts.d : 0;
    size_t routing = 2 * (4 * rows + 24 * k); /* this layer's and a look at the next */
    size_t early = m->router.ahead ? 2 * m->experts.d : 0; /* kept, and its norm */
    return routing + early + weighed + bank(&m->experts, k) + bank(&m->shared, 1) +
           3 * m->experts.d;
}

/* Norms, outputs of the parts. */
enum { ROWS_OF_LAYER = 6, ROWS_OF_PASS = 4, LOGITS = 16 };

static size_t layer_floats(const jt_layer *layer, size_t d)
{
    size_t sum = mixer(layer, d) + bank(&layer->dense, 1) + ROWS_OF_LAYER * d;
    size_t n = rows_of(&layer->input_gate);
    sum += n ? 2 * n + packed(n) + packed(d) + 2 * d : 0;
    return layer->is_mixture ? sum + mixture(&layer->mixture) : sum;
}

/* What a thread takes to expand the keys and values of a head (nn/latent_expanded.c).
 */
static size_t latent_room(const jt_latent *l, size_t tokens, size_t capacity)
{
    enum { ROWS = 256, PARTS = 8, PAD = 64 };
    size_t rank = (size_t)l->rank,
           head = (size_t)l->nope + (size_t)l->rope + (size_t)l->v_dim;
    size_t floats = (capacity + tokens) * head + rank * head +
                    ROWS * (rank + (size_t)l->rope) + rank;
    return floats * sizeof(float) + jt_gemm_scratch() + PARTS * PAD;
}

/* What does not grow with the tokens: room of the threads, lists of products. */
static size_t fixed_bytes(const jt_model *model, const jt_layer *layer, size_t tokens,
                          size_t capacity, size_t threads)
{
    size_t bytes = 1 << 16;
    if (layer->mixer == JT_MIX_ATTENTION || layer->mixer == JT_MIX_BOTH)
        bytes += threads * JT_ATTN_BLOCK *
                 ((size_t)layer->attention.k_dim + (size_t)layer->attention.v_dim) *
                 sizeof(float);
    if (layer->mixer == JT_MIX_LATENT)
        bytes += threads * latent_room(&layer->latent, tokens, capacity);
    if (layer->is_mixture)
        bytes += (size_t)layer->mixture.experts.n_experts *
                 (4 * sizeof(jt_tensor) + 4 * sizeof(jt_product));
    return bytes + (size_t)model->params.d_model * 64;
}

size_t jt_scratch_bytes(const jt_model *model, size_t tokens, size_t capacity,
                        int threads)
{
    size_t d = (size_t)model->params.d_model, most = 0;
    for (int i = 0; i < model->params.n_layers; i++) {
        const jt_layer *layer = &model->layers[i];
        size_t bytes = tokens * layer_floats(layer, d) * sizeof(float) +
                       fixed_bytes(model, layer, tokens, capacity, (size_t)threads);
        most = bytes > most ? bytes : most;
    }
    size_t logits = tokens < LOGITS ? tokens : LOGITS;
    size_t pass =
        tokens * ROWS_OF_PASS * d + (logits + 1) * (size_t)model->params.n_vocab;
    size_t inputs = rows_of(&model->layer_projection);
    pass += inputs ? tokens * (3 * inputs + packed(d)) : 0;
    for (int i = 0; i < JT_ROPE_USES; i++)
        pass += tokens * 2 * (size_t)model->rope[i].pairs;
    return most + pass * sizeof(float);
}
