/* Several sessions in one pass: what reads a weight once for many users. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "run/session.h"

typedef struct together {
    const jt_part *parts;
    size_t n;
    jt_session *lead;         /* whose threads and scratch work */
    size_t *done;             /* [n] tokens that are evaluated */
    jt_span *span;            /* [n] of the pass */
    size_t *who;              /* [n] the part of a span */
    jt_attached **adapters;   /* [n] of a span */
    jt_hooks_part *routed;    /* [n] spans whose hooks are the same */
    int32_t *ids, *positions; /* [room] */
    size_t room;              /* tokens of a pass at most */
    jt_climb *climb;          /* of the last part, which is all in the pass; or NULL */
    int until;                /* this layer */
} together;

static jt_status check(const jt_part *parts, size_t n, jt_err *err)
{
    if (n == 0)
        return jt_fail(err, JT_E_ARG, "no sessions to evaluate");
    for (size_t i = 0; i < n; i++) {
        const jt_session *s = parts[i].session;
        if (s->model != parts[0].session->model)
            return jt_fail(err, JT_E_ARG, "sessions of different models");
        for (size_t j = 0; j < i; j++) {
            if (parts[j].session == s)
                return jt_fail(err, JT_E_ARG, "a session comes twice");
        }
        JT_TRY(jt_session_check(s, parts[i].tokens, parts[i].count, err));
    }
    return JT_OK;
}

/* Latent attention has products whose rows are heads, not tokens: adapters cannot tell
 * whose they are. */
static bool has_latent(const jt_model *model)
{
    for (int i = 0; i < model->params.n_layers; i++) {
        if (model->layers[i].mixer == JT_MIX_LATENT)
            return true;
    }
    return false;
}

bool jt_session_shares(const jt_session *s)
{
    for (int i = 0; i < s->hooks.n_watchers; i++) {
        if (s->hooks.watcher[i].on_outputs)
            return false;
    }
    return !s->twin && !s->attendant.before && !s->on_layer && !s->cached &&
           (s->adapters.count == 0 || (!s->weigher.weigh && !has_latent(s->model)));
}

bool jt_session_climbs(const jt_session *s)
{
    return jt_session_shares(s) && !jt_attached_looks_ahead(&s->adapters);
}

/* Whether the tokens of two sessions can be routed as those of one. */
static bool same_hooks(const jt_hooks *a, const jt_hooks *b)
{
    return !a->n_policies && !b->n_policies && a->n_watchers == b->n_watchers &&
           memcmp(a->watcher, b->watcher, (size_t)a->n_watchers * sizeof *a->watcher) ==
               0;
}

/* Let the next tokens of as many parts as fit make a pass; how many tokens. */
static jt_chunk gather(together *g)
{
    jt_chunk chunk = {.spans = g->span, .ids = g->ids, .positions = g->positions};
    for (size_t i = 0; i < g->n; i++) {
        jt_session *s = g->parts[i].session;
        size_t left = g->parts[i].count - g->done[i];
        size_t room = g->room - chunk.count, start = s->cache.length;
        size_t most = (size_t)s->chunk < room ? (size_t)s->chunk : room;
        size_t count = left < most ? left : most;
        if (!jt_session_shares(s) || count == 0)
            continue;
        if (g->climb && i == g->n - 1)
            start = (size_t)s->length;
        memcpy(g->ids + chunk.count, g->parts[i].tokens + g->done[i],
               count * sizeof *g->ids);
        for (size_t t = 0; t < count; t++)
            g->positions[chunk.count + t] = (int32_t)(start + t);
        g->who[chunk.n_spans] = i;
        g->span[chunk.n_spans++] = (jt_span){&s->cache, start, count};
        chunk.count += count;
    }
    return chunk;
}

/* The hooks of the first n spans of a pass: each session is steered by its own
 * policies, and seen by its own watchers. */
static jt_hooks gather_hooks(together *g, const jt_chunk *chunk, size_t n,
                             jt_hooks_part *parts)
{
    static const jt_hooks none;
    jt_hooks all = {.part = parts};
    for (size_t i = 0; i < n; i++) {
        const jt_hooks *own = &g->parts[g->who[i]].session->hooks;
        jt_hooks_part *last = all.n_parts ? &parts[all.n_parts - 1] : NULL;
        if (last && same_hooks(last->hooks, own))
            last->tokens += chunk->spans[i].count;
        else
            parts[all.n_parts++] = (jt_hooks_part){own, chunk->spans[i].count};
    }
    return all.n_parts > 1 ? all : n ? *parts[0].hooks : none;
}

static jt_status run_pass(together *g, jt_chunk *chunk, jt_err *err)
{
    jt_session *lead = g->lead;
    size_t n = chunk->n_spans;
    const jt_hooks hooks = gather_hooks(g, chunk, n, g->routed);
    const jt_hooks others =
        gather_hooks(g, chunk, g->climb ? n - 1 : 0, g->routed + g->n);
    jt_halfway halfway;
    if (g->climb) {
        halfway = (jt_halfway){g->climb->layer, g->until, g->climb->h, &others};
        chunk->halfway = &halfway;
    }
    lead->ctx->err = (jt_err){0};
    jt_arena_mark mark = jt_arena_save(&lead->ctx->scratch);
    for (size_t i = 0; i < n; i++)
        g->adapters[i] = &g->parts[g->who[i]].session->adapters;
    jt_tensor logits = jt_attached_forward_spans(g->adapters, lead->ctx, lead->model,
                                                 chunk, lead->store, &hooks);
    jt_status status = jt_session_status(lead, err);
    if (g->climb && g->until < lead->model->params.n_layers)
        n--; /* the last one is on its way */
    for (size_t i = 0; i < n && status == JT_OK; i++) {
        size_t who = g->who[i], count = g->span[i].count;
        jt_session_advance(g->parts[who].session, count, jt_row(&logits, i));
        g->done[who] += count;
    }
    jt_arena_rewind(&lead->ctx->scratch, mark);
    return status;
}

static jt_status run(together *g, const jt_progress *progress, jt_err *err)
{
    size_t total = 0, done = 0;
    for (size_t i = 0; i < g->n; i++) {
        const jt_part *p = &g->parts[i];
        total += p->count;
        memcpy(p->session->ids + p->session->length, p->tokens,
               p->count * sizeof *p->tokens);
        jt_session_decide(p->session, (size_t)p->session->length + p->count);
        JT_TRY(jt_session_remember(p->session, err));
    }
    for (size_t i = 0; i < g->n; i++) {
        const jt_part *p = &g->parts[i];
        if (jt_session_shares(p->session))
            continue;
        JT_TRY(jt_session_eval(p->session, p->tokens, p->count, NULL, err));
        done += p->count;
    }
    for (jt_chunk chunk = gather(g); chunk.count; chunk = gather(g)) {
        if (progress)
            JT_TRY(jt_progress_report(progress, "prompt", done, total, err));
        JT_TRY(run_pass(g, &chunk, err));
        done += chunk.count;
        if (g->climb)
            return JT_OK;
    }
    return progress ? jt_progress_report(progress, "prompt", done, total, err) : JT_OK;
}

static jt_status evaluate(together *g, const jt_progress *progress, jt_err *err)
{
    size_t n = g->n;
    jt_context *ctx = g->lead->ctx;
    ctx->err = (jt_err){0};
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    int32_t *before = jt_scratch(ctx, n, sizeof *before);
    g->done = jt_scratch(ctx, n, sizeof *g->done);
    g->span = jt_scratch(ctx, n, sizeof *g->span);
    g->who = jt_scratch(ctx, n, sizeof *g->who);
    g->adapters = jt_scratch(ctx, n, sizeof(jt_attached *));
    g->routed = jt_scratch(ctx, 2 * n, sizeof *g->routed);
    g->ids = jt_scratch(ctx, g->room, sizeof *g->ids);
    g->positions = jt_scratch(ctx, g->room, sizeof *g->positions);
    jt_status status = jt_session_status(g->lead, err);
    for (size_t i = 0; i < n && status == JT_OK; i++) {
        before[i] = g->parts[i].session->length;
        g->done[i] = 0;
    }
    if (status == JT_OK) {
        status = run(g, progress, err);
        for (size_t i = 0; i < n && status != JT_OK; i++)
            jt_session_go_back(g->parts[i].session, before[i]);
    }
    jt_arena_rewind(&ctx->scratch, mark);
    return status;
}

jt_status jt_session_eval_together(const jt_part *parts, size_t n,
                                   const jt_progress *progress, jt_err *err)
{
    JT_TRY(check(parts, n, err));
    jt_session *lead = parts[0].session;
    together g = {.parts = parts, .n = n, .lead = lead, .room = (size_t)lead->chunk};
    return evaluate(&g, progress, err);
}

/* Between its passes a climbing prompt is in the cache, and not in the context. */
static jt_status check_climb(const jt_part *prompt, int layers, jt_err *err)
{
    const jt_session *s = prompt->session;
    if (layers < 1 || prompt->count > (size_t)s->chunk || !jt_session_climbs(s))
        return jt_fail(err, JT_E_ARG, "these tokens cannot climb through the layers");
    return JT_OK;
}

jt_status jt_session_eval_climbing(const jt_part *parts, size_t n, jt_climb *climb,
                                   int layers, jt_err *err)
{
    JT_TRY(check(parts, n, err));
    const jt_part *prompt = &parts[n - 1];
    JT_TRY(check_climb(prompt, layers, err));
    const jt_params *params = &prompt->session->model->params;
    int left = params->n_layers - climb->layer, more = layers < left ? layers : left;
    together g = {.parts = parts,
                  .n = n,
                  .lead = prompt->session,
                  .climb = climb,
                  .until = climb->layer + more};
    for (size_t i = 0; i < n; i++)
        g.room += parts[i].count;
    if (!jt_grow((void **)&climb->h, &climb->capacity,
                 prompt->count * (size_t)params->d_model, sizeof *climb->h))
        return jt_fail_memory(err, "running a prompt");
    jt_status status = evaluate(&g, NULL, err);
    climb->layer = status == JT_OK && more < left ? g.until : 0;
    return status;
}

void jt_climb_end(jt_climb *climb, jt_session *session)
{
    if (climb->layer)
        jt_session_go_back(session, session->length);
    free(climb->h);
    *climb = (jt_climb){0};
}
