/* The adapters that a server offers for a model, by name. Each is loaded when a request
 * wants it, and stays until the memory for adapters is needed for others that were used
 * later. Whoever holds one keeps it, also when it is taken off the list meanwhile. */
#ifndef JT_WARDROBE_H
#define JT_WARDROBE_H

#include "junto/serve.h"
#include "serve/counters.h"
#include "serve/garment.h"
#include "serve/problem.h"

typedef struct jt_wardrobe jt_wardrobe;

/* An adapter that somebody holds. */
typedef struct jt_held {
    jt_garment *garment;
    const jt_attachment *made; /* ready for the model, */
    float scale;               /* to be worn at this scale */
    uint64_t serial;           /* of what was read from its file, and */
} jt_held;

typedef struct jt_wardrobe_options {
    const jt_model *model;
    const jt_adapter_offer *offers;
    size_t n_offers;
    bool lazy;                      /* offers are opened when a request names them */
    const char *folder;             /* whose files may be offered, too; or NULL */
    uint64_t bytes;                 /* of adapters in memory at most; 0: no bound */
    const char *cpu, *adapter_type; /* as in jt_session_options */
    jt_log log;
    jt_counters *metrics;
} jt_wardrobe_options;

/* Offers are opened once, so that a bad one is known at the start, unless the options
 * say otherwise: of several models, each may have adapters of its own. Names that come
 * twice are JT_E_ARG. Other errors: those of jt_session_add_adapter, JT_E_IO. What the
 * options point to must live as long. */
jt_status jt_wardrobe_new(jt_wardrobe **out, const jt_wardrobe_options *options,
                          jt_err *err);
void jt_wardrobe_free(jt_wardrobe *w); /* nobody holds anything; NULL is fine */

/* ---- for all threads ---- */

/* Is this on the list? */
bool jt_wardrobe_has(jt_wardrobe *w, const char *name);

/* Hold the adapter `name`, its scale times `weight`; to be dropped. False: the problem
 * is told (404 for a name that there is not). */
bool jt_wardrobe_take(jt_wardrobe *w, const char *name, float weight, jt_held *out,
                      jt_problem *problem);
void jt_wardrobe_drop(jt_wardrobe *w, jt_held *held);

/* Put a name on the list: one that was there before, or a file of the folder that has
 * it, with or without .safetensors or .gguf. It is loaded. */
bool jt_wardrobe_offer(jt_wardrobe *w, const char *name, jt_problem *problem);
/* Take a name off the list; requests that hold the adapter end with it. */
bool jt_wardrobe_remove(jt_wardrobe *w, const char *name, jt_problem *problem);

/* A list of {"name", "state", "scale", "kind", "bytes", "users"}; NULL: no memory. */
json_t *jt_wardrobe_json(jt_wardrobe *w);

#endif
