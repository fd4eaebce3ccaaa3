#include "model/blueprint.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"

/* ---- sizes ---- */

typedef struct bound {
    const char *what;
    int value, low, high;
} bound;

static jt_status check_bounds(const bound *bounds, size_t count, jt_err *err)
{
    for (size_t i = 0; i < count; i++) {
        const bound *b = &bounds[i];
        if (b->value < b->low || b->value > b->high)
            return jt_fail(err, JT_E_ARG, "%s: %d, expected %d to %d", b->what,
                           b->value, b->low, b->high);
    }
    return JT_OK;
}

static jt_status check_sizes(const jt_sizes *s, jt_err *err)
{
    enum { WIDE = 1 << 20, MANY = 65536 };
    const bound all[] = {
        {"layers", s->n_layers, 1, 4096},
        {"dense layers", s->n_dense_layers, 0, s->n_layers},
        {"width", s->d_model, 1, WIDE},
        {"heads", s->n_heads, 1, 4096},
        {"key/value heads", s->n_kv_heads, 1, s->n_heads},
        {"head dimension", s->head_dim, 2, 512},
        {"context", s->n_ctx, 1, 1 << 24},
        {"vocabulary", s->n_vocab, 2, 1 << 24},
        {"experts", s->n_experts, 0, MANY},
        {"shared width", s->shared_width, 0, WIDE},
    };
    JT_TRY(check_bounds(all, sizeof all / sizeof *all, err));
    if (s->n_heads % s->n_kv_heads)
        return jt_fail(err, JT_E_ARG, "%d heads do not share %d key/value heads",
                       s->n_heads, s->n_kv_heads);
    if (s->head_dim % 2)
        return jt_fail(err, JT_E_ARG, "head dimension: %d, expected an even number",
                       s->head_dim);
    const bound experts[] = {
        {"experts used", s->n_experts_used, 1, s->n_experts},
        {"expert width", s->expert_width, 1, WIDE},
    };
    if (s->n_experts)
        JT_TRY(check_bounds(experts, 2, err));
    if (!s->n_experts || s->n_dense_layers)
        return check_bounds(&(bound){"dense width", s->dense_width, 1, WIDE}, 1, err);
    return JT_OK;
}

/* ---- tensors ---- */

typedef struct drawing {
    jt_blueprint *b;
    float init_std;
    int layer; /* -1: of the whole model */
} drawing;

/* Room is taken before (MOST_OF_LAYER); dimensions of 0 are left out. */
static void add(drawing *d, const char *suffix, size_t experts, size_t rows,
                size_t cols, jt_start start)
{
    jt_blueprint_tensor *t = &d->b->tensor[d->b->n_tensors++];
    const size_t all[] = {experts, rows, cols};
    if (d->layer < 0)
        snprintf(t->name, sizeof t->name, "%s", suffix);
    else
        snprintf(t->name, sizeof t->name, "blk.%d.%s", d->layer, suffix);
    for (int i = 0; i < 3; i++) {
        if (all[i])
            t->shape[t->n_dims++] = all[i];
    }
    t->start = start;
}

static void add_matrix(drawing *d, const char *suffix, size_t experts, size_t rows,
                       size_t cols)
{
    float std = d->init_std > 0.0f ? d->init_std : 1.0f / sqrtf((float)cols);
    add(d, suffix, experts, rows, cols, (jt_start){JT_START_NORMAL, std});
}

/* One that writes into the residual stream. */
static void add_writer(drawing *d, const char *suffix, size_t experts, size_t rows,
                       size_t cols)
{
    float std = d->init_std > 0.0f ? d->init_std : 1.0f / sqrtf((float)cols);
    std /= sqrtf(2.0f * (float)d->b->sizes.n_layers);
    add(d, suffix, experts, rows, cols, (jt_start){JT_START_NORMAL, std});
}

static void add_norm(drawing *d, const char *suffix, size_t n)
{
    add(d, suffix, 0, 0, n, (jt_start){JT_START_ONE, 0.0f});
}

static void add_attention(drawing *d, jt_qk_norm qk_norm)
{
    const jt_sizes *s = &d->b->sizes;
    size_t width = (size_t)s->d_model, head = (size_t)s->head_dim;
    size_t q = (size_t)s->n_heads * head, kv = (size_t)s->n_kv_heads * head;
    bool whole = qk_norm == JT_QK_NORM_WHOLE;
    add_norm(d, "attn_norm.weight", width);
    add_matrix(d, "attn_q.weight", 0, q, width);
    add_matrix(d, "attn_k.weight", 0, kv, width);
    add_matrix(d, "attn_v.weight", 0, kv, width);
    if (qk_norm != JT_QK_NORM_NONE) {
        add_norm(d, "attn_q_norm.weight", whole ? q : head);
        add_norm(d, "attn_k_norm.weight", whole ? kv : head);
    }
    add_writer(d, "attn_output.weight", 0, width, q);
}

static void add_ffn(drawing *d, const char *const names[JT_PARTS], size_t experts,
                    size_t inner)
{
    size_t width = (size_t)d->b->sizes.d_model;
    add_matrix(d, names[JT_PART_GATE], experts, inner, width);
    add_matrix(d, names[JT_PART_UP], experts, inner, width);
    add_writer(d, names[JT_PART_DOWN], experts, width, inner);
}

static void add_mixture(drawing *d)
{
    static const char *const experts[JT_PARTS] = {
        "ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"};
    static const char *const shared[JT_PARTS] = {
        "ffn_gate_shexp.weight", "ffn_up_shexp.weight", "ffn_down_shexp.weight"};
    const jt_sizes *s = &d->b->sizes;
    size_t rows = (size_t)s->n_experts + (size_t)s->router.n_null;
    add_matrix(d, "ffn_gate_inp.weight", 0, rows, (size_t)s->d_model);
    if (s->selection_bias)
        add(d, "exp_probs_b.bias", 0, 0, rows, (jt_start){JT_START_ZERO, 0.0f});
    add_ffn(d, experts, (size_t)s->n_experts, (size_t)s->expert_width);
    if (s->shared_width)
        add_ffn(d, shared, 0, (size_t)s->shared_width);
}

static void draw(drawing *d, const jt_family *family)
{
    static const char *const dense[JT_PARTS] = {"ffn_gate.weight", "ffn_up.weight",
                                                "ffn_down.weight"};
    const jt_sizes *s = &d->b->sizes;
    size_t width = (size_t)s->d_model, vocab = (size_t)s->n_vocab;
    add_matrix(d, "token_embd.weight", 0, vocab, width);
    for (d->layer = 0; d->layer < s->n_layers; d->layer++) {
        add_attention(d, family->qk_norm);
        add_norm(d, "ffn_norm.weight", width);
        if (s->n_experts && d->layer >= s->n_dense_layers)
            add_mixture(d);
        else
            add_ffn(d, dense, 0, (size_t)s->dense_width);
    }
    d->layer = -1;
    add_norm(d, "output_norm.weight", width);
    if (!s->tied)
        add_matrix(d, "output.weight", 0, vocab, width);
}

jt_status jt_blueprint_new(jt_blueprint *out, const jt_sizes *sizes, float init_std,
                           jt_err *err)
{
    enum { MOST_OF_LAYER = 20, OTHERS = 3 };
    const jt_family *family = jt_family_find(sizes->family, strlen(sizes->family));
    if (!family)
        return jt_fail(err, JT_E_ARG, "family '%s' is not known", sizes->family);
    if (!jt_family_plain(family))
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "no fresh model of family '%s' can be made (family 'junto' "
                       "describes any)",
                       sizes->family);
    JT_TRY(check_sizes(sizes, err));
    *out = (jt_blueprint){.sizes = *sizes};
    out->tensor = jt_calloc((size_t)sizes->n_layers * MOST_OF_LAYER + OTHERS,
                            sizeof *out->tensor);
    if (!out->tensor)
        return jt_fail_memory(err, "planning a model");
    draw(&(drawing){out, init_std, -1}, family);
    return JT_OK;
}

void jt_blueprint_free(jt_blueprint *blueprint)
{
    free(blueprint->tensor);
    *blueprint = (jt_blueprint){0};
}

size_t jt_blueprint_values(const jt_blueprint_tensor *t)
{
    size_t values = 1;
    for (int i = 0; i < t->n_dims; i++)
        values *= t->shape[i];
    return values;
}

uint64_t jt_blueprint_params(const jt_blueprint *b)
{
    uint64_t params = 0;
    for (size_t i = 0; i < b->n_tensors; i++)
        params += jt_blueprint_values(&b->tensor[i]);
    return params;
}

uint64_t jt_blueprint_active(const jt_blueprint *b)
{
    const jt_sizes *s = &b->sizes;
    uint64_t params = 0;
    for (size_t i = 0; i < b->n_tensors; i++) {
        const jt_blueprint_tensor *t = &b->tensor[i];
        uint64_t values = jt_blueprint_values(t);
        if (t->n_dims == 3) /* used experts can be fewer than slots: nulls */
            values = values / (uint64_t)s->n_experts *
                     (uint64_t)(s->n_experts_used < s->n_experts ? s->n_experts_used
                                                                 : s->n_experts);
        if (s->tied || strcmp(t->name, "token_embd.weight") != 0)
            params += values;
    }
    return params;
}

jt_sizes jt_sizes_of(const jt_model *model)
{
    const jt_params *p = &model->params;
    jt_sizes s = {
        .family = model->family->arch,
        .name = "",
        .n_layers = p->n_layers,
        .d_model = p->d_model,
        .n_heads = p->n_heads,
        .n_kv_heads = p->n_kv_heads,
        .head_dim = p->k_dim,
        .n_experts = p->router.n_experts,
        .n_experts_used = p->router.k,
        .n_ctx = p->n_ctx_train,
        .n_vocab = p->n_vocab,
        .rope_base = p->rope[JT_ROPE_USUAL].base,
        .norm_eps = p->norm_eps,
        .tied = model->output.data == model->embedding.data,
        .router = p->router,
    };
    for (int i = 0; i < p->n_layers; i++) {
        const jt_layer *layer = &model->layers[i];
        if (layer->is_mixture) {
            s.expert_width = (int)layer->mixture.experts.width;
            s.shared_width = (int)layer->mixture.shared.width;
            s.selection_bias = jt_has(&layer->mixture.router.selection_bias);
        } else {
            s.dense_width = (int)layer->dense.width;
            s.n_dense_layers++;
        }
    }
    return s;
}

/* ---- keys ---- */

typedef struct keys {
    jt_gguf_writer *w;
    const char *arch;
    jt_err *err;
    jt_status status; /* of the first failure */
} keys;

static void set_int(keys *k, const char *name, int value)
{
    char key[128];
    snprintf(key, sizeof key, "%s.%s", k->arch, name);
    if (k->status == JT_OK)
        k->status = jt_gguf_set_u32(k->w, key, (uint32_t)value, k->err);
}

static void set_float(keys *k, const char *name, float value)
{
    char key[128];
    snprintf(key, sizeof key, "%s.%s", k->arch, name);
    if (k->status == JT_OK)
        k->status = jt_gguf_set_f32(k->w, key, value, k->err);
}

static void set_text(keys *k, const char *key, const char *value)
{
    if (k->status == JT_OK)
        k->status = jt_gguf_set_str(k->w, key, value, k->err);
}

static void set_sizes(keys *k, const jt_sizes *s)
{
    set_int(k, "block_count", s->n_layers);
    set_int(k, "context_length", s->n_ctx);
    set_int(k, "embedding_length", s->d_model);
    set_int(k, "feed_forward_length",
            s->dense_width ? s->dense_width : s->expert_width);
    set_int(k, "attention.head_count", s->n_heads);
    set_int(k, "attention.head_count_kv", s->n_kv_heads);
    set_int(k, "attention.key_length", s->head_dim);
    set_int(k, "attention.value_length", s->head_dim);
    set_int(k, "rope.dimension_count", s->head_dim);
    set_float(k, "attention.layer_norm_rms_epsilon", s->norm_eps);
    set_float(k, "rope.freq_base", s->rope_base);
    set_int(k, "vocab_size", s->n_vocab);
}

static void set_bool(keys *k, const char *key, bool value)
{
    if (k->status == JT_OK)
        k->status = jt_gguf_set_bool(k->w, key, value, k->err);
}

/* Keys that other tools know under the architecture's name, the rest under ours. */
static void set_router(keys *k, const jt_sizes *s)
{
    static const int numbers[JT_GATE_COUNT] = {
        [JT_GATE_SOFTMAX] = 1, [JT_GATE_SIGMOID] = 2, [JT_GATE_SQRT_SOFTPLUS] = 4};
    const jt_router *r = &s->router;
    char norm[128];
    set_int(k, "expert_count", s->n_experts);
    set_int(k, "expert_used_count", s->n_experts_used);
    set_int(k, "expert_feed_forward_length", s->expert_width);
    if (s->shared_width)
        set_int(k, "expert_shared_feed_forward_length", s->shared_width);
    set_int(k, "expert_gating_func", numbers[r->gating]);
    snprintf(norm, sizeof norm, "%s.expert_weights_norm", k->arch);
    set_bool(k, norm, r->renormalise);
    set_float(k, "expert_weights_scale", r->scale);
    if (r->n_groups > 1) {
        set_int(k, "expert_group_count", r->n_groups);
        set_int(k, "expert_group_used_count", r->groups_used);
    }
    set_text(k, "junto.router.score", r->scorer->name);
    set_text(k, "junto.router.select", r->selector->name);
    set_bool(k, "junto.router.gate_after", r->gate_after);
    if (r->ahead)
        set_bool(k, "junto.router.ahead", true);
    if (r->n_null && k->status == JT_OK)
        k->status = jt_gguf_set_u32(k->w, "junto.router.null_experts",
                                    (uint32_t)r->n_null, k->err);
    if (r->temperature > 0.0f && k->status == JT_OK)
        k->status =
            jt_gguf_set_f32(k->w, "junto.router.temperature", r->temperature, k->err);
    if (r->top_p > 0.0f && k->status == JT_OK)
        k->status = jt_gguf_set_f32(k->w, "junto.router.top_p", r->top_p, k->err);
}

jt_status jt_blueprint_keys(const jt_blueprint *b, jt_gguf_writer *writer, jt_err *err)
{
    const jt_sizes *s = &b->sizes;
    keys k = {writer, s->family, err, JT_OK};
    set_text(&k, "general.architecture", s->family);
    set_text(&k, "general.name", s->name && *s->name ? s->name : "untitled");
    set_sizes(&k, s);
    if (s->n_experts)
        set_router(&k, s);
    return k.status;
}

/* ---- values ---- */

void jt_blueprint_fill(const jt_blueprint *b, size_t i, uint64_t seed, float *out)
{
    const jt_blueprint_tensor *t = &b->tensor[i];
    size_t values = jt_blueprint_values(t);
    if (t->start.kind == JT_START_NORMAL) {
        jt_rng rng = {.seed = seed, .stream = i};
        jt_rng_normals(&rng, out, values);
        for (size_t j = 0; j < values; j++)
            out[j] *= t->start.deviation;
        return;
    }
    for (size_t j = 0; j < values; j++)
        out[j] = t->start.kind == JT_START_ONE ? 1.0f : 0.0f;
}
