/* The vocabulary of a GGUF file as Hugging Face publishes them. */
#ifndef JT_TEXT_EXPORT_H
#define JT_TEXT_EXPORT_H

#include <stdbool.h>

#include "junto/gguf.h"
#include "junto/status.h"

/* Write tokenizer.json and tokenizer_config.json (with the chat template) into
 * `folder`, from the tokenizer.* keys of `file`. *written says whether that could be
 * done: not for byte-level BPE whose steps are not known, kinds that Junto does not
 * read, nor a file without a vocabulary. Merges of SentencePiece BPE ("llama") follow
 * from the scores. Errors: JT_E_IO, JT_E_FORMAT (keys that contradict each other),
 * JT_E_MEMORY. */
jt_status jt_tokenizer_export(const jt_gguf *file, const char *folder, bool *written,
                              jt_err *err);

#endif
