#include "run/kept.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Shorter texts are as soon run again. */
enum { LEAST_TOKENS = 32 };

static void free_context(jt_kept_context *c)
{
    jt_cache_free(&c->cache);
    free(c->ids);
}

static void drop(jt_kept *k, size_t i)
{
    k->bytes -= k->list[i].bytes;
    free_context(&k->list[i]);
    k->list[i] = k->list[--k->count];
}

void jt_kept_free(jt_kept *k)
{
    while (k->count)
        drop(k, k->count - 1);
    free(k->list);
    k->list = NULL;
    k->capacity = 0;
}

/* How many tokens two texts begin with alike. */
static size_t alike(const int32_t *a, size_t n_a, const int32_t *b, size_t n_b)
{
    size_t n = 0;
    while (n < n_a && n < n_b && a[n] == b[n])
        n++;
    return n;
}

/* Whether a text that is kept begins with this one; it counts as used. Those with which
 * this one begins go. */
static bool covers(jt_kept *k, uint64_t tag, const int32_t *ids, size_t length)
{
    bool covered = false;
    for (size_t i = k->count; i-- > 0;) {
        jt_kept_context *c = &k->list[i];
        size_t n = alike(c->ids, c->cache.length, ids, length);
        if (c->tag != tag)
            continue;
        if (n == length) {
            c->used = ++k->clock;
            covered = true;
        } else if (n == c->cache.length) {
            drop(k, i);
        }
    }
    return covered;
}

static void make_room(jt_kept *k, size_t bytes)
{
    while (k->count && k->bytes + bytes > k->most_bytes) {
        size_t oldest = 0;
        for (size_t i = 1; i < k->count; i++)
            oldest = k->list[i].used < k->list[oldest].used ? i : oldest;
        drop(k, oldest);
    }
}

/* Room for what a session holds; false: there is none. */
static bool take_room(const jt_kept *k, jt_kept_context *c, const jt_session *s)
{
    jt_cache_options options = s->kept;
    options.capacity = s->cache.front + (size_t)s->length;
    *c = (jt_kept_context){.ids = jt_alloc(options.capacity, sizeof *c->ids)};
    if (!c->ids || jt_cache_init(&c->cache, s->model, &options, NULL) != JT_OK)
        return false;
    c->bytes = c->cache.bytes + options.capacity * sizeof *c->ids;
    return c->bytes <= k->most_bytes;
}

void jt_kept_put(jt_kept *k, const jt_session *s, uint64_t tag)
{
    jt_kept_context fresh;
    size_t length = (size_t)s->length;
    if (!k->most_bytes || length < LEAST_TOKENS || !jt_session_is_plain(s) ||
        covers(k, tag, s->ids, length))
        return;
    if (!take_room(k, &fresh, s) ||
        !jt_grow((void **)&k->list, &k->capacity, k->count + 1, sizeof *k->list)) {
        free_context(&fresh);
        return;
    }
    make_room(k, fresh.bytes);
    memcpy(fresh.ids, s->ids, length * sizeof *fresh.ids);
    jt_cache_copy(&fresh.cache, &s->cache, s->model);
    fresh.tag = tag;
    fresh.used = ++k->clock;
    k->bytes += fresh.bytes;
    k->list[k->count++] = fresh;
}

const jt_kept_context *jt_kept_find(jt_kept *k, uint64_t tag, const int32_t *tokens,
                                    size_t count, size_t *common)
{
    jt_kept_context *best = NULL;
    *common = 0;
    for (size_t i = 0; i < k->count; i++) {
        jt_kept_context *c = &k->list[i];
        size_t n = alike(c->ids, c->cache.length, tokens, count ? count - 1 : 0);
        if (c->tag == tag && n > *common && jt_cache_remembers(&c->cache, n)) {
            best = c;
            *common = n;
        }
    }
    if (best)
        best->used = ++k->clock;
    return best;
}
