/* Models larger than memory: experts stay in the file and are read when they are asked
 * for, into a cache of bounded size.
 *
 *     jt_model_load_apart(&model, "big.gguf", &err);      // weights but the experts
 *     jt_session_options o = {.store = {.ram = 4ull << 30}};
 *     jt_session_new(&session, model, &o, &err);          // or says what would be
 * enough
 *     ...
 *     jt_store_stats stats;
 *     jt_session_store_stats(session, &stats);
 *
 * Sessions beside it (jt_session_options.beside) have the same store, and may share
 * passes; a server (junto/serve.h) divides a budget among all its users.
 *
 * What comes out is the same to the bit, whatever the budget (but for nested experts
 * that earn bits: these follow from the tokens that passed while they were there).
 * docs/store.md. */
#ifndef JUNTO_STORE_H
#define JUNTO_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Zero means the default of each field. */
typedef struct jt_store_options {
    uint64_t ram; /* bytes that the process may use for weights, experts, context
                     and scratch together; 0: weights are mapped */
    int slots;    /* experts that the cache holds; default: what fits into ram */
    const char
        *policy;    /* who leaves the cache: jt_cache_policy_name; default "learned" */
    const char *io; /* "direct" reads past the page cache, "buffered" through it
                       (and keeps nothing there); default: the faster, measured */
    const char *engine;   /* "uring" or "pread"; default: the first that works here */
    const char *prefetch; /* reads ahead of need what the next layer may want, guessed
                             by its "router" or from the "paths" that tokens took;
                             "off"; default "auto": the better guess, while it pays */
    const char *bits;     /* of nested experts (jt_quantize_options.nested): "3", or
                             "2-4": they come with 2 and earn up to 4; default: all that
                             the file has. Of other files JT_E_UNSUPPORTED */
    bool no_checks;       /* of experts with a checksum (jt_convert_options.layout) do
                             not compare it */
    const double *uses;   /* of every expert, layer after layer, as in a trace
                             (jt_trace_uses): for the policy "pin"; used by
                             jt_session_new only */
    size_t n_uses;
} jt_store_options;

/* The i-th policy and what it does; NULL past the last. Not all of them can be used by
 * a session: those that know the future are for jt_simulate. */
JT_API const char *jt_cache_policy_name(size_t i);
JT_API const char *jt_cache_policy_help(size_t i);

/* How a budget is divided, in bytes. */
typedef struct jt_store_budget {
    uint64_t ram;
    uint64_t process; /* taken before the session began: weights, vocabulary, program */
    uint64_t context; /* keys, values, states */
    uint64_t scratch; /* of a pass */
    uint64_t reserve; /* what cannot be counted: stacks, page tables; and what the
                         cache learns */
    uint64_t slot;    /* of an expert in the cache */
    uint64_t expert;  /* of an expert in the file, on average; of a nested one with the
                         bits that it comes with */
    uint64_t least;   /* the smallest budget for these options */
    int slots;        /* that fit; 0: the budget is less than the least */
    int experts;      /* of the model */
} jt_store_budget;

/* Where the weights of an expert are. */
typedef enum jt_residency {
    JT_RESIDENCY_AWAY,   /* in the file only */
    JT_RESIDENCY_COMING, /* being read */
    JT_RESIDENCY_HERE
} jt_residency;

/* Passes of layers are counted by how many experts they lack: up to so many apart. */
enum { JT_LACKING_MOST = 16 };

/* What a store has done since its session began. */
typedef struct jt_store_stats {
    jt_store_budget budget;
    const char *policy, *engine, *prefetch; /* that are used */
    bool direct;
    double disk_speed;   /* bytes per second, measured at the start */
    uint64_t tokens;     /* that passed */
    uint64_t hits;       /* experts asked for that were there */
    uint64_t hits_ahead; /* that were there or on their way because of a guess */
    uint64_t misses;     /* that had to be read then */
    uint64_t lacking[JT_LACKING_MOST + 1]; /* passes of a layer that had to wait for so
                                              many (the last: or more); of those on
                                              their way two count as one */
    uint64_t read_bytes;
    double stall_seconds;            /* that computing waited for reading */
    uint64_t guesses, right_guesses; /* of experts that were not there */
    uint64_t ahead, ahead_used;      /* experts read on a guess, and those needed */
    int bits_low, bits_high; /* that nested experts come with and can earn; 0: the file
                                has no nested ones */
    double bits;             /* with which experts worked, mean over their tokens */
} jt_store_stats;

/* Bytes per second that the disk gives of large pieces spread over a file, `bytes` of
 * them in all, read as the options say (io, engine; direct where neither is given and
 * it is possible) and kept nowhere. JT_E_IO, JT_E_ARG, JT_E_UNSUPPORTED, JT_E_MEMORY.
 */
JT_API jt_status jt_measure_disk(double *speed, const char *path, uint64_t bytes,
                                 const jt_store_options *options, jt_err *err);

/* Bytes of memory that this process may use: the machine's, or the limit of its control
 * group if that is less; 0 where the system does not say. */
JT_API uint64_t jt_machine_memory(void);

#ifdef __cplusplus
}
#endif
#endif
