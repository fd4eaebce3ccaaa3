#include "watch/locality.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Counts c of the window that ends at the token at hand. They change only where an
 * expert enters or leaves, so what is kept of an expert is since when it has its count,
 * and each change books the windows in between. */
typedef struct window {
    uint16_t *count;  /* [experts] */
    uint64_t *since;  /* [experts] first window end with this count */
    uint64_t *booked; /* [span + 1] */
    uint64_t segments;
} window;

struct jt_locality {
    int n_experts;
    size_t k;
    uint64_t at; /* tokens of this text so far */
    window window[JT_SPANS];
    uint16_t *recent; /* [JT_SPAN_MOST, k] a ring of rows */
    uint16_t *n_recent;
    /* LRU: what the text used, the latest first */
    uint16_t *stack, *kept; /* [experts] */
    uint8_t *marked;        /* [experts] used by the token at hand */
    size_t n_stack;
    uint64_t *ranks; /* [experts] uses by their place in the stack */
    uint64_t *last;  /* [experts] token of the last use, counted from 1; 0: none */
    uint64_t gaps[JT_GAPS], uses;
};

const int jt_segment[JT_SPANS] = {4, 16, 64, 256};

jt_status jt_locality_new(jt_locality **out, int n_experts, int k, jt_err *err)
{
    jt_locality *l = jt_calloc(1, sizeof *l);
    if (!l)
        return jt_fail_memory(err, "measuring locality");
    size_t n = (size_t)n_experts;
    l->n_experts = n_experts;
    l->k = (size_t)k;
    l->recent = jt_alloc(JT_SPAN_MOST * l->k, sizeof *l->recent);
    l->n_recent = jt_calloc(JT_SPAN_MOST, sizeof *l->n_recent);
    l->stack = jt_alloc(n, sizeof *l->stack);
    l->kept = jt_alloc(n, sizeof *l->kept);
    l->marked = jt_calloc(n, sizeof *l->marked);
    l->ranks = jt_calloc(n, sizeof *l->ranks);
    l->last = jt_calloc(n, sizeof *l->last);
    bool good = l->recent && l->n_recent && l->stack && l->kept && l->marked &&
                l->ranks && l->last;
    for (int i = 0; i < JT_SPANS; i++) {
        window *w = &l->window[i];
        w->count = jt_calloc(n, sizeof *w->count);
        w->since = jt_calloc(n, sizeof *w->since);
        w->booked = jt_calloc((size_t)jt_segment[i] + 1, sizeof *w->booked);
        good = good && w->count && w->since && w->booked;
    }
    if (!good) {
        jt_locality_free(l);
        return jt_fail_memory(err, "measuring locality");
    }
    *out = l;
    return JT_OK;
}

void jt_locality_free(jt_locality *l)
{
    if (!l)
        return;
    for (int i = 0; i < JT_SPANS; i++) {
        free(l->window[i].count);
        free(l->window[i].since);
        free(l->window[i].booked);
    }
    free(l->recent);
    free(l->n_recent);
    free(l->stack);
    free(l->kept);
    free(l->marked);
    free(l->ranks);
    free(l->last);
    free(l);
}

/* ---- segments ---- */

/* The counts of these experts change at window end `at`. What is booked for a count of
 * 0 means nothing (jt_locality_counts). */
static void change(window *w, const uint16_t *experts, size_t n, int by, uint64_t at)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t e = experts[i], count = w->count[e];
        w->booked[count] += at - w->since[e];
        w->count[e] = (uint16_t)(count + by);
        w->since[e] = at;
    }
}

static const uint16_t *recent_row(const jt_locality *l, uint64_t token, size_t *n)
{
    size_t slot = token % JT_SPAN_MOST;
    *n = l->n_recent[slot];
    return l->recent + slot * l->k;
}

static void slide(jt_locality *l, const uint16_t *experts, size_t n)
{
    for (int i = 0; i < JT_SPANS; i++) {
        uint64_t span = (uint64_t)jt_segment[i];
        uint64_t at = l->at > span - 1 ? l->at : span - 1; /* no window ends earlier */
        if (l->at >= span) {
            size_t n_old;
            const uint16_t *old = recent_row(l, l->at - span, &n_old);
            change(&l->window[i], old, n_old, -1, at);
        }
        change(&l->window[i], experts, n, +1, at);
    }
    size_t slot = l->at % JT_SPAN_MOST;
    memcpy(l->recent + slot * l->k, experts, n * sizeof *experts);
    l->n_recent[slot] = (uint16_t)n;
}

/* Book what the last windows of a text hold, and forget them. */
static void close_windows(jt_locality *l)
{
    for (int i = 0; i < JT_SPANS; i++) {
        window *w = &l->window[i];
        uint64_t span = (uint64_t)jt_segment[i];
        uint64_t first = l->at > span ? l->at - span : 0;
        uint64_t at = l->at > span - 1 ? l->at : span - 1;
        w->segments += l->at >= span ? l->at - span + 1 : 0;
        for (uint64_t t = first; t < l->at; t++) {
            size_t n;
            const uint16_t *row = recent_row(l, t, &n);
            change(w, row, n, -1, at);
        }
    }
}

const uint64_t *jt_locality_counts(jt_locality *l, int span)
{
    window *w = &l->window[span];
    uint64_t used = 0;
    for (int c = 1; c <= jt_segment[span]; c++)
        used += w->booked[c];
    w->booked[0] = w->segments * (uint64_t)l->n_experts - used;
    return w->booked;
}

jt_srp jt_srp_find(const uint64_t *counts, int span)
{
    uint64_t act = 0, pairs = 0, kept = 0;
    double match = 0.0, m = jt_segment[span];
    for (int c = 0; c <= jt_segment[span]; c++) {
        act += counts[c] * (uint64_t)c;
        pairs += counts[c];
    }
    jt_srp best = {.segments = pairs > 0};
    if (!pairs)
        return best;
    best.activation = (double)act / ((double)pairs * m);
    for (int v = jt_segment[span]; v >= 0; v--) {
        kept += counts[v];
        match += (double)(counts[v] * (uint64_t)v);
        double sum = (double)kept * m + (double)act;
        double f1 = 2.0 * match / (sum > 1.0 ? sum : 1.0);
        if (f1 >= best.value) {
            best.value = f1;
            best.threshold = v;
            best.size = act ? (double)kept * m / (double)act : 0.0;
        }
    }
    return best;
}

/* ---- LRU, and gaps ---- */

/* Place of a gap: 1, 2, 3 to 4, 5 to 8, .. tokens. */
static int gap_place(uint64_t gap)
{
    int place = gap > 1 ? 64 - __builtin_clzll(gap - 1) : 0;
    return place < JT_GAPS ? place : JT_GAPS - 1;
}

/* Take the experts out of the stack, book where they stood, and put them on top. */
static void restack(jt_locality *l, const uint16_t *experts, size_t n)
{
    size_t known = 0, found = 0, n_kept = 0, old = l->n_stack;
    for (size_t i = 0; i < n; i++) {
        known += l->last[experts[i]] != 0;
        l->marked[experts[i]] = 1;
    }
    for (size_t place = 0; found < known; place++) {
        uint16_t e = l->stack[place];
        if (l->marked[e]) {
            l->ranks[place]++;
            found++;
        } else {
            l->kept[n_kept++] = e;
        }
    }
    for (size_t fresh = 0; fresh < n - known; fresh++)
        l->ranks[old + fresh]++;
    if (n > known)
        memmove(l->stack + n + n_kept, l->stack + found + n_kept,
                (old - found - n_kept) * sizeof *l->stack);
    l->n_stack = old + n - known;
    for (size_t i = 0; i < n; i++) {
        l->stack[n - 1 - i] = experts[i];
        l->marked[experts[i]] = 0;
    }
    memcpy(l->stack + n, l->kept, n_kept * sizeof *l->stack);
}

static void book_gaps(jt_locality *l, const uint16_t *experts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t *last = &l->last[experts[i]];
        if (*last)
            l->gaps[gap_place(l->at + 1 - *last)]++;
        *last = l->at + 1;
    }
}

void jt_locality_hits(const jt_locality *l, uint64_t *hits)
{
    uint64_t sum = 0;
    for (int i = 0; i < l->n_experts; i++)
        hits[i] = sum += l->ranks[i];
}

const uint64_t *jt_locality_gaps(const jt_locality *l)
{
    return l->gaps;
}

uint64_t jt_locality_uses(const jt_locality *l)
{
    return l->uses;
}

/* ---- tokens ---- */

void jt_locality_add(jt_locality *l, const uint16_t *experts, size_t n)
{
    slide(l, experts, n);
    restack(l, experts, n);
    book_gaps(l, experts, n);
    l->uses += n;
    l->at++;
}

void jt_locality_end(jt_locality *l)
{
    close_windows(l);
    for (size_t i = 0; i < l->n_stack; i++)
        l->last[l->stack[i]] = 0;
    l->n_stack = 0;
    l->at = 0;
}
