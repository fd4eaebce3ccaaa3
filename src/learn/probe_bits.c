/* Probes of bit widths: nested experts, the order of their planes, and widths that are
 * chosen expert by expert. They change the weights of the experts and put them back. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/nested.h"
#include "learn/probe_impl.h"
#include "learn/routes.h"
#include "store/planes.h"

/* ---- experts with fewer bits ---- */

/* The weights of all experts as they were, and how wide each is now. */
typedef struct experts {
    jt_trainer *trainer;
    int n_layers, n_experts; /* of mixtures, alike */
    size_t values;           /* of an expert */
    float *kept;             /* [layers, experts, values] */
    float *room;             /* [values] */
    void *coded;             /* the same in any format */
    uint8_t *plane[JT_NESTED_PLANES];
} experts;

static void free_experts(experts *x)
{
    free(x->kept);
    free(x->room);
    free(x->coded);
    for (int k = 0; k < JT_NESTED_PLANES; k++)
        free(x->plane[k]);
}

static jt_bank *bank_of(const experts *x, int layer)
{
    jt_model *model = x->trainer->model;
    int place = -1;
    for (int i = 0; i < model->params.n_layers; i++) {
        place += model->layers[i].is_mixture;
        if (model->layers[i].is_mixture && place == layer)
            return &model->layers[i].mixture.experts;
    }
    return NULL;
}

static size_t part_values(const jt_bank *bank, int part)
{
    const jt_tensor *t = &bank->part[part];
    return jt_has(t) ? t->shape[1] * t->shape[2] : 0;
}

/* Put the weights of an expert into `to`, or take them from it. */
static void move(const experts *x, int layer, int expert, float *other, bool out)
{
    jt_bank *bank = bank_of(x, layer);
    for (int p = 0; p < JT_PARTS; p++) {
        size_t n = part_values(bank, p);
        float *own = (float *)bank->part[p].data + (size_t)expert * n;
        if (n)
            memcpy(out ? other : own, out ? own : other, n * sizeof *own);
        other += n;
    }
}

static float *kept_of(const experts *x, int layer, int expert)
{
    return x->kept + (size_t)(layer * x->n_experts + expert) * x->values;
}

static jt_status take_experts(experts *x, const jt_probe_call *call)
{
    const jt_model *model = call->trainer->model;
    *x = (experts){.trainer = call->trainer};
    for (int i = 0; i < model->params.n_layers; i++)
        x->n_layers += model->layers[i].is_mixture;
    const jt_bank *bank = x->n_layers ? bank_of(x, 0) : NULL;
    x->n_experts = bank ? bank->n_experts : 0;
    for (int p = 0; bank && p < JT_PARTS; p++)
        x->values += part_values(bank, p);
    if (!x->values || x->values % 256 != 0)
        return jt_fail(call->err, JT_E_ARG, "experts of %zu values", x->values);
    x->kept = jt_alloc((size_t)(x->n_layers * x->n_experts) * x->values, sizeof(float));
    x->room = jt_alloc(x->values, sizeof(float));
    x->coded = jt_alloc(x->values, sizeof(float));
    bool there = x->kept && x->room && x->coded;
    for (int k = 0; k < JT_NESTED_PLANES && there; k++) {
        x->plane[k] = jt_alloc(jt_nested_plane_bytes(x->values), 1);
        there = x->plane[k] != NULL;
    }
    if (!there) {
        free_experts(x);
        return jt_fail_memory(call->err, "probing a model");
    }
    for (int l = 0; l < x->n_layers; l++)
        for (int e = 0; e < x->n_experts; e++)
            move(x, l, e, kept_of(x, l, e), true);
    return JT_OK;
}

/* How an expert is stored: plainly in a format, or nested with `bits` of `most`. */
typedef struct width {
    jt_dtype plain;
    int bits, most; /* 0: plain */
} width;

static void set_width(const experts *x, int layer, int expert, const width *how)
{
    const float *kept = kept_of(x, layer, expert);
    const uint8_t *plane[JT_NESTED_PLANES];
    for (int k = 0; k < JT_NESTED_PLANES; k++)
        plane[k] = x->plane[k];
    if (how->bits) {
        jt_quantize_nested(x->coded, x->plane, kept, NULL, x->values, how->most);
        jt_nested_weave(x->coded, x->values / 256, JT_NESTED_LEAST, how->bits, plane);
        jt_dequantize(jt_nested_dtype(how->bits), x->room, x->coded, x->values);
    } else {
        jt_quantize(how->plain, x->coded, kept, x->values);
        jt_dequantize(how->plain, x->room, x->coded, x->values);
    }
    move(x, layer, expert, x->room, false);
}

static void set_all(const experts *x, const width *how)
{
    for (int l = 0; l < x->n_layers; l++)
        for (int e = 0; e < x->n_experts; e++)
            set_width(x, l, e, how);
}

static void restore(const experts *x)
{
    for (int l = 0; l < x->n_layers; l++)
        for (int e = 0; e < x->n_experts; e++)
            move(x, l, e, kept_of(x, l, e), false);
}

/* ---- nested:BITS ---- */

static jt_status measure_widths(const jt_probe_call *call, const experts *x)
{
    static const jt_dtype plain[] = {JT_Q2_K, JT_Q3_K, JT_Q4_K, JT_Q5_K, JT_Q6_K};
    static const jt_hooks none;
    char name[32];
    jt_status status = JT_OK;
    int most = (int)call->value;
    for (int bits = JT_NESTED_LEAST; bits <= most && status == JT_OK; bits++) {
        set_all(x, &(width){.bits = bits, .most = most});
        snprintf(name, sizeof name, "nested=%d", bits);
        status = jt_probe_loss(call, &none, name);
        set_all(x, &(width){.plain = plain[bits - JT_NESTED_LEAST]});
        snprintf(name, sizeof name, "plain=%d", bits);
        if (status == JT_OK)
            status = jt_probe_loss(call, &none, name);
    }
    restore(x);
    return status;
}

/* Planes of the experts of a layer that tokens from .. to use: the expert that a token
 * likes best with all bits, the next with one less, and so on. */
static int list_planes(const jt_routes *r, size_t from, size_t to, int layer,
                       int planes, const jt_expert_cost *cost, jt_plane_item *items)
{
    int n = 0;
    for (int e = 0; e < r->n_experts; e++)
        for (int k = 0; k <= planes; k++) {
            int uses = 0;
            for (size_t t = from; t < to; t++)
                for (int j = 0; j < r->k; j++)
                    uses += jt_routes_row(r, t, layer)[j] == e &&
                            (k == 0 || planes - jt_routes_rank(r, t, layer, j) >= k);
            if (!uses)
                continue;
            double bits = k ? 1.0 : 2.625, share = bits / (planes + 2.625);
            items[n++] =
                (jt_plane_item){.expert = e,
                                .plane = k,
                                .uses = uses,
                                .load = share * cost->load,
                                .compute = share * (cost->each + cost->token * uses)};
        }
    return n;
}

/* Mean time of a layer of passes of 16 tokens, over the least that loading and
 * computing allow. */
static jt_status measure_orders(const jt_probe_call *call, const jt_routes *r)
{
    enum { PASS = 16 };
    int planes = (int)call->value - JT_NESTED_LEAST;
    double hottest = 0.0, ascending = 0.0, joined = 0.0, least = 0.0;
    jt_expert_cost cost;
    JT_TRY(jt_probe_expert_cost(call, &cost));
    /* a disk that takes as long for an expert as the processor for four tokens */
    cost.load = cost.each + 4.0 * cost.token;
    jt_plane_item *items =
        jt_alloc((size_t)r->n_experts * (size_t)(planes + 1), sizeof *items);
    if (!items)
        return jt_fail_memory(call->err, "probing a model");
    for (size_t t = 0; t + PASS <= r->n_tokens; t += PASS)
        for (int l = 0; l < r->n_layers; l++) {
            int n = list_planes(r, t, t + PASS, l, planes, &cost, items);
            double load = 0.0, compute = 0.0;
            for (int i = 0; i < n; i++) {
                load += items[i].load;
                compute += items[i].compute;
            }
            least += fmax(load, compute);
            ascending += jt_planes_makespan(items, n);
            jt_planes_hottest_first(items, n);
            hottest += jt_planes_makespan(items, n);
            n = list_planes(r, t, t + PASS, l, planes, &cost, items);
            joined += jt_planes_makespan(items, jt_planes_join(items, n));
        }
    free(items);
    JT_TRY(jt_metrics_set(call->metrics, call->err, hottest / least,
                          "hottest_first@nested=%s", call->text));
    JT_TRY(jt_metrics_set(call->metrics, call->err, ascending / least,
                          "ascending@nested=%s", call->text));
    return jt_metrics_set(call->metrics, call->err, joined / least,
                          "whole_experts@nested=%s", call->text);
}

jt_status jt_probe_nested(const jt_probe_call *call)
{
    experts x;
    jt_routes r;
    if (call->value != (int)call->value || call->value <= JT_NESTED_LEAST ||
        call->value > JT_NESTED_MOST)
        return jt_fail(call->err, JT_E_ARG, "nested weights of %s bits", call->text);
    JT_TRY(take_experts(&x, call));
    jt_status status = measure_widths(call, &x);
    free_experts(&x);
    JT_TRY(status);
    JT_TRY(jt_routes_take(&r, call->trainer, JT_ROUTES_HELD_OUT, 0, call->err));
    status = measure_orders(call, &r);
    jt_routes_free(&r);
    return status;
}

/* ---- widths:TOLERANCE (EdgeMoE) ---- */

/* An expert, and what it costs to make it narrow. */
typedef struct sensitivity {
    int layer, expert;
    double loss;
} sensitivity;

static int by_loss(const void *a, const void *b)
{
    const sensitivity *x = a, *y = b;
    return (x->loss > y->loss) - (x->loss < y->loss);
}

static const width narrow = {.plain = JT_Q2_K}, wide = {.plain = JT_Q4_K};

/* The loss on text that the training has not seen. */
static jt_status calibrate(const jt_probe_call *call, double *out)
{
    jt_trainer *t = call->trainer;
    uint64_t after =
        (uint64_t)t->config->train.steps * (uint64_t)t->config->train.accumulate + 1;
    JT_TRY(jt_data_train_batch(t->data, after, &t->batch, call->err));
    return jt_trainer_loss(t, out, call->err);
}

/* The loss with the `n` least sensitive experts narrow, all others wide. */
static jt_status loss_with(const jt_probe_call *call, const experts *x,
                           const sensitivity *list, int n, double *out)
{
    set_all(x, &wide);
    for (int i = 0; i < n; i++)
        set_width(x, list[i].layer, list[i].expert, &narrow);
    return calibrate(call, out);
}

/* Each expert alone is made narrow, and the loss noted. */
static jt_status rank_experts(const jt_probe_call *call, const experts *x,
                              sensitivity *list)
{
    int n = 0;
    for (int l = 0; l < x->n_layers; l++)
        for (int e = 0; e < x->n_experts; e++, n++) {
            list[n] = (sensitivity){.layer = l, .expert = e};
            set_width(x, l, e, &narrow);
            jt_status status = calibrate(call, &list[n].loss);
            move(x, l, e, kept_of(x, l, e), false);
            JT_TRY(status);
        }
    qsort(list, (size_t)n, sizeof *list, by_loss);
    return JT_OK;
}

/* As many as the tolerance allows, by bisection. */
static jt_status choose_widths(const jt_probe_call *call, const experts *x,
                               const sensitivity *list, int *out)
{
    double full, loss;
    int low = 0, high = x->n_layers * x->n_experts;
    restore(x);
    JT_TRY(calibrate(call, &full));
    while (low < high) {
        int middle = (low + high + 1) / 2;
        JT_TRY(loss_with(call, x, list, middle, &loss));
        if (loss <= (1.0 + call->value) * full)
            low = middle;
        else
            high = middle - 1;
    }
    *out = low;
    return JT_OK;
}

static jt_status report_widths(const jt_probe_call *call, const experts *x,
                               const sensitivity *list, int n)
{
    static const jt_hooks none;
    char name[40];
    int all = x->n_layers * x->n_experts;
    const struct {
        const char *name;
        const width *how;
    } even[] = {
        {"wide", &wide}, {"narrow", &narrow}, {"even", &(width){.plain = JT_Q3_K}}};
    for (size_t i = 0; i < sizeof even / sizeof *even; i++) {
        set_all(x, even[i].how);
        snprintf(name, sizeof name, "%s=%s", even[i].name, call->text);
        JT_TRY(jt_probe_loss(call, &none, name));
    }
    double ignored;
    JT_TRY(loss_with(call, x, list, n, &ignored));
    snprintf(name, sizeof name, "mixed=%s", call->text);
    JT_TRY(jt_probe_loss(call, &none, name));
    /* as many, but those that matter most */
    set_all(x, &wide);
    for (int i = 0; i < n; i++)
        set_width(x, list[all - 1 - i].layer, list[all - 1 - i].expert, &narrow);
    snprintf(name, sizeof name, "worst=%s", call->text);
    JT_TRY(jt_probe_loss(call, &none, name));
    double bits = (2.625 * n + 4.5 * (all - n)) / all;
    return jt_metrics_set(call->metrics, call->err, bits, "bits@mixed=%s", call->text);
}

jt_status jt_probe_widths(const jt_probe_call *call)
{
    experts x;
    int n;
    JT_TRY(take_experts(&x, call));
    sensitivity *list =
        jt_alloc((size_t)x.n_layers * (size_t)x.n_experts, sizeof *list);
    jt_status status = list ? rank_experts(call, &x, list)
                            : jt_fail_memory(call->err, "probing a model");
    if (status == JT_OK)
        status = choose_widths(call, &x, list, &n);
    if (status == JT_OK)
        status = report_widths(call, &x, list, n);
    restore(&x);
    free(list);
    free_experts(&x);
    return status;
}
