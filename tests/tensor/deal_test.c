/* Items of a list with thin products: each is dealt once, and each thread asks once for
 * what it will read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "tensor/deal.h"

enum { MOST = 60, PIECE = 100, SPACE = 1 << 20 };

typedef struct list {
    jt_product products[MOST];
    jt_cut cuts[MOST];
    size_t count, plain, items; /* plain: items that are not thin */
    size_t end;                 /* of what is read of `space` */
} list;

static char space[SPACE];

static size_t below(jt_rng *rng, size_t n)
{
    return (size_t)(jt_rng_float(rng) * (float)n);
}

/* Some bytes of the space that nobody has. */
static jt_piece take(list *l, jt_rng *rng)
{
    jt_piece p = {space + l->end, 1 + below(rng, PIECE)};
    l->end += p.bytes + below(rng, 2);
    return p;
}

/* A few products, and thin ones behind them of which some share an item. */
static void make(list *l, jt_rng *rng)
{
    *l = (list){0};
    size_t plain = 1 + below(rng, 4), thin = 1 + below(rng, MOST - 5);
    for (; l->count < plain + thin; l->count++) {
        jt_product *p = &l->products[l->count];
        bool joined = l->count > plain && below(rng, 2);
        size_t parts = l->count < plain ? 1 + below(rng, 9) : 1;
        l->cuts[l->count] = (jt_cut){.first_item = l->items, .joined = joined};
        l->items += joined ? 0 : parts;
        if (l->count < plain) {
            l->plain = l->items;
            if (below(rng, 2))
                p->then = take(l, rng);
            continue;
        }
        jt_piece a = take(l, rng);
        p->w.data = (void *)(uintptr_t)a.data;
        p->thin = a.bytes;
        p->then = take(l, rng);
    }
}

static void count_bytes(int *times, const jt_later *later)
{
    const jt_piece *p = later->piece;
    size_t at = later->at;
    for (size_t left = later->bytes, n; left; left -= n, at = 0, p++) {
        n = p->bytes - at < left ? p->bytes - at : left;
        for (size_t i = 0; i < n; i++)
            times[(const char *)p->data + at + i - space]++;
    }
}

static void check_list(jt_context *ctx, const list *l)
{
    static int times[SPACE];
    int wanted[MOST * 10] = {0};
    jt_deal d = jt_deal_out(ctx, l->products, l->cuts, l->count, l->items);
    assert_false(jt_failed(ctx));
    assert_int_equal(d.plain, l->plain);
    memset(times, 0, l->end * sizeof *times);
    for (size_t i = 0; i < l->items; i++) {
        size_t item = jt_deal_item(&d, i);
        assert_in_range(item, 0, l->items - 1);
        wanted[item]++;
        jt_later later = jt_deal_later(&d, item);
        count_bytes(times, &later);
    }
    for (size_t i = 0; i < l->items; i++)
        assert_int_equal(wanted[i], 1);
    for (size_t i = 0; i < l->count && l->plain >= d.threads; i++) {
        const jt_product *p = &l->products[i];
        for (size_t b = 0; b < p->thin; b++)
            assert_int_equal(times[(const char *)p->w.data + b - space], 1);
        for (size_t b = 0; b < p->then.bytes; b++)
            assert_int_equal(times[(const char *)p->then.data + b - space], 1);
    }
}

static void test_deal(void **state)
{
    jt_rng rng = {.seed = 5};
    (void)state;
    for (int threads = 1; threads <= 5; threads++) {
        jt_context ctx;
        assert_int_equal(jt_context_init(&ctx, threads, NULL, NULL), JT_OK);
        for (int i = 0; i < 200; i++) {
            list l;
            make(&l, &rng);
            check_list(&ctx, &l);
            jt_arena_rewind(&ctx.scratch, (jt_arena_mark){0});
        }
        jt_context_free(&ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_deal)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
