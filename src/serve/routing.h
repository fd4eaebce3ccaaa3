/* What the routers of a model do now, for those who look on. The engine tells after
 * every pass; an onlooker asks when it likes. */
#ifndef JT_ROUTING_H
#define JT_ROUTING_H

#include "junto/watch.h"

typedef struct jt_routing jt_routing;

/* JT_E_MEMORY. */
jt_status jt_routing_new(jt_routing **out, const jt_model *model, jt_err *err);
void jt_routing_free(jt_routing *routing); /* NULL is fine */

/* ---- for the engine's thread ---- */

/* To add to every session. */
jt_watcher jt_routing_watcher(jt_routing *routing);

/* How things stand after a pass. */
typedef struct jt_routing_state {
    uint64_t passes, tokens; /* so far */
    size_t running, waiting; /* replies */
    bool has_store;          /* then, experts asked for that were there, and not: */
    uint64_t hits, misses;   /* so far */
} jt_routing_state;

/* A pass over `tokens` is done. Of `state`, passes and tokens are not looked at. */
void jt_routing_tell(jt_routing *routing, size_t tokens, const jt_routing_state *state);

/* ---- for all threads ---- */

typedef struct jt_routing_layer {
    int layer, n_experts;
    size_t first; /* place of its counts in a view */
} jt_routing_layer;
/* Layers with experts. */
const jt_routing_layer *jt_routing_layers(const jt_routing *routing, size_t *n);

/* What an onlooker saw: how often each expert worked so far. */
typedef struct jt_routing_view {
    jt_routing_state state;
    uint64_t *counts; /* [layers, experts], layer after layer */
} jt_routing_view;

/* A view of nothing; freed with free(counts). False: no memory. */
bool jt_routing_view_new(const jt_routing *routing, jt_routing_view *view);
void jt_routing_look(jt_routing *routing, jt_routing_view *view);
/* Wait, not longer than a moment, for more passes than `passes`. */
void jt_routing_wait(jt_routing *routing, uint64_t passes);

#endif
