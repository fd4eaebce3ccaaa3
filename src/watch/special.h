/* Specialisation: how much the choice of experts says about the domain of a token.
 *
 * Over all picks of a layer, I(expert; domain) / H(domain): 0 when every domain uses
 * the experts alike, 1 when each expert serves one domain only. A finite number of
 * picks gives more than 0 even by chance; the same with the domains shuffled among the
 * picks says how much. */
#ifndef JT_WATCH_SPECIAL_H
#define JT_WATCH_SPECIAL_H

#include "model/model.h"

typedef struct jt_special jt_special;

/* Domains are numbered 0 .. n_domains - 1. The model is not needed later. JT_E_ARG (no
 * domains), JT_E_MEMORY. */
jt_status jt_special_new(jt_special **out, const jt_model *model, int n_domains,
                         jt_err *err);
void jt_special_free(jt_special *special); /* NULL is fine */

/* A watcher; valid as long as `special`. */
jt_watcher jt_special_watcher(jt_special *special);

/* The domain of each token of the passes that follow (borrowed until the next call);
 * -1: the token does not count. NULL: none does. */
void jt_special_domains(jt_special *special, const int32_t *domain_of_token);

/* Forget what was seen. */
void jt_special_reset(jt_special *special);

typedef struct jt_special_report {
    double information; /* I / H; 0 while fewer than two domains were seen */
    double shuffled;    /* the same by chance, mean of several shuffles */
} jt_special_report;

/* Layers with experts, and the index of the i-th among all layers. */
size_t jt_special_layers(const jt_special *special);
int jt_special_layer(const jt_special *special, size_t i);

/* Of the i-th layer, and the mean over all of them. `seed` is that of the shuffles. */
jt_special_report jt_special_of_layer(jt_special *special, size_t i, uint64_t seed);
jt_special_report jt_special_mean(jt_special *special, uint64_t seed);

#endif
