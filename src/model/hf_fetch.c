/* Tensors of safetensors files as tensors of GGUF types: most lie there as they are,
 * FP8 is decoded with its scales, FP4 becomes blocks. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/memory.h"
#include "format/gguf_file.h"
#include "model/hf.h"

/* ---- room ---- */

size_t jt_hf_values(const jt_gguf_tensor *t)
{
    size_t values = 1;
    for (int i = 0; i < t->n_dims; i++)
        values *= (size_t)t->shape[i];
    return values;
}

void *jt_hf_room(jt_hf_job *job, jt_gguf_tensor *t, jt_status *status)
{
    size_t bytes = jt_dtype_block_bytes(t->dtype);
    *status = JT_OK;
    t->data = NULL;
    t->pieces = NULL;
    for (int i = 0; i < t->n_dims; i++) {
        size_t n = i == t->n_dims - 1 ? jt_dtype_block_values(t->dtype) : 1;
        if (t->shape[i] > PTRDIFF_MAX ||
            !jt_mul(bytes, (size_t)t->shape[i] / n, &bytes) || bytes > PTRDIFF_MAX) {
            *status = jt_fail(job->err, JT_E_LIMIT, "its size overflows");
            return NULL;
        }
    }
    if (job->describing)
        return NULL;
    void *room = NULL;
    if (jt_grow((void **)&job->rooms, &job->rooms_room, job->n_rooms + 1,
                sizeof *job->rooms))
        room = jt_alloc_large(bytes ? bytes : 1);
    if (!room) {
        *status = jt_fail_memory(job->err, "changing a tensor");
        return NULL;
    }
    job->rooms[job->n_rooms++] = room;
    t->data = room;
    return room;
}

void jt_hf_drop_rooms(jt_hf_job *job)
{
    while (job->n_rooms)
        free(job->rooms[--job->n_rooms]);
}

jt_status jt_hf_as_f32(jt_hf_job *job, jt_gguf_tensor *t)
{
    if (t->dtype == JT_F32 && !t->pieces)
        return JT_OK;
    jt_status status;
    jt_gguf_tensor from = *t;
    t->dtype = JT_F32;
    float *to = jt_hf_room(job, t, &status);
    size_t row = (size_t)t->shape[t->n_dims - 1],
           rows = row ? jt_hf_values(t) / row : 0;
    for (size_t r = 0; r < rows && to; r++)
        jt_gguf_read_row(&from, r, to + r * row);
    return status;
}

jt_status jt_hf_each(jt_hf_job *job, void (*fn)(void *arg, size_t i), void *arg,
                     size_t count)
{
    if (!job->pool)
        JT_TRY(jt_pool_new(&job->pool, 0, job->err));
    jt_pool_run(job->pool, fn, arg, count);
    return JT_OK;
}

/* ---- types ---- */

/* The GGUF type with the same bytes; JT_DTYPE_COUNT for none. */
static jt_dtype same_type(jt_safetensor_type type)
{
    switch (type) {
    case JT_ST_F32:
        return JT_F32;
    case JT_ST_F16:
        return JT_F16;
    case JT_ST_BF16:
        return JT_BF16;
    case JT_ST_I32:
        return JT_I32;
    default:
        return JT_DTYPE_COUNT;
    }
}

/* ---- eight bits ---- */

static float decode_one(jt_safetensor_type type, uint8_t code)
{
    if (type == JT_ST_F8_E5M2) /* an F16 cut short */
        return jt_f16_to_float((uint16_t)(code << 8));
    return type == JT_ST_F8_E8M0 ? jt_e8m0_to_f32(code) : jt_f8e4m3_to_f32(code);
}

/* Scales [count?, rows, cols] of blocks; one scale for everything is [1, 1]. */
typedef struct scales {
    const float *value;
    size_t rows, cols;             /* of scales, in a matrix */
    size_t block_rows, block_cols; /* of values, for one scale */
} scales;

/* Any float type of safetensors as F32, in room of the job. */
static jt_status decode_floats(jt_hf_job *job, const jt_safetensor *from,
                               const float **out)
{
    size_t n = from->bytes / jt_safetensor_type_bytes(from->type);
    float *to = jt_arena_alloc(&job->arena, n, sizeof *to);
    if (!to)
        return jt_fail_memory(job->err, "reading scales");
    const unsigned char *data = from->data;
    jt_dtype dtype = same_type(from->type);
    if (dtype != JT_DTYPE_COUNT)
        jt_dequantize(dtype, to, data, n);
    for (size_t i = 0; i < n && dtype == JT_DTYPE_COUNT; i++)
        to[i] = decode_one(from->type, data[i]);
    *out = to;
    return JT_OK;
}

static bool is_float(jt_safetensor_type type)
{
    return type == JT_ST_F32 || type == JT_ST_BF16 || type == JT_ST_F16 ||
           type == JT_ST_F8_E8M0;
}

static size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

/* The i-th number of quantization_config.weight_block_size; `otherwise` without it. */
static size_t block_size(const jt_hf_job *job, size_t i, size_t otherwise)
{
    json_t *sizes = jt_hf_config(job, "quantization_config.weight_block_size");
    json_int_t n = json_integer_value(json_array_get(sizes, i));
    return n > 0 && n <= 1 << 20 ? (size_t)n : otherwise;
}

/* How the scales of tensor `t` lie: one, one per row, or one per block. */
static jt_status lay_out(jt_hf_job *job, const jt_gguf_tensor *t,
                         const jt_safetensor *from, scales *s)
{
    size_t rows = t->n_dims > 1 ? (size_t)t->shape[t->n_dims - 2] : 1;
    size_t cols = (size_t)t->shape[t->n_dims - 1];
    size_t count = from->bytes / jt_safetensor_type_bytes(from->type);
    size_t matrices = cols && rows ? jt_hf_values(t) / rows / cols : 0;
    s->rows = s->cols = 1;
    if (count == matrices * rows)
        s->rows = rows;
    if (count != 1 && count != matrices && count != matrices * rows &&
        from->n_dims >= 2) {
        s->rows = (size_t)from->shape[from->n_dims - 2];
        s->cols = (size_t)from->shape[from->n_dims - 1];
    }
    if (!s->rows || !s->cols || !rows || !cols)
        return jt_fail(job->err, JT_E_FORMAT, "it or its scales are empty");
    s->block_rows = s->rows == 1 ? rows : block_size(job, 0, ceil_div(rows, s->rows));
    s->block_cols = s->cols == 1 ? cols : block_size(job, 1, ceil_div(cols, s->cols));
    if (s->rows == rows)
        s->block_rows = 1;
    if ((count != 1 && count != matrices * s->rows * s->cols) ||
        ceil_div(rows, s->block_rows) != s->rows ||
        ceil_div(cols, s->block_cols) != s->cols)
        return jt_fail(job->err, JT_E_FORMAT,
                       "its scales [.., %zu, %zu] do not fit blocks of %zu x %zu",
                       s->rows, s->cols, s->block_rows, s->block_cols);
    return job->describing ? JT_OK : decode_floats(job, from, &s->value);
}

typedef struct decoding {
    const unsigned char *from;
    uint16_t *to;
    size_t rows, cols; /* of a matrix */
    float codes[256];
    scales s;
    bool single; /* one scale for everything */
} decoding;

static void decode_row(void *arg, size_t r)
{
    const decoding *d = arg;
    const scales *s = &d->s;
    size_t matrix = r / d->rows, within = r % d->rows / s->block_rows;
    const float *scale = s->value;
    const unsigned char *from = d->from + r * d->cols;
    uint16_t *to = d->to + r * d->cols;
    if (!d->single)
        scale += (matrix * s->rows + within) * s->cols;
    for (size_t i = 0, left = s->block_cols; i < d->cols; i++, left--) {
        if (left == 0) {
            left = s->block_cols;
            scale++;
        }
        to[i] = jt_float_to_bf16(d->codes[from[i]] * *scale);
    }
}

/* FP8 to BF16; `scale` NULL: all are 1. */
static jt_status decode_fp8(jt_hf_job *job, const jt_safetensor *from,
                            const jt_safetensor *scale, jt_gguf_tensor *t)
{
    static const float one = 1.0f;
    decoding d = {.from = from->data,
                  .rows = t->n_dims > 1 ? (size_t)t->shape[t->n_dims - 2] : 1,
                  .cols = (size_t)t->shape[t->n_dims - 1],
                  .s = {&one, 1, 1, SIZE_MAX, SIZE_MAX},
                  .single = true};
    if (scale && !is_float(scale->type))
        return jt_fail(job->err, JT_E_UNSUPPORTED, "its scales have type %s",
                       jt_safetensor_type_name(scale->type));
    if (scale) {
        JT_TRY(lay_out(job, t, scale, &d.s));
        d.single = scale->bytes == jt_safetensor_type_bytes(scale->type);
    }
    jt_status status;
    t->dtype = JT_BF16;
    d.to = jt_hf_room(job, t, &status);
    if (!d.to)
        return status;
    for (unsigned i = 0; i < 256; i++)
        d.codes[i] = decode_one(from->type, i);
    return jt_hf_each(job, decode_row, &d, jt_hf_values(t) / d.cols);
}

/* Scales go by several names; all are multiplied. */
static const jt_safetensor *find_scale(jt_hf_job *job, const char *name)
{
    static const char *const suffixes[] = {"_scale_inv", "_scale"};
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        char scale[320];
        snprintf(scale, sizeof scale, "%s%s", name, suffixes[i]);
        const jt_safetensor *found = jt_hf_source(job, scale);
        if (found)
            return found;
    }
    return NULL;
}

/* ---- one tensor ---- */

/* Kernels read values at their natural alignment; a header may be of any length. */
static jt_status align(jt_hf_job *job, size_t bytes, jt_gguf_tensor *t)
{
    if ((uintptr_t)t->data % jt_dtype_block_bytes(t->dtype) == 0)
        return JT_OK;
    const void *from = t->data;
    jt_status status;
    void *to = jt_hf_room(job, t, &status);
    if (to)
        memcpy(to, from, bytes);
    return status;
}

jt_status jt_hf_fetch(jt_hf_job *job, const char *name, const jt_safetensor *from,
                      jt_gguf_tensor *out)
{
    *out = (jt_gguf_tensor){.dtype = same_type(from->type), .n_dims = from->n_dims};
    if (from->n_dims > JT_MAX_DIMS)
        return jt_fail(job->err, JT_E_UNSUPPORTED, "it has %d dimensions",
                       from->n_dims);
    for (int i = 0; i < from->n_dims; i++) {
        out->shape[i] = from->shape[i];
        if (from->shape[i] == 0)
            return jt_fail(job->err, JT_E_FORMAT, "a dimension of 0");
    }
    if (from->n_dims == 0) { /* a scalar */
        out->n_dims = 1;
        out->shape[0] = 1;
    }
    out->data = from->data;
    if (from->type == JT_ST_F8_E4M3 || from->type == JT_ST_F8_E5M2)
        return decode_fp8(job, from, find_scale(job, name), out);
    if (jt_hf_is_fp4(job, name, from))
        return jt_hf_fetch_fp4(job, name, from, out);
    return out->dtype == JT_DTYPE_COUNT ? JT_OK : align(job, from->bytes, out);
}
