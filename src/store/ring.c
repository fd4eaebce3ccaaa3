#include "store/ring.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

jt_status jt_ring_seconds(double *out, const jt_ring *ring, jt_err *err)
{
    if (!ring->sections)
        return jt_fail(err, JT_E_ARG, "a ring without sections");
    double *done = jt_calloc(ring->n_steps + 1, sizeof *done); /* [0]: the start */
    double link = 0.0, begin = 0.0;
    if (!done)
        return jt_fail_memory(err, "simulating a ring");
    for (size_t s = 0; s < ring->n_steps; s++) {
        double ready = 0.0;
        if (s < ring->n_layers || ring->sections < ring->n_layers) {
            double freed = s < ring->sections ? 0.0 : done[s + 1 - ring->sections];
            link = fmax(freed + ring->latency, link) + ring->transfer;
            ready = link;
        }
        done[s + 1] = fmax(done[s], ready) + ring->compute[s];
        if (s + 1 == ring->n_layers)
            begin = done[s + 1];
    }
    *out = done[ring->n_steps] - begin;
    free(done);
    return JT_OK;
}
