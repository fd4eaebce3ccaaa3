#include "junto/dtype.h"

#include <strings.h>

#include "kernels/blocks.h"
#include "kernels/kernels.h"

typedef struct traits {
    const char *name;
    uint32_t id;
    size_t values, bytes;
} traits;

static const traits table[JT_DTYPE_COUNT] = {
#define X(suffix, name, id, values, bytes) [JT_##suffix] = {name, id, values, bytes},
    JT_DTYPE_LIST(X)
#undef X
};

/* The structs are what the list says. */
enum {
#define X(suffix, name, id, values, bytes) BYTES_##suffix = bytes,
    JT_DTYPE_LIST(X)
#undef X
};
#define X(suffix, lower, values, group, bias, offset, top) \
    _Static_assert(sizeof(jt_##lower) == BYTES_##suffix, #suffix);
JT_QUANT_LIST(X)
#undef X

static bool known(jt_dtype dtype)
{
    return (unsigned)dtype < JT_DTYPE_COUNT;
}

const char *jt_dtype_name(jt_dtype dtype)
{
    return known(dtype) ? table[dtype].name : "?";
}

size_t jt_dtype_block_values(jt_dtype dtype)
{
    return known(dtype) ? table[dtype].values : 0;
}

size_t jt_dtype_block_bytes(jt_dtype dtype)
{
    return known(dtype) ? table[dtype].bytes : 0;
}

uint32_t jt_dtype_gguf_id(jt_dtype dtype)
{
    return known(dtype) ? table[dtype].id : UINT32_MAX;
}

size_t jt_dtype_row_bytes(jt_dtype dtype, size_t n)
{
    if (!known(dtype) || n % table[dtype].values != 0)
        return 0;
    size_t blocks = n / table[dtype].values;
    return blocks > SIZE_MAX / table[dtype].bytes ? 0 : blocks * table[dtype].bytes;
}

bool jt_dtype_from_gguf(uint32_t id, jt_dtype *dtype)
{
    for (int i = 0; i < JT_DTYPE_COUNT; i++)
        if (table[i].id == id) {
            *dtype = (jt_dtype)i;
            return true;
        }
    return false;
}

bool jt_dtype_from_name(const char *name, jt_dtype *dtype)
{
    for (int i = 0; i < JT_DTYPE_COUNT; i++)
        if (strcasecmp(table[i].name, name) == 0) {
            *dtype = (jt_dtype)i;
            return true;
        }
    return false;
}

bool jt_dtype_is_weight(jt_dtype dtype)
{
    return known(dtype) && jt_kernels_level(JT_CPU_SCALAR)->matmul[dtype].fn;
}

bool jt_dtype_can_quantize(jt_dtype dtype)
{
    switch (dtype) {
#define X(suffix, lower, values, group, bias, offset, top) case JT_##suffix:
        JT_DECODED_LIST(X)
#undef X
        return false;
    default:
        return known(dtype);
    }
}

/* Decoding gives the same bits at every level: take the fastest. */
void jt_dequantize(jt_dtype dtype, float *dst, const void *src, size_t n)
{
    int level = JT_CPU_COUNT - 1;
    while (!jt_kernels_level((jt_cpu_level)level))
        level--;
    jt_kernels_level((jt_cpu_level)level)->dequant[dtype](dst, src, n);
}
