#include "learn/routes.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"

/* ---- sizes ---- */

static jt_status measure(jt_routes *r, const jt_model *model, jt_err *err)
{
    for (int i = 0; i < model->params.n_layers; i++) {
        const jt_layer *layer = &model->layers[i];
        int experts = layer->mixture.experts.n_experts, k = layer->mixture.router.k;
        if (!layer->is_mixture)
            continue;
        if (r->n_layers && (r->n_experts != experts || r->k != k))
            return jt_fail(err, JT_E_ARG, "the layers of the model are not alike");
        r->n_experts = experts;
        r->k = k;
        r->n_layers++;
    }
    if (!r->n_layers)
        return jt_fail(err, JT_E_ARG, "the model has no mixtures");
    r->first = jt_alloc((size_t)r->n_layers + 1, sizeof *r->first);
    r->uses = jt_alloc((size_t)r->n_layers, sizeof *r->uses);
    if (!r->first || !r->uses)
        return jt_fail_memory(err, "keeping routes");
    for (int l = 0; l <= r->n_layers; l++)
        r->first[l] = l * r->n_experts;
    for (int l = 0; l < r->n_layers; l++)
        r->uses[l] = r->k;
    r->map = (jt_experts_map){r->n_layers, r->first, r->uses};
    return JT_OK;
}

static bool make_room(jt_routes *r, size_t tokens)
{
    size_t need = r->begun + tokens, rows = need * (size_t)r->n_layers;
    size_t *room = r->room;
    return jt_grow((void **)&r->id, &room[0], need, sizeof *r->id) &&
           jt_grow((void **)&r->place, &room[1], need, sizeof *r->place) &&
           jt_grow((void **)&r->expert, &room[2], rows * (size_t)r->k,
                   sizeof *r->expert) &&
           jt_grow((void **)&r->score, &room[3], rows * (size_t)r->n_experts,
                   sizeof *r->score);
}

/* ---- a pass ---- */

typedef struct taking {
    jt_routes *routes;
    jt_trainer *trainer;
} taking;

/* The place of a layer of the model among its mixtures. */
static int place_of(const jt_model *model, int layer)
{
    int place = 0;
    for (int i = 0; i < layer; i++)
        place += model->layers[i].is_mixture;
    return place;
}

static void keep_scores(float *to, const float *scores, int n_experts)
{
    float sum = 0.0f;
    for (int e = 0; e < n_experts; e++)
        sum += scores[e];
    for (int e = 0; e < n_experts; e++)
        to[e] = sum > 0.0f ? scores[e] / sum : 0.0f;
}

static void on_route(void *self, const jt_route_site *site, const jt_route *route)
{
    const taking *t = self;
    jt_routes *r = t->routes;
    int l = place_of(t->trainer->model, site->layer);
    if (r->out_of_memory || !make_room(r, (size_t)route->n_tokens)) {
        r->out_of_memory = true;
        return;
    }
    for (int i = 0; i < route->n_tokens; i++) {
        size_t token = r->begun + (size_t)i;
        memcpy((int32_t *)jt_routes_row(r, token, l),
               route->expert + (size_t)i * (size_t)route->k,
               (size_t)r->k * sizeof(int32_t));
        keep_scores((float *)jt_routes_scores(r, token, l),
                    route->scores + (size_t)i * (size_t)route->n_rows, r->n_experts);
        r->id[token] = site->token_ids[i];
        r->place[token] = site->positions[i];
    }
}

static void on_layer(void *user, int layer, const jt_tensor *h)
{
    const taking *t = user;
    jt_routes *r = t->routes;
    size_t at = r->n_passes * (size_t)r->n_layers;
    double now = jt_seconds(), seconds = now - r->lap;
    (void)h;
    r->lap = now;
    if (!t->trainer->model->layers[layer].is_mixture)
        return;
    if (!jt_grow((void **)&r->seconds, &r->room[4], at + (size_t)r->n_layers,
                 sizeof *r->seconds))
        r->out_of_memory = true;
    else
        r->seconds[at + (size_t)place_of(t->trainer->model, layer)] = seconds;
}

/* The batch at hand, of which `filled` sequences are real. */
static jt_status take_batch(taking *now, size_t filled, jt_err *err)
{
    jt_trainer *t = now->trainer;
    jt_routes *r = now->routes;
    jt_span span = jt_trainer_span(t);
    jt_chunk chunk = jt_trainer_chunk(t, &span, -1);
    jt_hooks hooks = {.n_watchers = 1};
    hooks.watcher[0] =
        (jt_watcher){.name = "routes", .self = now, .on_route = on_route};
    chunk.hidden = true;
    chunk.on_layer = on_layer;
    chunk.user = now;
    jt_arena_mark mark = jt_arena_save(&t->ctx.scratch);
    t->ctx.err = (jt_err){0};
    r->lap = jt_seconds();
    jt_trainer_forward(t, &chunk, &hooks);
    jt_arena_rewind(&t->ctx.scratch, mark);
    if (jt_failed(&t->ctx)) {
        if (err)
            *err = t->ctx.err;
        return t->ctx.err.code;
    }
    if (r->out_of_memory)
        return jt_fail_memory(err, "keeping routes");
    r->begun += filled * t->batch.seq_len;
    r->n_tokens = r->begun;
    r->n_passes++;
    return JT_OK;
}

static jt_status take_held_out(taking *now, jt_err *err)
{
    jt_trainer *t = now->trainer;
    size_t per = t->batch.n_seqs, filled;
    size_t most = (size_t)t->config->eval.batches * per;
    for (size_t s = 0; s < jt_data_sources(t->data); s++) {
        size_t sequences = jt_data_eval_count(t->data, s);
        if (most && sequences > most)
            sequences = most;
        for (size_t first = 0; first < sequences; first += per) {
            JT_TRY(jt_data_eval_batch(t->data, s, first, &t->batch, &filled, err));
            JT_TRY(take_batch(now, filled, err));
        }
    }
    return JT_OK;
}

static jt_status take_training(taking *now, size_t batches, jt_err *err)
{
    jt_trainer *t = now->trainer;
    uint64_t after =
        (uint64_t)t->config->train.steps * (uint64_t)t->config->train.accumulate + 1;
    for (size_t i = 0; i < batches; i++) {
        JT_TRY(jt_data_train_batch(t->data, after + i, &t->batch, err));
        JT_TRY(take_batch(now, t->batch.n_seqs, err));
    }
    return JT_OK;
}

jt_status jt_routes_take(jt_routes *out, jt_trainer *trainer, jt_routes_of of,
                         size_t batches, jt_err *err)
{
    jt_routes r = {.seq_len = trainer->batch.seq_len};
    taking now = {&r, trainer};
    jt_status status = measure(&r, trainer->model, err);
    if (status == JT_OK)
        status = of == JT_ROUTES_HELD_OUT ? take_held_out(&now, err)
                                          : take_training(&now, batches, err);
    if (status != JT_OK)
        jt_routes_free(&r);
    *out = r;
    return status;
}

int jt_routes_rank(const jt_routes *r, size_t token, int layer, int slot)
{
    const int32_t *row = jt_routes_row(r, token, layer);
    const float *scores = jt_routes_scores(r, token, layer);
    int rank = 0;
    for (int j = 0; j < r->k; j++)
        rank += j != slot && row[j] >= 0 && scores[row[j]] > scores[row[slot]];
    return rank;
}

void jt_routes_free(jt_routes *r)
{
    free(r->id);
    free(r->place);
    free(r->expert);
    free(r->score);
    free(r->seconds);
    free(r->first);
    free(r->uses);
    *r = (jt_routes){0};
}
