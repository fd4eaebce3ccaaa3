/* Quantisers of the formats whose values are points of a grid (IQ2, IQ3): signs apart,
 * four or eight sizes together are a point. For a given scale the best point is found
 * among all: the error of a point is the sum of two parts, one for its even and one for
 * its odd values, and both are looked up. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "kernels/c/codes_table.h"
#include "kernels/quantize.h"
#include "kernels/quantize_fit.h"

enum { VALUES = 256, OCTET = 8, STEPS = 16, TRIALS = 7 };

typedef struct grid_format {
    const uint16_t *points;
    int count, values; /* of a point: 8 or 4 */
    const int8_t *size;
    int top;    /* the largest size */
    int group;  /* values of a scale */
    float unit; /* x = d unit (2 scale + 1) size */
    bool even;  /* of eight signs seven are stored: an even number is negative */
} grid_format;

/* Eight values, and what they became. */
typedef struct octet {
    float x[OCTET]; /* sizes; one below 0 has the wrong sign */
    float w[OCTET];
    uint8_t signs;
} octet;
typedef struct coded {
    uint16_t index[2];
    float xl, ll; /* moments, as in quantize_fit.h */
} coded;

static void split_signs(octet *o, const float *x, const float *w, bool even)
{
    int least = 0;
    o->signs = 0;
    for (int i = 0; i < OCTET; i++) {
        o->x[i] = fabsf(x[i]);
        o->w[i] = w[i];
        o->signs |= (uint8_t)((x[i] < 0) << i);
        if (o->w[i] * o->x[i] < o->w[least] * o->x[least])
            least = i;
    }
    if (even && __builtin_parity(o->signs)) { /* turn the one that costs least */
        o->signs ^= (uint8_t)(1 << least);
        o->x[least] = -o->x[least];
    }
}

/* The points sorted by their high byte: a run has the same odd values. */
typedef struct grid_runs {
    int count;
    uint8_t high[256];
    uint16_t start[256 + 1], order[1024];
} grid_runs;

static void sort_points(grid_runs *r, const grid_format *f)
{
    uint16_t at[256 + 1] = {0};
    for (int i = 0; i < f->count; i++)
        at[(f->points[i] >> 8) + 1]++;
    r->count = 0;
    for (int high = 0; high < 256; high++) {
        if (at[high + 1]) {
            r->high[r->count] = (uint8_t)high;
            r->start[r->count++] = at[high];
        }
        at[high + 1] = (uint16_t)(at[high + 1] + at[high]);
    }
    r->start[r->count] = (uint16_t)f->count;
    for (int i = 0; i < f->count; i++)
        r->order[at[f->points[i] >> 8]++] = (uint16_t)i;
}

/* Costs of the codes of a nibble: of the values a and b (point of 8), or of a alone. */
static void nibble_costs(float cost[16], const octet *o, const float *sizes, int a,
                         int b)
{
    for (int c = 0; c < 16; c++) {
        float la = sizes[b < 0 ? c & 7 : c & 3];
        cost[c] = o->w[a] * la * (la - 2 * o->x[a]);
        if (b >= 0) {
            float lb = sizes[c >> 2];
            cost[c] += o->w[b] * lb * (lb - 2 * o->x[b]);
        }
    }
}

/* Costs of a byte of a point: the even or the odd values from `first` on. The least. */
static float byte_costs(float cost[256], const octet *o, const float *sizes, int first,
                        int values)
{
    float low[16], high[16], least = INFINITY;
    bool pairs = values == OCTET;
    nibble_costs(low, o, sizes, first, pairs ? first + 2 : -1);
    nibble_costs(high, o, sizes, first + (pairs ? 4 : 2), pairs ? first + 6 : -1);
    for (int h = 0; h < 16; h++)
        for (int l = 0; l < 16; l++)
            cost[16 * h + l] = high[h] + low[l];
    for (int l = 0; l < 16; l++)
        least = low[l] < least ? low[l] : least;
    float rest = INFINITY;
    for (int h = 0; h < 16; h++)
        rest = high[h] < rest ? high[h] : rest;
    return least + rest;
}

/* The best point. A run that cannot hold a better one than is known is left out; the
 * one with the least cost of the odd values comes first. */
static int nearest_point(const grid_format *f, const grid_runs *r, const octet *o,
                         const float *sizes, int first)
{
    float even[256], odd[256], least = INFINITY;
    float rest = byte_costs(even, o, sizes, first, f->values);
    byte_costs(odd, o, sizes, first + 1, f->values);
    int best = 0, likely = 0;
    for (int i = 1; i < r->count; i++)
        likely = odd[r->high[i]] < odd[r->high[likely]] ? i : likely;
    for (int i = -1; i < r->count; i++) {
        int run = i < 0 ? likely : i;
        float base = odd[r->high[run]];
        if (!(base + rest < least))
            continue;
        for (int j = r->start[run]; j < r->start[run + 1]; j++) {
            float cost = base + even[f->points[r->order[j]] & 255];
            best = cost < least ? r->order[j] : best;
            least = cost < least ? cost : least;
        }
    }
    return best;
}

static coded encode_octet(const grid_format *f, const grid_runs *r, const octet *o,
                          const float *sizes)
{
    coded c = {{0, 0}, 0, 0};
    for (int part = 0; part < OCTET / f->values; part++) {
        int first = part * f->values;
        c.index[part] = (uint16_t)nearest_point(f, r, o, sizes, first);
        for (int i = 0; i < f->values; i++) {
            float l = f->size[point_code(f->points[c.index[part]], i, f->values)];
            c.xl += o->w[first + i] * o->x[first + i] * l;
            c.ll += o->w[first + i] * l * l;
        }
    }
    return c;
}

/* The octets of a group with one scale. */
static jt_moments encode_group(coded *out, const grid_format *f, const grid_runs *r,
                               const octet *o, float scale)
{
    jt_moments sum = {0, 0};
    float sizes[8] = {0};
    for (int i = 0; i < (f->values == OCTET ? 3 : 8); i++)
        sizes[i] = scale * f->size[i];
    for (int i = 0; i < f->group / OCTET; i++) {
        out[i] = encode_octet(f, r, &o[i], sizes);
        sum.xl += out[i].xl;
        sum.ll += out[i].ll;
    }
    return sum;
}

/* The scale with the least error of a group, each value ~ scale * size. */
static float fit_group(const grid_format *f, const grid_runs *r, const octet *o)
{
    coded c[4];
    float most = 0, best = 0, gain = 0;
    for (int i = 0; i < f->group; i++)
        most = fmaxf(most, o[i / OCTET].x[i % OCTET]);
    if (!(most > 0))
        return 0;
    /* The largest value around the largest size, from well below to far beyond it (most
     * values are small, and the smallest size is none of them); then at the smallest,
     * for values of one size; then on from the best. */
    for (int trial = 0; trial < TRIALS + 2; trial++) {
        float reach = (float)f->top * (0.6f + 0.15f * (float)trial);
        if (trial == TRIALS)
            reach = f->size[0];
        float scale = trial <= TRIALS ? most / reach : best;
        jt_moments m = encode_group(c, f, r, o, scale);
        float d = m.xl / m.ll;
        if (m.ll > 0 && d * m.xl > gain) {
            best = d;
            gain = d * m.xl;
        }
    }
    return best;
}

typedef struct grid_block {
    uint16_t d;
    uint8_t scale[16];
    coded octets[VALUES / OCTET];
} grid_block;

/* The better of the two steps around `at` for group i. Gives what it gains. */
static float round_group(grid_block *b, const grid_format *f, const grid_runs *r,
                         const octet *o, int i, float at)
{
    size_t octets = (size_t)f->group / OCTET, first = (size_t)i * octets;
    float d = jt_f16_to_float(b->d) * f->unit, best = -INFINITY;
    int low = jt_nearest(floorf(0.5f * (at * jt_reciprocal(d) - 1)), 0, STEPS - 2);
    for (int s = low; s <= low + 1; s++) {
        coded c[4];
        float scale = odd_scale(d, (uint32_t)s);
        jt_moments m = encode_group(c, f, r, o + first, scale);
        float gain = scale * (2 * m.xl - scale * m.ll);
        if (gain > best) {
            best = gain;
            b->scale[i] = (uint8_t)s;
            memcpy(b->octets + first, c, octets * sizeof *c);
        }
    }
    return best;
}

/* The moments of the block in units of its step. */
static jt_moments block_moments(const grid_block *b, const grid_format *f)
{
    jt_moments sum = {0, 0};
    for (int i = 0; i < VALUES / OCTET; i++) {
        float s = odd_scale(f->unit, b->scale[i * OCTET / f->group]);
        sum.xl += s * b->octets[i].xl;
        sum.ll += s * s * b->octets[i].ll;
    }
    return sum;
}

/* The step with the least error for the codes as they are. */
static float solve_step(const grid_block *b, const grid_format *f)
{
    jt_moments m = block_moments(b, f);
    return m.ll > 0 ? m.xl / m.ll : 0;
}

/* The step with which the block has the squares that it had. Least squares makes all
 * smaller by what is lost, a tenth with two bits, and unlike the rest of the error that
 * is the same in every output. Whether it helps: docs/formats.md. */
static float keep_squares(const grid_block *b, const grid_format *f, const float *x,
                          const float *w)
{
    jt_moments m = block_moments(b, f);
    float squares = 0;
    for (int i = 0; i < VALUES; i++)
        squares += w[i] * x[i] * x[i];
    return m.xl > 0 && m.ll > 0 ? sqrtf(squares / m.ll) : 0;
}

static void quantize_grid(grid_block *b, octet *o, const grid_format *f, const float *x,
                          const float *w)
{
    enum { ROUNDS = 2 };
    int groups = VALUES / f->group;
    float fit[16], most = 0, best = -INFINITY;
    grid_runs runs;
    sort_points(&runs, f);
    for (int i = 0; i < VALUES / OCTET; i++)
        split_signs(&o[i], x + i * OCTET, w + i * OCTET, f->even);
    for (int i = 0; i < groups; i++) {
        fit[i] = fit_group(f, &runs, o + i * (f->group / OCTET));
        most = fmaxf(most, fit[i]);
    }
    float d = most / odd_scale(f->unit, STEPS - 1);
    memset(b, 0, sizeof *b);
    grid_block trial = *b;
    for (int round = 0; round < ROUNDS && d > 0; round++) {
        float gain = 0;
        trial.d = jt_float_to_f16(d);
        for (int i = 0; i < groups; i++)
            gain += round_group(&trial, f, &runs, o, i, fit[i]);
        if (!(gain > best))
            break;
        best = gain;
        *b = trial;
        d = solve_step(b, f);
    }
    b->d = jt_float_to_f16(d > 0 ? keep_squares(b, f, x, w) : 0);
}

/* ---- the formats ---- */

static void put_u32(uint8_t *p, uint32_t word)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(word >> 8 * i);
}

/* Signs of four octets and a scale in one word. */
static uint32_t signs_and_scale(const octet *o, uint8_t scale)
{
    uint32_t word = (uint32_t)scale << 28;
    for (int i = 0; i < 4; i++)
        word |= (uint32_t)(o[i].signs & 127) << 7 * i;
    return word;
}

static void put_nibbles(uint8_t *p, const uint8_t *q, int n)
{
    for (int i = 0; i < n / 2; i++)
        p[i] = (uint8_t)(q[2 * i] | q[2 * i + 1] << 4);
}

/* Blocks of a format: `put` writes what quantize_grid found. */
#define DEFINE_QUANTIZER(lower, points, count, values, size, top, group, unit, even) \
    void jt_quantize_##lower(jt_##lower *dst, const float *x, const float *w,        \
                             size_t n)                                               \
    {                                                                                \
        static const grid_format f = {points, count, values, size,                   \
                                      top,    group, unit,   even};                  \
        for (; n > 0; n -= VALUES, x += VALUES, w += VALUES, dst++) {                \
            grid_block b;                                                            \
            octet o[VALUES / OCTET];                                                 \
            quantize_grid(&b, o, &f, x, w);                                          \
            dst->d = b.d;                                                            \
            put_##lower(dst, &b, o);                                                 \
        }                                                                            \
    }

static void put_iq2_xxs(jt_iq2_xxs *dst, const grid_block *b, const octet *o)
{
    for (int g = 0; g < 8; g++) {
        for (int k = 0; k < 4; k++)
            dst->qs[8 * g + k] = (uint8_t)b->octets[4 * g + k].index[0];
        put_u32(dst->qs + 8 * g + 4, signs_and_scale(o + 4 * g, b->scale[g]));
    }
}
DEFINE_QUANTIZER(iq2_xxs, jt_grid_iq2_xxs, 256, 8, sizes_iq2, 43, 32, 0.125f, true)

static void put_iq2_xs(jt_iq2_xs *dst, const grid_block *b, const octet *o)
{
    put_nibbles(dst->scales, b->scale, 16);
    for (int k = 0; k < 32; k++) {
        int word = b->octets[k].index[0] | (o[k].signs & 127) << 9;
        dst->qs[2 * k] = (uint8_t)word;
        dst->qs[2 * k + 1] = (uint8_t)(word >> 8);
    }
}
DEFINE_QUANTIZER(iq2_xs, jt_grid_iq2_xs, 512, 8, sizes_iq2, 43, 16, 0.125f, true)

static void put_iq2_s(jt_iq2_s *dst, const grid_block *b, const octet *o)
{
    put_nibbles(dst->scales, b->scale, 16);
    memset(dst->qh, 0, sizeof dst->qh);
    for (int k = 0; k < 32; k++) {
        dst->qs[k] = (uint8_t)b->octets[k].index[0];
        dst->qh[k / 4] |= (uint8_t)(b->octets[k].index[0] >> 8 << 2 * (k % 4));
        dst->signs[k] = o[k].signs;
    }
}
DEFINE_QUANTIZER(iq2_s, jt_grid_iq2_s, 1024, 8, sizes_iq2, 43, 16, 0.125f, false)

static void put_iq3_xxs(jt_iq3_xxs *dst, const grid_block *b, const octet *o)
{
    for (int k = 0; k < 64; k++)
        dst->qs[k] = (uint8_t)b->octets[k / 2].index[k % 2];
    for (int g = 0; g < 8; g++)
        put_u32(dst->signs + 4 * g, signs_and_scale(o + 4 * g, b->scale[g]));
}
DEFINE_QUANTIZER(iq3_xxs, jt_grid_iq3_xxs, 256, 4, sizes_iq3_xxs, 62, 32, 0.25f, true)

static void put_iq3_s(jt_iq3_s *dst, const grid_block *b, const octet *o)
{
    put_nibbles(dst->scales, b->scale, 8);
    memset(dst->qh, 0, sizeof dst->qh);
    for (int k = 0; k < 64; k++) {
        uint16_t index = b->octets[k / 2].index[k % 2];
        dst->qs[k] = (uint8_t)index;
        dst->qh[k / 8] |= (uint8_t)(index >> 8 << k % 8);
    }
    for (int k = 0; k < 32; k++)
        dst->signs[k] = o[k].signs;
}
DEFINE_QUANTIZER(iq3_s, jt_grid_iq3_s, 512, 4, sizes_iq3_s, 15, 32, 1, false)
