#include "naive.h"

#include <math.h>
#include <stdlib.h>

static double *numbers(size_t n)
{
    return calloc(n, sizeof(double));
}

static double at(const jt_tensor *t, size_t i)
{
    return ((const float *)t->data)[i];
}

/* y [tokens, rows of w], y_stride apart, from x [tokens, cols], x_stride apart */
static void linear(const jt_tensor *w, const double *x, size_t x_stride, size_t tokens,
                   double *y)
{
    size_t rows = jt_rows(w), cols = jt_cols(w);
    for (size_t t = 0; t < tokens; t++)
        for (size_t r = 0; r < rows; r++) {
            y[t * rows + r] = 0;
            for (size_t i = 0; i < cols; i++)
                y[t * rows + r] += at(w, r * cols + i) * x[t * x_stride + i];
        }
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

static double softplus(double x)
{
    return log1p(exp(x));
}

static void rms_norm(double *x, const jt_tensor *w, size_t first, size_t n, double eps)
{
    double square = 0;
    for (size_t i = 0; i < n; i++)
        square += x[i] * x[i];
    for (size_t i = 0; i < n; i++)
        x[i] *= at(w, first + i) / sqrt(square / (double)n + eps);
}

/* y [tokens, channels] */
static void convolve(const jt_causal_conv *c, const double *x, size_t x_stride,
                     size_t tokens, double *y)
{
    size_t channels = jt_rows(&c->weight), width = jt_cols(&c->weight);
    for (size_t t = 0; t < tokens; t++)
        for (size_t i = 0; i < channels; i++) {
            double sum = jt_has(&c->bias) ? at(&c->bias, i) : 0;
            for (size_t j = 0; j < width; j++)
                if (t + j + 1 >= width)
                    sum += at(&c->weight, i * width + j) *
                           x[(t + j + 1 - width) * x_stride + i];
            y[t * channels + i] = c->silu ? silu(sum) : sum;
        }
}

void naive_short_conv(const jt_short_conv *m, const double *x, size_t tokens, double *y)
{
    size_t d = jt_cols(&m->in);
    double *bcx = numbers(tokens * 3 * d), *v = numbers(tokens * d);
    linear(&m->in, x, d, tokens, bcx);
    for (size_t t = 0; t < tokens; t++)
        for (size_t i = 0; i < d; i++)
            bcx[t * 3 * d + i] *= bcx[t * 3 * d + 2 * d + i];
    convolve(&m->conv, bcx, 3 * d, tokens, v);
    for (size_t t = 0; t < tokens; t++)
        for (size_t i = 0; i < d; i++)
            v[t * d + i] *= bcx[t * 3 * d + d + i];
    linear(&m->out, v, d, tokens, y);
    free(bcx);
    free(v);
}

void naive_mamba(const jt_mamba *m, const double *x, size_t tokens, double *y)
{
    size_t inner = jt_rows(&m->a), n = jt_cols(&m->a), rank = jt_cols(&m->dt);
    size_t all = rank + 2 * n;
    double *xz = numbers(tokens * 2 * inner), *v = numbers(tokens * inner);
    double *s = numbers(tokens * all), *dt = numbers(tokens * inner);
    double *h = numbers(inner * n);
    linear(&m->in, x, jt_cols(&m->in), tokens, xz);
    convolve(&m->conv, xz, 2 * inner, tokens, v);
    linear(&m->x, v, inner, tokens, s);
    for (size_t t = 0; t < tokens && jt_has(&m->dt_norm); t++) {
        rms_norm(s + t * all, &m->dt_norm, 0, rank, m->norm_eps);
        rms_norm(s + t * all + rank, &m->b_norm, 0, n, m->norm_eps);
        rms_norm(s + t * all + rank + n, &m->c_norm, 0, n, m->norm_eps);
    }
    linear(&m->dt, s, all, tokens, dt);
    for (size_t t = 0; t < tokens; t++)
        for (size_t c = 0; c < inner; c++) {
            double step = softplus(dt[t * inner + c] + at(&m->dt_bias, c));
            double in = v[t * inner + c], sum = at(&m->d, c) * in;
            const double *b = s + t * all + rank;
            for (size_t i = 0; i < n; i++) {
                double *state = &h[c * n + i];
                *state = exp(step * at(&m->a, c * n + i)) * *state + step * in * b[i];
                sum += *state * b[n + i];
            }
            v[t * inner + c] = sum * silu(xz[t * 2 * inner + inner + c]);
        }
    linear(&m->out, v, inner, tokens, y);
    free(xz);
    free(v);
    free(s);
    free(dt);
    free(h);
}

void naive_mamba2(const jt_mamba2 *m, const double *x, size_t tokens, double *y)
{
    size_t inner = m->heads * m->head_dim, n = m->d_state;
    size_t channels = inner + 2 * m->groups * n, all = inner + channels + m->heads;
    double *in = numbers(tokens * all), *xbc = numbers(tokens * channels);
    double *h = numbers(inner * n), *v = numbers(tokens * inner);
    linear(&m->in, x, jt_cols(&m->in), tokens, in);
    convolve(&m->conv, in + inner, all, tokens, xbc);
    for (size_t t = 0; t < tokens; t++) {
        const double *z = in + t * all, *row = xbc + t * channels;
        for (size_t c = 0; c < inner; c++) {
            size_t head = c / m->head_dim, group = head / (m->heads / m->groups);
            double step = softplus(z[inner + channels + head] + at(&m->dt_bias, head));
            double sum = at(&m->d, head) * row[c];
            const double *b = row + inner + group * n, *q = b + m->groups * n;
            for (size_t i = 0; i < n; i++) {
                double *state = &h[c * n + i];
                *state = exp(step * at(&m->a, head)) * *state + step * row[c] * b[i];
                sum += *state * q[i];
            }
            v[t * inner + c] = sum * silu(z[c]);
        }
        size_t width = inner / m->groups;
        for (size_t c = 0; c < inner && jt_has(&m->norm); c += width)
            rms_norm(v + t * inner + c, &m->norm, c, width, m->norm_eps);
    }
    linear(&m->out, v, inner, tokens, y);
    free(in);
    free(xbc);
    free(h);
    free(v);
}

/* x / |x| * factor */
static void unit(double *x, size_t n, double factor)
{
    double square = 1e-6;
    for (size_t i = 0; i < n; i++)
        square += x[i] * x[i];
    for (size_t i = 0; i < n; i++)
        x[i] *= factor / sqrt(square);
}

/* One token of one head: S [v_dim, k_dim], what is left of its columns, `apart` from
 * one column to the next. */
static void delta_step(size_t v_dim, size_t k_dim, double *s, const double *q,
                       const double *k, const double *v, double beta,
                       const double *decay, size_t apart, double *y)
{
    for (size_t r = 0; r < v_dim; r++) {
        double known = 0, sum = 0;
        for (size_t i = 0; i < k_dim; i++) {
            s[r * k_dim + i] *= decay[i * apart];
            known += s[r * k_dim + i] * k[i];
        }
        for (size_t i = 0; i < k_dim; i++) {
            s[r * k_dim + i] += beta * (v[r] - known) * k[i];
            sum += s[r * k_dim + i] * q[i];
        }
        y[r] = sum;
    }
}

void naive_delta_net(const jt_delta_net *m, const double *x, size_t tokens, double *y)
{
    size_t keys = m->k_heads * m->k_dim, values = m->v_heads * m->v_dim;
    size_t channels = 2 * keys + values, d = jt_cols(&m->qkv), heads = m->v_heads;
    size_t share = heads / m->k_heads;
    double *before = numbers(tokens * channels), *qkv = numbers(tokens * channels);
    double *z = numbers(tokens * values), *gates = numbers(tokens * 2 * heads);
    double *s = numbers(values * m->k_dim), *out = numbers(tokens * values);
    linear(&m->qkv, x, d, tokens, before);
    linear(&m->z, x, d, tokens, z);
    convolve(&m->conv, before, channels, tokens, qkv);
    if (jt_has(&m->ba)) {
        linear(&m->ba, x, d, tokens, gates);
    } else { /* b of all tokens, then a of all tokens */
        linear(&m->b, x, d, tokens, gates);
        linear(&m->a, x, d, tokens, gates + tokens * heads);
    }
    for (size_t t = 0; t < tokens; t++) {
        double *q = qkv + t * channels, *k = q + keys, *v = k + keys;
        for (size_t i = 0; i < m->k_heads; i++) {
            unit(q + i * m->k_dim, m->k_dim, 1 / sqrt((double)m->k_dim));
            unit(k + i * m->k_dim, m->k_dim, 1);
        }
        for (size_t i = 0; i < heads; i++) {
            size_t place = t * 2 * heads + i / share * 2 * share + i % share;
            double b = gates[jt_has(&m->ba) ? place : t * heads + i];
            double a = gates[jt_has(&m->ba) ? place + share : (tokens + t) * heads + i];
            size_t key = (m->tiled ? i % m->k_heads : i / share) * m->k_dim;
            double *row = out + t * values + i * m->v_dim;
            double decay = exp(at(&m->rate, i) * softplus(a + at(&m->dt_bias, i)));
            delta_step(m->v_dim, m->k_dim, s + i * m->v_dim * m->k_dim, q + key,
                       k + key, v + i * m->v_dim, 1 / (1 + exp(-b)), &decay, 0, row);
            rms_norm(row, &m->norm, 0, m->v_dim, m->norm_eps);
            for (size_t c = 0; c < m->v_dim; c++)
                row[c] *= silu(z[t * values + i * m->v_dim + c]);
        }
    }
    linear(&m->out, out, values, tokens, y);
    free(before);
    free(qkv);
    free(z);
    free(gates);
    free(s);
    free(out);
}

void naive_kimi_delta(const jt_kimi_delta *m, const double *x, size_t tokens, double *y)
{
    size_t dim = m->dim, width = m->heads * dim, d = jt_cols(&m->b);
    size_t rank = jt_rows(&m->f_a), all = tokens * width;
    double *before = numbers(all), *qkv = numbers(3 * all),
           *low = numbers(tokens * rank);
    double *beta = numbers(tokens * m->heads), *fade = numbers(all), *g = numbers(all);
    double *s = numbers(width * dim), *out = numbers(all);
    for (size_t i = 0; i < 3; i++) {
        linear(&m->in[i], x, d, tokens, before);
        convolve(&m->conv[i], before, width, tokens, qkv + i * all);
    }
    linear(&m->b, x, d, tokens, beta);
    linear(&m->f_a, x, d, tokens, low);
    linear(&m->f_b, low, rank, tokens, fade);
    linear(&m->g_a, x, d, tokens, low);
    linear(&m->g_b, low, rank, tokens, g);
    for (size_t i = 0; i < all; i++)
        fade[i] = exp(at(&m->rate, i % width / dim) *
                      softplus(fade[i] + at(&m->dt_bias, i % width)));
    for (size_t t = 0; t < tokens; t++)
        for (size_t head = 0; head < m->heads; head++) {
            size_t place = t * width + head * dim;
            double *q = qkv + place, *k = q + all, *v = k + all;
            unit(q, dim, 1 / sqrt((double)dim));
            unit(k, dim, 1);
            delta_step(dim, dim, s + head * dim * dim, q, k, v,
                       1 / (1 + exp(-beta[t * m->heads + head])), fade + place, 1,
                       out + place);
            rms_norm(out + place, &m->norm, 0, dim, m->norm_eps);
            for (size_t i = place; i < place + dim; i++)
                out[i] /= 1 + exp(-g[i]);
        }
    linear(&m->out, out, width, tokens, y);
    free(before);
    free(qkv);
    free(low);
    free(beta);
    free(fade);
    free(g);
    free(s);
    free(out);
}

void naive_lightning(const jt_lightning *m, const double *x, size_t tokens, double *y)
{
    size_t dim = m->dim, width = m->heads * dim, d = jt_cols(&m->qkv);
    double *qkv = numbers(tokens * 3 * width), *g = numbers(tokens * width);
    double *s = numbers(width * dim), *out = numbers(tokens * width);
    linear(&m->qkv, x, d, tokens, qkv);
    linear(&m->gate, x, d, tokens, g);
    for (size_t i = 0; i < tokens * 3 * width; i++)
        qkv[i] = silu(qkv[i]);
    for (size_t t = 0; t < tokens; t++) {
        double *row = out + t * width;
        for (size_t c = 0; c < width; c++) {
            size_t head = c / dim;
            const double *q = qkv + (t * m->heads + head) * 3 * dim, *k = q + dim;
            double slope = pow(2, -8.0 * (double)(head + 1) / (double)m->heads);
            double decay = exp(-slope * (double)m->slope_scale);
            for (size_t i = 0; i < dim; i++) {
                s[c * dim + i] = decay * s[c * dim + i] + k[dim + c % dim] * k[i];
                row[c] += s[c * dim + i] * q[i];
            }
        }
        rms_norm(row, &m->norm, 0, width, 1e-6);
        for (size_t c = 0; c < width; c++)
            row[c] /= 1 + exp(-g[t * width + c]);
    }
    linear(&m->out, out, width, tokens, y);
    free(qkv);
    free(g);
    free(s);
    free(out);
}
