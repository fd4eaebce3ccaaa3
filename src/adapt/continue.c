/* Tuning that goes on from an adapter. */
#include <string.h>

#include "adapt/made.h"

static bool is_plain(const jt_adapter_kind *kind)
{
    return kind->low_rank && !kind->magnitude && !kind->by_token;
}

/* The A and B that the parts of `from` are, as LoRA. */
static jt_status flatten(jt_adapter **out, const jt_adapter *from, jt_err *err)
{
    jt_adapter *a;
    JT_TRY(jt_adapter_new(&a, &jt_adapter_lora, from->path, err));
    for (size_t i = 0; i < from->count; i++) {
        const jt_adapter_slot *s = &from->slot[i];
        const size_t shape[] = {s->count, s->rows, s->cols};
        jt_adapter_slot *to;
        jt_status status =
            jt_adapter_add(a, &to, (jt_str){s->target, strlen(s->target)}, shape,
                           s->rank, s->scale * (float)s->rank, err);
        if (status != JT_OK) {
            jt_adapter_free(a);
            return status;
        }
        for (int k = 0; k < 2; k++)
            memcpy(to->part[k].data, s->part[k].data,
                   jt_rows(&to->part[k]) * jt_cols(&to->part[k]) * sizeof(float));
    }
    *out = a;
    return JT_OK;
}

static jt_status go_on(jt_adapter **a, const jt_adapter_kind *kind,
                       const jt_adapter_options *o, jt_err *err)
{
    const jt_adapter_kind *from = (*a)->kind;
    if (kind == &jt_adapter_lora && is_plain(from) && from != kind) {
        jt_adapter *plain;
        JT_TRY(flatten(&plain, *a, err));
        jt_adapter_free(*a);
        *a = plain;
        return JT_OK;
    }
    if (kind != from || kind == &jt_adapter_bits)
        return jt_fail(err, JT_E_ARG,
                       "adapter.init: a '%s' adapter cannot go on from a '%s' one",
                       kind->name, from->name);
    if (kind == &jt_adapter_mora) {
        jt_mora_set(*a, o);
        return o->grow ? jt_mora_grow(*a, o->rank, o->seed, err) : JT_OK;
    }
    if (kind != &jt_adapter_poly)
        return JT_OK;
    if (o->only_routing)
        jt_poly_only_routing(*a);
    return jt_poly_for_tasks(*a, o->tasks, o->seed, err);
}

jt_status jt_adapter_continue(jt_adapter **out, const char *path,
                              const jt_adapter_kind *kind, const jt_model *model,
                              const jt_adapter_options *o, jt_err *err)
{
    jt_adapter *a;
    JT_TRY(jt_adapter_open(&a, path, model, err));
    jt_status status = go_on(&a, kind, o, err);
    if (status != JT_OK) {
        jt_adapter_free(a);
        return status;
    }
    *out = a;
    return JT_OK;
}
