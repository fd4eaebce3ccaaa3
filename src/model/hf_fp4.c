/* Weights in FP4 (E2M1) with scales in tensors beside them: NVFP4, as nvidia-modelopt
 * and compressed-tensors publish it, and MXFP4, as quark and compressed-tensors do.
 * They become blocks of GGUF with the same codes and scales; docs/formats.md has the
 * names.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/half.h"
#include "model/hf.h"

/* What the type of the scales says. */
typedef struct form {
    jt_safetensor_type scales;
    jt_dtype dtype; /* of GGUF */
    size_t group;   /* values of a scale */
    float (*scale)(uint8_t code);
} form;

/* The sign of a scale is not looked at, as in blocks of GGUF. */
static float unsigned_e4m3(uint8_t code)
{
    return jt_f8e4m3_to_f32(code & 0x7f);
}

static const form forms[] = {{JT_ST_F8_E4M3, JT_NVFP4, 16, unsigned_e4m3},
                             {JT_ST_U8, JT_MXFP4, 32, jt_e8m0_to_f32},
                             {JT_ST_F8_E8M0, JT_MXFP4, 32, jt_e8m0_to_f32}};

static const form *find_form(jt_safetensor_type scales)
{
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (forms[i].scales == scales)
            return &forms[i];
    }
    return NULL;
}

static const jt_safetensor *beside(jt_hf_job *job, const char *name, const char *suffix)
{
    char full[JT_HF_NAME_BYTES];
    snprintf(full, sizeof full, "%.230s%s", name, suffix);
    return jt_hf_find(job, full);
}

/* ---- codes ---- */

void jt_hf_order_fp4(unsigned char *to, const unsigned char *from, size_t values)
{
    for (size_t i = 0; i < values / 2; i++) {
        int shift = 4 * (i % 2);
        unsigned low = from[i / 2] >> shift & 15U;
        unsigned high = from[values / 4 + i / 2] >> shift & 15U;
        to[i] = (unsigned char)(low | high << 4);
    }
}

typedef struct decoding {
    const form *form;
    const unsigned char *codes, *scales; /* [rows, cols / 2], [rows, cols / group] */
    unsigned char *to;
    size_t cols, row_bytes; /* of `to` */
} decoding;

static void pack_row(void *arg, size_t r)
{
    const decoding *d = arg;
    size_t group = d->form->group, scales = d->cols / group;
    size_t in_block = jt_dtype_block_values(d->form->dtype) / group;
    const unsigned char *from = d->codes + r * d->cols / 2;
    const unsigned char *scale = d->scales + r * scales;
    unsigned char *to = d->to + r * d->row_bytes;
    for (size_t i = 0; i < scales; i++) {
        if (i % in_block == 0) {
            memcpy(to, scale + i, in_block);
            to += in_block;
        }
        jt_hf_order_fp4(to, from, group);
        from += group / 2;
        to += group / 2;
    }
}

/* Code times scale has six bits of fraction at most: exact in BF16. */
static void decode_row(void *arg, size_t r)
{
    const decoding *d = arg;
    const unsigned char *from = d->codes + r * d->cols / 2;
    const unsigned char *scale = d->scales + r * (d->cols / d->form->group);
    uint16_t *to = (uint16_t *)(void *)(d->to + r * d->row_bytes);
    for (size_t i = 0; i < d->cols; i++) {
        unsigned code = from[i / 2] >> 4 * (i % 2) & 15U;
        float x = jt_f4e2m1_to_f32((uint8_t)code);
        to[i] = jt_float_to_bf16(x * d->form->scale(scale[i / d->form->group]));
    }
}

bool jt_hf_is_fp4(jt_hf_job *job, const char *name, const jt_safetensor *from)
{
    const jt_safetensor *scales =
        from->type == JT_ST_U8 ? beside(job, name, "_scale") : NULL;
    return scales && find_form(scales->type);
}

jt_status jt_hf_fetch_fp4(jt_hf_job *job, const char *name, const jt_safetensor *from,
                          jt_gguf_tensor *out)
{
    const jt_safetensor *scales = beside(job, name, "_scale");
    const form *f = find_form(scales->type);
    if (from->n_dims != 2 || scales->n_dims != 2 ||
        from->shape[0] != scales->shape[0] || scales->shape[1] == 0 ||
        from->shape[1] % (f->group / 2) != 0 ||
        from->shape[1] / (f->group / 2) != scales->shape[1])
        return jt_fail(job->err, JT_E_FORMAT,
                       "its scales do not fit it: rows of FP4 with one of each %zu "
                       "values",
                       f->group);
    decoding d = {.form = f,
                  .codes = from->data,
                  .scales = scales->data,
                  .cols = (size_t)scales->shape[1] * f->group};
    bool blocks = job->blocks && d.cols % jt_dtype_block_values(f->dtype) == 0;
    *out = (jt_gguf_tensor){.dtype = blocks ? f->dtype : JT_BF16,
                            .n_dims = 2,
                            .shape = {from->shape[0], d.cols}};
    jt_status status;
    d.row_bytes = jt_dtype_row_bytes(out->dtype, d.cols);
    d.to = jt_hf_room(job, out, &status);
    if (!d.to)
        return status;
    return jt_hf_each(job, blocks ? pack_row : decode_row, &d, (size_t)out->shape[0]);
}

/* ---- factors ---- */

static const struct {
    const char *suffix;
    bool divides;
} factors[] = {{"_scale_2", false}, {"_global_scale", true}};

enum { FACTORS = sizeof factors / sizeof *factors };

bool jt_hf_has_factor(jt_hf_job *job, const char *name)
{
    for (int i = 0; i < FACTORS; i++) {
        if (beside(job, name, factors[i].suffix))
            return true;
    }
    return false;
}

jt_status jt_hf_factor(jt_hf_job *job, const char *name, float *factor)
{
    const jt_safetensor *found = NULL;
    bool divides = false;
    for (int i = 0; i < FACTORS && !found; i++) {
        found = beside(job, name, factors[i].suffix);
        divides = factors[i].divides;
    }
    if (!found)
        return jt_fail(job->err, JT_E_FORMAT, "'%s' has no factor, others have", name);
    if (found->type != JT_ST_F32 || found->bytes != sizeof *factor)
        return jt_fail(job->err, JT_E_FORMAT,
                       "the factor of '%s' is no single number of type F32", name);
    memcpy(factor, found->data, sizeof *factor);
    if (divides)
        *factor = 1.0f / *factor;
    if (!isfinite(*factor))
        return jt_fail(job->err, JT_E_FORMAT, "the factor of '%s' makes no sense",
                       name);
    return JT_OK;
}
