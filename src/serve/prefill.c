#include "serve/prefill.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Run turn->done tokens of each turn together. */
static jt_status run(jt_turn *turns, size_t n, const jt_progress *progress, jt_err *err)
{
    size_t used = 0;
    jt_part *parts = jt_alloc(n, sizeof *parts);
    if (!parts)
        return jt_fail_memory(err, "putting a pass together");
    for (size_t i = 0; i < n; i++) {
        if (turns[i].done == 0)
            continue;
        parts[used] = turns[i].part;
        parts[used++].count = turns[i].done;
    }
    jt_status status = jt_session_eval_together(parts, used, progress, err);
    free(parts);
    for (size_t i = 0; i < n && status != JT_OK; i++)
        turns[i].done = 0;
    return status;
}

static jt_status advance_whole(jt_turn *turns, size_t n, size_t budget,
                               const jt_progress *progress, jt_err *err)
{
    (void)budget;
    for (size_t i = 0; i < n; i++)
        turns[i].done = turns[i].part.count;
    return run(turns, n, progress, err);
}

static jt_status advance_chunked(jt_turn *turns, size_t n, size_t budget,
                                 const jt_progress *progress, jt_err *err)
{
    size_t left = budget;
    for (size_t i = 0; i < n; i++) {
        turns[i].done = turns[i].part.count == 1;
        left -= left > 0 ? turns[i].done : 0;
    }
    if (left == 0)
        left = 1; /* prompts go on, however many replies there are */
    for (size_t i = 0; i < n; i++) {
        size_t wanted = turns[i].part.count - turns[i].done;
        size_t share = wanted < left ? wanted : left;
        turns[i].done += share;
        left -= share;
    }
    return run(turns, n, progress, err);
}

/* ---- layers ---- */

/* The prompt that is on its way, or the first that is too long for one pass; n: none.
 */
static size_t find_long(const jt_turn *turns, size_t n, size_t budget)
{
    for (size_t i = 0; i < n; i++) {
        if (turns[i].climb->layer)
            return i;
    }
    for (size_t i = 0; i < n; i++) {
        if (turns[i].part.count > budget && jt_session_climbs(turns[i].part.session))
            return i;
    }
    return n;
}

/* Layers of a group, so that a pass has about the work of `budget` tokens. */
static int group_layers(const jt_part *prompt, size_t budget)
{
    size_t layers = (size_t)prompt->session->model->params.n_layers;
    size_t groups = (prompt->count + budget - 1) / budget;
    return (int)((layers + groups - 1) / groups);
}

/* Let the prompt `at` climb, and every reply go on by its token. */
static jt_status climb(jt_turn *turns, size_t n, size_t at, size_t budget, jt_err *err)
{
    size_t used = 0;
    jt_part prompt = turns[at].part, *parts = jt_alloc(n, sizeof *parts);
    if (!parts)
        return jt_fail_memory(err, "putting a pass together");
    for (size_t i = 0; i < n; i++) {
        turns[i].done = i != at && turns[i].part.count == 1;
        if (turns[i].done)
            parts[used++] = turns[i].part;
    }
    parts[used++] = prompt;
    jt_climb *way = turns[at].climb;
    jt_status status =
        jt_session_eval_climbing(parts, used, way, group_layers(&prompt, budget), err);
    free(parts);
    turns[at].done = way->layer ? 0 : prompt.count;
    for (size_t i = 0; i < n && status != JT_OK; i++)
        turns[i].done = 0;
    return status;
}

static jt_status advance_layered(jt_turn *turns, size_t n, size_t budget,
                                 const jt_progress *progress, jt_err *err)
{
    size_t at = find_long(turns, n, budget);
    if (at == n)
        return advance_chunked(turns, n, budget, progress, err);
    if (progress)
        JT_TRY(jt_progress_report(progress, "prompt", 0, turns[at].part.count, err));
    return climb(turns, n, at, budget, err);
}

const jt_prefill *jt_prefill_find(const char *name)
{
    static const jt_prefill policies[] = {{"whole", false, advance_whole},
                                          {"chunked", false, advance_chunked},
                                          {"layered", true, advance_layered}};
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        if (strcmp(policies[i].name, name) == 0)
            return &policies[i];
    }
    return NULL;
}
