/* Any bytes as a GGUF file: refused with a message, or opened and then read in full,
 * also with its single experts stacked and its nested experts put together. */
#include <stdint.h>
#include <string.h>

#include "model/nested_file.h"
#include "model/single_experts.h"
#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Experts of the layout "experts", wherever they lie. */
static void find_experts(const jt_gguf *file)
{
    for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        jt_single single;
        jt_single_span span;
        const void *sums;
        jt_str name = jt_gguf_tensor_at(file, i)->name;
        int layer = jt_single_sums_layer(name);
        if (layer >= 0 && jt_single_sums(&sums, file, layer, 2, NULL) == JT_OK)
            walk_bytes(sums, 2 * sizeof(uint64_t));
        if (jt_single_parse(&single, name) &&
            jt_single_find(&span, file, single.layer, single.expert, NULL) == JT_OK)
            walk_bytes(span.data, span.bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    jt_err err = {0};
    jt_gguf *file = NULL;
    jt_status status = jt_gguf_open_memory(&file, data, size, &err);
    if (status == JT_OK) {
        walk_file(file);
        find_experts(file);
        if (jt_stack_single_experts(&file, &err) == JT_OK &&
            jt_weave_experts(&file, &err) == JT_OK)
            walk_file(file);
        jt_gguf_close(file);
    } else {
        WALK_CHECK(!file && err.code == status && err.msg[0]);
        for (const char *p = err.msg; *p; p++)
            WALK_CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
    }
    return 0;
}
