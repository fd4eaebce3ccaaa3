/* From what is asked to tokens. */
#ifndef JT_PROMPT_H
#define JT_PROMPT_H

#include "junto/chat.h"
#include "serve/ask.h"

/* The tokens that the model goes on from; the caller frees out->ids, also after a
 * failure. Of a chat, and whether they end inside a thought; */
bool jt_prompt_chat(const jt_ask *ask, const jt_chat *chat, jt_tokens *out,
                    bool *in_thought, jt_problem *problem);
/* of a text, or a list of tokens. */
bool jt_prompt_text(const json_t *prompt, const jt_tokenizer *tok, jt_tokens *out,
                    jt_problem *problem);

/* A JSON list of token ids, all of the vocabulary. */
bool jt_prompt_tokens(const json_t *list, const char *param, const jt_tokenizer *tok,
                      jt_tokens *out, jt_problem *problem);

#endif
