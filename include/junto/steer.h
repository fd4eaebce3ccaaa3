/* A hand on the router: named policies that change, for one session, which experts work
 * and how much they count.
 *
 *     jt_steering *hand;
 *     JT_TRY(jt_steering_new(&hand, model, err));
 *     JT_TRY(jt_steering_add(hand, "mask:experts=3+7,layers=2-5", err));
 *     JT_TRY(jt_steering_add(hand, "topk:k=2", err));
 *     JT_TRY(jt_steering_attach(hand, session, err));
 *     ...                                  // the session evaluates and generates
 *     jt_session_free(session);
 *     jt_steering_free(hand);
 *
 * A policy is written NAME:KEY=VALUE,KEY=VALUE. Several act one after the other, in the
 * order in which they were added. docs/steer.md has their formulas. */
#ifndef JUNTO_STEER_H
#define JUNTO_STEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/model.h"
#include "junto/session.h"
#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the policies there are ---- */

typedef struct jt_policy_info {
    const char *name;    /* "mask" */
    const char *summary; /* one sentence without a full stop */
    const char *source; /* the paper or program it is from; NULL: nobody's in particular
                         */
    size_t n_keys;
} jt_policy_info;

typedef struct jt_policy_key {
    const char *name;    /* "experts" */
    const char *value;   /* what stands for its value: "IDS", or the words it may be,
                            "no|yes" */
    const char *initial; /* the value when it is not given; NULL: it must be given; "":
                            nothing */
    const char *help;
} jt_policy_key;

/* False past the last. */
JT_API bool jt_policy_describe(size_t policy, jt_policy_info *info);
JT_API bool jt_policy_describe_key(size_t policy, size_t key, jt_policy_key *out);

/* ---- the policies of a session ---- */

typedef struct jt_steering jt_steering;

/* An empty list for sessions on `model`, which must outlive it. JT_E_UNSUPPORTED (a
 * model without experts), JT_E_MEMORY. */
JT_API jt_status jt_steering_new(jt_steering **out, const jt_model *model, jt_err *err);

/* Read a policy and add it: it acts after those that are there. Errors: JT_E_ARG with
 * what is wrong (an unknown policy or key, a value out of its range, an expert or layer
 * that the model has not, experts that no token could have any more, more than 16
 * policies), JT_E_IO and JT_E_FORMAT of a file that the policy reads, JT_E_UNSUPPORTED
 * (not for this model), JT_E_MEMORY. */
JT_API jt_status jt_steering_add(jt_steering *steering, const char *text, jt_err *err);

/* Let the policies act on a session, for its whole life, which must end before theirs;
 * `steering` takes no policy afterwards and is not attached to a second session.
 * JT_E_ARG, JT_E_LIMIT (more policies than a session takes), JT_E_MEMORY. */
JT_API jt_status jt_steering_attach(jt_steering *steering, jt_session *session,
                                    jt_err *err);

JT_API void jt_steering_free(jt_steering *steering); /* NULL is fine */

/* ---- MoDES: which experts can be skipped ---- */

/* What a model, and a text, tell of how much each layer's experts matter, and
 * thresholds that skip given shares of them: found once, written to a file, which the
 * policy "modes" reads. */
typedef struct jt_modes jt_modes;

/* Thresholds for a target. */
typedef struct jt_modes_point {
    float power; /* of the importance of layers: 1 as in the paper, 0 for the gate
                    alone */
    double target,
        skipped;  /* shares of the chosen experts: wanted, and so on the text */
    double kl;    /* mean, to what the model says with all of them, in nats */
    float tau[2]; /* for usual tokens, and for those of the second class */
} jt_modes_point;

typedef struct jt_modes_options {
    const float *targets; /* [n_targets] shares above 0, below 1; rising */
    size_t n_targets;
    int window;            /* tokens that are run together; 0: 256 */
    int grid;              /* thresholds that are tried, per class; 0: 100 */
    const int32_t *second; /* [n_second] ids of the tokens of a second class, which gets
                              importances and a threshold of its own (in the paper:
                              images) */
    size_t n_second;
    jt_session_options session;
    jt_progress progress; /* passes over the text, as far as they are foreseen */
} jt_modes_options;

/* Find importances and thresholds with whole windows of `tokens`. Errors: JT_E_ARG (no
 * target, too few tokens, a share that no threshold skips), JT_E_UNSUPPORTED (no
 * experts), those of jt_session_eval. */
JT_API jt_status jt_modes_calibrate(jt_modes **out, const jt_model *model,
                                    const int32_t *tokens, size_t count,
                                    const jt_modes_options *options, jt_err *err);
JT_API void jt_modes_free(jt_modes *modes); /* NULL is fine */

/* docs/formats.md has the file. JT_E_IO. */
JT_API jt_status jt_modes_write(const jt_modes *modes, const char *path, jt_err *err);
/* JT_E_IO, JT_E_FORMAT, JT_E_MEMORY. */
JT_API jt_status jt_modes_open(jt_modes **out, const char *path, jt_err *err);
JT_API jt_status jt_modes_parse(jt_modes **out, const char *text, size_t bytes,
                                jt_err *err);

typedef struct jt_modes_info {
    int n_layers, n_classes;
    uint64_t model;          /* jt_model_fingerprint */
    uint64_t tokens;         /* it was found with */
    const float *importance; /* [classes, layers], of a class 1 in sum; 0 for layers
                                without experts */
    const jt_modes_point *points;
    size_t n_points;
} jt_modes_info;
JT_API void jt_modes_describe(const jt_modes *modes, jt_modes_info *info);

#ifdef __cplusplus
}
#endif
#endif
