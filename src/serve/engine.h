/* The one thread that runs the model: it gives slots to waiting replies, lets a policy
 * put passes together and advances every reply whose tokens have been run. What a reply
 * says does not depend on the others of its passes. */
#ifndef JT_ENGINE_H
#define JT_ENGINE_H

#include "serve/counters.h"
#include "serve/prefill.h"
#include "serve/routing.h"
#include "serve/seats.h"

typedef struct jt_engine jt_engine;

typedef struct jt_engine_options {
    const jt_model *model;
    const jt_session_options *session; /* of a slot */
    const jt_watcher *watcher;         /* of all slots; or NULL */
    const jt_prefill *prefill;
    size_t slots, queue; /* replies that run, and that may wait */
    size_t kept_bytes;   /* of contexts beside those of slots: as far as the memory
                            budget, if there is one, has room */
    uint64_t aside;      /* bytes of a budget that are for what is not the engine's */
    bool lodger;         /* as in jt_hosting */
    double reply_seconds;
    jt_counters *metrics; /* outlives the engine; so does: */
    jt_routing *routing;  /* told of every pass */
} jt_engine_options;

/* Errors: those of jt_session_new; JT_E_MEMORY when no thread can be had. */
jt_status jt_engine_new(jt_engine **out, const jt_engine_options *options, jt_err *err);
/* All work must be over: see jt_engine_stop. */
void jt_engine_free(jt_engine *engine);

int jt_engine_context(const jt_engine *engine); /* tokens that fit into a slot */

/* Hand all choices of `work` on; false, with the problem told, when the queue has no
 * room for them, or their client has too many already. */
bool jt_engine_submit(jt_engine *engine, jt_work *work, jt_problem *problem);
/* Nobody waits for `work` any more: end what it has begun, and return when that is
 * done. Fine after its end, too. */
void jt_engine_withdraw(jt_engine *engine, jt_work *work);

/* Cancel everything, and take nothing more. */
void jt_engine_stop(jt_engine *engine);

#endif
