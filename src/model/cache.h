/* What the layers of a model remember of the tokens that they have seen: for each layer
 * what its token mixer needs.
 *
 *   attention   keys [kv_heads, rows, k_dim] and values [kv_heads, rows, v_dim]
 *   latent      one compressed row per token, [rows, rank + rope]
 *
 * and floats of any meaning for mixers that carry a state from token to token. The
 * token at place p of the context lies in row p % rows: a layer that sees a window has
 * rows for the window and a chunk only, the others for the whole context.
 *
 * Virtual tokens, which adapters put before a text, take the first places: those of the
 * text come behind them. Everybody counts the text alone; jt_mix_begin adds the rest.
 */
#ifndef JT_CACHE_H
#define JT_CACHE_H

#include "model/model.h"

typedef struct jt_cache_options {
    size_t capacity;         /* tokens */
    size_t chunk;            /* the most tokens that come in one pass */
    jt_dtype k_type, v_type; /* F32, F16, Q8_0 or Q4_0 */
    bool shared; /* all layers use the same memory: for training with activation
                    checkpointing, where a layer runs again before its gradients */
} jt_cache_options;

typedef struct jt_layer_cache {
    jt_kv_layer kv; /* of attention; latent: keys only */
    float *state; /* [n_state] of a recurrent mixer, which takes it for zeros in a pass
                     that starts at place 0, whatever it holds */
    size_t n_state;
} jt_layer_cache;

typedef struct jt_cache {
    jt_layer_cache *layer; /* [n_layers], views of memory */
    char *memory;          /* one allocation; not touched before it is used */
    size_t bytes;
    size_t capacity;
    size_t longest; /* tokens of a text: all that there is room for, but in training */
    size_t front;   /* virtual tokens that they remember, before those of the text */
    size_t length;  /* tokens that the layers remember */
    size_t most;    /* the largest length since it was 0 */
    size_t slack;   /* how far below `most` a rewind may go; less than the capacity
                       where windows have moved on */
    bool has_state; /* a layer has a state, which goes forward only */
} jt_cache;

/* Errors: JT_E_UNSUPPORTED (a head does not consist of whole blocks of the type),
 * JT_E_MEMORY. */
jt_status jt_cache_init(jt_cache *out, const jt_model *model,
                        const jt_cache_options *options, jt_err *err);
/* One for passes of `n_seqs` sequences of `seq_len` tokens with a tape: all of it, in
 * F32. */
jt_status jt_cache_init_train(jt_cache *out, const jt_model *model, size_t n_seqs,
                              size_t seq_len, bool shared, jt_err *err);
void jt_cache_free(jt_cache *cache); /* {0} is fine */

/* A pass is about to put `count` tokens at places from `start` on. From here on, also
 * if the pass fails, the cache counts as holding them. */
void jt_cache_feed(jt_cache *cache, size_t start, size_t count);

/* The tokens that it holds are virtual ones: the text begins behind them. */
void jt_cache_end_front(jt_cache *cache);

/* Forget all tokens but the first `length`. Returns how many are still remembered:
 * `length`, or 0 where a state has gone on or a window has moved past what the next
 * token needs; the tokens are then to be run again from the start. With none of a text
 * those before it are forgotten, too. */
size_t jt_cache_rewind(jt_cache *cache, size_t length);
/* Whether that would be `length`. */
bool jt_cache_remembers(const jt_cache *cache, size_t length);

/* Let `to` hold what `from` does; both of `model`, with the same types and chunk.
 * to->capacity is at least from->front + from->length. */
void jt_cache_copy(jt_cache *to, const jt_cache *from, const jt_model *model);

/* Bytes that one more token takes in a layer that keeps all tokens, and those that a
 * layer takes however many there are. */
size_t jt_cache_token_bytes(const jt_layer *layer, jt_dtype k_type, jt_dtype v_type);
size_t jt_cache_state_bytes(const jt_layer *layer);

#endif
