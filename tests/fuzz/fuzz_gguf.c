/* Any bytes as a GGUF file: refused with a message, or opened and then read in full,
 * also with its nested experts put together. */
#include <stdint.h>
#include <string.h>

#include "model/nested_file.h"
#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    jt_err err = {0};
    jt_gguf *file = NULL;
    jt_status status = jt_gguf_open_memory(&file, data, size, &err);
    if (status == JT_OK) {
        walk_file(file);
        if (jt_weave_experts(&file, &err) == JT_OK) /* planes of nested experts */
            walk_file(file);
        jt_gguf_close(file);
    } else {
        WALK_CHECK(!file && err.code == status && err.msg[0]);
        for (const char *p = err.msg; *p; p++)
            WALK_CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
    }
    return 0;
}
