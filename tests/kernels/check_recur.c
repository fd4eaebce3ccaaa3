/* The linear recurrence in each of its forms against sums in double, and the same
 * bits however rows and tokens are cut; the convolution and softplus. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check_recur.h"

static const float *floats(const buffer *b)
{
    return b->data;
}

buffer random_floats(checker *c, size_t n, float width, float middle)
{
    buffer b = buffer_in(n * sizeof(float), 4 * pick(c, 0, 3));
    fill_floats(c, b.data, n, FILL_NORMAL);
    for (size_t i = 0; i < n; i++)
        ((float *)b.data)[i] = ((float *)b.data)[i] * width + middle;
    return b;
}

recurrence new_recurrence(checker *c, int form)
{
    size_t rows = pick(c, 1, 11), n = pick(c, 1, 70), tokens = pick(c, 1, 7);
    size_t gate = pick(c, 1, 3), wide = rows + pick(c, 0, 3), key = n + pick(c, 0, 3);
    recurrence a = {.h = buffer_out(rows * n * sizeof(float), 4 * pick(c, 0, 3)),
                    .y = buffer_out(tokens * wide * sizeof(float), 4 * pick(c, 0, 3)),
                    .k = random_floats(c, tokens * key, 0.1f, 0),
                    .q = random_floats(c, tokens * key, 1, 0),
                    .v = random_floats(c, tokens * wide, 1, 0),
                    .decay = random_floats(c, tokens * gate, 0.1f, 0.8f),
                    .beta = random_floats(c, tokens * gate, 0.1f, 0.5f),
                    .rate = random_floats(c, rows * n, 0.2f, -1),
                    .step = random_floats(c, tokens * (wide + gate), 0.2f, 0.5f),
                    .fade = random_floats(c, tokens * key, 0.1f, 0.8f)};
    fill_floats(c, a.h.data, rows * n, FILL_NORMAL);
    a.r = (jt_recur){.h = a.h.data,
                     .y = a.y.data,
                     .k = a.k.data,
                     .q = a.q.data,
                     .v = a.v.data,
                     .decay = form == RATED || form == FADED ? NULL : a.decay.data,
                     .beta = form == DELTA || form == FADED ? a.beta.data : NULL,
                     .fade = form == FADED ? a.fade.data : NULL,
                     .rate = form == RATED ? a.rate.data : NULL,
                     .step = form == RATED || form == STEPS ? a.step.data : NULL,
                     .y_stride = wide,
                     .k_stride = key,
                     .q_stride = key,
                     .v_stride = wide,
                     .gate_stride = gate,
                     .step_stride = wide,
                     .fade_stride = key,
                     .rows = rows,
                     .n = n,
                     .tokens = tokens};
    return a;
}

void free_recurrence(recurrence *a)
{
    buffer *all[] = {&a->h,     &a->y,    &a->k,    &a->q,    &a->v,
                     &a->decay, &a->beta, &a->rate, &a->step, &a->fade};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        buffer_free(all[i]);
}

/* h [rows, n] and y of one row in double. */
static void true_row(const jt_recur *r, size_t row, double *h, double *y)
{
    for (size_t t = 0; t < r->tokens; t++) {
        double u = r->v[t * r->v_stride + row], known = 0;
        double step = r->rate   ? r->step[t * r->step_stride + row]
                      : r->step ? r->step[t * r->gate_stride]
                                : 1;
        y[t] = 0;
        for (size_t i = 0; i < r->n; i++) {
            h[i] *= r->rate   ? exp(step * r->rate[row * r->n + i])
                    : r->fade ? r->fade[t * r->fade_stride + i]
                              : r->decay[t * r->gate_stride];
            known += h[i] * r->k[t * r->k_stride + i];
        }
        u = r->beta ? r->beta[t * r->gate_stride] * (u - known) : u * step;
        for (size_t i = 0; i < r->n; i++) {
            h[i] += u * r->k[t * r->k_stride + i];
            y[t] += h[i] * r->q[t * r->q_stride + i];
        }
    }
}

static void check_truth(checker *c, const recurrence *a, const float *h0)
{
    const jt_recur *r = &a->r;
    double worst = 0;
    for (size_t row = 0; row < r->rows; row++) {
        double h[70], y[7];
        for (size_t i = 0; i < r->n; i++)
            h[i] = h0[row * r->n + i];
        true_row(r, row, h, y);
        for (size_t t = 0; t < r->tokens; t++)
            worst = fmax(worst, fabs(y[t] - r->y[t * r->y_stride + row]));
        for (size_t i = 0; i < r->n; i++)
            worst = fmax(worst, fabs(h[i] - r->h[row * r->n + i]));
    }
    check(c, worst < 3e-5, "recur is off by %g, n %zu", worst, r->n);
}

/* Rows and tokens cut in two places give what the whole gave. */
static void check_cut(checker *c, const recurrence *a, const float *h0)
{
    const jt_recur *r = &a->r;
    size_t h_bytes = r->rows * r->n * sizeof(float);
    size_t y_bytes = r->tokens * r->y_stride * sizeof(float);
    buffer state = buffer_out(h_bytes, 0), out = buffer_out(y_bytes, 0);
    float *h = state.data, *y = out.data;
    memcpy(h, h0, h_bytes);
    size_t row = pick(c, 0, r->rows), token = pick(c, 0, r->tokens);
    for (int part = 0; part < 4; part++) {
        size_t at = part & 1 ? row : 0, t = part & 2 ? token : 0;
        jt_recur cut = *r;
        cut.rows = part & 1 ? r->rows - row : row;
        cut.tokens = part & 2 ? r->tokens - token : token;
        cut.h = h + at * r->n;
        cut.y = y + t * r->y_stride + at;
        cut.k += t * r->k_stride;
        cut.q += t * r->q_stride;
        cut.v += t * r->v_stride + at;
        cut.decay = r->decay ? r->decay + t * r->gate_stride : NULL;
        cut.fade = r->fade ? r->fade + t * r->fade_stride : NULL;
        cut.beta = r->beta ? r->beta + t * r->gate_stride : NULL;
        cut.rate = r->rate ? r->rate + at * r->n : NULL;
        if (r->step)
            cut.step += r->rate ? t * r->step_stride + at : t * r->gate_stride;
        c->level->recur(&cut);
    }
    check(c, memcmp(h, r->h, h_bytes) == 0 && memcmp(y, r->y, y_bytes) == 0,
          "recur differs where it is cut");
    buffer_free(&state);
    buffer_free(&out);
}

static void check_recurrence(checker *c, int form)
{
    recurrence a = new_recurrence(c, form);
    float *h0 = malloc(a.h.bytes);
    memcpy(h0, a.h.data, a.h.bytes);
    c->level->recur(&a.r);
    check_truth(c, &a, h0);
    check_cut(c, &a, h0);
    check_margins(c, &a.h, "recur");
    check_margins(c, &a.y, "recur");
    free(h0);
    free_recurrence(&a);
}

static void check_conv(checker *c)
{
    enum { WIDEST = 6 };
    size_t n = pick(c, 1, 90), width = pick(c, 1, WIDEST);
    buffer w = random_floats(c, n * width, 1, 0), bias = random_floats(c, n, 1, 0);
    buffer x[WIDEST], y = buffer_out(n * sizeof(float), 4 * pick(c, 0, 3));
    buffer truth = buffer_out(n * sizeof(float), 0);
    const float *rows[WIDEST], *b = pick(c, 0, 1) ? floats(&bias) : NULL;
    for (size_t j = 0; j < width; j++) {
        x[j] = random_floats(c, n, 1, 0);
        rows[j] = floats(&x[j]);
    }
    c->level->conv(y.data, rows, w.data, b, width, n);
    c->scalar->conv(truth.data, rows, w.data, b, width, n);
    check(c, memcmp(y.data, truth.data, y.bytes) == 0, "conv differs");
    size_t one = pick(c, 0, n - 1);
    double sum = b ? b[one] : 0;
    for (size_t j = 0; j < width; j++)
        sum += (double)floats(&w)[one * width + j] * rows[j][one];
    check(c, fabs(floats(&y)[one] - sum) < 1e-5, "conv is wrong");
    check_margins(c, &y, "conv");
    for (size_t j = 0; j < width; j++)
        buffer_free(&x[j]);
    buffer_free(&w);
    buffer_free(&bias);
    buffer_free(&y);
    buffer_free(&truth);
}

static void check_softplus(checker *c, float width)
{
    size_t n = pick(c, 1, 90);
    buffer x = random_floats(c, n, width, 0);
    buffer y = buffer_out(n * sizeof(float), 4 * pick(c, 0, 3));
    double worst = 0;
    c->level->softplus(y.data, x.data, n);
    for (size_t i = 0; i < n; i++) {
        double v = floats(&x)[i], truth = fmax(v, 0) + log1p(exp(-fabs(v)));
        worst = fmax(worst, fabs(floats(&y)[i] - truth) / fmax(truth, 0x1p-120));
    }
    check(c, worst < 6 * 0x1p-24, "softplus is off by %g", worst);
    check_margins(c, &y, "softplus");
    buffer_free(&x);
    buffer_free(&y);
}

void check_recur(checker *c)
{
    for (int i = 0; i < 100; i++) {
        for (int form = 0; form < FORMS; form++)
            check_recurrence(c, form);
        check_conv(c);
        check_softplus(c, i % 2 ? 2 : 30);
    }
}
