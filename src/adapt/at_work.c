/* Adapters at work: how the products of a pass become those of the model with adapters.
 *
 * Each sequence of a pass has a list of adapters. A product works on tokens of all of
 * them: it is cut into runs of tokens of one sequence, and what an adapter does to a
 * run is what it would do to a product of that run alone. So a sequence gets the same
 * bits whoever is beside it. A x of all runs and adapters stands in the list of the
 * products themselves; what is added to y afterwards takes a parallel region for all of
 * them. */
#include <string.h>

#include "adapt/crew.h"
#include "model/model.h"
#include "tensor/tape.h"

/* ---- runs ---- */

/* Rows row .. row + count of a product that are of one part; none: count 0. */
typedef struct run {
    size_t row, count, part;
} run;

/* The part of a row of a product. Of the output, which only the last token of each
 * sequence reaches, row i is that of part i. */
static size_t part_of_row(const jt_crew *c, const jt_context *ctx, const jt_product *p,
                          size_t row)
{
    size_t at = p->first + row;
    if (p->w.weight == c->model->output.weight)
        return at < c->n_parts ? at : c->n_parts;
    size_t token = ctx->change.first + (p->token ? (size_t)p->token[at] : at);
    return token < c->n_tokens ? c->part_of[token] : c->n_parts;
}

static run run_from(const jt_crew *c, jt_context *ctx, const jt_product *p, size_t row)
{
    run r = {row, p->tokens - row, 0};
    if (!c->part_of || r.count == 0)
        return r;
    r.part = part_of_row(c, ctx, p, row);
    for (r.count = 1; row + r.count < p->tokens; r.count++) {
        if (part_of_row(c, ctx, p, row + r.count) != r.part)
            break;
    }
    if (r.part == c->n_parts) {
        jt_fail(&ctx->err, JT_E_UNSUPPORTED,
                "adapters of a product that mixes the tokens of several sequences");
        r.count = 0;
    }
    return r;
}

static run first_run(const jt_crew *c, jt_context *ctx, const jt_product *p)
{
    return run_from(c, ctx, p, 0);
}

static run next_run(const jt_crew *c, jt_context *ctx, const jt_product *p, run r)
{
    return run_from(c, ctx, p, r.row + r.count);
}

/* Let a product be that of these rows alone. */
static void cut(jt_product *p, run r)
{
    p->y += r.row * p->ldy;
    if (p->y_grad)
        p->y_grad += r.row * p->ldy;
    p->first += r.row;
    p->tokens = r.count;
}

/* ---- which adapters ---- */

/* The number of its slot, or -1. */
static int32_t slot_for(const jt_attachment *at, const jt_tensor *w)
{
    return w->weight ? at->slot[w->weight] : -1;
}

/* Does any adapter change what this weight gives? */
static bool is_changed(const jt_crew *c, const jt_product *p)
{
    for (size_t k = 0; k < c->n_parts && p->w.weight && p->tokens; k++) {
        const jt_attached *by = c->part[k].by;
        for (size_t i = 0; i < by->count; i++) {
            const jt_blended *m = by->list[i].blended;
            if (slot_for(&by->list[i], &p->w) >= 0 || (m && jt_blended_bank(m, p) >= 0))
                return true;
        }
    }
    return false;
}

/* ---- the uses of a list of products ---- */

typedef struct work {
    jt_use *use;
    size_t *end; /* [n_steps] of each step's uses */
    jt_blend_use *mixed;
    size_t n_mixed;
    const jt_crew *crew;
} work;

/* How many there may be, and how many products they need beside those that there are.
 */
typedef struct room {
    size_t uses, mixed, products;
} room;

static room count_uses(const jt_crew *c, jt_context *ctx, const jt_product *p)
{
    room n = {0, 0, 0};
    for (run r = first_run(c, ctx, p); r.count; r = next_run(c, ctx, p, r)) {
        const jt_attached *by = c->part[r.part].by;
        for (size_t i = 0; i < by->count; i++) {
            const jt_blended *m = by->list[i].blended;
            int32_t bank = m ? jt_blended_bank(m, p) : -1;
            bool mixed = bank >= 0;
            int32_t slot = slot_for(&by->list[i], &p->w);
            bool used = slot >= 0;
            if (used && by->list[i].factors) /* read next, and long ago last */
                __builtin_prefetch(&by->list[i].factors[slot]);
            if (mixed)
                jt_blended_ask(m, bank);
            n.uses += used;
            n.mixed += mixed;
            n.products += used + (mixed ? m->blend->n : 0);
        }
    }
    return n;
}

/* Where there are factors nothing is read of the slot: what is read but once in a pass
 * takes longer to come than to use. */
static void use_slot(jt_use *u, const jt_attachment *at, int32_t slot,
                     const jt_product *p, run r)
{
    const jt_adapter_slot *s = &at->adapter->slot[slot];
    const jt_factors *f = at->factors ? &at->factors[slot] : NULL;
    size_t rows = f ? f->rows : s->rows;
    *u = (jt_use){.slot = s,
                  .matrix = p->w.first_row / rows,
                  .row = p->w.first_row % rows,
                  .scale = (f ? f->scale : s->scale) * at->scale,
                  .factors = f,
                  .norm = at->norm ? at->norm[slot] + p->w.first_row : NULL};
    u->x = p->x->x;
    u->p = *p;
    cut(&u->p, r);
}

/* The weights that the rows of a product give to adapter `i`, in scratch; NULL where
 * all are 1. Where only the last tokens go on (to the output), rows are counted from
 * the end. *used: is any of them not 0? */
static const float *weights_of(jt_context *ctx, const jt_attached *attached, size_t i,
                               const jt_product *p, bool *used)
{
    *used = !attached->weight;
    if (*used)
        return NULL;
    size_t rows = jt_rows(&p->x->x);
    if (!p->token && rows > attached->n_tokens) {
        jt_fail(&ctx->err, JT_E_UNSUPPORTED,
                "weights of tokens for adapters of a product that mixes them");
        return NULL;
    }
    size_t skipped = p->token ? 0 : attached->n_tokens - rows;
    float *weight = jt_scratch(ctx, p->tokens, sizeof *weight);
    for (size_t t = 0; weight && t < p->tokens; t++) {
        size_t row = p->first + t;
        size_t token = p->token ? (size_t)p->token[row] : row + skipped;
        weight[t] = attached->weight[token * attached->count + i];
        *used |= weight[t] != 0.0f;
    }
    return weight;
}

/* A x, in the list of the products themselves: they read the same rows of x. */
static void add_low(jt_context *ctx, jt_use *u, jt_product *low)
{
    const jt_factors *f = u->factors;
    jt_tensor a = {.n_dims = 2, .shape = {f ? f->rank : 0, jt_cols(&u->p.w)}};
    if (!f)
        a = jt_slice(&u->slot->part[JT_LOW_A], u->matrix);
    u->low.x = jt_new(ctx, u->p.tokens, jt_rows(&a));
    *low = jt_product_rows(&u->low.x, &a, u->p.x, 0, u->p.tokens);
    low->first = u->p.first;
    low->via = u->p.via;
    if (f)
        jt_factor_product(&f->a, &f->b, u->matrix, low);
}

/* The uses of a run of one product in a step; *filled of `use` are there. */
static void add_uses(const jt_crew *c, jt_context *ctx, const jt_crew_step *s,
                     const jt_product *p, run r, jt_use *use, size_t *filled,
                     jt_product *list, size_t *all)
{
    const jt_attached *by = c->part[r.part].by;
    for (size_t i = 0; i < by->count; i++) {
        const jt_attachment *at = &by->list[i];
        int32_t slot = jt_crew_step_has(at, s) ? slot_for(at, &p->w) : -1;
        bool used;
        if (slot < 0)
            continue;
        jt_use *u = &use[*filled];
        use_slot(u, at, slot, p, r);
        u->weight = weights_of(ctx, by, i, &u->p, &used);
        if (!used)
            continue;
        if (at->adapter->kind->low_rank)
            add_low(ctx, u, &list[(*all)++]);
        ++*filled;
    }
}

/* The uses of all products in a step: of each product the first run, then of each the
 * next, so that factors of an adapter that lie side by side are read so. `at` has room
 * for a run of each. */
static void add_step(const jt_crew *c, jt_context *ctx, const jt_crew_step *s,
                     size_t count, run *at, jt_use *use, size_t *filled,
                     jt_product *list, size_t *all)
{
    size_t left = 0;
    for (size_t j = 0; j < count; j++) {
        at[j] = (run){0, 0, 0};
        if (is_changed(c, &list[j]))
            at[j] = first_run(c, ctx, &list[j]);
        left += at[j].count > 0;
    }
    for (size_t j = 0; left; j = j + 1 < count ? j + 1 : 0) {
        if (!at[j].count)
            continue;
        add_uses(c, ctx, s, &list[j], at[j], use, filled, list, all);
        at[j] = next_run(c, ctx, &list[j], at[j]);
        left -= at[j].count == 0;
    }
}

/* Have two parts nothing but the same mixtures, which decide token by token? */
static bool share_mixtures(const jt_attached *a, const jt_attached *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++) {
        const jt_blended *m = a->list[i].blended;
        same = m && m == b->list[i].blended && m->blend->method->producer == JT_BY_GATE;
    }
    return same;
}

/* A run with those behind it that share its mixtures: these read an adapter once for
 * all tokens that have chosen it. */
static run with_sharers(const jt_crew *c, jt_context *ctx, const jt_product *p, run r)
{
    for (;;) {
        run more = next_run(c, ctx, p, r);
        if (!more.count || !share_mixtures(c->part[r.part].by, c->part[more.part].by))
            return r;
        r.count += more.count;
    }
}

static void add_mixed(const jt_crew *c, jt_context *ctx, jt_product *p,
                      jt_blend_use *mixed, size_t *n)
{
    for (run r = first_run(c, ctx, p); r.count; r = next_run(c, ctx, p, r)) {
        r = with_sharers(c, ctx, p, r);
        jt_attached *by = c->part[r.part].by;
        for (size_t i = 0; i < by->count; i++) {
            const jt_attachment *at = &by->list[i];
            int32_t bank = at->blended ? jt_blended_bank(at->blended, p) : -1;
            if (bank < 0)
                continue;
            if (at->blended->factors)
                p->then = at->blended->factors[bank].then;
            mixed[*n] = (jt_blend_use){
                .by = at->blended, .decided = &at->decided, .bank = (size_t)bank};
            mixed[*n].p = *p;
            cut(&mixed[(*n)++].p, r);
        }
    }
}

static void late_backward(jt_context *ctx, void *saved)
{
    const work *w = *(work **)saved;
    for (size_t i = 0, first = 0; i < w->crew->n_steps; first = w->end[i++]) {
        const jt_adapter_kind *kind = w->crew->step[i].kind;
        if (kind->back_late && w->end[i] > first)
            kind->back_late(ctx, w->use + first, w->end[i] - first);
    }
}

/* Room for the uses of products; NULL without. */
static work *new_work(const jt_crew *c, jt_context *ctx, const jt_product *products,
                      size_t count, size_t *n_products)
{
    room all = {0, 0, 0};
    for (size_t j = 0; j < count; j++) {
        if (!is_changed(c, &products[j]))
            continue;
        room n = count_uses(c, ctx, &products[j]);
        all.uses += n.uses;
        all.mixed += n.mixed;
        all.products += n.products;
    }
    if (!all.uses && !all.mixed)
        return NULL;
    *n_products = count + all.products;
    work *w = jt_scratch(ctx, 1, sizeof *w);
    if (!w)
        return NULL;
    *w = (work){.use = jt_scratch(ctx, all.uses, sizeof *w->use),
                .end = jt_scratch(ctx, c->n_steps, sizeof *w->end),
                .mixed = jt_scratch(ctx, all.mixed, sizeof *w->mixed),
                .crew = c};
    return jt_failed(ctx) ? NULL : w;
}

static void *before(void *self, jt_context *ctx, jt_product **products, size_t *count)
{
    const jt_crew *c = self;
    size_t most, filled = 0, all = *count;
    work *w = new_work(c, ctx, *products, *count, &most);
    jt_product *list = w ? jt_scratch(ctx, most, sizeof *list) : NULL;
    if (!list)
        return NULL;
    memcpy(list, *products, all * sizeof *list);
    for (size_t j = 0; j < *count; j++) {
        if (is_changed(c, &list[j]))
            add_mixed(c, ctx, &list[j], w->mixed, &w->n_mixed);
    }
    if (w->n_mixed)
        jt_blended_before(ctx, w->mixed, w->n_mixed, list, &all);
    run *at = jt_scratch(ctx, *count, sizeof *at);
    for (size_t i = 0; i < c->n_steps && !jt_failed(ctx); i++) {
        add_step(c, ctx, &c->step[i], *count, at, w->use, &filled, list, &all);
        w->end[i] = filled;
    }
    *products = list;
    *count = all;
    jt_tape_push(ctx, late_backward, &w, sizeof w);
    return w;
}

static void after(void *self, jt_context *ctx, void *begun)
{
    const work *w = begun;
    (void)self;
    for (size_t i = 0, first = 0; i < w->crew->n_steps; first = w->end[i++]) {
        if (w->end[i] > first)
            w->crew->step[i].kind->change(ctx, w->use + first, w->end[i] - first);
    }
    if (w->n_mixed)
        jt_blended_after(ctx, w->mixed, w->n_mixed);
}

/* ---- embeddings: a few rows of the weight ---- */

typedef struct embed_rows {
    const jt_attachment *at;
    const jt_adapter_slot *s;
    const int32_t *ids;
    jt_tensor y;
    const float *weight; /* of row i: weight[i * step]; NULL: 1 */
    size_t step;
} embed_rows;

static void embed_row(void *arg, size_t i)
{
    const embed_rows *w = arg;
    float weight = w->weight ? w->weight[i * w->step] : 1.0f;
    w->at->adapter->kind->merge_row(w->s, weight * w->s->scale * w->at->scale,
                                    (size_t)w->ids[i], jt_row(&w->y, i));
}

static void embed_part(jt_context *ctx, const jt_attached *by, const jt_tensor *table,
                       const int32_t *ids, const jt_tensor *y)
{
    for (size_t i = 0; i < by->count && !jt_failed(ctx); i++) {
        const jt_attachment *at = &by->list[i];
        int32_t slot = slot_for(at, table);
        if (slot < 0)
            continue;
        embed_rows w = {at, &at->adapter->slot[slot], ids, *y, NULL, by->count};
        if (by->weight)
            w.weight = by->weight + i;
        if (ctx->tape) {
            jt_fail(&ctx->err, JT_E_UNSUPPORTED, "gradients of adapters of '%s'",
                    w.s->target);
            return;
        }
        jt_for_rows(ctx, jt_rows(y), jt_rows(y) * jt_cols(y) * (w.s->rank + 1),
                    embed_row, &w);
    }
}

static void on_embed(void *self, jt_context *ctx, const jt_tensor *table,
                     const int32_t *ids, jt_tensor *y)
{
    const jt_crew *c = self;
    for (size_t k = 0, first = 0; k < c->n_parts; first += c->part[k++].tokens) {
        jt_tensor rows = jt_some_rows(y, first, c->part[k].tokens);
        embed_part(ctx, c->part[k].by, table, ids + first, &rows);
    }
}

jt_product_change jt_crew_change(jt_crew *crew)
{
    return (jt_product_change){crew, before, after, on_embed, 0};
}
