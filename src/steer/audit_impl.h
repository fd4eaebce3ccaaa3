/* The inside of an audit. */
#ifndef JT_STEER_AUDIT_IMPL_H
#define JT_STEER_AUDIT_IMPL_H

#include "base/random.h"
#include "junto/audit.h"

/* Windows of a text, and what the routers did in them. */
typedef struct jt_audit_side {
    const int32_t *tokens;
    size_t there, count; /* windows of the text; those that are looked at */
    double *rate, *mass; /* [count, experts] per token */
} jt_audit_side;

typedef struct jt_auditing {
    const jt_model *model;
    jt_audit_options how; /* without zeros that stand for defaults */
    jt_session *session;
    size_t n;       /* experts of all layers */
    size_t *offset; /* [layers] of a layer's first expert among them */
    bool *is_out;   /* [experts] */
    jt_audit_side side[2];
    double *rate, *mass; /* [experts] sums that the watcher adds to; NULL: none */
    size_t seen;         /* tokens that it saw, of one layer */
    size_t done, total;  /* windows that were run */
} jt_auditing;

/* Odd windows make the profile, even ones (the second, fourth, ..) the losses. */
static inline bool jt_audit_profiles(size_t window)
{
    return window % 2 == 0;
}

/* Run window `i` of a side; with `nll` add its loss. */
jt_status jt_audit_window(jt_auditing *a, const jt_audit_side *side, size_t i,
                          double *nll, size_t *scored, jt_err *err);

/* audit_profile.c: run all windows, without masks; experts, ranking and what follows
 * from them. out->experts [n] and out->layers are there. */
jt_status jt_audit_profile(jt_auditing *a, jt_audit *out, jt_err *err);
/* audit_curve.c: losses under masks. out->points [n_points] are there. */
jt_status jt_audit_curve(jt_auditing *a, jt_audit *out, jt_err *err);

#endif
