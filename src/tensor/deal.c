#include "tensor/deal.h"

/* More would push out of the caches what it brings there. */
enum { MOST_LATER = 4 << 20 };

/* Items first .. end, all of one thread. */
typedef struct share {
    size_t first, end;
} share;

/* The thin items of each thread, and the order in which the pool, which cuts all items
 * into one run for each thread, has them. */
static void deal_items(uint32_t *order, share *thin, const jt_deal *d, size_t items)
{
    size_t plain = 0, next = d->plain, i = 0;
    for (size_t t = 0; t < d->threads; t++) {
        size_t own = d->plain * (t + 1) / d->threads;
        thin[t].first = next;
        for (; i < items * (t + 1) / d->threads; i++)
            order[i] = (uint32_t)(plain < own || next == items ? plain++ : next++);
        thin[t].end = next;
    }
}

/* Pieces that lie side by side are one. */
static size_t add_piece(jt_piece *list, size_t n, jt_piece next)
{
    if (n && (const char *)list[n - 1].data + list[n - 1].bytes == next.data) {
        list[n - 1].bytes += next.bytes;
        return n;
    }
    list[n] = next;
    return n + (next.bytes > 0);
}

/* The t-th of `parts` equal parts, if there is anything to share out. */
static jt_piece part_of(jt_piece whole, size_t t, size_t parts)
{
    size_t at = whole.bytes * t / parts, end = whole.bytes * (t + 1) / parts;
    return at < end ? (jt_piece){(const char *)whole.data + at, end - at}
                    : (jt_piece){0};
}

static bool has(const share *thin, const jt_product *p, const jt_cut *c)
{
    size_t item = c->first_item - c->joined;
    return p->thin && item >= thin->first && item < thin->end;
}

/* What thread t reads of the thin products, and then what follows the list: of what all
 * threads read then its part. */
static jt_later later_of(const jt_product *products, const jt_cut *cuts, size_t count,
                         const share *thin, size_t t, size_t threads, jt_piece *list)
{
    size_t n = 0, bytes = 0;
    for (size_t i = 0; i < count; i++) {
        if (has(thin, &products[i], &cuts[i]))
            n = add_piece(list, n, (jt_piece){products[i].w.data, products[i].thin});
    }
    for (size_t i = 0; i < count; i++) {
        jt_piece then = products[i].then;
        if (has(thin, &products[i], &cuts[i]))
            n = add_piece(list, n, then);
        else if (!products[i].thin)
            n = add_piece(list, n, part_of(then, t, threads));
    }
    for (size_t i = 0; i < n; i++)
        bytes += list[i].bytes;
    return (jt_later){list, 0, bytes < MOST_LATER ? bytes : MOST_LATER};
}

jt_deal jt_deal_out(jt_context *ctx, const jt_product *products, const jt_cut *cuts,
                    size_t count, size_t items)
{
    size_t plain = 0;
    while (plain < count && !products[plain].thin)
        plain++;
    jt_deal d = {.threads = (size_t)jt_pool_threads(ctx->pool)};
    if (plain == 0 || plain == count)
        return d;
    d.plain = cuts[plain].first_item;
    uint32_t *order = jt_scratch(ctx, items, sizeof *order);
    share *thin = jt_scratch(ctx, d.threads, sizeof *thin);
    jt_later *later = jt_scratch(ctx, d.threads, sizeof *later);
    if (jt_failed(ctx))
        return d;
    deal_items(order, thin, &d, items);
    for (size_t t = 0; t < d.threads; t++) {
        jt_piece *list = jt_scratch(ctx, 2 * count + 1, sizeof *list);
        if (!list)
            return d;
        later[t] = later_of(products, cuts, count, &thin[t], t, d.threads, list);
    }
    d.order = order;
    d.later = later;
    return d;
}

/* `bytes` from byte `at` of some pieces on. */
static jt_later later_from(const jt_piece *piece, size_t at, size_t bytes)
{
    for (; bytes && at >= piece->bytes; piece++)
        at -= piece->bytes;
    return (jt_later){piece, at, bytes};
}

jt_later jt_deal_later(const jt_deal *d, size_t item)
{
    if (!d->later || item >= d->plain)
        return (jt_later){0};
    size_t t = ((item + 1) * d->threads - 1) / d->plain;
    size_t first = d->plain * t / d->threads, end = d->plain * (t + 1) / d->threads;
    const jt_later *all = &d->later[t];
    size_t at = all->bytes * (item - first) / (end - first);
    size_t to = all->bytes * (item + 1 - first) / (end - first);
    return later_from(all->piece, at, to - at);
}
