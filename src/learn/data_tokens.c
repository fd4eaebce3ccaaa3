/* Token files: int32, little-endian, bare or in a NumPy file. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "learn/data_impl.h"

/* A stretch of the file that is an array; rows of `cols` values, 0: one dimension. */
typedef struct array {
    size_t offset, count, cols;
} array;

static jt_status fail_npy(const char *why, jt_err *err)
{
    return jt_fail(err, JT_E_FORMAT, "not a NumPy file of int32: %s", why);
}

/* What stands after "'key':" in the header, a Python dictionary; "" when it does not.
 */
static const char *npy_value(const char *header, const char *key)
{
    const char *value = strstr(header, key);
    if (!value)
        return "";
    value += strlen(key);
    return value + strspn(value, ": ");
}

/* "(5,)" or "(5, 3)" */
static jt_status npy_shape(const jt_reader *r, const char *shape, array *out,
                           jt_err *err)
{
    unsigned long long dims[2] = {0, 1};
    int n_dims = 0;
    const char *at = shape + (*shape == '(');
    while (n_dims < 2 && isdigit((unsigned char)*at)) {
        char *end;
        dims[n_dims++] = strtoull(at, &end, 10);
        at = end + strspn(end, ", ");
    }
    if (*shape != '(' || *at != ')' || n_dims == 0)
        return fail_npy("its shape is not of one or two dimensions", err);
    size_t bytes = r->docs->map.bytes - out->offset;
    if (__builtin_mul_overflow(dims[0], dims[1], &out->count) ||
        out->count > bytes / sizeof(int32_t) || out->count * sizeof(int32_t) != bytes)
        return fail_npy("its size is not what its shape says", err);
    out->cols = n_dims == 2 ? (size_t)dims[1] : 0;
    return JT_OK;
}

/* Magic, version, length of the header (2 bytes, since version 2.0 4 bytes), header. */
static jt_status read_npy(const jt_reader *r, array *out, jt_err *err)
{
    enum { HEADER_MOST = 4096 };
    const unsigned char *data = r->docs->map.data;
    size_t bytes = r->docs->map.bytes, start = 10;
    if (bytes < 12 || memcmp(data, "\x93NUMPY", 6) != 0)
        return fail_npy("it does not begin with its magic", err);
    size_t len = data[8] | (size_t)data[9] << 8;
    if (data[6] > 1) {
        start = 12;
        len |= (size_t)data[10] << 16 | (size_t)data[11] << 24;
    }
    out->offset = start + len;
    if (len > HEADER_MOST || out->offset > bytes)
        return fail_npy("its header is cut off or very long", err);
    char header[HEADER_MOST + 1];
    memcpy(header, data + start, len);
    header[len] = '\0';
    if (strncmp(npy_value(header, "'descr'"), "'<i4'", 5) != 0)
        return fail_npy("its dtype is not '<i4'", err);
    if (strncmp(npy_value(header, "'fortran_order'"), "False", 5) != 0)
        return fail_npy("it is in Fortran order", err);
    if (out->offset % sizeof(int32_t) != 0)
        return fail_npy("its data is not aligned", err);
    return npy_shape(r, npy_value(header, "'shape'"), out, err);
}

static jt_status read_bare(const jt_reader *r, array *out, jt_err *err)
{
    size_t bytes = r->docs->map.bytes;
    if (bytes % sizeof(int32_t) != 0)
        return jt_fail(
            err, JT_E_FORMAT,
            "not a file of int32 tokens: its %zu bytes are not a multiple of 4", bytes);
    *out = (array){.count = bytes / sizeof(int32_t)};
    return JT_OK;
}

/* The token that ends a document, -1 for none. */
static jt_status end_token(const jt_reader *r, int32_t *id, jt_err *err)
{
    const char *text = r->source->separator;
    *id = r->tok ? jt_token_eos(r->tok) : -1;
    if (!text)
        return JT_OK;
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (end == text || *end || errno || value < 0 || (unsigned long)value >= r->n_vocab)
        return jt_fail(err, JT_E_ARG,
                       "the separator '%.40s' is not the number of a token", text);
    *id = (int32_t)value;
    return JT_OK;
}

/* Check the ids and cut the array into documents. */
static jt_status cut(jt_reader *r, const array *a, int32_t end_id, jt_err *err)
{
    enum { REPORT = 1 << 16 };
    const int32_t *ids = r->docs->tokens;
    size_t start = 0;
    for (size_t i = 0; i < a->count; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= r->n_vocab)
            return jt_fail(err, JT_E_FORMAT,
                           "token %zu is %d, outside the vocabulary of %zu", i, ids[i],
                           r->n_vocab);
        bool end = a->cols ? (i + 1) % a->cols == 0 : ids[i] == end_id;
        if (end || i + 1 == a->count) {
            JT_TRY(jt_docs_add(r->docs, start, i + 1 - start, err));
            start = i + 1;
        }
        if (i % REPORT == 0)
            JT_TRY(jt_reader_report(r, a->offset + i * sizeof *ids, err));
    }
    return JT_OK;
}

jt_status jt_data_read_tokens(jt_reader *r, jt_err *err)
{
    const char *path = r->source->path;
    size_t len = strlen(path);
    bool npy = len >= 4 && strcasecmp(path + len - 4, ".npy") == 0;
    array a = {0};
    int32_t end_id;
    JT_TRY(end_token(r, &end_id, err));
    JT_TRY(npy ? read_npy(r, &a, err) : read_bare(r, &a, err));
    r->docs->tokens = (const int32_t *)(const void *)(r->docs->map.data + a.offset);
    return cut(r, &a, end_id, err);
}
