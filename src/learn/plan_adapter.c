#include "learn/plan_adapter.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "adapt/blend.h"
#include "adapt/made.h"
#include "adapt/mixda.h"

static double kept(double values)
{
    return 2.0 * values; /* itself and its gradient */
}

/* "attn_q.weight" of "blk.3.attn_q.weight", if that is in layer 3; or NULL. */
static const char *within(const char *target, int layer)
{
    char prefix[32];
    int n = snprintf(prefix, sizeof prefix, "blk.%d.", layer);
    return strncmp(target, prefix, (size_t)n) == 0 ? target + n : NULL;
}

/* ---- adapters of single weights ---- */

/* What domain adapters mix: the gate on a copy of its input, W x, and where keeping
 * looks at it y - W x. */
static double mixda_values(const jt_adapter_slot *s)
{
    double rank = (double)s->rank, domains = (double)s->setting[JT_MIXDA_DOMAINS];
    double gate = (JT_MIXDA_LAYERS - 1) * (double)s->setting[JT_MIXDA_GATE_WIDTH];
    double rows = (double)s->rows, values = 3.0 * kept(rank);
    values += kept((double)s->cols) + kept(gate) + kept(domains + 1.0) + domains + 1.0;
    return values + rows + (s->keeping ? rows : 0.0);
}

static double slot_values(const jt_adapter_kind *kind, const jt_adapter_slot *s)
{
    double rank = (double)s->rank, values = 0.0;
    if (kind == &jt_adapter_mixda)
        return mixda_values(s);
    if (kind->low_rank)
        values += kept(rank); /* A x */
    if (kind->magnitude)
        values += (double)s->rows; /* what the weight gave before */
    if (kind->by_token)
        values += kept(rank) + rank + 1.0; /* weighed, its weights, and the norm */
    return values;
}

/* ---- adapters at places ---- */

static bool is_gated(const jt_adapter *a)
{
    jt_str target;
    for (size_t i = 0; i < a->n_sources; i++) {
        if (jt_adapter_source_of(a, i, "gate", &target))
            return true;
    }
    return false;
}

/* All that stand around a half of a layer, and what they add to: a copy of its input,
 * one of its result, and one more for those after. */
static double half_values(const jt_adapter *a, int layer, jt_half half)
{
    double narrow = is_gated(a) ? 3.0 : 2.0, values = 0.0, d = 0.0;
    bool stands[3] = {false};
    for (size_t i = 0; i < a->n_places; i++) {
        const jt_adapter_place *p = &a->place[i];
        if (p->layer != layer || p->half != half)
            continue;
        d = (double)p->cols;
        values += narrow * kept((double)p->rank) + kept(d);
        stands[p->where] = true;
    }
    int copies = stands[JT_BEFORE] + stands[JT_AFTER];
    copies += stands[JT_BESIDE] || stands[JT_AFTER];
    return values + copies * kept(d);
}

/* Embeddings of a prompt and what an LSTM in both directions makes of them: inputs of
 * its gates, gates, cells, results; then the rows that are added. */
static double prompt_values(double d)
{
    enum { LAYERS = 2 };
    double one = kept(4.0 * d) + 4.0 * d + d + kept(d);
    return kept(d) + LAYERS * one + kept(d) + 3.0;
}

/* ---- mixtures ---- */

/* Adapters of a token while it trains. */
static double active(const jt_blend *b)
{
    return (double)(b->method->learns_all ? b->n : (size_t)b->k);
}

/* Of a route and the plan made of it: numbers, weights, their gradients, places. */
static double route_values(const jt_blend *b)
{
    double k = active(b);
    return 3.0 * k + 3.0 * k;
}

/* Logits and scores. */
static double score_values(const jt_blend *b)
{
    return kept((double)b->n) + kept((double)b->n);
}

static double bank_values(const jt_blend *b, const jt_adapter_bank *bank)
{
    double k = active(b), values = route_values(b);
    values += kept(k * (double)bank->rank) + kept(k * (double)bank->rows);
    return b->method->producer == JT_BY_GATE ? values + score_values(b) : values;
}

double jt_plan_adapter_values(const jt_adapter *a, int layer, double expert_rows)
{
    const jt_blend *b = a->blend;
    double values = 0.0;
    for (size_t i = 0; i < a->count; i++) {
        const jt_adapter_slot *s = &a->slot[i];
        if (within(s->target, layer))
            values += slot_values(a->kind, s) * (s->count > 1 ? expert_rows : 1.0);
    }
    for (size_t i = 0; b && b->method->producer != JT_BY_LAYER && i < b->n_banks; i++) {
        if (within(b->bank[i].target, layer))
            values += bank_values(b, &b->bank[i]);
    }
    return values + half_values(a, layer, JT_HALF_MIXER) +
           half_values(a, layer, JT_HALF_FFN);
}

/* Weights that read the same input are one list of products: its number. */
static int list_of(const char *name)
{
    static const char *const lists[] = {"attn_q.attn_k.attn_v.", "ffn_gate.ffn_up."};
    char start[32];
    int n = (int)strcspn(name, ".") + 1;
    snprintf(start, sizeof start, "%.*s", n, name);
    for (int i = 0; i < 2; i++) {
        if (strstr(lists[i], start))
            return i;
    }
    return 2;
}

/* Each row that an adapter reads has a gradient of its own before those of a token are
 * summed: most of them in one list. */
double jt_plan_adapter_back(const jt_adapter *a, int layer)
{
    const jt_blend *b = a->blend;
    double lists[2] = {0.0}, most = 0.0;
    bool together =
        b && b->method->producer == JT_BY_LAYER; /* gate and up share them */
    for (size_t i = 0; b && i < b->n_banks; i++) {
        const char *name = within(b->bank[i].target, layer);
        if (!name)
            continue;
        double values = active(b) * (double)b->bank[i].cols;
        int list = list_of(name);
        if (list == 2)
            most = fmax(most, together ? 0.0 : values);
        else
            lists[list] = together ? values : lists[list] + values;
    }
    return fmax(most, fmax(lists[0], lists[1]));
}

double jt_plan_adapter_ahead(const jt_adapter *a, double d_model)
{
    const jt_blend *b = a->blend;
    if (a->kind->rewrite)
        return prompt_values(d_model);
    if (!b || b->method->producer != JT_BY_PASS)
        return 0.0;
    double values = d_model;
    for (int i = 0; i + 1 < b->depth; i++)
        values += kept((double)jt_rows(&b->head_weight[i]));
    double routes = jt_blend_layerwise(b) ? (double)b->n_banks : 1.0;
    return values + routes * (score_values(b) + 3.0 * active(b));
}

/* ---- FFNs with experts ---- */

static const jt_adapter_bank *ffn_bank(const jt_adapter *a, int layer, const char *part)
{
    char name[96];
    int n = snprintf(name, sizeof name, "blk.%d.%s.weight", layer, part);
    return jt_blend_find(a->blend, (jt_str){name, (size_t)n});
}

bool jt_plan_adapter_instead(const jt_adapter *a, int layer)
{
    return a && a->blend && a->blend->method->producer == JT_BY_LAYER &&
           ffn_bank(a, layer, "ffn_up");
}

double jt_plan_adapter_ffn(const jt_adapter *a, int layer, double d_model)
{
    static const char *const parts[] = {"ffn_gate", "ffn_up", "ffn_down"};
    const jt_blend *b = a->blend;
    double k = active(b), values = score_values(b) + route_values(b) + kept(d_model);
    for (int i = 0; i < 3; i++) {
        const jt_adapter_bank *bank = ffn_bank(a, layer, parts[i]);
        if (!bank)
            continue;
        double rows = (double)bank->rows;
        values += kept(k * (double)bank->rank) + kept(k * rows); /* A x and B (A x) */
        if (i < 2)
            values += kept(rows) + kept(k * rows); /* W x, of the token and its rows */
        else
            values += k * (double)bank->cols + kept(k * rows); /* hidden; W hidden */
    }
    return values;
}
