/* The merges of a vocabulary that has scores instead. */
#ifndef JT_TEXT_EXPORT_MERGES_H
#define JT_TEXT_EXPORT_MERGES_H

#include <jansson.h>

#include "junto/gguf.h"
#include "junto/status.h"

/* Every way in which two tokens make a third, best score first, as [["a", "b"], ...]
 * into *out. This is how transformers makes a tokenizer.json from a SentencePiece
 * model (convert_slow_tokenizer.py, generate_merges). */
jt_status jt_export_merges(json_t **out, const jt_gguf *file, jt_err *err);

#endif
