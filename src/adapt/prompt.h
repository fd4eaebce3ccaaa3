/* Adapters that rewrite the embeddings of prompts, at work. */
#ifndef JT_ADAPT_PROMPT_H
#define JT_ADAPT_PROMPT_H

#include "adapt/attach.h"

/* As jt_between has it: self is a jt_attached. */
void jt_attached_embedded(void *self, jt_context *ctx, const jt_chunk *chunk,
                          jt_tensor *h);

/* How long is the prompt of a sequence of which these tokens are known, for one of the
 * list? Whether it is another one than before, so that what layers remember is no
 * longer of use. The tokens must stay until the next call. */
bool jt_attachment_find_prompt(jt_attachment *at, const int32_t *ids, size_t count);

#endif
