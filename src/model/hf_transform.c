/* The transforms of tensor rows, each with its way back. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "model/hf.h"

static jt_status fail_shape(jt_hf_job *job, const char *wanted)
{
    return jt_fail(job->err, JT_E_FORMAT, "its shape is not %s", wanted);
}

/* Bytes of row `r`. */
static void copy_row(void *to, uint64_t to_row, const jt_gguf_tensor *t, uint64_t r)
{
    size_t bytes = jt_dtype_row_bytes(t->dtype, (size_t)t->shape[t->n_dims - 1]);
    memcpy((char *)to + to_row * bytes, jt_gguf_row(t, r), bytes);
}

static void set_bytes(jt_gguf_tensor *t)
{
    t->bytes = jt_dtype_row_bytes(t->dtype, (size_t)t->shape[t->n_dims - 1]);
    for (int i = 0; i + 1 < t->n_dims; i++)
        t->bytes *= (size_t)t->shape[i];
}

/* The tensor to fill has the type and shape of `t`. */
static void *room_like(jt_hf_job *job, const jt_gguf_tensor *t, jt_gguf_tensor *out,
                       jt_status *status)
{
    *out = *t;
    return jt_hf_room(job, out, status);
}

/* ---- rotation ----
 * transformers rotates value i of a head with value i + half, `llama` in GGUF value 2 i
 * with 2 i + 1. Rows of weights, values of biases. */

static jt_status rotate(jt_hf_job *job, const jt_gguf_tensor *t, jt_gguf_tensor *out,
                        const char *heads_key, bool import)
{
    int64_t heads = 0;
    if (!jt_hf_get_int(job, heads_key, &heads))
        jt_hf_get_int(job, "attention.head_count", &heads);
    if (heads < 1 || t->n_dims > 2 || t->shape[0] % (2 * (uint64_t)heads) != 0)
        return fail_shape(job, "that of whole heads");
    jt_gguf_tensor from = *t; /* a vector as a matrix of one column */
    if (from.n_dims == 1) {
        from.n_dims = 2;
        from.shape[1] = 1;
    }
    set_bytes(&from);
    jt_status status;
    void *to = room_like(job, t, out, &status);
    uint64_t head = from.shape[0] / (uint64_t)heads, half = head / 2;
    for (uint64_t r = 0; r < from.shape[0] && to; r++) {
        uint64_t in = r % head, halves = r - in + in / 2 + in % 2 * half;
        if (import)
            copy_row(to, r, &from, halves);
        else
            copy_row(to, halves, &from, r);
    }
    return status;
}

static jt_status rotate_q_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    jt_gguf_tensor from = *t;
    return rotate(job, &from, t, "attention.head_count", true);
}

static jt_status rotate_q_export(jt_hf_job *job, const jt_gguf_tensor *t,
                                 jt_gguf_tensor *hf)
{
    return rotate(job, t, hf, "attention.head_count", false);
}

static jt_status rotate_k_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    jt_gguf_tensor from = *t;
    return rotate(job, &from, t, "attention.head_count_kv", true);
}

static jt_status rotate_k_export(jt_hf_job *job, const jt_gguf_tensor *t,
                                 jt_gguf_tensor *hf)
{
    return rotate(job, t, hf, "attention.head_count_kv", false);
}

const jt_hf_transform jt_hf_rotate_q = {rotate_q_import, rotate_q_export};
const jt_hf_transform jt_hf_rotate_k = {rotate_k_import, rotate_k_export};

/* ---- values ---- */

static float plus_one(float x)
{
    return x + 1.0f;
}

static float minus_one(float x)
{
    return x - 1.0f;
}

static float minus_exp(float x)
{
    return -expf(x);
}

/* Of the logarithms whose power is the same, the one of the fewest bits: what the
 * folder had, when it had BF16 or F16. */
static float log_minus(float x)
{
    float y = logf(-x), short_ones[] = {jt_bf16_to_float(jt_float_to_bf16(y)),
                                        jt_f16_to_float(jt_float_to_f16(y))};
    for (int i = 0; i < 2; i++) {
        if (minus_exp(short_ones[i]) == x)
            return short_ones[i];
    }
    return y;
}

static jt_status map(jt_hf_job *job, const jt_gguf_tensor *t, jt_gguf_tensor *out,
                     float (*fn)(float))
{
    jt_gguf_tensor from = *t;
    JT_TRY(jt_hf_as_f32(job, &from));
    jt_status status;
    const float *x = from.data;
    float *to = room_like(job, &from, out, &status);
    size_t n = to ? jt_hf_values(out) : 0;
    for (size_t i = 0; i < n; i++)
        to[i] = fn(x[i]);
    return status;
}

static jt_status plus_one_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    jt_gguf_tensor from = *t;
    return map(job, &from, t, plus_one);
}

static jt_status plus_one_export(jt_hf_job *job, const jt_gguf_tensor *t,
                                 jt_gguf_tensor *hf)
{
    return map(job, t, hf, minus_one);
}

static jt_status minus_exp_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    jt_gguf_tensor from = *t;
    return map(job, &from, t, minus_exp);
}

static jt_status minus_exp_export(jt_hf_job *job, const jt_gguf_tensor *t,
                                  jt_gguf_tensor *hf)
{
    return map(job, t, hf, log_minus);
}

const jt_hf_transform jt_hf_plus_one = {plus_one_import, plus_one_export};
const jt_hf_transform jt_hf_minus_exp = {minus_exp_import, minus_exp_export};

/* ---- shapes ---- */

static jt_status squeeze_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    if (t->n_dims != 3 || t->shape[1] != 1)
        return fail_shape(job, "[n, 1, k]");
    t->shape[1] = t->shape[2];
    t->n_dims = 2;
    return JT_OK;
}

static jt_status squeeze_export(jt_hf_job *job, const jt_gguf_tensor *t,
                                jt_gguf_tensor *hf)
{
    if (t->n_dims != 2)
        return fail_shape(job, "[n, k]");
    *hf = *t;
    hf->n_dims = 3;
    hf->shape[1] = 1;
    hf->shape[2] = t->shape[1];
    return JT_OK;
}

static jt_status vector_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    if (t->n_dims == 2 && t->shape[0] == 1) {
        t->shape[0] = t->shape[1];
        t->n_dims = 1;
    }
    return t->n_dims == 1 ? JT_OK : fail_shape(job, "[1, n]");
}

static jt_status vector_export(jt_hf_job *job, const jt_gguf_tensor *t,
                               jt_gguf_tensor *hf)
{
    if (t->n_dims != 1)
        return fail_shape(job, "[n]");
    *hf = *t;
    hf->n_dims = 2;
    hf->shape[1] = t->shape[0];
    hf->shape[0] = 1;
    return JT_OK;
}

const jt_hf_transform jt_hf_squeeze = {squeeze_import, squeeze_export};
const jt_hf_transform jt_hf_vector = {vector_import, vector_export};

/* ---- halves ----
 * Of the rows of each matrix. In stacked tensors each matrix is a piece then, and
 * nothing is copied. */

static jt_status half_import(jt_hf_job *job, jt_gguf_tensor *t, uint64_t which)
{
    int rows = t->n_dims - 2;
    if (rows < 0 || rows > 1 || t->shape[rows] % 2 != 0)
        return fail_shape(job, "that of two halves");
    jt_gguf_tensor from = *t;
    set_bytes(&from);
    uint64_t half = from.shape[rows] / 2, count = rows ? from.shape[0] : 1;
    t->shape[rows] = half;
    if (job->describing)
        return JT_OK;
    const void **pieces = jt_arena_alloc(&job->arena, (size_t)count, sizeof *pieces);
    if (!pieces)
        return jt_fail(job->err, JT_E_MEMORY, "out of memory while cutting a tensor");
    for (uint64_t i = 0; i < count; i++)
        pieces[i] = jt_gguf_row(&from, (2 * i + which) * half);
    t->data = rows ? NULL : pieces[0];
    t->pieces = rows ? pieces : NULL;
    return JT_OK;
}

static jt_status half_export(jt_hf_job *job, const jt_gguf_tensor *t,
                             jt_gguf_tensor *hf, uint64_t which)
{
    int rows = t->n_dims - 2;
    jt_status status = JT_OK;
    if (rows < 0 || rows > 1)
        return fail_shape(job, "that of a matrix or a stack of them");
    if (hf->n_dims == 0) {
        *hf = *t;
        hf->shape[rows] *= 2;
        jt_hf_room(job, hf, &status);
    } else if (hf->dtype != t->dtype || hf->shape[rows] != 2 * t->shape[rows]) {
        return fail_shape(job, "that of its other half");
    }
    jt_gguf_tensor from = *t;
    set_bytes(&from);
    uint64_t half = t->shape[rows], all = rows ? t->shape[0] * half : half;
    for (uint64_t r = 0; r < all && hf->data && status == JT_OK; r++)
        copy_row((void *)(uintptr_t)hf->data, r + (r / half + which) * half, &from, r);
    return status;
}

static jt_status first_half_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return half_import(job, t, 0);
}

static jt_status first_half_export(jt_hf_job *job, const jt_gguf_tensor *t,
                                   jt_gguf_tensor *hf)
{
    return half_export(job, t, hf, 0);
}

static jt_status second_half_import(jt_hf_job *job, jt_gguf_tensor *t)
{
    return half_import(job, t, 1);
}

static jt_status second_half_export(jt_hf_job *job, const jt_gguf_tensor *t,
                                    jt_gguf_tensor *hf)
{
    return half_export(job, t, hf, 1);
}

const jt_hf_transform jt_hf_first_half = {first_half_import, first_half_export};
const jt_hf_transform jt_hf_second_half = {second_half_import, second_half_export};

/* ---- transposed ----
 * Matrices [.., in, out] as [.., out, in]; of `parts` parts of the columns number
 * `which`, one after the other or taking turns. */

typedef struct cut {
    uint64_t which, parts;
    bool turns;
} cut;

static const cut whole = {0, 1, false};
static const cut first = {0, 2, false}, second = {1, 2, false};
static const cut even = {0, 2, true}, odd = {1, 2, true};

/* Where column `c` of `cols` of a part lies among those of all parts. */
static uint64_t column_of(const cut *part, uint64_t c, uint64_t cols)
{
    return part->turns ? c * part->parts + part->which : part->which * cols + c;
}

static jt_status turn_import(jt_hf_job *job, jt_gguf_tensor *t, const cut *part)
{
    int d = t->n_dims - 2;
    if (d < 0 || t->shape[d + 1] % part->parts != 0 || t->dtype >= JT_DTYPE_COUNT ||
        jt_dtype_block_values(t->dtype) != 1)
        return fail_shape(job, "that of matrices in equal parts");
    jt_gguf_tensor from = *t;
    jt_status status;
    uint64_t rows = t->shape[d], cols = t->shape[d + 1] / part->parts;
    size_t item = jt_dtype_block_bytes(t->dtype);
    set_bytes(&from);
    t->shape[d] = cols;
    t->shape[d + 1] = rows;
    char *to = jt_hf_room(job, t, &status);
    uint64_t all = to ? jt_hf_values(&from) / from.shape[d + 1] : 0;
    for (uint64_t r = 0; r < all; r++) {
        const char *row = jt_gguf_row(&from, r);
        char *column = to + (r / rows * cols * rows + r % rows) * item;
        for (uint64_t c = 0; c < cols; c++)
            memcpy(column + c * rows * item, row + column_of(part, c, cols) * item,
                   item);
    }
    return status;
}

static jt_status turn_export(jt_hf_job *job, const jt_gguf_tensor *t,
                             jt_gguf_tensor *hf, const cut *part)
{
    int d = t->n_dims - 2;
    jt_status status = JT_OK;
    if (d < 0)
        return fail_shape(job, "that of matrices");
    uint64_t cols = t->shape[d], rows = t->shape[d + 1], width = cols * part->parts;
    if (hf->n_dims == 0) {
        *hf = *t;
        hf->shape[d] = rows;
        hf->shape[d + 1] = width;
        jt_hf_room(job, hf, &status);
    } else if (hf->dtype != t->dtype || hf->shape[d] != rows ||
               hf->shape[d + 1] != width) {
        return fail_shape(job, "that of its other parts");
    }
    size_t item = jt_dtype_block_bytes(t->dtype);
    jt_gguf_tensor from = *t;
    set_bytes(&from);
    char *to = (char *)(uintptr_t)hf->data;
    uint64_t all = to && status == JT_OK ? jt_hf_values(t) / rows : 0;
    for (uint64_t c = 0; c < all; c++) { /* row c of t is a column */
        const char *row = jt_gguf_row(&from, c);
        uint64_t top = c / cols * rows, column = column_of(part, c % cols, cols);
        for (uint64_t r = 0; r < rows; r++)
            memcpy(to + ((top + r) * width + column) * item, row + r * item, item);
    }
    return status;
}

/* A pair of functions for each cut. */
#define TURNED(name, part)                                                       \
    static jt_status part##_turn_import(jt_hf_job *job, jt_gguf_tensor *t)       \
    {                                                                            \
        return turn_import(job, t, &part);                                       \
    }                                                                            \
    static jt_status part##_turn_export(jt_hf_job *job, const jt_gguf_tensor *t, \
                                        jt_gguf_tensor *hf)                      \
    {                                                                            \
        return turn_export(job, t, hf, &part);                                   \
    }                                                                            \
    const jt_hf_transform name = {part##_turn_import, part##_turn_export}

TURNED(jt_hf_transposed, whole);
TURNED(jt_hf_first_half_t, first);
TURNED(jt_hf_second_half_t, second);
TURNED(jt_hf_even_t, even);
TURNED(jt_hf_odd_t, odd);

bool jt_hf_moves_rows(const jt_hf_transform *how)
{
    static const jt_hf_transform *const whole_rows[] = {
        &jt_hf_rotate_q, &jt_hf_rotate_k, &jt_hf_first_half, &jt_hf_second_half};
    for (size_t i = 0; i < sizeof whole_rows / sizeof *whole_rows; i++) {
        if (how == whole_rows[i])
            return true;
    }
    return false;
}
