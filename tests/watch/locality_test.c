/* SRP, caches and gaps: values computed by hand, and an independent slow version of
 * the definitions on random routes. */
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "watch/locality.h"

#define NONE JT_NO_EXPERT

/* ---- by hand ---- */

static void test_srp_by_hand(void **state)
{
    (void)state;
    /* Expert 0 for each of five tokens, expert 1 for the first and the last. Segments
     * of 4 tokens: {0: 4, 1: 1}, {0: 4, 1: 1}, and two experts that nobody uses. */
    static const uint16_t rows[5][2] = {{0, 1}, {0}, {0}, {0}, {1, 0}};
    jt_locality *l;
    assert_int_equal(jt_locality_new(&l, 4, 2, NULL), JT_OK);
    for (int t = 0; t < 5; t++)
        jt_locality_add(l, rows[t], t % 4 ? 1 : 2);
    jt_locality_end(l);
    const uint64_t *counts = jt_locality_counts(l, 0);
    static const uint64_t expected[5] = {4, 2, 0, 0, 2};
    assert_memory_equal(counts, expected, sizeof expected);
    /* Act = 10. v = 4: Match 8, Pred 8, F1 = 16 / 18. v = 1: 20 / 26. v = 0: 20 / 42.
     */
    jt_srp srp = jt_srp_find(counts, 0);
    assert_true(srp.segments);
    assert_float_equal(srp.value, 16.0 / 18.0, 1e-12);
    assert_int_equal(srp.threshold, 2); /* the least v that keeps the same experts */
    assert_float_equal(srp.activation, 10.0 / 32.0, 1e-12);
    assert_float_equal(srp.size, 8.0 / 10.0, 1e-12);
    assert_false(jt_srp_find(jt_locality_counts(l, 1), 1).segments);
    /* Gaps: expert 0 four times 1 token, expert 1 once 4 tokens. */
    static const uint64_t gaps[JT_GAPS] = {4, 0, 1};
    assert_memory_equal(jt_locality_gaps(l), gaps, sizeof gaps);
    jt_locality_free(l);
}

static void assert_hits(const jt_uses *uses, jt_caching cache, const uint64_t *expected)
{
    uint64_t hits[8];
    assert_int_equal(jt_cache_hits(hits, uses, cache, NULL), JT_OK);
    for (int c = 0; c < uses->n_experts; c++)
        assert_int_equal(hits[c], expected[c]);
}

static void test_caches_by_hand(void **state)
{
    (void)state;
    /* One expert per token: 0 1 2 0 1 2 in one text. The first uses of 0, 1, 2 hit
     * where there is room. */
    static const uint16_t rows[6][1] = {{0}, {1}, {2}, {0}, {1}, {2}};
    static const uint8_t begins[6] = {1};
    jt_uses uses = {.n_tokens = 6,
                    .k = 1,
                    .stride = 1,
                    .expert = rows[0],
                    .begins = begins,
                    .n_experts = 3};
    /* LRU is at its worst: what is needed next has just gone. */
    assert_hits(&uses, JT_CACHE_LRU, (const uint64_t[]){1, 2, 6});
    /* LFU: {0}, {0,1}, then 2 comes in for 0 (as often, longer ago), 0 for 1, .. */
    assert_hits(&uses, JT_CACHE_LFU, (const uint64_t[]){1, 2, 6});
    /* Belady with two places: 2 comes in for 1, 0 hits, 1 comes in for 0 (no later
     * use), 2 hits. */
    assert_hits(&uses, JT_CACHE_BELADY, (const uint64_t[]){1, 4, 6});
    /* SCH 4 sees 2 0 1 2 when 2 comes in: both have a use left, the older one, 0, goes.
     * Then it sees 0 1 2: 1 and 2 have one left, 1 is older. Then 1 2: 2 has one left
     * and stays, 0 goes; 2 hits. */
    assert_hits(&uses, JT_CACHE_SCH, (const uint64_t[]){1, 3, 6});
    static const uint8_t two[6] = {1, 0, 0, 1};
    uses.begins = two; /* two texts: all uses are first ones */
    assert_hits(&uses, JT_CACHE_LRU, (const uint64_t[]){2, 4, 6});
}

static void test_same_experts_always(void **state)
{
    (void)state;
    static uint16_t rows[300][3];
    static const uint8_t begins[300] = {1};
    jt_locality *l;
    assert_int_equal(jt_locality_new(&l, 6, 3, NULL), JT_OK);
    for (int t = 0; t < 300; t++) {
        memcpy(rows[t], (const uint16_t[]){5, 0, 2}, sizeof rows[t]);
        jt_locality_add(l, rows[t], 3);
    }
    jt_locality_end(l);
    jt_uses uses = {.n_tokens = 300,
                    .k = 3,
                    .stride = 3,
                    .expert = rows[0],
                    .begins = begins,
                    .n_experts = 6};
    for (int i = 0; i < JT_SPANS; i++) {
        jt_srp srp = jt_srp_find(jt_locality_counts(l, i), i);
        assert_float_equal(srp.value, 1.0, 1e-12);
        assert_float_equal(srp.size, 1.0, 1e-12);
        uint64_t hits[6];
        assert_int_equal(jt_cache_hits(hits, &uses, JT_CACHE_SCH + i, NULL), JT_OK);
        assert_int_equal(hits[2], 900);
        assert_true(hits[1] < 900);
    }
    jt_locality_free(l);
}

/* ---- the definitions, slowly ---- */

enum { TOKENS = 700, EXPERTS = 23, K = 4 };

typedef struct routes {
    uint16_t row[TOKENS][K];
    uint8_t begins[TOKENS];
    jt_uses uses;
} routes;

/* Between 0 and K experts per token, some of the last token's again, in texts of
 * 1 to 400 tokens. */
static void make_routes(routes *r, uint64_t seed)
{
    jt_rng rng = {.seed = seed};
    uint32_t left = 0;
    for (int t = 0; t < TOKENS; t++) {
        r->begins[t] = left == 0;
        left = left ? left - 1 : jt_rng_below(&rng, 400);
        size_t n = 0, wanted = jt_rng_below(&rng, K + 1);
        while (n < wanted) {
            bool again = t > 0 && jt_rng_below(&rng, 2);
            uint32_t any = jt_rng_below(&rng, EXPERTS);
            uint16_t e = again ? r->row[t - 1][jt_rng_below(&rng, K)] : (uint16_t)any;
            e = e == NONE ? (uint16_t)any : e;
            bool taken = false;
            for (size_t i = 0; i < n; i++)
                taken |= r->row[t][i] == e;
            if (!taken)
                r->row[t][n++] = e;
        }
        for (; n < K; n++)
            r->row[t][n] = NONE;
    }
    r->uses = (jt_uses){.n_tokens = TOKENS,
                        .k = K,
                        .stride = K,
                        .expert = r->row[0],
                        .begins = r->begins,
                        .n_experts = EXPERTS};
}

static int used(const routes *r, size_t t, int e)
{
    for (int i = 0; i < K; i++) {
        if (r->row[t][i] == e)
            return 1;
    }
    return 0;
}

static size_t text_end(const routes *r, size_t t)
{
    for (t++; t < TOKENS && !r->begins[t];)
        t++;
    return t;
}

/* F1 by its definition as a measure of retrieval: what of the segments' kept experts
 * is used, and what of the uses is kept. */
static double slow_srp(const routes *r, int m)
{
    double best = 0.0;
    for (int v = 0; v <= m; v++) {
        double kept_used = 0.0, kept = 0.0, all = 0.0;
        for (size_t t = 0, end = text_end(r, 0); t + (size_t)m <= TOKENS; t++) {
            end = t < end ? end : text_end(r, t);
            if (t + (size_t)m > end)
                continue;
            for (int e = 0; e < EXPERTS; e++) {
                int c = 0;
                for (int i = 0; i < m; i++)
                    c += used(r, t + (size_t)i, e);
                all += c;
                kept += c >= v ? m : 0;
                kept_used += c >= v ? c : 0;
            }
        }
        double precision = kept > 0 ? kept_used / kept : 0;
        double recall = all > 0 ? kept_used / all : 0;
        double sum = precision + recall;
        best = fmax(best, sum > 0 ? 2 * precision * recall / sum : 0);
    }
    return best;
}

/* One cache of `size` experts. A use as position in the text: token * K + slot. */
typedef struct slow_cache {
    const routes *r;
    jt_caching cache;
    size_t size, first, end;
    int holds[EXPERTS], seen[EXPERTS], times[EXPERTS];
    long last[EXPERTS];
} slow_cache;

/* Uses of e at or after (t, slot), in tokens before `until`. */
static int uses_left(const slow_cache *c, int e, size_t t, size_t slot, size_t until,
                     long *next)
{
    int n = 0;
    *next = LONG_MAX - e;
    for (size_t u = t; u < until && u < c->end; u++) {
        for (size_t i = u == t ? slot : 0; i < K; i++) {
            if (c->r->row[u][i] == e && n++ == 0)
                *next = (long)(u * K + i);
        }
    }
    return n;
}

/* Does x go rather than y when (t, slot) comes in? */
static bool goes_first(const slow_cache *c, int x, int y, size_t t, size_t slot)
{
    long next_x, next_y;
    size_t sight =
        c->cache < JT_CACHE_SCH ? TOKENS : (size_t)jt_segment[c->cache - JT_CACHE_SCH];
    int left_x = uses_left(c, x, t, slot, t + sight, &next_x);
    int left_y = uses_left(c, y, t, slot, t + sight, &next_y);
    if (c->cache == JT_CACHE_BELADY)
        return next_x > next_y;
    if (c->cache == JT_CACHE_LFU && c->times[x] != c->times[y])
        return c->times[x] < c->times[y];
    if (c->cache >= JT_CACHE_SCH && left_x != left_y)
        return left_x < left_y;
    return c->last[x] < c->last[y];
}

static void slow_use(slow_cache *c, int e, size_t t, size_t slot)
{
    size_t held = 0;
    int out = -1;
    for (int x = 0; x < EXPERTS; x++) {
        held += (size_t)c->holds[x];
        if (c->holds[x] && (out < 0 || goes_first(c, x, out, t, slot)))
            out = x;
    }
    if (!c->holds[e] && held == c->size)
        c->holds[out] = 0;
    c->holds[e] = 1;
    c->times[e]++;
    c->last[e] = (long)(t * K + slot) + 1;
}

static uint64_t slow_hits(const routes *r, jt_caching cache, size_t size)
{
    uint64_t hits = 0;
    for (size_t first = 0; first < TOKENS; first = text_end(r, first)) {
        slow_cache c = {r, cache, size, first, text_end(r, first), {0}, {0}, {0}, {0}};
        size_t n_seen = 0;
        for (size_t t = first; t < c.end; t++) {
            for (size_t i = 0; i < K && r->row[t][i] != NONE; i++) {
                int e = r->row[t][i];
                hits += c.seen[e] ? (uint64_t)c.holds[e] : n_seen < size;
                n_seen += !c.seen[e];
                c.seen[e] = 1;
            }
            for (size_t i = 0; i < K && r->row[t][i] != NONE; i++)
                slow_use(&c, r->row[t][i], t, i);
        }
    }
    return hits;
}

static void test_srp_as_defined(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 2; seed++) {
        static routes r;
        make_routes(&r, seed);
        jt_locality *l;
        assert_int_equal(jt_locality_new(&l, EXPERTS, K, NULL), JT_OK);
        for (size_t t = 0; t < TOKENS; t++) {
            size_t n;
            const uint16_t *row = jt_uses_row(&r.uses, t, &n);
            if (r.begins[t])
                jt_locality_end(l);
            jt_locality_add(l, row, n);
        }
        jt_locality_end(l);
        for (int i = 0; i < JT_SPANS; i++) {
            jt_srp srp = jt_srp_find(jt_locality_counts(l, i), i);
            assert_float_equal(srp.value, slow_srp(&r, jt_segment[i]), 1e-12);
        }
        uint64_t stack[EXPERTS], streamed[EXPERTS];
        jt_locality_hits(l, streamed);
        assert_int_equal(jt_cache_hits(stack, &r.uses, JT_CACHE_LRU, NULL), JT_OK);
        assert_memory_equal(stack, streamed, sizeof stack);
        assert_int_equal(jt_locality_uses(l), streamed[EXPERTS - 1]);
        jt_locality_free(l);
    }
}

static void test_caches_as_defined(void **state)
{
    (void)state;
    static routes r;
    make_routes(&r, 3);
    for (jt_caching cache = 0; cache < JT_CACHES; cache++) {
        uint64_t hits[EXPERTS];
        assert_int_equal(jt_cache_hits(hits, &r.uses, cache, NULL), JT_OK);
        for (size_t size = 1; size <= EXPERTS; size += size < 6 ? 1 : 5)
            assert_int_equal(hits[size - 1], slow_hits(&r, cache, size));
    }
}

static void test_order(void **state)
{
    (void)state;
    static routes r, turned;
    static uint32_t order[TOKENS];
    make_routes(&r, 4);
    turned = r;
    for (uint32_t t = 0; t < TOKENS; t++) {
        order[t] = TOKENS - 1 - t;
        memcpy(turned.row[t], r.row[TOKENS - 1 - t], sizeof r.row[t]);
    }
    r.uses.order = order;
    turned.uses.expert = turned.row[0];
    uint64_t a[EXPERTS], b[EXPERTS];
    assert_int_equal(jt_cache_hits(a, &r.uses, JT_CACHE_SCH_16, NULL), JT_OK);
    assert_int_equal(jt_cache_hits(b, &turned.uses, JT_CACHE_SCH_16, NULL), JT_OK);
    assert_memory_equal(a, b, sizeof a);
}

static void test_memory_fails(void **state)
{
    (void)state;
    static routes r;
    uint64_t hits[EXPERTS];
    make_routes(&r, 5);
    long n = 0;
    jt_status status = JT_E_MEMORY;
    for (; status != JT_OK; n++) {
        jt_fault_after(n);
        status = jt_cache_hits(hits, &r.uses, JT_CACHE_BELADY, NULL);
        assert_true(status == JT_OK || status == JT_E_MEMORY);
    }
    assert_true(n > 3);
    jt_locality *l;
    status = JT_E_MEMORY;
    for (n = 0; status != JT_OK; n++) {
        jt_fault_after(n);
        status = jt_locality_new(&l, EXPERTS, K, NULL);
        assert_true(status == JT_OK || status == JT_E_MEMORY);
    }
    assert_true(n > 10);
    jt_fault_after(-1);
    jt_locality_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_srp_by_hand),
        cmocka_unit_test(test_caches_by_hand),
        cmocka_unit_test(test_same_experts_always),
        cmocka_unit_test(test_srp_as_defined),
        cmocka_unit_test(test_caches_as_defined),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_memory_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
