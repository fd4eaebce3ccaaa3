/* Values of safetensors, and files by their path. */
#include <stdlib.h>
#include <string.h>

#include "adapt/files.h"
#include "base/half.h"
#include "base/memory.h"
#include "format/gguf_file.h"

size_t jt_safetensor_values(const jt_safetensor *t)
{
    return t->bytes / jt_safetensor_type_bytes(t->type);
}

static jt_status fail_type(const jt_safetensor *t, const char *wanted, jt_err *err)
{
    return jt_fail(err, JT_E_FORMAT, "tensor '%.*s' has type %s, expected %s",
                   JT_GGUF_SHOW(t->name), jt_safetensor_type_name(t->type), wanted);
}

static float half_at(const jt_safetensor *t, size_t i)
{
    uint16_t x;
    memcpy(&x, (const char *)t->data + 2 * i, 2);
    return t->type == JT_ST_F16 ? jt_f16_to_float(x) : jt_bf16_to_float(x);
}

jt_status jt_safetensor_floats(float *to, const jt_safetensor *t, jt_err *err)
{
    size_t n = jt_safetensor_values(t);
    if (t->type == JT_ST_F32 && n) {
        memcpy(to, t->data, n * sizeof *to);
    } else if (t->type == JT_ST_F16 || t->type == JT_ST_BF16) {
        for (size_t i = 0; i < n; i++)
            to[i] = half_at(t, i);
    } else if (t->type == JT_ST_F64) {
        for (size_t i = 0; i < n; i++) {
            double x;
            memcpy(&x, (const char *)t->data + 8 * i, 8);
            to[i] = (float)x;
        }
    } else {
        return fail_type(t, "F32, F16, BF16 or F64", err);
    }
    return JT_OK;
}

jt_status jt_safetensor_ints(int32_t *to, const jt_safetensor *t, jt_err *err)
{
    size_t n = jt_safetensor_values(t);
    if (t->type == JT_ST_I32 && n) {
        memcpy(to, t->data, n * sizeof *to);
    } else if (t->type == JT_ST_I64) {
        for (size_t i = 0; i < n; i++) {
            int64_t x;
            memcpy(&x, (const char *)t->data + 8 * i, 8);
            if (x < 0 || x > INT32_MAX)
                return jt_fail(err, JT_E_FORMAT, "tensor '%.*s' has the number %lld",
                               JT_GGUF_SHOW(t->name), (long long)x);
            to[i] = (int32_t)x;
        }
    } else {
        return fail_type(t, "I32 or I64", err);
    }
    return JT_OK;
}

jt_status jt_safetensors_begin(jt_safetensors_writer **out, const char *path,
                               jt_err *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    char *folder = slash == path ? jt_strndup("/", 1)
                   : slash       ? jt_strndup(path, (size_t)(slash - path))
                                 : jt_strndup(".", 1);
    if (!folder)
        return jt_fail_memory(err, "opening an output file");
    jt_status status = jt_safetensors_writer_new(out, folder, UINT64_MAX, err);
    free(folder);
    JT_TRY(status);
    status = jt_safetensors_set_name(*out, name, err);
    if (status != JT_OK)
        jt_safetensors_writer_abort(*out);
    return status;
}
