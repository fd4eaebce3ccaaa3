/* Places: where adapters stand that are no change of a weight (Houlsby et al. 2019,
 * "Parameter-efficient transfer learning for NLP", section 2: after both halves of a
 * layer; He et al. 2022, "Towards a unified view of parameter-efficient transfer
 * learning", section 3: beside them). */
#include "adapt/crew.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/front.h"
#include "adapt/prompt.h"
#include "base/memory.h"
#include "format/gguf_file.h"
#include "model/model.h"

/* ---- names ---- */

static const char *const halves[] = {"attn", "ffn"};
static const char *const wheres[] = {"before", "beside", "after"};
static const char embedding[] = "embedding"; /* before the first layer: layer -1 */

void jt_place_name(char name[JT_PLACE_NAME], int layer, jt_half half, jt_where where)
{
    if (layer < 0)
        snprintf(name, JT_PLACE_NAME, "%s", embedding);
    else
        snprintf(name, JT_PLACE_NAME, "blk.%d.%s.%s", layer, halves[half],
                 wheres[where]);
}

/* Is it the embedding, or one of the six of the layer that it begins with? */
static bool parse(jt_str name, jt_adapter_place *p)
{
    char text[JT_PLACE_NAME] = "", again[JT_PLACE_NAME];
    if (name.len < sizeof text)
        memcpy(text, name.data, name.len);
    p->layer = -1;
    if (strcmp(text, embedding) == 0)
        return true;
    if (sscanf(text, "blk.%6d.", &p->layer) != 1)
        return false;
    for (int i = 0; i < 6; i++) {
        p->half = (jt_half)(i / 3);
        p->where = (jt_where)(i % 3);
        jt_place_name(again, p->layer, p->half, p->where);
        if (strcmp(text, again) == 0)
            return true;
    }
    return false;
}

/* ---- of an adapter ---- */

jt_status jt_adapter_add_place(jt_adapter *a, jt_adapter_place **place, jt_str name,
                               size_t cols, size_t rank, float alpha, jt_err *err)
{
    jt_adapter_place p = {.cols = cols, .rank = rank, .alpha = alpha};
    if (!parse(name, &p))
        return jt_fail(err, JT_E_FORMAT, "'%.*s' is no place of a model",
                       JT_GGUF_SHOW(name));
    if (rank < 1 || rank > JT_ADAPTER_MOST_RANK)
        return jt_fail(err, JT_E_FORMAT, "'%.*s' has rank %zu, expected 1 to %d",
                       JT_GGUF_SHOW(name), rank, JT_ADAPTER_MOST_RANK);
    if (!isfinite(alpha) || alpha == 0.0f)
        return jt_fail(err, JT_E_FORMAT, "'%.*s': alpha %g makes no sense",
                       JT_GGUF_SHOW(name), (double)alpha);
    for (size_t i = 0; i < a->n_places; i++) {
        if (strlen(a->place[i].name) == name.len &&
            memcmp(a->place[i].name, name.data, name.len) == 0)
            return jt_fail(err, JT_E_FORMAT, "'%.*s' is there twice",
                           JT_GGUF_SHOW(name));
    }
    p.scale = a->kind->scale(alpha, rank);
    p.name = jt_strndup(name.data, name.len);
    if (!p.name ||
        !jt_grow((void **)&a->place, &a->place_room, a->n_places + 1, sizeof p)) {
        free(p.name);
        return jt_fail_memory(err, "making an adapter");
    }
    a->place[a->n_places] = p;
    *place = &a->place[a->n_places++];
    return JT_OK;
}

bool jt_model_has_place(const jt_model *model, int layer, jt_half half)
{
    if (layer < 0 || layer >= model->params.n_layers)
        return false;
    bool mixes = model->layers[layer].mixer != JT_MIX_NONE;
    if (half == JT_HALF_MIXER)
        return mixes;
    return !mixes || !model->family->single;
}

jt_status jt_adapter_place_fits(const jt_adapter_place *p, const jt_model *model,
                                jt_err *err)
{
    if (p->layer >= 0 && !jt_model_has_place(model, p->layer, p->half))
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "the model has no place '%s': is the adapter for another one?",
                       p->name);
    if (!p->cols || p->cols == (size_t)model->params.d_model)
        return JT_OK;
    return jt_fail(err, JT_E_FORMAT,
                   "'%s' is for a model of width %zu, this one has %d", p->name,
                   p->cols, model->params.d_model);
}

/* ---- at work ---- */

/* The weights of adapter `i` for `rows` rows, in scratch; NULL: all 1. */
static const float *weights_of(const jt_attached *attached, jt_context *ctx, size_t i,
                               size_t rows)
{
    if (!attached->weight)
        return NULL;
    float *weight = jt_scratch(ctx, rows, sizeof *weight);
    for (size_t t = 0; weight && t < rows; t++)
        weight[t] = attached->weight[t * attached->count + i];
    return weight;
}

/* y += what all adapters that stand `where` make of x. */
static void add_all(const jt_attached *attached, jt_context *ctx, int layer,
                    jt_half half, jt_where where, const jt_tensor *x, jt_tensor *y)
{
    for (size_t i = 0; i < attached->count && !jt_failed(ctx); i++) {
        const jt_attachment *at = &attached->list[i];
        const jt_adapter *a = at->adapter;
        for (size_t j = 0; j < a->n_places; j++) {
            const jt_adapter_place *p = &a->place[j];
            if (p->layer != layer || p->half != half || p->where != where ||
                !at->stands[j])
                continue;
            a->kind->at_place(a, p, ctx, x, p->scale * at->scale,
                              weights_of(attached, ctx, i, jt_rows(x)), y);
        }
    }
}

/* Does any adapter stand there? */
static bool stands(const jt_attached *attached, int layer, jt_half half, jt_where where)
{
    for (size_t i = 0; i < attached->count; i++) {
        const jt_adapter *a = attached->list[i].adapter;
        for (size_t j = 0; j < a->n_places; j++) {
            const jt_adapter_place *p = &a->place[j];
            if (p->layer == layer && p->half == half && p->where == where &&
                attached->list[i].stands[j])
                return true;
        }
    }
    return false;
}

/* Does any adapter of the crew stand there? */
static bool any_stands(const jt_crew *c, int layer, jt_half half, jt_where where)
{
    for (size_t k = 0; k < c->n_parts; k++) {
        if (stands(c->part[k].by, layer, half, where))
            return true;
    }
    return false;
}

/* The same for all sequences, each with the adapters that it has; the last may be
 * missing. */
static void add_parts(const jt_crew *c, jt_context *ctx, int layer, jt_half half,
                      jt_where where, const jt_tensor *x, jt_tensor *y)
{
    size_t rows = jt_failed(ctx) ? 0 : jt_rows(y);
    for (size_t k = 0, first = 0; first < rows; first += c->part[k++].tokens) {
        jt_tensor some_x = jt_some_rows(x, first, c->part[k].tokens);
        jt_tensor some_y = jt_some_rows(y, first, c->part[k].tokens);
        add_all(c->part[k].by, ctx, layer, half, where, &some_x, &some_y);
    }
}

static void before(void *self, jt_context *ctx, int layer, jt_half half, jt_input *x)
{
    const jt_crew *c = self;
    if (!any_stands(c, layer, half, JT_BEFORE))
        return;
    jt_tensor y = jt_copy(ctx, &x->x);
    add_parts(c, ctx, layer, half, JT_BEFORE, &x->x, &y);
    *x = jt_input_of(y);
}

/* Those after read what those beside have left; several after the same y, the same. */
static void after(void *self, jt_context *ctx, int layer, jt_half half, jt_input *x,
                  jt_tensor *y)
{
    const jt_crew *c = self;
    bool follows = any_stands(c, layer, half, JT_AFTER);
    if (!follows && !any_stands(c, layer, half, JT_BESIDE))
        return;
    jt_tensor sum = jt_copy(ctx, y); /* y may be read but once: its gradient is fresh */
    add_parts(c, ctx, layer, half, JT_BESIDE, &x->x, &sum);
    *y = sum;
    if (!follows)
        return;
    *y = jt_copy(ctx, &sum);
    add_parts(c, ctx, layer, half, JT_AFTER, &sum, y);
}

/* In training there is one part. */
static bool give(void *self, int layer, jt_given *out)
{
    const jt_crew *c = self;
    return c->n_parts == 1 && jt_attached_give(c->part->by, layer, out);
}

const jt_between *jt_crew_between(jt_crew *c, jt_context *ctx)
{
    bool any = false;
    for (size_t k = 0; k < c->n_parts; k++) {
        for (size_t i = 0; i < c->part[k].by->count; i++)
            any |= c->part[k].by->list[i].adapter->n_places > 0;
    }
    jt_between *b = any ? jt_scratch(ctx, 1, sizeof *b) : NULL;
    if (b)
        *b = (jt_between){c, jt_crew_embedded, before, after, give};
    return b;
}
