#include "adapt/adapter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/blend.h"
#include "adapt/made.h"
#include "base/hash.h"
#include "base/memory.h"
#include "format/gguf_file.h"
#include "model/model.h"

static const jt_adapter_kind *const kinds[] = {
    &jt_adapter_lora,  &jt_adapter_rslora,    &jt_adapter_dora,
    &jt_adapter_shira, &jt_adapter_mos,       &jt_adapter_poly,
    &jt_adapter_bits,  &jt_adapter_mora,      &jt_adapter_bottleneck,
    &jt_adapter_mixda, &jt_adapter_p_adapter, &jt_adapter_soft_prompt,
    &jt_adapter_prefix};

const jt_adapter_kind *jt_adapter_kind_find(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strlen(kinds[i]->name) == len && memcmp(kinds[i]->name, name, len) == 0)
            return kinds[i];
    }
    return NULL;
}

/* ---- life ---- */

jt_status jt_adapter_new(jt_adapter **out, const jt_adapter_kind *kind,
                         const char *path, jt_err *err)
{
    jt_adapter *a = jt_calloc(1, sizeof *a);
    if (a) {
        a->kind = kind;
        a->path = jt_strndup(path, strlen(path));
        a->family = jt_strndup("", 0);
    }
    if (!a || !a->path || !a->family) {
        jt_adapter_free(a);
        return jt_fail_memory(err, "making an adapter");
    }
    *out = a;
    return JT_OK;
}

static void free_slot(jt_adapter_slot *s)
{
    for (int i = 0; i < JT_ADAPTER_PARTS; i++)
        free(s->part[i].data);
    free(s->target);
    free(s->start);
    free(s->column);
}

void jt_adapter_free(jt_adapter *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->count; i++)
        free_slot(&a->slot[i]);
    for (size_t i = 0; i < a->n_places; i++)
        free(a->place[i].name);
    free(a->place);
    jt_blend_free(a->blend);
    jt_adapter_free_sources(a);
    free(a->slot);
    free(a->path);
    free(a->family);
    free(a);
}

static uint64_t tensor_bytes(const jt_tensor *t)
{
    size_t values = jt_has(t) ? jt_rows(t) * jt_cols(t) : 0;
    return values * (t->dtype == JT_I8 ? 1 : sizeof(float));
}

uint64_t jt_adapter_bytes(const jt_adapter *a)
{
    uint64_t bytes = sizeof *a;
    for (size_t i = 0; i < a->count; i++) {
        const jt_adapter_slot *s = &a->slot[i];
        for (int p = 0; p < JT_ADAPTER_PARTS; p++)
            bytes += tensor_bytes(&s->part[p]);
        if (s->start)
            bytes += (s->count * s->rows + 1) * sizeof *s->start;
        if (s->column)
            bytes += jt_cols(&s->part[0]) * sizeof *s->column;
    }
    for (size_t i = 0; i < a->n_sources; i++)
        bytes += tensor_bytes(&a->source[i].t);
    for (size_t i = 0; a->blend && i < jt_blend_parts(a->blend); i++)
        bytes += tensor_bytes(jt_blend_part_at(a->blend, i).tensor);
    return bytes;
}

/* ---- slots ---- */

jt_adapter_slot *jt_adapter_find(const jt_adapter *a, jt_str target)
{
    for (size_t i = 0; i < a->count; i++) {
        const char *name = a->slot[i].target;
        if (strlen(name) == target.len && memcmp(name, target.data, target.len) == 0)
            return &a->slot[i];
    }
    return NULL;
}

bool jt_adapter_make_part(jt_tensor *t, int n_dims, const size_t *shape)
{
    size_t values = 1;
    *t = (jt_tensor){.dtype = JT_F32, .n_dims = n_dims};
    for (int i = 0; i < n_dims; i++) {
        t->shape[i] = shape[i];
        if (!jt_mul(values, shape[i], &values))
            return false;
    }
    t->data = jt_alloc(values, sizeof(float));
    return t->data != NULL;
}

static bool make_parts(const jt_adapter_kind *kind, jt_adapter_slot *s, size_t values)
{
    size_t all;
    if (kind->sparse)
        return jt_mul(s->count, s->rows, &all) &&
               jt_adapter_make_part(&s->part[0], 1, &values) &&
               (s->start = jt_calloc(all + 1, sizeof *s->start)) != NULL &&
               (s->column = jt_calloc(values, sizeof *s->column)) != NULL;
    return jt_adapter_make_part(&s->part[JT_LOW_A], 3,
                                (size_t[]){s->count, s->rank, s->cols}) &&
           jt_adapter_make_part(&s->part[JT_LOW_B], 3,
                                (size_t[]){s->count, s->rows, s->rank}) &&
           (!kind->magnitude ||
            jt_adapter_make_part(&s->part[JT_LOW_M], 2, (size_t[]){s->count, s->rows}));
}

jt_status jt_adapter_add(jt_adapter *a, jt_adapter_slot **slot, jt_str target,
                         const size_t shape[3], size_t rank, float alpha, jt_err *err)
{
    const jt_adapter_kind *kind = a->kind;
    jt_adapter_slot s = {.count = shape[0],
                         .rows = shape[1],
                         .cols = shape[2],
                         .alpha = alpha,
                         .setting = a->setting};
    size_t most = kind->sparse ? shape[0] * shape[1] * shape[2] : JT_ADAPTER_MOST_RANK;
    if (rank < 1 || rank > most)
        return jt_fail(err, JT_E_FORMAT, "'%.*s' has %s %zu, expected 1 to %zu",
                       JT_GGUF_SHOW(target),
                       kind->sparse ? "a number of values" : "rank", rank, most);
    if (!isfinite(alpha) || alpha == 0.0f)
        return jt_fail(err, JT_E_FORMAT, "'%.*s': alpha %g makes no sense",
                       JT_GGUF_SHOW(target), (double)alpha);
    if (jt_adapter_find(a, target))
        return jt_fail(err, JT_E_FORMAT, "'%.*s' is changed twice",
                       JT_GGUF_SHOW(target));
    s.rank = kind->sparse ? 0 : rank;
    s.scale = kind->scale(alpha, rank);
    s.target = jt_strndup(target.data, target.len);
    jt_status status = JT_OK;
    if (s.target && kind->make_more)
        status = kind->make_more(&s, err);
    if (status != JT_OK) {
        free_slot(&s);
        return status;
    }
    if (!s.target || !make_parts(kind, &s, rank) ||
        !jt_grow((void **)&a->slot, &a->room, a->count + 1, sizeof s)) {
        free_slot(&s);
        return jt_fail_memory(err, "making an adapter");
    }
    a->slot[a->count] = s;
    *slot = &a->slot[a->count++];
    return JT_OK;
}

jt_status jt_adapter_check(const jt_adapter *a, const jt_adapter_slot *s, jt_err *err)
{
    for (int i = 0; i < JT_ADAPTER_PARTS && a->kind->part[i]; i++) {
        const float *x = s->part[i].data;
        size_t n = jt_rows(&s->part[i]) * jt_cols(&s->part[i]);
        for (size_t j = 0; j < n; j++) {
            if (!isfinite(x[j]))
                return jt_fail(err, JT_E_FORMAT,
                               "'%s.%s' has a value that is not finite", s->target,
                               a->kind->part[i]);
        }
    }
    return JT_OK;
}

/* ---- models ---- */

/* The sum of the hashes of all weights does not depend on their order. Whether an
 * output is there, or is the embedding, makes no other model. */
uint64_t jt_adapter_fingerprint(const jt_gguf *file)
{
    jt_str family = {"", 0};
    jt_gguf_get_str(file, "general.architecture", &family);
    uint64_t sum = jt_hash(JT_HASH_START, family.data, family.len);
    for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
        if (t->n_dims < 2 || t->name.len < 4 || memcmp(t->name.data, "blk.", 4) != 0)
            continue;
        uint64_t h = jt_hash(JT_HASH_START, t->name.data, t->name.len);
        sum += jt_hash(h, t->shape, (size_t)t->n_dims * sizeof *t->shape);
    }
    return sum;
}

jt_status jt_adapter_set_model(jt_adapter *a, const jt_model *model, jt_err *err)
{
    char *family = jt_strndup(model->family->arch, strlen(model->family->arch));
    if (!family)
        return jt_fail_memory(err, "making an adapter");
    free(a->family);
    a->family = family;
    a->fingerprint = jt_adapter_fingerprint(model->file);
    return JT_OK;
}

bool jt_adapter_has_factor(const jt_gguf *file, const char *target)
{
    static const char tail[] = ".weight";
    char name[160];
    size_t len = strlen(target), cut = sizeof tail - 1;
    if (len <= cut || len >= sizeof name || strcmp(target + len - cut, tail) != 0)
        return false;
    snprintf(name, sizeof name, "%.*s.scale", (int)(len - cut), target);
    return jt_gguf_find(file, name) != NULL;
}

static bool is(jt_str name, const char *word)
{
    return name.len == strlen(word) && memcmp(name.data, word, name.len) == 0;
}

static bool ends_with(jt_str name, const char *tail)
{
    size_t n = strlen(tail);
    return name.len > n && memcmp(name.data + name.len - n, tail, n) == 0;
}

/* Is it a weight of a product? Latent attention reads its own in parts. */
static bool can_change(jt_str name)
{
    static const char *const others[] = {"_norm.weight",    "conv1d.weight",
                                         "conv.weight",     "attn_kv_b.weight",
                                         "attn_k_b.weight", "attn_v_b.weight"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (ends_with(name, others[i]))
            return false;
    }
    return ends_with(name, ".weight");
}

jt_status jt_adapter_target(const jt_gguf *file, jt_str name, size_t shape[3],
                            jt_err *err)
{
    char text[128] = "";
    if (name.len < sizeof text)
        memcpy(text, name.data, name.len);
    const jt_gguf_tensor *t = jt_gguf_find(file, text);
    if (!t && is(name, "output.weight"))
        t = jt_gguf_find(file, "token_embd.weight");
    if (!t)
        return jt_fail(
            err, JT_E_UNSUPPORTED,
            "the model has no tensor '%.*s': is the adapter for another one?",
            JT_GGUF_SHOW(name));
    if (!can_change(name) || t->n_dims < 2 || t->n_dims > 3)
        return jt_fail(err, JT_E_UNSUPPORTED, "adapters of tensor '%.*s'",
                       JT_GGUF_SHOW(name));
    int first = t->n_dims - 2;
    shape[0] = first ? (size_t)t->shape[0] : 1;
    shape[1] = (size_t)t->shape[first];
    shape[2] = (size_t)t->shape[first + 1];
    return JT_OK;
}

static jt_status check_slot(const jt_adapter_slot *s, const jt_gguf *file, jt_err *err)
{
    size_t shape[3];
    JT_TRY(jt_adapter_target(file, (jt_str){s->target, strlen(s->target)}, shape, err));
    if (shape[0] == s->count && shape[1] == s->rows && shape[2] == s->cols)
        return JT_OK;
    return jt_fail(err, JT_E_FORMAT,
                   "'%s' is for a weight of [%zu, %zu, %zu], the model has "
                   "[%zu, %zu, %zu]",
                   s->target, s->count, s->rows, s->cols, shape[0], shape[1], shape[2]);
}

jt_status jt_adapter_fits(const jt_adapter *a, const jt_model *model, jt_err *err)
{
    if (*a->family && strcmp(a->family, model->family->arch) != 0)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "the adapter is for a model of family '%s', not '%s'", a->family,
                       model->family->arch);
    for (size_t i = 0; i < a->count; i++) {
        JT_TRY(check_slot(&a->slot[i], model->file, err));
        if (a->kind->magnitude && jt_adapter_has_factor(model->file, a->slot[i].target))
            return jt_fail(err, JT_E_UNSUPPORTED, "DoRA of '%s', which has a factor",
                           a->slot[i].target);
    }
    for (size_t i = 0; i < a->n_places; i++)
        JT_TRY(jt_adapter_place_fits(&a->place[i], model, err));
    if (a->kind->fits)
        JT_TRY(a->kind->fits(a, model, err));
    if (a->blend)
        JT_TRY(jt_blend_fits(a->blend, model->file, err));
    if (a->fingerprint && a->fingerprint != jt_adapter_fingerprint(model->file))
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "the adapter is for another model: %016llx, not %016llx",
                       (unsigned long long)a->fingerprint,
                       (unsigned long long)jt_adapter_fingerprint(model->file));
    return JT_OK;
}

/* ---- what is inside ---- */

static uint64_t params_of(const jt_adapter_slot *s)
{
    uint64_t n = 0;
    for (int i = 0; i < JT_ADAPTER_PARTS; i++)
        n += s->part[i].data ? jt_rows(&s->part[i]) * jt_cols(&s->part[i]) : 0;
    return n;
}

void jt_adapter_describe(const jt_adapter *a, jt_adapter_info *info)
{
    const jt_blend *b = a->blend;
    *info =
        (jt_adapter_info){.path = a->path,
                          .kind = a->kind->name,
                          .family = a->family,
                          .fingerprint = a->fingerprint,
                          .n_targets = a->count + a->n_places + (b ? b->n_banks : 0),
                          .n_tasks = jt_poly_tasks(a),
                          .method = b ? b->method->name : NULL,
                          .n_mixed = b ? b->n : 0,
                          .top_k = b ? b->k : 0,
                          .n_virtual = a->kind->front ? a->kind->front(a) : 0};
    for (size_t i = 0; i < a->n_sources; i++)
        info->n_params += a->source[i].trained && a->source[i].kept
                              ? jt_rows(&a->source[i].t) * jt_cols(&a->source[i].t)
                              : 0;
    bool shared = info->n_params > 0; /* what parts are made of */
    for (size_t i = 0; i < a->count && !shared; i++)
        info->n_params += params_of(&a->slot[i]);
    for (size_t i = 0; b && i < jt_blend_parts(b); i++) {
        const jt_tensor *t = jt_blend_part_at(b, i).tensor;
        info->n_params += jt_has(t) ? jt_rows(t) * jt_cols(t) : 0;
    }
}

/* Row by row; NAN without memory. */
static double change_norm(const jt_adapter *a, const jt_adapter_slot *s)
{
    double sum = 0.0;
    bool known = !a->kind->magnitude && !a->kind->by_token;
    float *row = known ? jt_alloc(s->cols, sizeof *row) : NULL;
    if (!row)
        return NAN;
    for (size_t r = 0; r < s->count * s->rows; r++) {
        memset(row, 0, s->cols * sizeof *row);
        a->kind->merge_row(s, s->scale, r, row);
        for (size_t c = 0; c < s->cols; c++)
            sum += (double)row[c] * (double)row[c];
    }
    free(row);
    return sqrt(sum);
}

jt_status jt_adapter_set_task(jt_adapter *a, size_t task, jt_err *err)
{
    size_t tasks = jt_poly_tasks(a);
    if (!tasks)
        return jt_fail(err, JT_E_ARG, "'%s': adapters of kind '%s' know no tasks",
                       a->path, a->kind->name);
    if (task >= tasks && task != JT_ADAPTER_NO_TASK)
        return jt_fail(err, JT_E_ARG, "'%s' has tasks 0 to %zu, not %zu", a->path,
                       tasks - 1, task);
    a->task = task;
    a->kind->making->make(a);
    return JT_OK;
}

static void describe_place(const jt_adapter *a, const jt_adapter_place *p,
                           jt_adapter_target_info *info)
{
    size_t len = strlen(p->name);
    *info = (jt_adapter_target_info){.name = p->name,
                                     .count = 1,
                                     .rows = p->cols,
                                     .cols = p->cols,
                                     .rank = p->rank,
                                     .alpha = p->alpha,
                                     .scale = p->scale,
                                     .norm = NAN};
    for (size_t i = 0; i < a->n_sources; i++) {
        const jt_adapter_source *s = &a->source[i];
        if (strncmp(s->name, p->name, len) == 0 && s->name[len] == '.')
            info->n_params += jt_rows(&s->t) * jt_cols(&s->t);
    }
}

void jt_adapter_target_at(const jt_adapter *a, size_t i, jt_adapter_target_info *info)
{
    if (i >= a->count && i - a->count < a->n_places) {
        describe_place(a, &a->place[i - a->count], info);
        return;
    }
    if (i >= a->count) {
        const jt_adapter_bank *bank = &a->blend->bank[i - a->count - a->n_places];
        *info = (jt_adapter_target_info){.name = bank->target,
                                         .count = 1,
                                         .rows = bank->rows,
                                         .cols = bank->cols,
                                         .rank = bank->rank,
                                         .alpha = a->blend->scale * (float)bank->rank,
                                         .scale = a->blend->scale,
                                         .n_params = a->blend->n * bank->rank *
                                                     (bank->rows + bank->cols),
                                         .norm = NAN};
        return;
    }
    const jt_adapter_slot *s = &a->slot[i];
    *info = (jt_adapter_target_info){.name = s->target,
                                     .count = s->count,
                                     .rows = s->rows,
                                     .cols = s->cols,
                                     .rank = s->rank,
                                     .alpha = s->alpha,
                                     .scale = s->scale,
                                     .n_params = params_of(s),
                                     .norm = change_norm(a, s)};
}
