/* Low-rank modules of PEFT folders. A linear layer has lora_A [r, in] and lora_B [out,
 * r]. A stack of experts, adapted as a parameter (target_parameters), has lora_A
 * [experts r, in], expert by expert, and lora_B [out, r experts], whose columns have
 * the expert last. Before 0.19.1 such A and B had the parts of each other: [experts r,
 * out] and [in, r experts]. Several parameters of one module are told apart by
 * ".base_layer" in the names and by their shapes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/files.h"
#include "adapt/peft_config.h"
#include "adapt/peft_read.h"
#include "base/memory.h"
#include "format/gguf_file.h"
#include "model/model.h"

/* ---- which weights a module changes ---- */

/* Width and height of the places together, as the parameter has them. */
static void size_of(const jt_peft_place *place, uint64_t *in, uint64_t *experts)
{
    const jt_gguf_tensor *t = place->tensor;
    *in = t->shape[t->n_dims - 1];
    *experts = t->n_dims == 3 && place->expert < 0 ? t->shape[0] : 1;
}

/* Could A and B be of this parameter? The map tells whether rows go together. */
static bool fits(jt_peft_reader *r, jt_peft_module *m, const jt_peft_place *place,
                 bool old, jt_status *status)
{
    uint64_t in, experts;
    size_of(place, &in, &experts);
    const jt_safetensor *wide = old ? m->b : m->a, *high = old ? m->a : m->b;
    uint64_t a_in = old ? wide->shape[0] : wide->shape[1];
    uint64_t out = old ? high->shape[1] : high->shape[0];
    if (a_in != in || m->a->shape[0] % experts != 0 || (old && experts == 1) ||
        !jt_peft_map(&r->names, place, out, status, r->err))
        return false;
    m->count = (size_t)experts;
    m->rank = (size_t)(m->a->shape[0] / experts);
    m->old = old;
    return true;
}

/* The weights that the module changes; none: JT_OK and a count of 0. Stacks have
 * parameters that are no ".weight". */
static jt_status find_places(jt_peft_reader *r, jt_peft_module *m,
                             jt_peft_place place[JT_PEFT_PLACES], int *count)
{
    static const char *const parameters[] = {".weight", "", ".gate_up_proj",
                                             ".down_proj"};
    for (size_t i = 0; i < 2 * sizeof parameters / sizeof *parameters; i++) {
        size_t which = i % (sizeof parameters / sizeof *parameters);
        char name[JT_PEFT_NAME + 16];
        jt_status status = JT_OK;
        snprintf(name, sizeof name, "%s%s", m->path, parameters[which]);
        *count = strlen(name) < JT_PEFT_NAME ? jt_peft_find(&r->names, name, place) : 0;
        bool old = *count && jt_peft_is_old(r->config, jt_peft_is_turned(&place[0]));
        bool found = *count && fits(r, m, &place[0], old == (i == which), &status);
        if (found && which > 1)
            snprintf(m->path, sizeof m->path, "%s", name); /* patterns name it so */
        if (found || status == JT_E_MEMORY)
            return status;
    }
    *count = 0;
    return JT_OK;
}

static jt_status fail_places(const jt_peft_reader *r, const jt_peft_module *m)
{
    return jt_fail(
        r->err, JT_E_UNSUPPORTED,
        "the model has no weights for '%s' with A of [%llu, %llu] and B of "
        "[%llu, %llu]",
        m->path, (unsigned long long)m->a->shape[0], (unsigned long long)m->a->shape[1],
        (unsigned long long)m->b->shape[0], (unsigned long long)m->b->shape[1]);
}

/* ---- low rank ---- */

/* The slot of a place; one that is filled expert by expert begins with zeros. */
static jt_status slot_of(jt_peft_reader *r, const jt_peft_module *m,
                         const jt_peft_place *p, jt_adapter_slot **out)
{
    jt_str target = {p->target, strlen(p->target)};
    size_t shape[3];
    jt_adapter_slot *slot = p->expert < 0 ? NULL : jt_adapter_find(r->a, target);
    if (slot && (slot->rank != m->rank || slot->alpha != m->alpha))
        return jt_fail(r->err, JT_E_UNSUPPORTED,
                       "experts with ranks of their own: '%s' has %zu, others %zu",
                       m->path, m->rank, slot->rank);
    if (!slot) {
        JT_TRY(jt_adapter_target(r->model->file, target, shape, r->err));
        JT_TRY(jt_adapter_add(r->a, &slot, target, shape, m->rank, m->alpha, r->err));
        for (int i = 0; i < JT_ADAPTER_PARTS && p->expert >= 0; i++) {
            jt_tensor *t = &slot->part[i];
            if (t->data)
                memset(t->data, 0, jt_rows(t) * jt_cols(t) * sizeof(float));
        }
    }
    if (p->expert >= 0 && (size_t)p->expert >= slot->count)
        return jt_fail(r->err, JT_E_FORMAT, "'%s' is for expert %d of %zu", m->path,
                       p->expert, slot->count);
    *out = slot;
    return JT_OK;
}

/* Matrix `e` of the module into matrix `to` of the slot. */
static void fill(const jt_peft_module *m, const jt_peft_floats *x, size_t e,
                 jt_adapter_slot *slot, size_t to, const uint32_t *map)
{
    size_t b_cols = (size_t)m->b->shape[1], a_cols = (size_t)m->a->shape[1];
    for (size_t k = 0; k < m->rank; k++) {
        size_t low = e * m->rank + k, column = k * m->count + e;
        float *a = jt_row(&slot->part[JT_LOW_A], to * slot->rank + k);
        for (size_t c = 0; c < slot->cols; c++)
            a[c] = m->old ? x->b[c * b_cols + column] : x->a[low * a_cols + c];
        for (size_t row = 0; row < slot->rows; row++)
            jt_row(&slot->part[JT_LOW_B], to * slot->rows + row)[k] =
                m->old ? x->a[low * a_cols + map[row]]
                       : x->b[map[row] * b_cols + column];
    }
    for (size_t row = 0; x->m && row < slot->rows; row++)
        jt_row(&slot->part[JT_LOW_M], to)[row] = x->m[map[row]];
}

static jt_status fill_places(jt_peft_reader *r, const jt_peft_module *m,
                             const jt_peft_floats *x, const jt_peft_place *place,
                             int count)
{
    uint64_t hf_rows = m->old ? m->a->shape[1] : m->b->shape[0];
    for (int i = 0; i < count; i++) {
        jt_status status;
        jt_adapter_slot *slot;
        JT_TRY(slot_of(r, m, &place[i], &slot));
        const uint32_t *map =
            jt_peft_map(&r->names, &place[i], hf_rows, &status, r->err);
        JT_TRY(status);
        for (size_t e = 0; e < m->count; e++)
            fill(m, x, e, slot, place[i].expert < 0 ? e : (size_t)place[i].expert, map);
    }
    return JT_OK;
}

static jt_status fetch_all(const jt_peft_reader *r, const jt_peft_module *m,
                           jt_peft_floats *x)
{
    JT_TRY(jt_peft_fetch(r, m->a, &x->a));
    JT_TRY(jt_peft_fetch(r, m->b, &x->b));
    if (!r->a->kind->magnitude)
        return JT_OK;
    const jt_safetensor *from = jt_peft_part(r, m, ".lora_magnitude_vector");
    if (!from)
        JT_TRY(jt_peft_need(r, m, ".lora_magnitude_vector.weight", &from));
    if (jt_safetensor_values(from) != m->b->shape[0])
        return jt_fail(r->err, JT_E_FORMAT,
                       "tensor '%.*s' has not a value for each row",
                       JT_GGUF_SHOW(from->name));
    return jt_peft_fetch(r, from, &x->m);
}

static jt_status check_matrices(const jt_peft_reader *r, const jt_peft_module *m)
{
    if (m->a->n_dims == 2 && m->b->n_dims == 2 && m->a->shape[0] == m->b->shape[1] &&
        m->a->shape[0] > 0)
        return JT_OK;
    return jt_fail(r->err, JT_E_FORMAT, "tensors of '%s' are no A and B of one rank",
                   m->key);
}

jt_status jt_peft_read_low_rank(jt_peft_reader *r, jt_peft_module *m)
{
    jt_peft_place place[JT_PEFT_PLACES];
    jt_peft_floats x = {0};
    double alpha, rank;
    int count;
    JT_TRY(jt_peft_need(r, m, ".lora_B.weight", &m->b));
    JT_TRY(check_matrices(r, m));
    JT_TRY(find_places(r, m, place, &count));
    if (!count)
        return fail_places(r, m);
    JT_TRY(jt_peft_number(r->config, "lora_alpha", "alpha_pattern", m->path, &alpha,
                          r->err));
    JT_TRY(jt_peft_number(r->config, "r", "rank_pattern", m->path, &rank, r->err));
    if (rank != (double)m->rank)
        return jt_fail(r->err, JT_E_FORMAT,
                       "'%s' has rank %zu, adapter_config.json says %g", m->key,
                       m->rank, rank);
    bool rooted = json_is_true(json_object_get(r->config, "use_rslora"));
    if (r->a->kind->magnitude && rooted) /* DoRA has no kind of its own for that */
        alpha *= sqrt(rank);
    m->alpha = (float)alpha;
    jt_status status = fetch_all(r, m, &x);
    if (status == JT_OK)
        status = fill_places(r, m, &x, place, count);
    free(x.a);
    free(x.b);
    free(x.m);
    return status;
}

/* lora_embedding_A [r, vocab] and B [d, r]: of the table, A is B turned. */
jt_status jt_peft_read_embedding(jt_peft_reader *r, jt_peft_module *m)
{
    jt_peft_place place[JT_PEFT_PLACES];
    float *a = NULL, *b = NULL;
    double alpha;
    jt_adapter_slot *slot;
    JT_TRY(jt_peft_need(r, m, ".lora_embedding_B", &m->b));
    JT_TRY(check_matrices(r, m));
    m->rank = (size_t)m->a->shape[0];
    JT_TRY(jt_peft_name_weight(r, m));
    if (jt_peft_find(&r->names, m->path, place) != 1 || r->a->kind->magnitude ||
        place[0].tensor->n_dims != 2 || place[0].tensor->shape[0] != m->a->shape[1] ||
        place[0].tensor->shape[1] != m->b->shape[0])
        return fail_places(r, m);
    JT_TRY(jt_peft_number(r->config, "lora_alpha", "alpha_pattern", m->path, &alpha,
                          r->err));
    m->alpha = (float)alpha;
    JT_TRY(slot_of(r, m, &place[0], &slot));
    jt_status status = jt_peft_fetch(r, m->a, &a);
    if (status == JT_OK)
        status = jt_peft_fetch(r, m->b, &b);
    for (size_t k = 0; status == JT_OK && k < m->rank; k++) {
        for (size_t row = 0; row < slot->rows; row++)
            jt_row(&slot->part[JT_LOW_B], row)[k] = a[k * slot->rows + row];
        for (size_t c = 0; c < slot->cols; c++)
            jt_row(&slot->part[JT_LOW_A], k)[c] = b[c * m->rank + k];
    }
    free(a);
    free(b);
    return status;
}
