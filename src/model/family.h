/* Families as data: what a file of some architecture means where it does not say so
 * itself. A new open family is a row here and a golden test. */
#ifndef JT_FAMILY_H
#define JT_FAMILY_H

#include "moe/router.h"
#include "nn/attention.h"

typedef struct jt_family {
    const char *arch;     /* general.architecture */
    const char *upcycled; /* family of its sparse upcycling; NULL for none */
    bool rope_neox;       /* rotation pairs halves; otherwise neighbours */
    jt_qk_norm qk_norm;
    jt_gating gating; /* the router's form, unless the file has keys for it */
    bool gate_after;
    bool renormalise;
} jt_family;

/* NULL for an unknown architecture. */
const jt_family *jt_family_find(const char *arch, size_t len);

#endif
