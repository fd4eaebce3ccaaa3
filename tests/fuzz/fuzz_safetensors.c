/* Any bytes as a safetensors file: refused with a message, or opened and then read in
 * full. */
#include <stdint.h>
#include <string.h>

#include "junto/safetensors.h"
#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned walk_safetensors(const jt_safetensors *s)
{
    unsigned sum = 0;
    for (size_t i = 0; i < jt_safetensors_count(s); i++) {
        const jt_safetensor *t = jt_safetensors_at(s, i);
        char *name = walk_c_string(t->name);
        WALK_CHECK(jt_safetensors_find(s, name) == t);
        free(name);
        size_t bytes = jt_safetensor_type_bytes(t->type);
        for (int d = 0; d < t->n_dims; d++)
            bytes *= (size_t)t->shape[d];
        WALK_CHECK(bytes == t->bytes);
        sum += walk_bytes(t->data, t->bytes);
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    jt_err err = {0};
    jt_safetensors *s = NULL;
    jt_status status = jt_safetensors_open_memory(&s, data, size, &err);
    if (status == JT_OK) {
        walk_safetensors(s);
        jt_safetensors_close(s);
    } else {
        WALK_CHECK(!s && err.code == status && err.msg[0]);
        for (const char *p = err.msg; *p; p++)
            WALK_CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
    }
    return 0;
}
