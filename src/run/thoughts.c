#include "run/thoughts.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Give out the held bytes from `first` up to `end` (none of them quiet). */
static jt_status give_run(jt_thoughts *t, size_t first, size_t end, jt_err *err)
{
    while (t->trim && first < end && is_space(t->held[first]))
        first++;
    if (first == end)
        return JT_OK;
    t->trim = false;
    return t->out(t->user, t->inside, t->held + first, end - first, err);
}

/* Give out the first `count` held bytes but for the quiet ones; they stay held. */
static jt_status give_out(jt_thoughts *t, size_t count, jt_err *err)
{
    for (size_t at = 0; at < count;) {
        size_t end = at;
        while (end < count && t->quiet[end] == t->quiet[at])
            end++;
        if (!t->quiet[at])
            JT_TRY(give_run(t, at, end, err));
        at = end;
    }
    return JT_OK;
}

static void drop(jt_thoughts *t, size_t count)
{
    t->n_held -= count;
    memmove(t->held, t->held + count, t->n_held * sizeof *t->held);
    memmove(t->quiet, t->quiet + count, t->n_held * sizeof *t->quiet);
}

typedef enum fit { NO_MARK, MARK_BEGINS, MARK } fit;

static fit compare(const jt_thoughts *t, size_t at, const char *mark)
{
    if (!mark)
        return NO_MARK;
    size_t len = strlen(mark), left = t->n_held - at;
    if (memcmp(t->held + at, mark, len < left ? len : left) != 0)
        return NO_MARK;
    return len <= left ? MARK : MARK_BEGINS;
}

/* What stands at byte `at`; for a whole mark, its text in *found. */
static fit find(const jt_thoughts *t, size_t at, const char **found)
{
    const jt_thinking *m = t->marks;
    const char *const marks[] = {t->inside ? m->close : m->open,
                                 t->inside ? NULL : m->silent[0],
                                 t->inside ? NULL : m->silent[1]};
    fit best = NO_MARK;
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        fit fits = compare(t, at, marks[i]);
        if (fits == MARK)
            *found = marks[i];
        best = fits > best ? fits : best;
    }
    return best;
}

/* Go through the held bytes up to what may yet become a mark. */
static jt_status scan(jt_thoughts *t, jt_err *err)
{
    for (size_t at = 0;;) {
        const char *mark = NULL;
        fit fits = at < t->n_held ? find(t, at, &mark) : MARK_BEGINS;
        if (fits == NO_MARK) {
            at++;
            continue;
        }
        JT_TRY(give_out(t, at, err));
        drop(t, at);
        if (fits == MARK_BEGINS)
            return JT_OK;
        bool silent = mark != t->marks->open && mark != t->marks->close;
        t->inside ^= !silent;
        t->trim = true;
        drop(t, strlen(mark));
        at = 0;
    }
}

jt_status jt_thoughts_add(jt_thoughts *t, const char *text, size_t len, bool special,
                          jt_err *err)
{
    if (!t->marks)
        return special || !len ? JT_OK : t->out(t->user, false, text, len, err);
    size_t need = t->n_held + len;
    if (!jt_grow((void **)&t->held, &t->held_capacity, need, sizeof *t->held) ||
        !jt_grow((void **)&t->quiet, &t->quiet_capacity, need, sizeof *t->quiet))
        return jt_fail_memory(err, "generating text");
    if (len)
        memcpy(t->held + t->n_held, text, len);
    memset(t->quiet + t->n_held, special, len);
    t->n_held = need;
    return scan(t, err);
}

jt_status jt_thoughts_finish(jt_thoughts *t, jt_err *err)
{
    jt_status status = give_out(t, t->n_held, err);
    t->n_held = 0;
    return status;
}

void jt_thoughts_free(jt_thoughts *t)
{
    free(t->held);
    free(t->quiet);
    t->held = NULL;
    t->quiet = NULL;
    t->n_held = t->held_capacity = t->quiet_capacity = 0;
}
