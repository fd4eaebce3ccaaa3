/* Unicode normalization form C. */
#ifndef JT_TEXT_NFC_H
#define JT_TEXT_NFC_H

#include <stdint.h>

#include "junto/gguf.h"
#include "junto/status.h"

/* Scratch memory, reused from call to call; starts as {0}. */
typedef struct jt_nfc {
    int32_t *chars;
    size_t capacity;
    uint64_t *marks;
    size_t marks_capacity;
} jt_nfc;

/* Normalize valid UTF-8. *out is `text` itself or lies in `work` until the next call.
 * Takes O(n log n) time for any text. Errors: JT_E_MEMORY. */
jt_status jt_nfc_run(jt_nfc *work, jt_str text, jt_str *out, jt_err *err);
void jt_nfc_free(jt_nfc *work);

#endif
