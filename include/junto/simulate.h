/* What a cache of experts would have done: traces played back, and speeds foretold.
 *
 *     jt_simulated r;
 *     jt_simulate_options o = {.policy = "lfru", .slots = 256};
 *     JT_TRY(jt_simulate(trace, &o, &r, err));       // r.misses of r.uses
 *
 * The policies are those of the live store, and so are the numbers: a run of single
 * tokens without prefetch misses as often as the playback of its trace. */
#ifndef JUNTO_SIMULATE_H
#define JUNTO_SIMULATE_H

#include <stdbool.h>
#include <stdint.h>

#include "junto/session.h"
#include "junto/status.h"
#include "junto/store.h"
#include "junto/trace.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct jt_simulate_options {
    const char *policy; /* jt_cache_policy_name; NULL: the usual one */
    int slots;          /* experts that the cache holds; at least 1 */
    int chunk;          /* tokens per pass, as of a prompt; 0: 1. Passes end where the
                           positions do not go on, and with the trace's blocks */
    bool filled; /* count from the first token that finds the cache full, if one does;
                    for passes of one token */
} jt_simulate_options;

typedef struct jt_simulated {
    uint64_t tokens;
    uint64_t uses, misses; /* of experts, once in a pass */
    uint64_t first;        /* misses that no cache can help: the first of an expert */
    uint64_t lacking[JT_LACKING_MOST + 1]; /* as in jt_store_stats */
} jt_simulated;

/* Play a trace back. JT_E_ARG (no such policy, no slots), JT_E_LIMIT, JT_E_MEMORY,
 * errors of jt_trace_read. */
JT_API jt_status jt_simulate(jt_trace *trace, const jt_simulate_options *options,
                             jt_simulated *out, jt_err *err);

/* How often each expert was used, layer after layer, in a fresh array: for the policy
 * "pin" of a session. The caller frees *uses. JT_E_MEMORY, errors of jt_trace_read. */
JT_API jt_status jt_trace_uses(jt_trace *trace, double **uses, size_t *n_uses,
                               jt_err *err);

/* ---- speeds ---- */

/* What a token takes: seconds of the processor, with all weights at hand, and what is
 * read. */
typedef struct jt_costs {
    double experts;    /* computing experts, which overlaps with reading others */
    double rest;       /* everything else, which overlaps with reading on guesses */
    double handling;   /* asking for experts and taking them in */
    double read_bytes; /* by the store */
    double disk_speed; /* bytes per second */
    double latency;    /* how much longer than that a read takes that finds the disk
                          idle; 0: not known */
    double measured;   /* seconds that it took in all */
    double layers;     /* that have experts */
    double lacking[JT_LACKING_MOST + 1]; /* of these, those that lack so many when their
                                            turn comes */
    double uses;                         /* of experts */
    double expert_bytes;                 /* of one */
} jt_costs;

/* Seconds per token as these costs foretell. A layer that lacks experts ends when the
 * last of them has been read and computed, or when all are computed, whichever is
 * later; and no disk reads faster than it can, or all the time. */
JT_API double jt_costs_seconds(const jt_costs *costs);
/* "disk" or "processor": what takes most of that. */
JT_API const char *jt_costs_limit(const jt_costs *costs);

/* Costs of the tokens that a session has seen; all zero before the first, and without a
 * store. */
JT_API void jt_session_costs(const jt_session *session, jt_costs *out);

typedef struct jt_forecast {
    jt_costs costs;
    double hit_rate; /* of experts asked for */
    double foreseen; /* share of the others that guesses have read in time */
    double seconds;  /* per token */
} jt_forecast;

/* Foretell how fast a fresh session of a model that was loaded apart will decode: its
 * processor is measured by decoding some tokens of no meaning, its disk by reading, and
 * what the cache will miss is played back from `trace`, of the same model; without one
 * (NULL) routing is taken for even, for which no cache is better than its share of the
 * experts. The session is left empty. JT_E_ARG (no store), JT_E_UNSUPPORTED (a trace of
 * another model), errors of jt_session_eval, jt_simulate and jt_measure_disk. */
JT_API jt_status jt_forecast_decoding(jt_forecast *out, jt_session *session,
                                      jt_trace *trace, jt_err *err);

#ifdef __cplusplus
}
#endif
#endif
