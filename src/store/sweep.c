#include "store/sweep.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

jt_status jt_sweep_init(jt_sweep *out, const jt_experts_map *map, jt_err *err)
{
    size_t experts = (size_t)map->first[map->n_layers];
    bool *used = jt_alloc(experts, sizeof *used);
    if (!used)
        return jt_fail_memory(err, "starting a cache");
    memset(used, true, experts * sizeof *used);
    *out = (jt_sweep){.map = *map, .used = used, .layer = -1};
    return JT_OK;
}

void jt_sweep_free(jt_sweep *s)
{
    free(s->used);
    *s = (jt_sweep){0};
}

/* Where a layer runs again before its gradients, it asks twice: the way stays. */
void jt_sweep_note(jt_sweep *s, int layer, const jt_plan *plan)
{
    if (!s->used)
        return;
    s->down = layer == s->layer ? s->down : layer < s->layer;
    if (layer == 0 || layer == s->map.n_layers - 1) /* where it turns */
        s->down = layer > 0;
    s->layer = layer;
    bool *used = s->used + s->map.first[layer];
    for (int e = 0; e < plan->n_experts; e++)
        used[e] = plan->start[e] < plan->start[e + 1];
}

int jt_sweep_next(const jt_sweep *s)
{
    if (!s->used || s->layer < 0 || s->map.n_layers < 2)
        return -1;
    return s->down ? s->layer - 1 : s->layer + 1;
}
