#include "run/stop.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "junto/text.h"

static void give_out(jt_outlet *o, size_t len)
{
    if (len && o->on_text && o->on_text(o->user, o->held, len))
        o->interrupted = true;
    o->n_held -= len;
    memmove(o->held, o->held + len, o->n_held);
}

/* Where the first stop string begins in the held text; n_held when none is there. */
static size_t find_stop(const jt_outlet *o)
{
    size_t first = o->n_held;
    for (size_t i = 0; i < o->n_stop; i++) {
        size_t len = strlen(o->stop[i]);
        if (len == 0)
            continue;
        const char *at = memmem(o->held, o->n_held, o->stop[i], len);
        if (at && (size_t)(at - o->held) < first)
            first = (size_t)(at - o->held);
    }
    return first;
}

/* Bytes at the end of the held text that may be the beginning of a stop string. */
static size_t maybe_stop(const jt_outlet *o)
{
    size_t longest = 0;
    for (size_t i = 0; i < o->n_stop; i++) {
        size_t len = strlen(o->stop[i]);
        for (size_t n = len ? len - 1 : 0; n > longest; n--) {
            if (n <= o->n_held && memcmp(o->held + o->n_held - n, o->stop[i], n) == 0)
                longest = n;
        }
    }
    return longest;
}

jt_status jt_outlet_add(jt_outlet *o, const char *text, size_t len, jt_err *err)
{
    if (o->stopped || len == 0)
        return JT_OK;
    if (!jt_grow((void **)&o->held, &o->capacity, o->n_held + len, 1))
        return jt_fail_memory(err, "generating text");
    memcpy(o->held + o->n_held, text, len);
    o->n_held += len;
    size_t stop = find_stop(o);
    if (stop < o->n_held) {
        give_out(o, stop);
        o->stopped = true;
        o->n_held = 0;
        return JT_OK;
    }
    give_out(o, jt_utf8_whole(o->held, o->n_held - maybe_stop(o)));
    return JT_OK;
}

void jt_outlet_finish(jt_outlet *o)
{
    if (o->held)
        give_out(o, o->n_held);
}

void jt_outlet_free(jt_outlet *o)
{
    free(o->held);
    o->held = NULL;
    o->n_held = o->capacity = 0;
}
