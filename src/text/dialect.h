/* Regular expressions of tokenizer.json files are written for Oniguruma (Ruby's
 * dialect, which the tokenizers library uses) or Rust's regex crates (tiktoken). PCRE2
 * matches them here; this says the same in its dialect. */
#ifndef JT_TEXT_DIALECT_H
#define JT_TEXT_DIALECT_H

#include <stdbool.h>

#include "base/memory.h"
#include "junto/gguf.h"

/* Unicode's White_Space, as it stands in a class. PCRE2's own \s has U+180E too. */
#define JT_SPACES "\\t-\\r\\x{85}\\p{Z}"

/* The expression for PCRE2 with the options UTF and UCP, in `arena`, terminated. What
 * is spelt differently and means the same comes out the same where published files do
 * so: characters that are not ASCII and control characters as escapes. Errors:
 * JT_E_MEMORY, JT_E_UNSUPPORTED (what only one of the dialects has). */
jt_status jt_dialect_translate(char **out, jt_arena *arena, jt_str expression,
                               jt_err *err);
/* The expression that matches this text and nothing else; likewise. */
jt_status jt_dialect_quote(char **out, jt_arena *arena, jt_str text, jt_err *err);

#endif
