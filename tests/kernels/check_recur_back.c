/* Gradients of the recurrence against the scalar level; tests/nn holds that one against
 * differences. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check_recur.h"

enum { DH, DK, DQ, DV, DLOG, DBETA, DSTEP, DRATE, OUTPUTS };

typedef struct gradients {
    buffer out[OUTPUTS], h;
    float *scratch;
} gradients;

static gradients run(const jt_kernels *level, const recurrence *a, const float *dy,
                     const size_t sizes[OUTPUTS], const float *before)
{
    gradients g = {.h = buffer_out(a->h.bytes, 4)};
    float *out[OUTPUTS];
    for (int i = 0; i < OUTPUTS; i++) {
        g.out[i] = buffer_out(sizes[i] * sizeof(float), 4 * (size_t)i % 16);
        memcpy(g.out[i].data, before, sizes[i] * sizeof(float));
        out[i] = g.out[i].data;
    }
    memcpy(g.h.data, a->h.data, a->h.bytes);
    g.scratch = malloc(jt_recur_back_scratch(a->r.n, a->r.tokens));
    jt_recur_back call = {.fwd = a->r,
                          .dy = dy,
                          .dh = out[DH],
                          .dk = out[DK],
                          .dq = out[DQ],
                          .dv = out[DV],
                          .dlog = out[DLOG],
                          .dbeta = out[DBETA],
                          .dstep = out[DSTEP],
                          .drate = out[DRATE],
                          .scratch = g.scratch};
    call.fwd.h = g.h.data;
    level->recur_back(&call);
    return g;
}

static void check_form(checker *c, int form)
{
    static const char *const names[OUTPUTS] = {"dh",   "dk",    "dq",    "dv",
                                               "dlog", "dbeta", "dstep", "drate"};
    recurrence a = new_recurrence(c, form);
    const jt_recur *r = &a.r;
    size_t wide = r->tokens * r->v_stride, keys = r->tokens * r->n;
    const size_t sizes[OUTPUTS] = {r->rows * r->n, keys,      keys, wide,
                                   keys,           r->tokens, wide, r->rows * r->n};
    size_t most = wide + keys + r->rows * r->n;
    buffer dy = random_floats(c, wide, 1, 0), before = random_floats(c, most, 1, 0);
    gradients truth = run(c->scalar, &a, dy.data, sizes, before.data);
    gradients mine = run(c->level, &a, dy.data, sizes, before.data);
    for (int i = 0; i < OUTPUTS; i++) {
        const float *x = mine.out[i].data, *y = truth.out[i].data;
        double worst = 0, largest = 1;
        for (size_t j = 0; j < sizes[i]; j++) {
            worst = fmax(worst, fabs((double)x[j] - y[j]));
            largest = fmax(largest, fabs((double)y[j]));
        }
        check(c, worst < 3e-5 * largest, "recur_back: %s is off by %g of %g, n %zu",
              names[i], worst, largest, r->n);
        check_margins(c, &mine.out[i], "recur_back");
        buffer_free(&mine.out[i]);
        buffer_free(&truth.out[i]);
    }
    check_margins(c, &mine.h, "recur_back");
    buffer_free(&mine.h);
    buffer_free(&truth.h);
    free(mine.scratch);
    free(truth.scratch);
    buffer_free(&dy);
    buffer_free(&before);
    free_recurrence(&a);
}

void check_recur_back(checker *c)
{
    for (int i = 0; i < 50; i++)
        for (int form = 0; form < FORMS; form++)
            check_form(c, form);
}
