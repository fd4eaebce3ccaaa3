/* What the next layers will ask for, guessed while this one works.
 *
 * Three guessers. The router of the next layer, applied to the hidden states that reach
 * this layer's experts: the residual stream moves slowly (HybriMoE, section 4.2;
 * Pre-gated MoE trains for it). That of the layer after it, on the same states. Of both
 * a lens (store/lens.h) learns in which way they are wrong. And the paths that tokens
 * took: how often expert b of the next layer followed expert a of this one (EdgeMoE,
 * section 3.3, order 1), counted as the tokens pass. A guess changes when something is
 * read, never what is computed.
 *
 * Each guesser is judged all the time by the guesses that would have been read, apart
 * for the likeliest expert, the second and so on, to twice as many as a token uses. The
 * guesses of a rank are followed while enough of them come true: how many, the store
 * says, which knows what a wrong one costs. */
#ifndef JT_STORE_GUESS_H
#define JT_STORE_GUESS_H

#include "moe/mixture.h"
#include "nn/norm.h"
#include "store/lens.h"
#include "store/slots.h"

typedef enum jt_guesser {
    JT_GUESS_ROUTER, /* of the next layer */
    JT_GUESS_FAR,    /* of the one after it */
    JT_GUESS_PATHS,
    JT_GUESSERS
} jt_guesser;

/* Layers that are looked ahead, and guesses of one guesser that are kept: those of the
 * layer at work are judged after others were made. */
enum { JT_GUESS_AHEAD = 2, JT_GUESSES_KEPT = JT_GUESS_AHEAD + 1 };

/* What guesses are made from: the router of a layer, and the norm before it. */
typedef struct jt_guess_layer {
    int layer; /* among all of the model */
    const jt_router *router;
    const jt_norm *norm;
} jt_guess_layer;

typedef struct jt_guess {
    int layer;       /* of those with experts; -1: none */
    int count;       /* the likeliest come first */
    int32_t *expert; /* [experts of a layer] that the cache lacks */
    uint8_t *rank;   /* [experts of a layer] of each among all that were guessed */
    float *said; /* [rows of a router] what the router said of one token, for its lens
                  */
    bool heard;  /* it is there */
} jt_guess;

/* Ranks that are told apart; what a pass of several tokens guesses has the last one. */
enum { JT_GUESS_RANKS = 33 };

typedef struct jt_guesses {
    jt_experts_map map;
    const jt_guess_layer *layers;                /* [map.n_layers], borrowed */
    bool used[JT_GUESSERS];                      /* may be followed */
    bool forced;                                 /* followed whether it pays or not */
    jt_guess last[JT_GUESSERS][JT_GUESSES_KEPT]; /* of layer l: l % JT_GUESSES_KEPT */
    jt_lens *lens[JT_GUESS_AHEAD]; /* [n_layers] of each, by ROUTER and by FAR */
    const jt_kernels *kernels;     /* of the last pass */
    double worth[JT_GUESSERS][JT_GUESS_RANKS]; /* how many of the last guesses came
                                                  true, 0 .. 1 */
    double least; /* the worth of guesses of the next layer that are followed; whoever
                     reads may change it */
    float *votes; /* [experts of a layer] */
    float *truth; /* [rows of a router] */
    uint32_t
        *paths;   /* of layer l: [experts of l, experts of l + 1], then layer l + 1 */
    size_t *path; /* [n_layers]: where they begin */
    int32_t *before; /* [tokens, k] experts of the layer before, in this pass */
    size_t before_room;
    int before_layer, before_tokens, before_k;
    uint64_t passes, made, right;
} jt_guesses;

/* `prefetch`: "auto", "router", "paths", "off" or NULL. JT_E_ARG, JT_E_MEMORY. */
jt_status jt_guesses_init(jt_guesses *out, const jt_experts_map *map,
                          const jt_guess_layer *layers, const char *prefetch,
                          jt_err *err);
/* Memory of what is learnt. */
size_t jt_guesses_bytes(const jt_guesses *g);
void jt_guesses_free(jt_guesses *g); /* {0} is fine */

/* The hidden states [tokens, d] that reach the experts of `layer`, and who steers the
 * routers. What the cache lacks is guessed, or has on a guess only. */
void jt_guesses_look(jt_guesses *g, jt_context *ctx, const jt_hooks *hooks,
                     const jt_route_site *site, int layer, const jt_tensor *h,
                     const jt_slots *slots);
/* A layer has routed: learn from it, judge what was guessed of it, guess the next. */
void jt_guesses_learn(jt_guesses *g, int layer, const jt_route *route,
                      const jt_slots *slots);

/* The best guess of layer `layer`; NULL: none. Of its experts, follow those that
 * jt_guesses_follow says. */
const jt_guess *jt_guesses_best(const jt_guesses *g, int layer);
bool jt_guesses_follow(const jt_guesses *g, const jt_guess *guess, int i);
/* "router", "paths", "off" */
const char *jt_guesses_name(const jt_guesses *g);

#endif
