/* Unicode normalization forms, and what else is done to all characters of a text. */
#ifndef JT_TEXT_NORMAL_H
#define JT_TEXT_NORMAL_H

#include <stdbool.h>
#include <stdint.h>

#include "junto/gguf.h"
#include "junto/status.h"

typedef enum jt_normal_form { JT_NFC, JT_NFD, JT_NFKC, JT_NFKD } jt_normal_form;

/* Scratch memory, reused from call to call; starts as {0}. */
typedef struct jt_normal {
    int32_t *chars;
    size_t capacity;
    uint64_t *marks;
    size_t marks_capacity;
} jt_normal;

/* Normalize valid UTF-8. *out is `text` itself or lies in `work` until the next call.
 * Takes O(n log n) time for any text. Errors: JT_E_MEMORY. */
jt_status jt_normal_run(jt_normal *work, jt_normal_form form, jt_str text, jt_str *out,
                        jt_err *err);
void jt_normal_free(jt_normal *work);

/* The character that `text` begins with; -1 when it is not UTF-8. */
int32_t jt_char_at(jt_str text);
/* Bytes of a character in UTF-8. */
size_t jt_char_bytes(int32_t c);

/* Characters by what they are: white space, marks that take no room of their own (or
 * `all`), control and format characters and those that are not assigned (but for tab
 * and line ends), the ideographs that BERT takes for words. */
bool jt_char_is_space(int32_t c);
bool jt_char_is_mark(int32_t c, bool all);
bool jt_char_is_control(int32_t c);
bool jt_char_is_ideograph(int32_t c);
/* What `\w` stands for. */
bool jt_char_is_word(int32_t c);

/* Small letters of `c` into out[]; returns how many characters, 1 or 2. */
size_t jt_char_lower(int32_t c, int32_t out[2]);

#endif
