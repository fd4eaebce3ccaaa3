/* Any bytes as a file of importance: refused with a message, or read into weights that
 * are finite and above 0. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "junto/gguf.h"
#include "walk.h"
#include "watch/importance.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_weights(const jt_seen *seen)
{
    size_t unseen, few, n = seen->n_matrices * seen->n_columns;
    if (!jt_importance_tell(seen, &unseen, &few))
        return;
    float *weights = malloc(n * sizeof *weights);
    WALK_CHECK(weights && unseen + few <= seen->n_matrices);
    jt_importance_weights(seen, weights);
    for (size_t i = 0; i < n; i++)
        WALK_CHECK(isfinite(weights[i]) && weights[i] >= 0);
    free(weights);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    jt_err err = {0};
    jt_gguf *file;
    jt_importance *m;
    if (jt_gguf_open_memory(&file, data, size, &err) != JT_OK)
        return 0;
    if (jt_importance_read(&m, file, &err) == JT_OK) {
        for (size_t i = 0; i < m->count; i++)
            check_weights(&m->seen[i]);
        jt_importance_free(m);
    } else {
        WALK_CHECK(err.msg[0]);
    }
    jt_gguf_close(file);
    return 0;
}
