/* P-Adapters (Newman et al. 2022, "P-Adapters: robustly extracting factual information
 * from language models with diverse prompts", section 3, the rewriting one; sizes as in
 * the authors' code). Between the embedding and the first layer the rows of a prompt
 * are rewritten: with E [tokens, d] of the whole prompt,
 *
 *   E + s (W BiLSTM(E) + b),  two layers of d / 2 values in each direction
 *
 * The paper replaces E by that of a masked model; here it is added, W and b beginning
 * as 0, so that a fresh one changes nothing. And a model that reads from left to right
 * must not see what comes after the prompt: it ends with a marker, and what comes
 * before the marker is known, or not touched. */
#include <math.h>
#include <string.h>

#include "adapt/made.h"
#include "adapt/prompt.h"
#include "base/random.h"

enum { LAYERS = 2, WEIGHT = 3 * 2 * LAYERS, BIAS, MARKER, TENSORS };

/* Of layer l, way w (0 forward): input weight, hidden weight, bias from 3 (2 l + w). */
static const char *const tails[TENSORS] = {
    "p_ih_f0",   "p_hh_f0",   "p_bias_f0", "p_ih_b0",    "p_hh_b0",
    "p_bias_b0", "p_ih_f1",   "p_hh_f1",   "p_bias_f1",  "p_ih_b1",
    "p_hh_b1",   "p_bias_b1", "p_out",     "p_out_bias", "p_marker"};

static jt_tensor part(const jt_adapter *a, int which)
{
    return a->source[a->place[0].source[which]].t;
}

/* Of every part for a model of width d, with `n` tokens of a marker. */
static int shape_of(int which, size_t d, size_t n, size_t shape[2])
{
    if (which == MARKER || which == BIAS) {
        shape[0] = which == MARKER ? n : d;
        return 1;
    }
    shape[0] = which == WEIGHT ? d : d / 2 * 4;
    shape[1] = which != WEIGHT && which % 3 == 1 ? d / 2 : d;
    return which != WEIGHT && which % 3 == 2 ? 1 : 2;
}

/* ---- forward ---- */

static jt_tensor rewrite(const jt_adapter *a, jt_context *ctx, const jt_tensor *e,
                         const jt_sequence *sequences, size_t count)
{
    jt_tensor h = *e;
    for (int l = 0; l < LAYERS && !jt_failed(ctx); l++) {
        jt_input x = jt_input_of(h);
        jt_tensor pre[2], hidden[2];
        for (int way = 0; way < 2; way++) {
            int at = 3 * (2 * l + way);
            jt_tensor weight = part(a, at), bias = part(a, at + 2);
            pre[way] = jt_linear(ctx, &x, &weight, &bias);
            hidden[way] = part(a, at + 1);
        }
        if (!jt_failed(ctx))
            h = jt_lstm_forward(ctx, pre, hidden, sequences, count);
    }
    jt_input x = jt_input_of(h);
    jt_tensor weight = part(a, WEIGHT), bias = part(a, BIAS);
    return jt_linear(ctx, &x, &weight, &bias);
}

static size_t prompt_of(const jt_adapter *a, const int32_t *ids, size_t count)
{
    jt_tensor marker = part(a, MARKER);
    size_t n = jt_cols(&marker);
    for (size_t i = 0; i + n <= count; i++) {
        if (memcmp(ids + i, marker.data, n * sizeof *ids) == 0)
            return i + n;
    }
    return 0;
}

static bool is_fresh_place(const jt_adapter *a, const jt_adapter_place *p)
{
    (void)p;
    for (int i = WEIGHT; i <= BIAS; i++) {
        jt_tensor t = part(a, i);
        for (size_t j = 0; j < jt_rows(&t) * jt_cols(&t); j++) {
            if (((const float *)t.data)[j] != 0.0f)
                return false;
        }
    }
    return true;
}

/* ---- a fresh one ---- */

/* As PyTorch begins: uniform in +-1 / sqrt(d / 2). */
static jt_status start_part(jt_adapter *a, int which, const jt_adapter_options *o,
                            jt_err *err)
{
    jt_adapter_place *p = &a->place[0];
    size_t shape[2];
    int n_dims = shape_of(which, p->cols, o->n_marker, shape);
    JT_TRY(jt_adapter_add_source(
        a, &p->source[which], (jt_str){p->name, strlen(p->name)}, tails[which],
        which == MARKER ? JT_I32 : JT_F32, n_dims, shape, err));
    jt_adapter_source *s = &a->source[p->source[which]];
    s->trained = which != MARKER;
    if (which == MARKER)
        memcpy(s->t.data, o->marker, o->n_marker * sizeof *o->marker);
    if (which < WEIGHT)
        jt_low_rank_start_a(s->t.data, jt_rows(&s->t) * jt_cols(&s->t), p->cols / 2,
                            o->seed, (UINT64_C(9) << 32) + (uint64_t)which);
    return JT_OK;
}

static jt_status begin(jt_adapter *a, const jt_adapter_options *o, jt_err *err)
{
    if (!o->n_marker)
        return jt_fail(err, JT_E_ARG,
                       "adapter.marker: is missing, so that nobody "
                       "knows where a prompt ends");
    for (int i = 0; i < TENSORS; i++)
        JT_TRY(start_part(a, i, o, err));
    return JT_OK;
}

/* ---- from a file ---- */

static jt_status bind_one(jt_adapter *a, size_t at, jt_str target, float alpha,
                          jt_err *err)
{
    jt_adapter_place *p;
    const jt_tensor *out = &a->source[at].t;
    if (out->n_dims != 2 || out->shape[0] != out->shape[1] || out->shape[0] < 2)
        return jt_adapter_fail_source(a, at, err);
    size_t d = out->shape[0];
    JT_TRY(jt_adapter_add_place(a, &p, target, d, d / 2, alpha, err));
    for (int i = 0; i < TENSORS; i++) {
        size_t shape[2], n_marker = 0;
        JT_TRY(jt_adapter_need_source(a, target, tails[i],
                                      i == MARKER ? JT_I32 : JT_F32,
                                      shape_of(i, d, 1, shape), &p->source[i], err));
        const jt_tensor *t = &a->source[p->source[i]].t;
        n_marker = t->shape[0];
        int n_dims = shape_of(i, d, n_marker, shape);
        if (memcmp(t->shape, shape, (size_t)n_dims * sizeof *shape) != 0)
            return jt_adapter_fail_source(a, p->source[i], err);
        a->source[p->source[i]].trained = i != MARKER;
    }
    return JT_OK;
}

static jt_status bind(jt_adapter *a, float alpha, jt_err *err)
{
    JT_TRY(jt_adapter_bind_each(a, tails[WEIGHT], bind_one, alpha, err));
    if (a->n_places == 1 && a->place[0].layer < 0)
        return JT_OK;
    return jt_fail(err, JT_E_FORMAT, "a p-adapter has one place, the embedding");
}

static float one(float alpha, size_t rank)
{
    (void)alpha;
    (void)rank;
    return 1.0f;
}

static const jt_adapter_making making = {.start = begin, .bind = bind};

const jt_adapter_kind jt_adapter_p_adapter = {.name = "p-adapter",
                                              .what =
                                                  "embeddings of prompts, rewritten",
                                              .by_token = true,
                                              .making = &making,
                                              .scale = one,
                                              .prompt_of = prompt_of,
                                              .rewrite = rewrite,
                                              .is_fresh_place = is_fresh_place};
