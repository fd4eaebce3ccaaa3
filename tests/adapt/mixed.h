/* Routed mixtures and the like on golden models, made as tuning makes them. */
#ifndef MIXED_H
#define MIXED_H

#include "adapted.h"
#include "learn/tuning.h"

enum { MIXED_DOCUMENT = 17, MIXED_PARTS = 3 };

/* How tuning shall make a mixture by a method. */
jt_config mixed_config(const char *method);
/* Values far from where a mixture begins, gates and heads so large that they decide. */
void mixed_shake(const jt_variables *v);
/* Two adapters of the rule, called by the first tokens of each document. */
void mixed_mark(jt_tuning *tuning, const golden *g);
/* A file with a mixture, or an adapter of a kind that is not one weight's, as tuning
 * begins it, shaken or fresh; and that file opened. */
void mixed_save(const char *path, const golden *g, const char *method, bool fresh);
void mixed_open(jt_adapter **out, const golden *g, const char *method, bool fresh);

#endif
