/* Congestion: how strongly a router spreads its load, as one number.
 *
 * The M experts of a layer are read as the routes of a congestion game ("Three phases
 * of expert routing"). Expert i has quality q_i for the tokens at large and load m_i,
 * its share of all picks; using it costs gamma m_i. Loads are at rest (a logit
 * equilibrium) when
 *
 *     log m_i + gamma m_i = q_i - lambda,    sum_i m_i = 1.
 *
 * gamma_eff is the gamma whose equilibrium comes nearest to the loads seen: 0 when
 * tokens go where they like best, more the harder something (a balance loss) pushes
 * them apart. Near an even load gamma acts as a temperature 1 + gamma / M on q. Picking
 * the best expert is sharper than a softmax: a router whose tokens are alike can have
 * loads that no gamma >= 0 reaches; the temperature, then below 1, says how far.
 *
 * Loads and qualities are gathered in two halves, of even and odd batches: gamma is
 * fitted to the first, its error is measured on the second. */
#ifndef JT_WATCH_CONGESTION_H
#define JT_WATCH_CONGESTION_H

#include "model/model.h"

/* ---- the game ---- */

/* Loads `m` [n] at rest for qualities `q` [n] (finite) and gamma >= 0. Unique. */
void jt_congestion_rest(double *m, const double *q, size_t n, double gamma);

/* softmax(q / temperature). */
void jt_congestion_softmax(double *m, const double *q, size_t n, double temperature);

/* Several types of tokens, `share` [types] of all each (summing to 1), with qualities
 * q [types, n] of their own, meet on the same experts, whose cost follows the load m
 * [n] of all together:
 *
 *     log m_ij + gamma m_i = q_ij - lambda_j,    m_i = sum_j share_j m_ij.
 *
 * Unique. A type without tokens may have any qualities. `room` holds 4 n values. */
typedef struct jt_congestion_types {
    const double *q, *share;
    size_t types, n;
} jt_congestion_types;
void jt_congestion_rest_types(double *m, const jt_congestion_types *t, double gamma,
                              double *room);

/* gamma in 0 .. 200, or temperature in 1/32 .. 32, whose loads have the least L1
 * distance to `seen` [n]. `room` holds n values. */
double jt_congestion_fit_gamma(const double *q, const double *seen, size_t n,
                               double *room);
double jt_congestion_fit_temperature(const double *q, const double *seen, size_t n,
                                     double *room);
/* The gamma of several types; `room` holds 5 n values. */
double jt_congestion_fit_gamma_types(const jt_congestion_types *t, const double *seen,
                                     double *room);

/* k-means of x [rows, n]: centres [types, n], at most `most`; their number, which is
 * smaller where fewer rows differ. `room` holds most (n + 1) values. */
size_t jt_congestion_centres(double *centre, size_t most, const double *x, size_t rows,
                             size_t n, double *room);
/* The centre that is nearest to x [n]. */
size_t jt_congestion_type(const double *centre, size_t types, const double *x,
                          size_t n);

/* sum_i |a_i - b_i| */
double jt_congestion_distance(const double *a, const double *b, size_t n);

typedef struct jt_congestion_fit {
    double gamma, temperature; /* fitted */
    /* L1 distance to the loads of the other half, from its qualities */
    double error, softmax_error, even_error;
    double free_imbalance; /* B_0: largest load over the mean, were gamma 0 */
    double imbalance;      /* as seen */
} jt_congestion_fit;

/* Fit to the loads seen[0] [n] that go with the qualities q[0], measure on the other
 * half, q[1] and seen[1]. `room` holds n values. */
void jt_congestion_fit_halves(jt_congestion_fit *out, const double *const q[2],
                              const double *const seen[2], size_t n, double *room);

/* ---- watching a model ---- */

/* What stands for the quality of an expert. (The mean log-probability is the mean logit
 * less a number that is the same for all experts, which the game does not see.) */
typedef enum jt_quality {
    JT_QUALITY_LOGIT,       /* mean logit */
    JT_QUALITY_PROBABILITY, /* log of the mean probability */
    JT_QUALITY_CHOSEN,      /* mean logit over the tokens that picked it; for one that
                               none did, over all tokens */
    JT_QUALITIES
} jt_quality;

typedef struct jt_congestion jt_congestion;

/* Null experts count as experts. The model is not needed later. JT_E_MEMORY. */
jt_status jt_congestion_new(jt_congestion **out, const jt_model *model, jt_err *err);
void jt_congestion_free(jt_congestion *congestion); /* NULL is fine */

/* Look at all passes that are run with `hooks`, but not at replays. JT_E_LIMIT. */
jt_status jt_congestion_attach(jt_congestion *congestion, jt_hooks *hooks, jt_err *err);

/* Forget what was seen, and the types of tokens. */
void jt_congestion_reset(jt_congestion *congestion);

/* Layers with experts, and the index of the i-th among all layers. */
size_t jt_congestion_layers(const jt_congestion *congestion);
int jt_congestion_layer(const jt_congestion *congestion, size_t i);

/* Fit the i-th. False (and *out is all 0) before it has seen at least two batches. */
bool jt_congestion_fit_layer(jt_congestion *congestion, size_t i, jt_quality quality,
                             jt_congestion_fit *out);
/* Means over the layers that can be fitted; false when none can. */
bool jt_congestion_fit_mean(jt_congestion *congestion, jt_quality quality,
                            jt_congestion_fit *out);

/* The game of JT_CONGESTION_TYPES types of tokens: k-means by what the router makes of
 * a token's hidden state, its probabilities (the paper clusters the hidden states),
 * with centres from the first pass. Means over layers of gamma and of the L1 distance
 * to the loads of the other half. The same false. */
enum { JT_CONGESTION_TYPES = 32 };
bool jt_congestion_fit_types(jt_congestion *congestion, jt_quality quality,
                             double *gamma, double *error);

#endif
