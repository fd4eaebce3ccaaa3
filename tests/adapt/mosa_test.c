/* MoSA: parts that are disjoint and together whole, gradients of the part that was
 * drawn and of nothing else, and the gradient of agreeing against differences. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapted.h"
#include "learn/tuning.h"
#include "model/model.h"
#include "tensor/tape.h"

enum { EXPERTS = 4, DRAWS = 64, ROWS = 5, VOCAB = 7 };

/* ---- parts ---- */

/* Over many draws every entry of U is at work, as it is, with gradients to U. */
static void check_parts(void **state)
{
    jt_config config = {.adapter = {.kind = "mosa",
                                    .init = "",
                                    .place = "blk[.]0[.]ffn[.]beside",
                                    .activation = "gelu",
                                    .splits = EXPERTS,
                                    .rank = 3,
                                    .alpha = 3.0},
                        .train = {.seed = 2}};
    golden g;
    jt_context ctx;
    jt_tuning *t;
    jt_variables v;
    jt_err err = {0};
    (void)state;
    golden_open(&g, "llama");
    assert_int_equal(jt_context_init(&ctx, 1, NULL, NULL), JT_OK);
    adapted_must(jt_tuning_new(&t, &config, g.model, &ctx, &err), &err);
    adapted_must(jt_tuning_variables(t, &v, &err), &err);
    assert_string_equal(t->adapter->kind->name, "bottleneck");
    jt_tensor *up = &t->adapter->source[t->adapter->place[0].source[2]].t;
    float *whole = up->data, *grad = up->grad;
    size_t n = jt_rows(up) * jt_cols(up), works = 0;
    char *seen = calloc(n, 1);
    for (size_t i = 0; i < n; i++)
        whole[i] = 1.0f + (float)i;
    for (uint64_t draw = 1; draw <= DRAWS; draw++) {
        size_t at_work = 0;
        memset(v.grad, 0, v.values * sizeof *v.grad);
        jt_tuning_begin(t, 0, draw);
        const float *x = up->data;
        for (size_t i = 0; i < n; i++)
            up->grad[i] = 1.0f;
        for (size_t i = 0; i < n; i++) {
            assert_true(x[i] == 0.0f || x[i] == whole[i]);
            at_work += x[i] != 0.0f;
            seen[i] |= x[i] != 0.0f;
        }
        assert_in_range(at_work, n / EXPERTS, n / EXPERTS + 1);
        float *work = malloc(n * sizeof *work);
        memcpy(work, x, n * sizeof *work);
        jt_tuning_end(t);
        assert_ptr_equal(up->data, whole);
        for (size_t i = 0; i < n; i++)
            assert_true(grad[i] == (work[i] != 0.0f ? 1.0f : 0.0f));
        free(work);
    }
    for (size_t i = 0; i < n; i++)
        works += (size_t)seen[i];
    assert_int_equal(works, n);
    free(seen);
    jt_variables_free(&v);
    jt_tuning_free(t);
    jt_context_free(&ctx);
    golden_close(&g);
}

/* ---- agreeing ---- */

static void softmax(double *p, const float *x)
{
    double sum = 0.0;
    for (int i = 0; i < VOCAB; i++)
        sum += p[i] = exp((double)x[i]);
    for (int i = 0; i < VOCAB; i++)
        p[i] /= sum;
}

/* factor / 2 * mean over rows with a target of KL(q || p(x)) */
static double divergence(const float *x, const float *q, const int32_t *targets,
                         double factor)
{
    double sum = 0.0, p[VOCAB];
    int count = 0;
    for (int t = 0; t < ROWS; t++) {
        if (targets[t] < 0)
            continue;
        softmax(p, x + t * VOCAB);
        for (int i = 0; i < VOCAB; i++)
            sum += (double)q[t * VOCAB + i] * log((double)q[t * VOCAB + i] / p[i]);
        count++;
    }
    return factor / 2.0 * sum / count;
}

static void check_agreeing(void **state)
{
    static const int32_t targets[ROWS] = {1, -1, 3, 0, -1};
    const float step = 1e-3f;
    jt_context ctx;
    jt_tape tape = {0};
    (void)state;
    assert_int_equal(jt_context_init(&ctx, 1, NULL, NULL), JT_OK);
    ctx.tape = &tape;
    jt_tensor logits = jt_new(&ctx, ROWS, VOCAB), other = jt_new(&ctx, ROWS, VOCAB);
    float q[ROWS * VOCAB], *x = logits.data;
    for (int i = 0; i < ROWS * VOCAB; i++) {
        x[i] = sinf((float)i);
        ((float *)other.data)[i] = cosf(2.0f * (float)i);
    }
    jt_mosa_probabilities(&ctx, &other, q);
    jt_mosa_agree(&ctx, &logits, q, targets, 3.0f);
    for (int i = 0; i < ROWS * VOCAB; i++) {
        float kept = x[i];
        x[i] = kept + step;
        double up = divergence(x, q, targets, 3.0);
        x[i] = kept - step;
        double slope = (up - divergence(x, q, targets, 3.0)) / (2.0 * (double)step);
        x[i] = kept;
        assert_float_equal(logits.grad[i], slope, 1e-4);
    }
    jt_context_free(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_parts),
        cmocka_unit_test(check_agreeing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
