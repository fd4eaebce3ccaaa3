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

/* The first prompt that is too long for a pass with others goes through all layers at
 * once. */
static jt_status advance_layered(jt_turn *turns, size_t n, size_t budget,
                                 const jt_progress *progress, jt_err *err)
{
    size_t at = 0;
    while (at < n && turns[at].part.count <= budget)
        at++;
    if (at == n)
        return advance_chunked(turns, n, budget, progress, err);
    for (size_t i = 0; i < n; i++)
        turns[i].done = i == at ? turns[i].part.count : 0;
    return run(turns, n, progress, err);
}

const jt_prefill *jt_prefill_find(const char *name)
{
    static const jt_prefill policies[] = {{"whole", false, false, advance_whole},
                                          {"chunked", true, false, advance_chunked},
                                          {"layered", true, true, advance_layered}};
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        if (strcmp(policies[i].name, name) == 0)
            return &policies[i];
    }
    return NULL;
}
