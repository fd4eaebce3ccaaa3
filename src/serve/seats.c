#include "serve/seats.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "run/session.h"

static jt_status fill(jt_seats *s, jt_seat *seat, jt_err *err)
{
    if (seat->session)
        return JT_OK;
    JT_TRY(jt_session_new(&seat->session, s->model, &s->options, err));
    if (s->watcher)
        JT_TRY(jt_session_add_watcher(seat->session, s->watcher, err));
    seat->n_watchers = seat->session->hooks.n_watchers;
    return JT_OK;
}

static void empty(jt_seat *seat)
{
    jt_session_free(seat->session);
    jt_steering_free(seat->steering);
    seat->session = NULL;
    seat->steering = NULL;
    seat->n_worn = 0;
    seat->fits = JT_SEAT_FITS_ALL;
}

jt_status jt_seats_open(jt_seats *s, const jt_model *model,
                        const jt_session_options *options, const jt_hosting *hosting,
                        const jt_watcher *watcher, jt_err *err)
{
    size_t n = hosting->guests;
    *s = (jt_seats){.model = model, .options = *options, .watcher = watcher};
    s->options.beside = NULL;
    JT_TRY(jt_session_new_host(&s->host, model, &s->options, hosting, err));
    s->kept.most_bytes = s->host->hosting.spare;
    s->options.beside = s->host;
    s->options.store = (jt_store_options){0};
    s->seat = jt_calloc(n, sizeof *s->seat);
    if (!s->seat)
        return jt_fail_memory(err, "making seats");
    s->n = s->n_free = n;
    for (size_t i = 0; i < n; i++)
        JT_TRY(fill(s, &s->seat[i], err));
    return JT_OK;
}

void jt_seats_close(jt_seats *s)
{
    for (size_t i = 0; i < s->n; i++)
        empty(&s->seat[i]);
    free(s->seat);
    jt_kept_free(&s->kept);
    jt_session_free(s->host);
    *s = (jt_seats){0};
}

/* Was the context run with these adapters, and so is of use to the work? */
static bool wears(const jt_seat *seat, const jt_work *work)
{
    bool same = seat->n_worn == work->n_held && seat->fits != JT_SEAT_FITS_NONE;
    for (size_t i = 0; i < work->n_held && same; i++)
        same = seat->worn[i].serial == work->held[i].serial &&
               seat->worn[i].scale == work->held[i].scale;
    return same;
}

/* A number for what a seat wears: different ones, as good as always, for others; 0 for
 * nothing (FNV-1a). */
static uint64_t tag_of(const jt_seat *seat)
{
    uint64_t tag = 0xcbf29ce484222325u;
    for (size_t i = 0; i < seat->n_worn; i++) {
        uint32_t scale;
        memcpy(&scale, &seat->worn[i].scale, sizeof scale);
        tag = (tag ^ seat->worn[i].serial) * 0x100000001b3u;
        tag = (tag ^ scale) * 0x100000001b3u;
    }
    return seat->n_worn ? tag : 0;
}

static size_t common_with(const jt_seat *seat, const jt_task *task)
{
    const jt_tokens *prompt = task->prompt;
    return seat->session && wears(seat, task->work)
               ? jt_session_common(seat->session, prompt->ids, prompt->count)
               : 0;
}

static jt_seat *find(jt_seats *s, const jt_task *task, size_t *most)
{
    jt_seat *best = NULL;
    *most = 0;
    for (size_t i = 0; i < s->n; i++) {
        jt_seat *seat = &s->seat[i];
        if (seat->task)
            continue;
        size_t common = common_with(seat, task);
        if (!best || common > *most || (common == *most && seat->used < best->used)) {
            best = seat;
            *most = common;
        }
    }
    return best;
}

/* Of those that are taken. */
static const jt_seat *find_neighbour(const jt_seats *s, const jt_task *task,
                                     size_t *most)
{
    const jt_seat *best = NULL;
    for (size_t i = 0; i < s->n; i++) {
        const jt_seat *seat = &s->seat[i];
        if (!seat->task || seat->fits != JT_SEAT_FITS_ALL ||
            !jt_session_is_plain(seat->session))
            continue;
        size_t common = common_with(seat, task);
        if (common > *most) {
            best = seat;
            *most = common;
        }
    }
    return best;
}

static void keep(jt_seats *s, const jt_seat *seat)
{
    if (seat->session && seat->fits == JT_SEAT_FITS_ALL)
        jt_kept_put(&s->kept, seat->session, tag_of(seat));
}

enum { WORTH = 16 }; /* tokens: fewer are as soon run */

/* Let a seat, which holds `own` tokens of the prompt, hold more of it if a neighbour
 * does or a context that is kept. */
static void lend(jt_seats *s, jt_seat *seat, const jt_task *task, size_t own)
{
    const jt_tokens *prompt = task->prompt;
    size_t beside = own + WORTH, kept;
    const jt_seat *neighbour = find_neighbour(s, task, &beside);
    if (task->vector || seat->fits != JT_SEAT_FITS_ALL) /* or every token is part */
        return;
    const jt_kept_context *c =
        jt_kept_find(&s->kept, tag_of(seat), prompt->ids, prompt->count, &kept);
    if (c && kept > beside)
        jt_session_adopt(seat->session, &c->cache, c->ids);
    else if (neighbour)
        jt_session_adopt(seat->session, &neighbour->session->cache,
                         neighbour->session->ids);
}

/* The session gets the adapters of the request, and loses a context of others. */
static jt_status dress(jt_seat *seat, const jt_work *work, jt_err *err)
{
    const jt_attachment *made[JT_ASK_ADAPTERS];
    float scale[JT_ASK_ADAPTERS];
    if (!wears(seat, work))
        jt_session_truncate(seat->session, 0);
    seat->n_worn = work->n_held;
    for (size_t i = 0; i < work->n_held; i++) {
        made[i] = work->held[i].made;
        scale[i] = work->held[i].scale;
        seat->worn[i] = (jt_worn){work->held[i].serial, scale[i]};
    }
    JT_TRY(jt_session_wear(seat->session, made, scale, work->n_held, err));
    const jt_attached *adapters = &seat->session->adapters;
    seat->fits = jt_attached_by_rule(adapters)       ? JT_SEAT_FITS_NONE
                 : jt_attached_looks_ahead(adapters) ? JT_SEAT_FITS_ITSELF
                                                     : JT_SEAT_FITS_ALL;
    return JT_OK;
}

/* A session with policies has no earlier text, and nothing of it is used again. What
 * the seat held otherwise is kept. */
static jt_status prepare(jt_seats *s, jt_seat *seat, size_t own, jt_task *task,
                         jt_err *err)
{
    if (task->steering ||
        (seat->session && (size_t)jt_session_length(seat->session) > own + WORTH))
        keep(s, seat);
    JT_TRY(fill(s, seat, err));
    if (task->steering)
        jt_session_truncate(seat->session, 0);
    JT_TRY(dress(seat, task->work, err));
    if (!task->steering) {
        lend(s, seat, task, own);
        return JT_OK;
    }
    seat->steering = task->steering;
    task->steering = NULL;
    return jt_steering_attach(seat->steering, seat->session, err);
}

/* The policies of a session go, and what it ran with them. Where they have changed more
 * of it than its hooks, it goes with them; otherwise its memory stays, which would be
 * taken again at once. */
static void unsteer(jt_seat *seat)
{
    jt_session *session = seat->session;
    jt_session_truncate(session, 0);
    session->hooks.n_policies = 0;
    jt_steering_free(seat->steering);
    seat->steering = NULL;
    if (!jt_session_is_plain(session))
        empty(seat);
}

/* Who looks at this task, and not at the one that was here before. A session that
 * policies steer is not watched by the watcher of all: it may use more experts than
 * that has room for. */
static jt_status watch(const jt_seats *s, const jt_seat *seat, jt_task *task,
                       jt_err *err)
{
    jt_watcher picks = jt_picks_watcher(&task->recorder);
    seat->session->hooks.n_watchers = seat->steering ? 0 : seat->n_watchers;
    if (s->onlooker.on_route)
        JT_TRY(jt_session_add_watcher(seat->session, &s->onlooker, err));
    task->recorder.first = (int32_t)task->prompt->count;
    return task->work->ask.trace ? jt_session_add_watcher(seat->session, &picks, err)
                                 : JT_OK;
}

jt_status jt_seats_take(jt_seats *s, jt_task *task, jt_err *err)
{
    size_t own;
    jt_seat *seat = find(s, task, &own);
    jt_status status = prepare(s, seat, own, task, err);
    if (status == JT_OK)
        status = watch(s, seat, task, err);
    if (status != JT_OK) {
        if (seat->steering || task->work->n_held)
            empty(seat);
        return status;
    }
    seat->task = task;
    task->session = seat->session;
    s->n_free--;
    return JT_OK;
}

void jt_seats_leave(jt_seats *s, jt_task *task)
{
    for (size_t i = 0; i < s->n; i++) {
        jt_seat *seat = &s->seat[i];
        if (seat->task != task)
            continue;
        seat->task = NULL;
        seat->used = ++s->clock;
        s->n_free++;
        (void)jt_session_wear(seat->session, NULL, NULL, 0, NULL);
        if (seat->steering)
            unsteer(seat);
    }
    task->session = NULL;
}
