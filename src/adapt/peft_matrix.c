/* Modules of PEFT folders that are for one matrix each: SHiRA and Poly. */
#include <stdlib.h>
#include <string.h>

#include "adapt/files.h"
#include "adapt/made.h"
#include "adapt/peft_read.h"
#include "base/memory.h"
#include "format/gguf_file.h"
#include "model/model.h"

/* ---- sparse ---- */

static jt_status place_values(const jt_peft_reader *r, jt_adapter_slot *slot,
                              const float *value, int32_t *index, const uint32_t *map)
{
    size_t n = jt_cols(&slot->part[0]);
    int32_t *back = jt_alloc(slot->rows, sizeof *back); /* of a row there: row here */
    if (!back)
        return jt_fail_memory(r->err, "reading an adapter");
    for (size_t row = 0; row < slot->rows; row++)
        back[map[row]] = (int32_t)row;
    for (size_t i = 0; i < n; i++) {
        if (index[i] >= 0 && (size_t)index[i] < slot->rows)
            index[i] = back[index[i]];
    }
    free(back);
    return jt_sparse_place(slot, value, index, index + n, r->err);
}

static jt_status read_sparse_values(jt_peft_reader *r, const jt_peft_module *m,
                                    const jt_peft_place *place)
{
    size_t n = jt_safetensor_values(m->a), shape[3];
    jt_str target = {place->target, strlen(place->target)};
    jt_adapter_slot *slot;
    jt_status status;
    JT_TRY(jt_adapter_target(r->model->file, target, shape, r->err));
    JT_TRY(jt_adapter_add(r->a, &slot, target, shape, n, 1.0f, r->err));
    const uint32_t *map = jt_peft_map(&r->names, place, shape[1], &status, r->err);
    JT_TRY(status);
    float *value = jt_alloc(n, sizeof *value);
    int32_t *index = jt_alloc(2 * n, sizeof *index);
    status = value && index ? jt_safetensor_floats(value, m->a, r->err)
                            : jt_fail_memory(r->err, "reading an adapter");
    if (status == JT_OK)
        status = jt_safetensor_ints(index, m->b, r->err);
    if (status == JT_OK)
        status = place_values(r, slot, value, index, map);
    free(value);
    free(index);
    return status;
}

jt_status jt_peft_read_sparse(jt_peft_reader *r, jt_peft_module *m)
{
    jt_peft_place place[JT_PEFT_PLACES];
    JT_TRY(jt_peft_need(r, m, ".shira_indices", &m->b));
    size_t n = jt_safetensor_values(m->a);
    if (m->a->n_dims != 1 || m->b->n_dims != 2 || m->b->shape[0] != 2 ||
        m->b->shape[1] != n)
        return jt_fail(r->err, JT_E_FORMAT,
                       "tensors of '%s' are no values and their places", m->key);
    JT_TRY(jt_peft_name_weight(r, m));
    if (jt_peft_find(&r->names, m->path, place) != 1 || place[0].tensor->n_dims != 2)
        return jt_fail(r->err, JT_E_UNSUPPORTED, "the model has no one matrix for '%s'",
                       m->path);
    return read_sparse_values(r, m, &place[0]);
}

/* ---- skills ---- */

static jt_status check_skills(const jt_peft_reader *r, const jt_peft_module *m,
                              const jt_safetensor *z, const size_t shape[3],
                              jt_adapter_options *o)
{
    const uint64_t *a = m->a->shape, *b = m->b->shape;
    bool fits = m->a->n_dims == 4 && m->b->n_dims == 4 && z->n_dims == 2 &&
                a[0] == b[0] && a[1] == b[1] && a[3] == b[2] &&
                z->shape[1] == a[0] * a[1] && a[0] * a[2] == shape[2] &&
                b[0] * b[3] == shape[1] && z->shape[0] && a[0] && a[1] && a[3];
    if (!fits)
        return jt_fail(r->err, JT_E_FORMAT,
                       "tensors of '%s' are no skills of a weight [%zu, %zu]", m->key,
                       shape[1], shape[2]);
    *o = (jt_adapter_options){.rank = (size_t)a[3],
                              .alpha = 1.0f,
                              .heads = (size_t)a[0],
                              .skills = (size_t)a[1],
                              .tasks = (size_t)z->shape[0]};
    return JT_OK;
}

jt_status jt_peft_read_skills(jt_peft_reader *r, jt_peft_module *m)
{
    jt_peft_place place[JT_PEFT_PLACES];
    const jt_safetensor *z;
    jt_adapter_options o;
    jt_adapter_slot *slot;
    size_t shape[3];
    jt_peft_floats x = {0};
    JT_TRY(jt_peft_need(r, m, ".poly_lora_B", &m->b));
    JT_TRY(jt_peft_need(r, m, ".poly_router.module_logits", &z));
    JT_TRY(jt_peft_name_weight(r, m));
    if (jt_peft_find(&r->names, m->path, place) != 1 || place[0].tensor->n_dims != 2)
        return jt_fail(r->err, JT_E_UNSUPPORTED, "the model has no one matrix for '%s'",
                       m->path);
    jt_str target = {place[0].target, strlen(place[0].target)};
    JT_TRY(jt_adapter_target(r->model->file, target, shape, r->err));
    JT_TRY(check_skills(r, m, z, shape, &o));
    JT_TRY(jt_poly_add(r->a, &slot, target, shape, &o, r->err));
    jt_status status = jt_peft_fetch(r, m->a, &x.a);
    if (status == JT_OK)
        status = jt_peft_fetch(r, m->b, &x.b);
    if (status == JT_OK)
        status = jt_peft_fetch(r, z, &x.m);
    const uint32_t *map =
        status == JT_OK ? jt_peft_map(&r->names, &place[0], shape[1], &status, r->err)
                        : NULL;
    if (map && status == JT_OK)
        jt_poly_from_peft(r->a, slot, x.a, x.b, x.m, map);
    free(x.a);
    free(x.b);
    free(x.m);
    return status;
}
