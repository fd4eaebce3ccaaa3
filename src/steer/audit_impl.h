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

/* What can be masked, in groups of which as many are masked in every way: the experts
 * of a layer, or the neurons of an expert. */
typedef struct jt_audit_units {
    size_t n, n_groups;
    const size_t *first;   /* [groups + 1] units of a group follow one another */
    const size_t *most;    /* [groups] that may be out */
    const size_t *ranking; /* [n] units, in the order in which they are masked */
    const size_t *related; /* [n] the same of a related model; or NULL */
    const double *use;     /* [n] */
    bool *is_out;          /* [n] */
} jt_audit_units;

/* An expert whose neurons are looked at. */
typedef struct jt_audit_target {
    int layer, expert;
    size_t first, width; /* of its neurons among all */
    double tokens[2];    /* of the two texts that it got */
} jt_audit_target;

typedef struct jt_audit_neurons {
    size_t n, n_targets;
    jt_audit_target *target; /* in the order of the model */
    double *mean[2], *m2[2]; /* [n] of the sizes: Welford's sums, by text */
    bool *is_out;            /* [n] */
    int side;                /* whose sums grow; -1: none */
} jt_audit_neurons;

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
    jt_audit_neurons neurons;
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
/* audit_curve.c: losses under masks of units, into points [out->n_points]. */
jt_status jt_audit_curve(jt_auditing *a, const jt_audit *out,
                         const jt_audit_units *units, jt_audit_point *points,
                         jt_err *err);
/* The curve of experts. */
jt_status jt_audit_experts(jt_auditing *a, jt_audit *out, jt_err *err);

/* audit_neurons.c: how many experts the options choose; then the neurons of the first
 * of the ranking, their profile and their curve. */
size_t jt_audit_count_targets(const jt_auditing *a);
jt_status jt_audit_look_inside(jt_auditing *a, jt_audit *out, jt_err *err);
void jt_audit_neurons_free(jt_audit_neurons *neurons); /* {0} is fine */

#endif
