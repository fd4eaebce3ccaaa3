#include "model/transformer.h"

#include <math.h>
#include <string.h>

#include "model/layer_input.h"
#include "model/mix.h"
#include "tensor/tape.h"

/* What all layers of a pass share. The tape keeps a copy; what it points to lives until
 * the gradients are done. */
typedef struct pass {
    const jt_model *model;
    jt_chunk chunk;
    jt_mix mix;
    const jt_store *store;
    const jt_hooks *hooks;
    jt_tensor inputs;  /* of all layers (layer_input.h) */
    jt_tensor *before; /* what the last mixture read, for routers that decide early */
} pass;

static jt_input normed(jt_context *ctx, const jt_layer *layer, jt_norm_place place,
                       const jt_tensor *h)
{
    return jt_input_of(jt_norm_forward(ctx, &layer->norm[place], h));
}

/* h += scale * norm(y) */
static void add_branch(jt_context *ctx, const pass *p, const jt_norm *norm,
                       jt_tensor *h, jt_tensor y)
{
    if (norm->kind != JT_NORM_NONE)
        y = jt_norm_forward(ctx, norm, &y);
    jt_scale(ctx, &y, p->model->params.residual_scale);
    jt_add_to(ctx, h, &y);
}

/* Go on from what the next part reads, where the family does so. */
static void carry(jt_context *ctx, const pass *p, jt_tensor *h, const jt_input *x)
{
    if (!p->model->family->carries_normed)
        return;
    jt_assign(ctx, h, &x->x);
    jt_scale(ctx, h, p->model->params.carried_scale);
}

/* What a half reads of x, and what goes on of what it gave: adapters may stand there.
 */
static jt_input enter(jt_context *ctx, const pass *p, int index, jt_half half,
                      const jt_input *x)
{
    const jt_between *b = p->chunk.between;
    jt_input own = *x;
    if (b && b->before && !jt_failed(ctx))
        b->before(b->self, ctx, index, half, &own);
    return own;
}

static void leave(jt_context *ctx, const pass *p, int index, jt_half half, jt_input *x,
                  jt_tensor *y)
{
    const jt_between *b = p->chunk.between;
    if (b && b->after && !jt_failed(ctx))
        b->after(b->self, ctx, index, half, x, y);
}

static jt_route_site site_of(const pass *p, int index)
{
    return (jt_route_site){.layer = index,
                           .token_ids = p->chunk.ids,
                           .positions = p->chunk.positions,
                           .draw = p->chunk.draw,
                           .replay = p->chunk.replay};
}

/* The store may guess from h what the layer after this one will ask for. */
static void foresee(jt_context *ctx, const pass *p, const jt_route_site *site,
                    const jt_tensor *h)
{
    if (p->store->foresee)
        p->store->foresee(p->store->self, ctx, p->hooks, site, h);
}

/* Keep h for the router of the next mixture: on the tape, or in room of the pass, as
 * that of a layer goes with it. */
static void keep(jt_context *ctx, const pass *p, const jt_tensor *h)
{
    if (ctx->tape)
        *p->before = jt_copy(ctx, h);
    else if (p->before->data && !jt_failed(ctx))
        memcpy(p->before->data, h->data, jt_rows(h) * jt_cols(h) * sizeof(float));
    p->before->n_dims = 2;
}

/* The experts of a layer on x = norm(h). */
static jt_tensor mixture(jt_context *ctx, const pass *p, int index, const jt_tensor *h,
                         jt_input *x)
{
    const jt_layer *layer = &p->model->layers[index];
    jt_route_site site = site_of(p, index);
    jt_input early, *router_x = x;
    foresee(ctx, p, &site, h);
    if (layer->mixture.router.ahead) {
        if (p->before->n_dims) {
            early = normed(ctx, layer, JT_BEFORE_FFN, p->before);
            router_x = &early;
        }
        keep(ctx, p, h);
    }
    return jt_mixture_forward_apart(ctx, &layer->mixture, p->store, p->hooks, &site,
                                    router_x, x);
}

/* A dense FFN, or the mixture that an adapter has put in its place. Policies and
 * watchers know the layers of the model: this is none of theirs. */
static jt_tensor dense_or_instead(jt_context *ctx, const pass *p, int index,
                                  const jt_instead *instead, jt_input *x)
{
    const jt_mixture *mixture = instead->ffn ? instead->ffn[index] : NULL;
    if (!mixture)
        return jt_dense_forward(ctx, &p->model->layers[index].dense, p->store, x);
    jt_route_site site = site_of(p, index);
    jt_hooks hooks = {.n_terms = instead->term != NULL};
    if (hooks.n_terms)
        hooks.term[0] = *instead->term;
    return jt_mixture_forward(ctx, mixture, p->store, &hooks, &site, x);
}

/* The runs of tokens from `first` on that have the same FFN: how many of `rows`. */
static size_t same_ffn(const pass *p, int index, size_t first, size_t rows,
                       const jt_instead **found)
{
    const jt_instead *i = p->chunk.instead, *end = i + p->chunk.n_instead;
    size_t at = 0, until;
    while (i + 1 < end && at + i->tokens <= first)
        at += i++->tokens;
    *found = i;
    until = at + i->tokens;
    while (i + 1 < end && !(i->ffn && i->ffn[index]) && !(i[1].ffn && i[1].ffn[index]))
        until += (++i)->tokens;
    return until < rows ? until - first : rows - first;
}

/* The FFN of a layer, run by run of tokens that have the same. */
static jt_tensor dense(jt_context *ctx, const pass *p, int index, jt_input *x)
{
    static const jt_instead none;
    const jt_instead *instead = &none;
    size_t rows = jt_failed(ctx) ? 0 : jt_rows(&x->x), count;
    if (!p->chunk.n_instead || !rows || same_ffn(p, index, 0, rows, &instead) == rows)
        return dense_or_instead(ctx, p, index, instead, x);
    jt_tensor y = jt_new(ctx, rows, jt_cols(&x->x));
    for (size_t first = 0; first < rows && !jt_failed(ctx); first += count) {
        count = same_ffn(p, index, first, rows, &instead);
        jt_input some = jt_input_of(jt_some_rows(&x->x, first, count));
        ctx->change.first = first;
        jt_tensor part = dense_or_instead(ctx, p, index, instead, &some);
        ctx->change.first = 0;
        if (!jt_failed(ctx))
            memcpy(jt_row(&y, first), part.data, count * jt_cols(&y) * sizeof(float));
    }
    return y;
}

/* JT_BESIDE_NORMED: x is h as the dense half reads it. */
static jt_tensor halves(jt_context *ctx, const pass *p, int index, const jt_tensor *h,
                        jt_input *x)
{
    const jt_layer *layer = &p->model->layers[index];
    jt_tensor y = jt_dense_forward(ctx, &layer->dense, p->store, x);
    y = jt_norm_forward(ctx, &layer->norm[JT_AFTER_DENSE], &y);
    jt_input experts_x = normed(ctx, layer, JT_BEFORE_EXPERTS, h);
    jt_tensor to_router = jt_norm_forward(ctx, &layer->norm[JT_BEFORE_ROUTER], h);
    jt_scale(ctx, &to_router, 1.0f / sqrtf((float)p->model->params.d_model));
    jt_input router_x = jt_input_of(to_router);
    jt_route_site site = site_of(p, index);
    foresee(ctx, p, &site, h);
    jt_tensor z = jt_mixture_forward_apart(ctx, &layer->mixture, p->store, p->hooks,
                                           &site, &router_x, &experts_x);
    z = jt_norm_forward(ctx, &layer->norm[JT_AFTER_EXPERTS], &z);
    jt_add_to(ctx, &y, &z);
    return y;
}

/* What attention, or what stands for it, makes of x. */
static jt_tensor mixer(jt_context *ctx, const pass *p, int index, const jt_input *read)
{
    jt_input x = enter(ctx, p, index, JT_HALF_MIXER, read);
    jt_tensor y = jt_mix_forward(ctx, &p->mix, &p->chunk, index, &x);
    leave(ctx, p, index, JT_HALF_MIXER, &x, &y);
    return y;
}

/* What FFN or experts, or both, make of h, read as x. */
static jt_tensor experts(jt_context *ctx, const pass *p, int index, const jt_tensor *h,
                         jt_input *x)
{
    const jt_layer *layer = &p->model->layers[index];
    jt_beside beside = p->model->family->beside;
    if (layer->is_mixture && beside == JT_BESIDE_NORMED)
        return halves(ctx, p, index, h, x);
    if (layer->is_mixture && beside != JT_BESIDE_EXPERTS)
        return mixture(ctx, p, index, h, x);
    return dense(ctx, p, index, x);
}

/* What the second half of a layer makes of h, read as x. */
static jt_tensor ffn(jt_context *ctx, const pass *p, int index, const jt_tensor *h,
                     const jt_input *read)
{
    jt_input x = enter(ctx, p, index, JT_HALF_FFN, read);
    jt_tensor y = experts(ctx, p, index, h, &x);
    leave(ctx, p, index, JT_HALF_FFN, &x, &y);
    return y;
}

/* A layer that is a mixer or an FFN: h += part(norm(h)). */
static void single_forward(jt_context *ctx, const pass *p, int index, jt_tensor *h)
{
    static const jt_norm no_norm = {.kind = JT_NORM_NONE};
    const jt_layer *layer = &p->model->layers[index];
    bool mixes = layer->mixer != JT_MIX_NONE;
    jt_input x = normed(ctx, layer, mixes ? JT_BEFORE_ATTENTION : JT_BEFORE_FFN, h);
    jt_tensor y = mixes ? mixer(ctx, p, index, &x) : ffn(ctx, p, index, h, &x);
    add_branch(ctx, p, &no_norm, h, y);
    if (mixes)
        jt_lap(ctx, JT_STAGE_ATTENTION);
}

/* One block: h += mix(norm(h)); h += ffn(norm(h)). In a parallel one both read
 * the h that came in; so do experts that stand beside an FFN. */
static void layer_forward(jt_context *ctx, const pass *p, int index, jt_tensor *h)
{
    const jt_layer *layer = &p->model->layers[index];
    const jt_family *family = p->model->family;
    const jt_norm *after = &layer->norm[JT_AFTER_ATTENTION];
    bool beside = layer->is_mixture && family->beside == JT_BESIDE_EXPERTS;
    jt_tensor side = {0};
    if (family->single) {
        single_forward(ctx, p, index, h);
        return;
    }
    if (beside) {
        jt_input x = normed(ctx, layer, JT_BEFORE_EXPERTS, h);
        side = mixture(ctx, p, index, h, &x);
    }
    jt_input x = normed(ctx, layer, JT_BEFORE_ATTENTION, h);
    carry(ctx, p, h, &x);
    jt_tensor y = mixer(ctx, p, index, &x);
    if (!family->parallel)
        add_branch(ctx, p, after, h, y);
    jt_lap(ctx, JT_STAGE_ATTENTION);

    bool same = family->parallel && layer->norm[JT_BEFORE_FFN].kind == JT_NORM_NONE;
    if (!same)
        x = normed(ctx, layer, JT_BEFORE_FFN, h);
    carry(ctx, p, h, &x);
    jt_tensor z = ffn(ctx, p, index, h, &x);
    if (family->parallel)
        add_branch(ctx, p, after, h, y);
    add_branch(ctx, p, &layer->norm[JT_AFTER_FFN], h, z);
    if (beside)
        jt_add_to(ctx, h, &side);
    jt_layer_input_add(ctx, p->model, index, &p->inputs, h);
    if (jt_has(&layer->scale))
        jt_scale(ctx, h, *(const float *)layer->scale.data);
}

typedef struct saved_layer {
    pass p;
    int index;
    jt_tensor h; /* as it goes in; its gradient is that of all later values of h */
} saved_layer;

static void layer_backward(jt_context *ctx, void *saved)
{
    saved_layer *s = saved;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_tape *outer = ctx->tape, inner = {0};
    ctx->tape = &inner;
    layer_forward(ctx, &s->p, s->index, &s->h);
    jt_tape_backward(ctx);
    ctx->tape = outer;
    jt_arena_rewind(&ctx->scratch, mark);
}

/* The layer as it will run again, of which the tape keeps only that it will. */
static void layer_checkpoint(jt_context *ctx, const pass *p, int index, jt_tensor *h)
{
    saved_layer saved = {*p, index, *h};
    size_t values = jt_rows(h) * jt_cols(h);
    saved.p.chunk.replay = true;
    saved.h.data = jt_scratch(ctx, values, sizeof(float));
    if (jt_failed(ctx))
        return;
    memcpy(saved.h.data, h->data, values * sizeof(float));
    jt_tape *tape = ctx->tape, once = {.forgets = true};
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    ctx->tape = &once;
    layer_forward(ctx, p, index, h);
    ctx->tape = tape;
    jt_arena_rewind(&ctx->scratch, mark);
    jt_tape_push(ctx, layer_backward, &saved, sizeof saved);
}

static void run_layer(jt_context *ctx, const pass *p, int index, jt_tensor *h)
{
    if (ctx->tape && p->chunk.checkpoint) {
        layer_checkpoint(ctx, p, index, h);
    } else {
        jt_arena_mark mark = jt_arena_save(&ctx->scratch);
        layer_forward(ctx, p, index, h);
        if (!ctx->tape)
            jt_arena_rewind(&ctx->scratch, mark);
    }
    if (p->chunk.on_layer && !jt_failed(ctx))
        p->chunk.on_layer(p->chunk.user, index, h);
}

/* The hidden states of the last token of each span. */
static jt_tensor last_rows(jt_context *ctx, const jt_chunk *chunk, const jt_tensor *h)
{
    if (jt_failed(ctx) || chunk->n_spans == 1)
        return jt_failed(ctx) ? *h : jt_some_rows(h, chunk->count - 1, 1);
    jt_tensor last = jt_new(ctx, chunk->n_spans, jt_cols(h));
    size_t row = 0;
    for (size_t i = 0; i < chunk->n_spans && !jt_failed(ctx); i++) {
        row += chunk->spans[i].count;
        memcpy(jt_row(&last, i), jt_row(h, row - 1), jt_cols(h) * sizeof(float));
    }
    return last;
}

jt_tensor jt_transformer_head(jt_context *ctx, const jt_model *model,
                              const jt_tensor *hidden)
{
    const jt_params *params = &model->params;
    jt_input x = jt_input_of(*hidden);
    jt_tensor logits = jt_linear(ctx, &x, &model->output, &model->output_bias);
    jt_scale(ctx, &logits, params->logit_scale);
    jt_softcap(ctx, &logits, params->logit_softcap);
    jt_lap(ctx, JT_STAGE_HEAD);
    return logits;
}

/* Room for what a router that decides early reads, with no dimensions until it is
 * there. */
static jt_tensor begin_ahead(jt_context *ctx, const jt_model *model,
                             const jt_chunk *chunk, const jt_tensor *h)
{
    jt_tensor before = {0};
    if (!model->params.router.ahead || jt_failed(ctx))
        return before;
    if (ctx->tape && chunk->checkpoint)
        jt_fail(&ctx->err, JT_E_UNSUPPORTED,
                "routers that decide a layer early cannot run again alone");
    else if (!ctx->tape)
        before = jt_new(ctx, jt_rows(h), jt_cols(h));
    before.n_dims = 0;
    return before;
}

jt_tensor jt_transformer_forward(jt_context *ctx, const jt_model *model,
                                 const jt_chunk *chunk, const jt_store *store,
                                 const jt_hooks *hooks)
{
    jt_lap_start(ctx);
    jt_tensor h = jt_embed(ctx, &model->embedding, chunk->ids, chunk->count);
    jt_scale(ctx, &h, model->params.embedding_scale);
    if (chunk->between && chunk->between->embedded && !jt_failed(ctx))
        chunk->between->embedded(chunk->between->self, ctx, chunk, &h);
    jt_tensor before = begin_ahead(ctx, model, chunk, &h);
    pass p = {.model = model,
              .chunk = *chunk,
              .mix = jt_mix_begin(ctx, model, chunk),
              .store = store,
              .hooks = hooks,
              .inputs = jt_layer_inputs(ctx, model, chunk->ids, &h),
              .before = &before};
    for (size_t i = 0; i < chunk->n_spans; i++)
        jt_cache_feed(chunk->spans[i].cache, chunk->spans[i].start,
                      chunk->spans[i].count);
    for (int i = 0; i < model->params.n_layers && !jt_failed(ctx); i++)
        run_layer(ctx, &p, i, &h);
    if (!chunk->all_logits && !chunk->hidden)
        h = last_rows(ctx, chunk, &h);
    jt_tensor x = jt_norm_forward(ctx, &model->output_norm, &h);
    return chunk->hidden ? x : jt_transformer_head(ctx, model, &x);
}
