/* Vocabularies of other formats become the tokenizer.* keys of GGUF, from which alone a
 * tokenizer is built (docs/formats.md, "Vocabularies"). */
#ifndef JT_TEXT_IMPORT_H
#define JT_TEXT_IMPORT_H

#include "junto/gguf.h"
#include "junto/status.h"

/* Set the tokenizer.* keys of the vocabulary in `folder`, as models are published:
 *
 *     tokenizer.json             all kinds (Hugging Face tokenizers); else
 *     tekken.json                byte-level BPE by rank (Mistral); else
 *     tokenizer.model            a SentencePiece model, BPE or Unigram; else
 *     tiktoken.model and others  byte-level BPE by rank
 *
 * and, where they are there, tokenizer_config.json, special_tokens_map.json,
 * added_tokens.json, generation_config.json, chat_template.jinja, chat_template.json,
 * and of config.json the size of the vocabulary, to which it is filled up with unused
 * tokens.
 *
 * Errors: JT_E_IO (none of these files), JT_E_FORMAT (what is wrong, with file, line
 * and column), JT_E_UNSUPPORTED (what only other programs can do, by its name),
 * JT_E_LIMIT, JT_E_MEMORY. On failure some keys may have been set. */
jt_status jt_tokenizer_import(jt_gguf_writer *w, const char *folder, jt_err *err);

#endif
