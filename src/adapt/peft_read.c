/* PEFT folders in: adapter_config.json and adapter_model.safetensors, as
 * peft.PeftModel.save_pretrained writes them (peft 0.5 to 0.21; its
 * src/peft/tuners/lora/layer.py and utils/save_and_load.py).
 *
 * A linear layer has lora_A [r, in] and lora_B [out, r]. A stack of experts, adapted as
 * a parameter (target_parameters), has lora_A [experts r, in], expert by expert, and
 * lora_B [out, r experts], whose columns have the expert last. Before 0.19.1 such A
 * and B had the parts of each other: [experts r, out] and [in, r experts]. Several
 * parameters of one module are told apart by ".base_layer" in the names and by their
 * shapes. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/blend_peft.h"
#include "adapt/files.h"
#include "adapt/made.h"
#include "adapt/peft_config.h"
#include "adapt/peft_front.h"
#include "adapt/peft_names.h"
#include "base/file.h"
#include "base/memory.h"
#include "format/gguf_file.h"
#include "model/model.h"

enum { MOST_CONFIG = 16 << 20 };

typedef struct reader {
    json_t *config;
    jt_safetensors *file;
    jt_peft_names names;
    const jt_model *model;
    jt_adapter *a;
    jt_err *err;
} reader;

/* The tensors of one module, and what it is called without what PEFT puts there. */
typedef struct module {
    char key[JT_PEFT_NAME];  /* prefix of its tensors in the file */
    char path[JT_PEFT_NAME]; /* "model.layers.0.self_attn.q_proj" */
    const jt_safetensor *a, *b;
    size_t rank, count; /* of experts stacked in it; 1: none */
    bool old;           /* A and B have the parts of each other */
    float alpha;
} module;

/* ---- names ---- */

/* Does `name` end with `tail`? Then the module's key and path are what comes before. */
static bool cut(jt_str name, const char *tail, module *m)
{
    static const char prefix[] = "base_model.model.", base[] = ".base_layer";
    size_t n = strlen(tail), len = name.len - n, skip = strlen(prefix);
    if (name.len <= n || len >= sizeof m->key ||
        memcmp(name.data + len, tail, n) != 0 || memchr(name.data, 0, name.len))
        return false;
    memcpy(m->key, name.data, len);
    m->key[len] = '\0';
    bool has = strncmp(m->key, prefix, skip) == 0;
    snprintf(m->path, sizeof m->path, "%s", m->key + (has ? skip : 0));
    for (char *at = strstr(m->path, base); at; at = strstr(m->path, base))
        memmove(at, at + strlen(base), strlen(at + strlen(base)) + 1);
    return true;
}

static const jt_safetensor *part_of(const reader *r, const module *m, const char *tail)
{
    char name[JT_PEFT_NAME + 64];
    snprintf(name, sizeof name, "%s%s", m->key, tail);
    return jt_safetensors_find(r->file, name);
}

static jt_status need(const reader *r, const module *m, const char *tail,
                      const jt_safetensor **out)
{
    *out = part_of(r, m, tail);
    return *out
               ? JT_OK
               : jt_fail(r->err, JT_E_FORMAT, "tensor '%s%s' is missing", m->key, tail);
}

/* ---- which weights a module changes ---- */

/* Width and height of the places together, as the parameter has them. */
static void size_of(const jt_peft_place *place, uint64_t *in, uint64_t *experts)
{
    const jt_gguf_tensor *t = place->tensor;
    *in = t->shape[t->n_dims - 1];
    *experts = t->n_dims == 3 && place->expert < 0 ? t->shape[0] : 1;
}

/* Could A and B be of this parameter? The map tells whether rows go together. */
static bool fits(reader *r, module *m, const jt_peft_place *place, bool old,
                 jt_status *status)
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
static jt_status find_places(reader *r, module *m, jt_peft_place place[JT_PEFT_PLACES],
                             int *count)
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

static jt_status fail_places(const reader *r, const module *m)
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
static jt_status slot_of(reader *r, const module *m, const jt_peft_place *p,
                         jt_adapter_slot **out)
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

typedef struct floats {
    float *a, *b, *m; /* as they lie in the file */
} floats;

/* Matrix `e` of the module into matrix `to` of the slot. */
static void fill(const module *m, const floats *x, size_t e, jt_adapter_slot *slot,
                 size_t to, const uint32_t *map)
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

static jt_status fill_places(reader *r, const module *m, const floats *x,
                             const jt_peft_place *place, int count)
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

static jt_status fetch(const reader *r, const jt_safetensor *from, float **out)
{
    *out = jt_alloc(jt_safetensor_values(from), sizeof **out);
    return *out ? jt_safetensor_floats(*out, from, r->err)
                : jt_fail_memory(r->err, "reading an adapter");
}

static jt_status fetch_all(const reader *r, const module *m, floats *x)
{
    JT_TRY(fetch(r, m->a, &x->a));
    JT_TRY(fetch(r, m->b, &x->b));
    if (!r->a->kind->magnitude)
        return JT_OK;
    const jt_safetensor *from = part_of(r, m, ".lora_magnitude_vector");
    if (!from)
        JT_TRY(need(r, m, ".lora_magnitude_vector.weight", &from));
    if (jt_safetensor_values(from) != m->b->shape[0])
        return jt_fail(r->err, JT_E_FORMAT,
                       "tensor '%.*s' has not a value for each row",
                       JT_GGUF_SHOW(from->name));
    return fetch(r, from, &x->m);
}

static jt_status check_matrices(const reader *r, const module *m)
{
    if (m->a->n_dims == 2 && m->b->n_dims == 2 && m->a->shape[0] == m->b->shape[1] &&
        m->a->shape[0] > 0)
        return JT_OK;
    return jt_fail(r->err, JT_E_FORMAT, "tensors of '%s' are no A and B of one rank",
                   m->key);
}

static jt_status read_module(reader *r, module *m)
{
    jt_peft_place place[JT_PEFT_PLACES];
    floats x = {0};
    double alpha, rank;
    int count;
    JT_TRY(need(r, m, ".lora_B.weight", &m->b));
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

/* The module's path becomes that of its weight; there is room (read_tensor). */
static void name_weight(module *m)
{
    size_t len = strlen(m->path);
    snprintf(m->path + len, sizeof m->path - len, ".weight");
}

/* lora_embedding_A [r, vocab] and B [d, r]: of the table, A is B turned. */
static jt_status read_embedding(reader *r, module *m)
{
    jt_peft_place place[JT_PEFT_PLACES];
    float *a = NULL, *b = NULL;
    double alpha;
    jt_adapter_slot *slot;
    JT_TRY(need(r, m, ".lora_embedding_B", &m->b));
    JT_TRY(check_matrices(r, m));
    m->rank = (size_t)m->a->shape[0];
    name_weight(m);
    if (jt_peft_find(&r->names, m->path, place) != 1 || r->a->kind->magnitude ||
        place[0].tensor->n_dims != 2 || place[0].tensor->shape[0] != m->a->shape[1] ||
        place[0].tensor->shape[1] != m->b->shape[0])
        return fail_places(r, m);
    JT_TRY(jt_peft_number(r->config, "lora_alpha", "alpha_pattern", m->path, &alpha,
                          r->err));
    m->alpha = (float)alpha;
    JT_TRY(slot_of(r, m, &place[0], &slot));
    jt_status status = fetch(r, m->a, &a);
    if (status == JT_OK)
        status = fetch(r, m->b, &b);
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

/* ---- sparse ---- */

static jt_status place_values(const reader *r, jt_adapter_slot *slot,
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

static jt_status read_sparse_values(reader *r, const module *m,
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

static jt_status read_sparse(reader *r, module *m)
{
    jt_peft_place place[JT_PEFT_PLACES];
    JT_TRY(need(r, m, ".shira_indices", &m->b));
    size_t n = jt_safetensor_values(m->a);
    if (m->a->n_dims != 1 || m->b->n_dims != 2 || m->b->shape[0] != 2 ||
        m->b->shape[1] != n)
        return jt_fail(r->err, JT_E_FORMAT,
                       "tensors of '%s' are no values and their places", m->key);
    name_weight(m);
    if (jt_peft_find(&r->names, m->path, place) != 1 || place[0].tensor->n_dims != 2)
        return jt_fail(r->err, JT_E_UNSUPPORTED, "the model has no one matrix for '%s'",
                       m->path);
    return read_sparse_values(r, m, &place[0]);
}

/* ---- skills ---- */

static jt_status check_skills(const reader *r, const module *m, const jt_safetensor *z,
                              const size_t shape[3], jt_adapter_options *o)
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

static jt_status read_skills(reader *r, module *m)
{
    jt_peft_place place[JT_PEFT_PLACES];
    const jt_safetensor *z;
    jt_adapter_options o;
    jt_adapter_slot *slot;
    size_t shape[3];
    floats x = {0};
    JT_TRY(need(r, m, ".poly_lora_B", &m->b));
    JT_TRY(need(r, m, ".poly_router.module_logits", &z));
    name_weight(m);
    if (jt_peft_find(&r->names, m->path, place) != 1 || place[0].tensor->n_dims != 2)
        return jt_fail(r->err, JT_E_UNSUPPORTED, "the model has no one matrix for '%s'",
                       m->path);
    jt_str target = {place[0].target, strlen(place[0].target)};
    JT_TRY(jt_adapter_target(r->model->file, target, shape, r->err));
    JT_TRY(check_skills(r, m, z, shape, &o));
    JT_TRY(jt_poly_add(r->a, &slot, target, shape, &o, r->err));
    jt_status status = fetch(r, m->a, &x.a);
    if (status == JT_OK)
        status = fetch(r, m->b, &x.b);
    if (status == JT_OK)
        status = fetch(r, z, &x.m);
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

/* ---- the whole ---- */

/* Tensors that come with a module, or are copies of what the model has. */
static bool is_companion(jt_str name)
{
    static const char *const tails[] = {
        ".lora_B.weight",         ".lora_embedding_B",
        ".lora_magnitude_vector", ".lora_magnitude_vector.weight",
        ".shira_indices",         ".poly_lora_B",
        ".base_layer.weight",     ".poly_router.module_logits"};
    module m;
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        if (cut(name, tails[i], &m))
            return true;
    }
    return false;
}

static jt_status read_tensor(reader *r, const jt_safetensor *t)
{
    module m = {.a = t};
    bool sparse = r->a->kind->sparse;
    if (r->a->kind->making && cut(t->name, ".poly_lora_A", &m) &&
        strlen(m.path) + 8 < sizeof m.path)
        return read_skills(r, &m);
    if (!sparse && cut(t->name, ".lora_A.weight", &m))
        return read_module(r, &m);
    if (!sparse && cut(t->name, ".lora_embedding_A", &m) &&
        strlen(m.path) + 8 < sizeof m.path)
        return read_embedding(r, &m);
    if (sparse && cut(t->name, ".shira_weight", &m) &&
        strlen(m.path) + 8 < sizeof m.path)
        return read_sparse(r, &m);
    if (is_companion(t->name))
        return JT_OK;
    return jt_fail(r->err, JT_E_UNSUPPORTED,
                   "tensor '%.*s' is not known in '%s' adapters", JT_GGUF_SHOW(t->name),
                   r->a->kind->name);
}

static jt_status read_all(reader *r, const char *path)
{
    const jt_adapter_kind *kind = NULL;
    JT_TRY(jt_peft_kind(r->config, &kind, r->err));
    JT_TRY(jt_adapter_new(&r->a, kind, path, r->err));
    JT_TRY(jt_adapter_set_model(r->a, r->model, r->err));
    if (kind->front)
        return jt_peft_read_front(r->a, r->config, r->file, &r->names, r->err);
    for (size_t i = 0; i < jt_safetensors_count(r->file); i++)
        JT_TRY(read_tensor(r, jt_safetensors_at(r->file, i)));
    return kind->making ? jt_poly_settle(r->a, r->err) : JT_OK;
}

/* Both files, on disk or in memory. */
typedef struct source {
    const char *folder; /* NULL: in memory */
    const char *config;
    size_t config_bytes;
    const void *data;
    size_t bytes;
} source;

static jt_status open_folder(reader *r, const char *folder)
{
    char path[PATH_MAX], *text;
    size_t bytes;
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    JT_TRY(jt_read_file(&text, &bytes, path, MOST_CONFIG, r->err));
    jt_status status = jt_peft_parse(&r->config, text, bytes, r->err);
    free(text);
    JT_TRY(status);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    return jt_safetensors_open(&r->file, path, r->err);
}

static jt_status open_source(reader *r, const source *s)
{
    if (s->folder)
        return open_folder(r, s->folder);
    JT_TRY(jt_peft_parse(&r->config, s->config, s->config_bytes, r->err));
    return jt_safetensors_open_memory(&r->file, s->data, s->bytes, r->err);
}

static jt_status read_source(jt_adapter **out, const source *s, const jt_model *model,
                             jt_err *err)
{
    reader r = {.model = model, .err = err};
    if (!model)
        return jt_fail(err, JT_E_ARG,
                       "to read a PEFT folder the model must be given, "
                       "too: names and shapes follow it");
    JT_TRY(jt_peft_names_open(&r.names, model, err));
    jt_status status = open_source(&r, s);
    if (status == JT_OK && s->folder && jt_peft_is_xlora(r.config))
        status = jt_blend_read_peft(&r.a, s->folder, r.config, r.file, model, err);
    else if (status == JT_OK)
        status = read_all(&r, s->folder ? s->folder : "(memory)");
    jt_peft_names_close(&r.names);
    jt_safetensors_close(r.file);
    json_decref(r.config);
    if (status != JT_OK) {
        jt_adapter_free(r.a);
        return status;
    }
    *out = r.a;
    return JT_OK;
}

jt_status jt_adapter_read_peft(jt_adapter **out, const char *folder,
                               const jt_model *model, jt_err *err)
{
    return read_source(out, &(source){.folder = folder}, model, err);
}

jt_status jt_adapter_read_peft_memory(jt_adapter **out, const char *config,
                                      size_t config_bytes, const void *data,
                                      size_t bytes, const jt_model *model, jt_err *err)
{
    return read_source(out, &(source){NULL, config, config_bytes, data, bytes}, model,
                       err);
}
