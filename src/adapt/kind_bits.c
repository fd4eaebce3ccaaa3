/* Adapters of few bits (Jie et al. 2023, "Revisiting the parameter efficiency of
 * adapters from the perspective of precision redundancy"): A and B are what is left of
 * them when a value may be one of 2^bits. Of each matrix
 *
 *   x' = (x - mean) / (sd + 1e-5),   q = sd level(x') + mean
 *
 * with sd over n - 1, and fixed levels for a normal distribution: borders halve the way
 * between neighbours, and a level is the median of what lies between its borders (1
 * bit:
 * +-0.6745; 2 bits: +-0.3778, +-1.2657). Gradients pass level() as if it gave x'
 * itself, and reach x through x', the mean and the deviation. Files have the levels'
 * numbers, the first value in the lowest bits, and both floats; values that are
 * not rounded exist only while an adapter is tuned. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/made.h"
#include "base/memory.h"
#include "base/random.h"

enum { CODES_A, CODES_B, STATS_A, STATS_B, SHAPE };
enum { MOST_LEVELS = 256, ROUNDS = 500 };

static const char *const codes[] = {"bits_a", "bits_b"};
static const char *const stats[] = {"bits_a_scale", "bits_b_scale"};
static const char *const whole[] = {"bits_a_whole", "bits_b_whole"};
static const char shape_name[] = "bits_shape";
static const float tiny = 1e-5f;

/* ---- levels ---- */

static double below(double x)
{
    return 0.5 * erfc(-x / sqrt(2.0));
}

/* The x of which this share is below. */
static double point(double share)
{
    double low = -9.0, high = 9.0;
    for (int i = 0; i < 60; i++) {
        double middle = 0.5 * (low + high);
        if (below(middle) < share)
            low = middle;
        else
            high = middle;
    }
    return 0.5 * (low + high);
}

void jt_bits_levels(float *level, int bits)
{
    double x[MOST_LEVELS];
    int n = 1 << bits;
    for (int i = 0; i < n; i++)
        x[i] = point((i + 0.5) / n);
    for (int round = 0; round < ROUNDS; round++) {
        double before = 0.0, moved = 0.0;
        for (int i = 0; i < n; i++) {
            double until = i + 1 < n ? below(0.5 * (x[i] + x[i + 1])) : 1.0;
            double next = point(0.5 * (before + until));
            moved = fmax(moved, fabs(next - x[i]));
            x[i] = next;
            before = until;
        }
        if (moved < 1e-9)
            break;
    }
    for (int i = 0; i < n; i++)
        level[i] = (float)x[i];
}

static int nearest(const float *level, int n, float x)
{
    int low = 0, high = n - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (x < 0.5f * (level[middle] + level[middle + 1]))
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* ---- matrices ---- */

static int bits_of(const jt_adapter *a)
{
    return (int)a->setting[0];
}

static size_t values_of(const jt_tensor *part)
{
    return jt_rows(part) * jt_cols(part) / part->shape[0];
}

/* Values before rounding, of a part that is tuned; their number among the sources
 * follows that of the shape. */
static const jt_tensor *whole_of(const jt_adapter *a, const jt_adapter_slot *s, int k)
{
    size_t at = s->source[SHAPE] + 1 + (size_t)k;
    return at < a->n_sources ? &a->source[at].t : NULL;
}

static void measure(const float *x, size_t n, float stat[2])
{
    double sum = 0.0, squares = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i];
    double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    stat[0] = (float)mean;
    stat[1] = n > 1 ? (float)sqrt(squares / (double)(n - 1)) : 0.0f;
}

static void encode(const float *x, size_t n, int bits, const float *level,
                   const float stat[2], uint8_t *code)
{
    memset(code, 0, (n * (size_t)bits + 7) / 8);
    for (size_t i = 0; i < n; i++) {
        int q = nearest(level, 1 << bits, (x[i] - stat[0]) / (stat[1] + tiny));
        size_t at = i * (size_t)bits;
        code[at / 8] |= (uint8_t)(q << at % 8);
    }
}

static void decode(float *x, size_t n, int bits, const float *level,
                   const float stat[2], const uint8_t *code)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = i * (size_t)bits;
        int q = code[at / 8] >> at % 8 & ((1 << bits) - 1);
        x[i] = level[q] * stat[1] + stat[0];
    }
}

/* With g the gradients of q and x' as above:
 *   dx = g sd / (sd + tiny) + d mean / n + d sd (x - mean) / ((n - 1) sd)
 *   d mean = sum g - sum g sd / (sd + tiny)
 *   d sd = sum g level - sum g x' sd / (sd + tiny) */
static void spread_matrix(const float *x, const float *g, size_t n, const float *level,
                          int levels, const float stat[2], float *dx)
{
    double sum = 0.0, at_level = 0.0, at_value = 0.0;
    float mean = stat[0], sd = stat[1], ratio = sd / (sd + tiny);
    for (size_t i = 0; i < n; i++) {
        float y = (x[i] - mean) / (sd + tiny);
        sum += (double)g[i];
        at_level += (double)(g[i] * level[nearest(level, levels, y)]);
        at_value += (double)(g[i] * y);
    }
    float d_mean = (float)sum * (1.0f - ratio) / (float)n;
    float d_sd = n > 1 && sd > 0.0f ? (float)(at_level - (double)ratio * at_value) /
                                          ((float)(n - 1) * sd)
                                    : 0.0f;
    for (size_t i = 0; i < n; i++)
        dx[i] += g[i] * ratio + d_mean + d_sd * (x[i] - mean);
}

/* ---- parts ---- */

typedef struct matrix {
    float *part, *grad; /* of the part */
    float *x, *dx;      /* whole values, NULL without */
    float *stat;        /* mean, deviation */
    uint8_t *code;
    size_t n;
} matrix;

static matrix matrix_of(const jt_adapter *a, const jt_adapter_slot *s, int k, size_t e,
                        bool tuned)
{
    const jt_tensor *part = &s->part[k], *w = tuned ? whole_of(a, s, k) : NULL;
    const jt_tensor *code = jt_slot_source(a, s, CODES_A + k);
    size_t n = values_of(part);
    return (matrix){.part = (float *)part->data + e * n,
                    .grad = part->grad ? part->grad + e * n : NULL,
                    .x = w ? (float *)w->data + e * n : NULL,
                    .dx = w && w->grad ? w->grad + e * n : NULL,
                    .stat = (float *)jt_slot_source(a, s, STATS_A + k)->data + 2 * e,
                    .code = (uint8_t *)code->data + e * code->shape[1],
                    .n = n};
}

static void decode_all(const jt_adapter *a)
{
    float level[MOST_LEVELS];
    jt_bits_levels(level, bits_of(a));
    for (size_t i = 0; i < 2 * a->count; i++) {
        const jt_adapter_slot *s = &a->slot[i / 2];
        for (size_t e = 0; e < s->count; e++) {
            matrix m = matrix_of(a, s, i % 2, e, false);
            decode(m.part, m.n, bits_of(a), level, m.stat, m.code);
        }
    }
}

static void make(const jt_adapter *a)
{
    float level[MOST_LEVELS];
    jt_bits_levels(level, bits_of(a));
    for (size_t i = 0; i < 2 * a->count; i++) {
        const jt_adapter_slot *s = &a->slot[i / 2];
        for (size_t e = 0; e < s->count; e++) {
            matrix m = matrix_of(a, s, i % 2, e, true);
            measure(m.x, m.n, m.stat);
            encode(m.x, m.n, bits_of(a), level, m.stat, m.code);
            decode(m.part, m.n, bits_of(a), level, m.stat, m.code);
        }
    }
}

static void spread(const jt_adapter *a)
{
    float level[MOST_LEVELS];
    jt_bits_levels(level, bits_of(a));
    for (size_t i = 0; i < 2 * a->count; i++) {
        const jt_adapter_slot *s = &a->slot[i / 2];
        for (size_t e = 0; e < s->count; e++) {
            matrix m = matrix_of(a, s, i % 2, e, true);
            spread_matrix(m.x, m.grad, m.n, level, 1 << bits_of(a), m.stat, m.dx);
        }
    }
}

/* ---- a fresh one ---- */

static jt_status add_kept(jt_adapter *a, jt_adapter_slot *s, jt_err *err)
{
    jt_str target = {s->target, strlen(s->target)};
    for (int k = 0; k < 2; k++) {
        size_t bytes = (values_of(&s->part[k]) * (size_t)bits_of(a) + 7) / 8;
        JT_TRY(jt_adapter_add_source(a, &s->source[CODES_A + k], target, codes[k],
                                     JT_I8, 2, (size_t[]){s->count, bytes}, err));
        JT_TRY(jt_adapter_add_source(a, &s->source[STATS_A + k], target, stats[k],
                                     JT_F32, 2, (size_t[]){s->count, 2}, err));
    }
    JT_TRY(jt_adapter_add_source(a, &s->source[SHAPE], target, shape_name, JT_I32, 1,
                                 (size_t[]){4}, err));
    const size_t numbers[] = {s->count, s->rows, s->cols, s->rank};
    int32_t *shape = a->source[s->source[SHAPE]].t.data;
    for (int i = 0; i < 4; i++)
        shape[i] = (int32_t)numbers[i];
    return JT_OK;
}

/* B is normal with deviation 0.001, cut at twice that: a matrix of zeros has no
 * deviation to be measured by. */
static void start_b(float *b, size_t n, uint64_t seed, uint64_t stream)
{
    jt_rng rng = {seed, stream, 0};
    for (size_t i = 0; i < n; i++) {
        do
            b[i] = 0.001f * jt_rng_normal(&rng);
        while (fabsf(b[i]) > 0.002f);
    }
}

static jt_status add_whole(jt_adapter *a, jt_adapter_slot *s, uint64_t seed,
                           uint64_t stream, jt_err *err)
{
    for (int k = 0; k < 2; k++) {
        size_t at, n = values_of(&s->part[k]) * s->count;
        JT_TRY(jt_adapter_add_source(a, &at, (jt_str){s->target, strlen(s->target)},
                                     whole[k], JT_F32, 3, s->part[k].shape, err));
        a->source[at].trained = true;
        a->source[at].kept = false;
        if (k)
            start_b(a->source[at].t.data, n, seed, stream + 1);
        else
            jt_low_rank_start_a(a->source[at].t.data, n, s->cols, seed, stream);
    }
    return JT_OK;
}

static jt_status begin(jt_adapter *a, const jt_adapter_options *o, jt_err *err)
{
    a->setting[0] = (float)o->bits;
    for (size_t i = 0; i < a->count; i++) {
        jt_adapter_slot *s = &a->slot[i];
        JT_TRY(add_kept(a, s, err));
        JT_TRY(add_whole(a, s, o->seed, (UINT64_C(3) << 32) + 2 * i, err));
    }
    make(a);
    return JT_OK;
}

/* ---- from a file ---- */

static bool fits(const jt_adapter *a, const jt_adapter_slot *s, int k)
{
    const jt_tensor *code = jt_slot_source(a, s, CODES_A + k);
    const jt_tensor *stat = jt_slot_source(a, s, STATS_A + k);
    return code->shape[0] == s->count && stat->shape[0] == s->count &&
           code->shape[1] == (values_of(&s->part[k]) * (size_t)bits_of(a) + 7) / 8 &&
           stat->shape[1] == 2;
}

static jt_status bind_slot(jt_adapter *a, size_t at, jt_str target, float alpha,
                           jt_err *err)
{
    size_t source[JT_ADAPTER_SOURCES] = {[SHAPE] = at};
    jt_adapter_slot *s;
    const jt_tensor *t = &a->source[at].t;
    const int32_t *n = t->data;
    if (t->dtype != JT_I32 || t->n_dims != 1 || t->shape[0] != 4)
        return jt_adapter_fail_source(a, at, err);
    for (int k = 0; k < 2; k++) {
        JT_TRY(jt_adapter_need_source(a, target, codes[k], JT_I8, 2,
                                      &source[CODES_A + k], err));
        JT_TRY(jt_adapter_need_source(a, target, stats[k], JT_F32, 2,
                                      &source[STATS_A + k], err));
    }
    /* Sizes that the codes do not pay for are not worth room. */
    size_t paid = jt_rows(&a->source[source[CODES_A]].t) *
                  jt_cols(&a->source[source[CODES_A]].t) * 8;
    for (int i = 0; i < 4; i++) {
        bool row = i == 1;
        if (n[i] < 1 || (!row && (size_t)n[i] > paid))
            return jt_adapter_fail_source(a, at, err);
    }
    size_t high = jt_rows(&a->source[source[CODES_B]].t) *
                  jt_cols(&a->source[source[CODES_B]].t) * 8;
    if ((size_t)n[1] > high)
        return jt_adapter_fail_source(a, at, err);
    const size_t shape[] = {(size_t)n[0], (size_t)n[1], (size_t)n[2]};
    size_t a_values, b_values;
    if (!jt_mul(shape[0] * shape[2], (size_t)n[3], &a_values) || a_values > paid ||
        !jt_mul(shape[0] * shape[1], (size_t)n[3], &b_values) || b_values > high)
        return jt_adapter_fail_source(a, at, err);
    JT_TRY(jt_adapter_add(a, &s, target, shape, (size_t)n[3], alpha, err));
    memcpy(s->source, source, sizeof source);
    for (int k = 0; k < 2; k++) {
        if (!fits(a, s, k))
            return jt_adapter_fail_source(a, source[CODES_A + k], err);
    }
    return JT_OK;
}

static jt_status bind(jt_adapter *a, float alpha, jt_err *err)
{
    float bits = a->setting[0];
    if (bits != 1.0f && bits != 2.0f && bits != 4.0f && bits != 8.0f)
        return jt_fail(err, JT_E_FORMAT,
                       "the metadata 'junto.adapter.bits' is %g, expected 1, 2, 4 or 8",
                       (double)bits);
    JT_TRY(jt_adapter_bind_each(a, shape_name, bind_slot, alpha, err));
    decode_all(a);
    return JT_OK;
}

static const jt_adapter_making making = {begin, bind, make, spread};

const jt_adapter_kind jt_adapter_bits = {.name = "bits",
                                         .what = "LoRA of 1, 2, 4 or 8 bits",
                                         .part = {"lora_a", "lora_b"},
                                         .setting = {"bits"},
                                         .low_rank = true,
                                         .making = &making,
                                         .scale = jt_low_rank_by_rank,
                                         .is_fresh = jt_low_rank_is_fresh,
                                         .merge_row = jt_low_rank_merge_row,
                                         .change = jt_low_rank_change};
