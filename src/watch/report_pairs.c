/* Which experts go together: in one layer, and from one layer to the next. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "watch/information.h"
#include "watch/report_impl.h"

typedef struct table {
    size_t rows, columns;
    uint64_t *count;       /* [rows, columns] tokens that use both */
    uint64_t *of_a, *of_b; /* [rows], [columns] tokens that use each */
    size_t tokens;
} table;

static bool make_table(table *t, const jt_uses *a, const jt_uses *b)
{
    t->rows = (size_t)a->n_experts;
    t->columns = (size_t)b->n_experts;
    t->tokens = a->n_tokens;
    t->count = jt_calloc(t->rows * t->columns, sizeof *t->count);
    t->of_a = jt_calloc(t->rows, sizeof *t->of_a);
    t->of_b = jt_calloc(t->columns, sizeof *t->of_b);
    return t->count && t->of_a && t->of_b;
}

static void free_table(table *t)
{
    free(t->count);
    free(t->of_a);
    free(t->of_b);
}

static void count_uses(uint64_t *of, const jt_uses *uses)
{
    size_t n;
    for (size_t t = 0; t < uses->n_tokens; t++) {
        const uint16_t *row = jt_uses_row(uses, t, &n);
        for (size_t i = 0; i < n; i++)
            of[row[i]]++;
    }
}

/* Each pair of a slot of `a` and one of `b`. `within` a layer: only pairs of different
 * experts, the smaller one first, and of one token each pair once. */
static void count_pairs(table *to, const jt_uses *a, const jt_uses *b, bool within)
{
    size_t n_a, n_b;
    memset(to->count, 0, to->rows * to->columns * sizeof *to->count);
    for (size_t t = 0; t < a->n_tokens; t++) {
        const uint16_t *row_a = jt_uses_row(a, t, &n_a);
        const uint16_t *row_b = jt_uses_row(b, t, &n_b);
        for (size_t i = 0; i < n_a; i++) {
            for (size_t j = row_a == row_b ? i + 1 : 0; j < n_b; j++) {
                uint16_t x = row_a[i], y = row_b[j];
                if (within && x == y)
                    continue;
                bool turn = within && y < x;
                to->count[(turn ? y : x) * to->columns + (turn ? x : y)]++;
            }
        }
    }
}

static double mutual_bits(const table *t)
{
    double entropy;
    return jt_mutual(t->count, t->rows, t->columns, &entropy) / log(2.0);
}

/* Divergence, in bits, of the pairs that were seen from pairs of different experts
 * drawn by their loads. */
static double pair_bits(const table *t)
{
    double weight = 0.0, bits = 0.0;
    uint64_t total = 0;
    for (size_t a = 0; a < t->rows; a++) {
        for (size_t b = a + 1; b < t->columns; b++) {
            weight += (double)t->of_a[a] * (double)t->of_a[b];
            total += t->count[a * t->columns + b];
        }
    }
    for (size_t a = 0; a < t->rows; a++) {
        for (size_t b = a + 1; b < t->columns; b++) {
            double p = (double)t->count[a * t->columns + b] / (double)total;
            double q = (double)t->of_a[a] * (double)t->of_a[b] / weight;
            bits += p > 0.0 && q > 0.0 ? p * log2(p / q) : 0.0;
        }
    }
    return total ? fmax(0.0, bits) : 0.0;
}

/* The pairs that say most: tokens that use both, times the log of the lift. */
static void find_top(jt_report_pairs *out, const table *t)
{
    double best[JT_REPORT_PAIRS] = {0};
    for (size_t cell = 0; cell < t->rows * t->columns; cell++) {
        double both = (double)t->count[cell], tokens = (double)t->tokens;
        if (both < 2.0)
            continue;
        size_t a = cell / t->columns, b = cell % t->columns;
        double lift = both * tokens / ((double)t->of_a[a] * (double)t->of_b[b]);
        double says = both * log(lift);
        if (!(says > 0.0) ||
            (out->n_top == JT_REPORT_PAIRS && says <= best[JT_REPORT_PAIRS - 1]))
            continue;
        size_t at = out->n_top < JT_REPORT_PAIRS ? out->n_top++ : JT_REPORT_PAIRS - 1;
        for (; at > 0 && best[at - 1] < says; at--) {
            best[at] = best[at - 1];
            out->top[at] = out->top[at - 1];
        }
        best[at] = says;
        out->top[at] = (jt_report_pair){(int)a, (int)b, both / tokens, lift};
    }
}

bool jt_report_pairs_together(jt_report_pairs *out, const jt_uses *uses,
                              const jt_uses *shuffled)
{
    *out = (jt_report_pairs){0};
    if (uses->k < 2 || uses->n_experts > REPORT_MAX_PAIRS)
        return true;
    table t = {0};
    bool good = make_table(&t, uses, uses);
    if (good) {
        count_uses(t.of_a, uses);
        count_uses(t.of_b, uses);
        count_pairs(&t, uses, shuffled, true);
        out->chance = pair_bits(&t);
        count_pairs(&t, uses, uses, true);
        out->bits = pair_bits(&t);
        find_top(out, &t);
        out->measured = true;
    }
    free_table(&t);
    return good;
}

bool jt_report_pairs_next(jt_report_pairs *out, const jt_uses *a, const jt_uses *b,
                          const jt_uses *b_shuffled)
{
    *out = (jt_report_pairs){0};
    if (a->n_experts > REPORT_MAX_PAIRS || b->n_experts > REPORT_MAX_PAIRS)
        return true;
    table t = {0};
    bool good = make_table(&t, a, b);
    if (good) {
        count_uses(t.of_a, a);
        count_uses(t.of_b, b);
        count_pairs(&t, a, b_shuffled, false);
        out->chance = mutual_bits(&t);
        count_pairs(&t, a, b, false);
        out->bits = mutual_bits(&t);
        find_top(out, &t);
        out->measured = true;
    }
    free_table(&t);
    return good;
}
