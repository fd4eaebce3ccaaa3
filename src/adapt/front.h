/* Virtual tokens before a text, at work: the layers remember them in front of its first
 * token (jt_cache.front), so that every token sees them. */
#ifndef JT_ADAPT_FRONT_H
#define JT_ADAPT_FRONT_H

#include "adapt/attach.h"
#include "adapt/made.h"

/* How many virtual tokens the adapters of a sequence put before its text: those of one
 * of them, as no two can have any. */
size_t jt_attached_front(const jt_attached *attached);

/* Let a cache, which remembers nothing, remember them. Those that have embeddings run
 * through the layers, `chunk` at a time, with the other adapters at work. On failure
 * the context holds the error, and the cache remembers nothing. */
void jt_attached_lay_front(jt_attached *attached, jt_context *ctx,
                           const jt_model *model, jt_cache *cache, size_t chunk,
                           const jt_store *store, const jt_hooks *hooks);

/* In such a pass the rows h of a chunk become the embeddings of virtual tokens; in
 * training those where one stands (jt_chunk.front). */
void jt_attached_embed_front(const jt_attached *attached, jt_context *ctx,
                             const jt_chunk *chunk, jt_tensor *h);

/* As jt_between has it: the keys and values of virtual tokens in a layer. */
bool jt_attached_give(const jt_attached *attached, int layer, jt_given *out);

/* Virtual tokens as tokens of a vocabulary are: the embeddings of o->front of them; or
 * the keys and values [layers, tokens, heads * dim] that a model makes of them.
 * JT_E_MEMORY and what the model fails with. */
jt_status jt_front_embed(jt_tensor *e, const jt_adapter_options *o, jt_err *err);
jt_status jt_front_remember(jt_tensor *k, jt_tensor *v, const jt_adapter_options *o,
                            jt_err *err);

/* Do all layers keep keys and values that a prefix can have? JT_E_UNSUPPORTED. */
jt_status jt_front_check_layers(const jt_model *model, jt_err *err);

#endif
