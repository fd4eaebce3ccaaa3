/* A ring of memory sections (SE-MoE, "ring memory offload"), in simulation: layer after
 * layer is computed in section step mod K, and when it is done the section is given to
 * the layer K steps later, whose experts, all of them, are copied there meanwhile. */
#ifndef JT_STORE_RING_H
#define JT_STORE_RING_H

#include <stddef.h>

#include "junto/status.h"

typedef struct jt_ring {
    const double *compute; /* [steps] seconds of each layer of each pass */
    size_t n_layers, n_steps;
    size_t sections; /* K; with as many as layers nothing is copied after the first pass
                      */
    double latency;  /* of a copy: these pass beside each other */
    double transfer; /* of a copy: these pass one after the other */
} jt_ring;

/* Seconds of all steps but those of the first pass, with the waiting for copies.
 * JT_E_ARG (no sections), JT_E_MEMORY. */
jt_status jt_ring_seconds(double *out, const jt_ring *ring, jt_err *err);

#endif
