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
    return !s->twin && !s->attendant.before && !s->on_layer &&
           (s->adapters.count == 0 || (!s->weigher.weigh && !has_latent(s->model)));
}

static bool joins(const together *g, const jt_session *s)
{
    return s->store == g->lead->store && jt_session_shares(s);
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
        if (!joins(g, s) || count == 0)
            continue;
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

/* The hooks of a pass: each session is steered by its own policies, and seen by its own
 * watchers. */
static jt_hooks gather_hooks(const together *g, const jt_chunk *chunk)
{
    jt_hooks all = {.part = g->routed};
    for (size_t i = 0; i < chunk->n_spans; i++) {
        const jt_hooks *own = &g->parts[g->who[i]].session->hooks;
        jt_hooks_part *last = all.n_parts ? &g->routed[all.n_parts - 1] : NULL;
        if (last && same_hooks(last->hooks, own))
            last->tokens += chunk->spans[i].count;
        else
            g->routed[all.n_parts++] = (jt_hooks_part){own, chunk->spans[i].count};
    }
    return all.n_parts > 1 ? all : *g->routed[0].hooks;
}

static jt_status run_pass(together *g, const jt_chunk *chunk, jt_err *err)
{
    jt_session *lead = g->lead;
    size_t n = chunk->n_spans;
    const jt_hooks hooks = gather_hooks(g, chunk);
    lead->ctx->err = (jt_err){0};
    jt_arena_mark mark = jt_arena_save(&lead->ctx->scratch);
    for (size_t i = 0; i < n; i++)
        g->adapters[i] = &g->parts[g->who[i]].session->adapters;
    jt_tensor logits = jt_attached_forward_spans(g->adapters, lead->ctx, lead->model,
                                                 chunk, lead->store, &hooks);
    jt_status status = jt_session_status(lead, err);
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
        if (joins(g, p->session))
            continue;
        JT_TRY(jt_session_eval(p->session, p->tokens, p->count, NULL, err));
        done += p->count;
    }
    for (jt_chunk chunk = gather(g); chunk.count; chunk = gather(g)) {
        if (progress)
            JT_TRY(jt_progress_report(progress, "prompt", done, total, err));
        JT_TRY(run_pass(g, &chunk, err));
        done += chunk.count;
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
    g->routed = jt_scratch(ctx, n, sizeof *g->routed);
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
    together g = {.parts = parts, .n = n, .lead = lead, .room = (size_t)lead->room};
    return evaluate(&g, progress, err);
}
