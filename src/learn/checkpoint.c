#include "learn/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

static const char train_prefix[] = "junto.train";
enum { NAME_BYTES = 128 };

static bool starts_with(jt_str text, const char *prefix)
{
    size_t len = strlen(prefix);
    return text.len >= len && memcmp(text.data, prefix, len) == 0;
}

/* Finish or give up, as `status` says. */
static jt_status close_writer(jt_gguf_writer *w, jt_status status, jt_err *err)
{
    if (status == JT_OK)
        return jt_gguf_writer_finish(w, err);
    jt_gguf_writer_abort(w);
    return status;
}

/* Copy all keys of `file` that begin with `prefix`, but those of the training. */
static jt_status copy_keys(jt_gguf_writer *w, const jt_gguf *file, const char *prefix,
                           jt_err *err)
{
    for (size_t i = 0; i < jt_gguf_kv_count(file); i++) {
        const jt_gguf_kv *kv = jt_gguf_kv_at(file, i);
        if (starts_with(kv->key, prefix) && !starts_with(kv->key, train_prefix))
            JT_TRY(jt_gguf_set_kv(w, NULL, kv, err));
    }
    return JT_OK;
}

/* ---- fresh ---- */

static jt_status write_blueprint(jt_gguf_writer *w, const jt_blueprint *b,
                                 uint64_t seed, jt_err *err)
{
    size_t most = 0;
    for (size_t i = 0; i < b->n_tensors; i++) {
        const jt_blueprint_tensor *t = &b->tensor[i];
        uint64_t shape[3] = {t->shape[0], t->shape[1], t->shape[2]};
        size_t values = jt_blueprint_values(t);
        most = values > most ? values : most;
        JT_TRY(jt_gguf_add_tensor(w, t->name, JT_F32, t->n_dims, shape, err));
    }
    float *values = jt_alloc(most, sizeof *values);
    if (!values)
        return jt_fail_memory(err, "making a model");
    jt_status status = JT_OK;
    for (size_t i = 0; i < b->n_tensors && status == JT_OK; i++) {
        size_t n = jt_blueprint_values(&b->tensor[i]);
        jt_blueprint_fill(b, i, seed, values);
        status = jt_gguf_write(w, values, n * sizeof *values, err);
    }
    free(values);
    return status;
}

static jt_status create(jt_gguf_writer *w, const jt_blueprint *blueprint,
                        const jt_gguf *tokenizer, uint64_t seed, jt_err *err)
{
    JT_TRY(jt_blueprint_keys(blueprint, w, err));
    if (tokenizer)
        JT_TRY(copy_keys(w, tokenizer, "tokenizer.", err));
    return write_blueprint(w, blueprint, seed, err);
}

jt_status jt_checkpoint_create(const char *path, const jt_blueprint *blueprint,
                               const jt_gguf *tokenizer, uint64_t seed, jt_err *err)
{
    jt_gguf_writer *w;
    JT_TRY(jt_gguf_writer_new(&w, path, err));
    return close_writer(w, create(w, blueprint, tokenizer, seed, err), err);
}

/* ---- from a model ---- */

typedef struct import {
    jt_gguf_writer *w;
    const jt_model *model;
    int n_null, n_used;
    jt_err *err;
} import;

static bool ends_with(jt_str name, const char *suffix)
{
    size_t len = strlen(suffix);
    return name.len >= len && memcmp(name.data + name.len - len, suffix, len) == 0;
}

/* Router tensors, which get rows for null experts. */
static bool of_router(jt_str name)
{
    return ends_with(name, ".ffn_gate_inp.weight") ||
           ends_with(name, ".ffn_gate_inp.bias") ||
           ends_with(name, ".exp_probs_b.bias");
}

/* Rows that a tensor gains. */
static size_t new_rows(const import *im, const jt_gguf_tensor *t)
{
    return im->n_null && of_router(t->name) ? (size_t)im->n_null : 0;
}

static jt_status import_keys(import *im)
{
    char key[NAME_BYTES];
    JT_TRY(copy_keys(im->w, jt_model_file(im->model), "", im->err));
    if (!im->n_null)
        return JT_OK;
    JT_TRY(jt_gguf_set_u32(im->w, "junto.router.null_experts", (uint32_t)im->n_null,
                           im->err));
    if (!im->n_used)
        return JT_OK;
    snprintf(key, sizeof key, "%s.expert_used_count", im->model->family->arch);
    return jt_gguf_set_u32(im->w, key, (uint32_t)im->n_used, im->err);
}

static jt_status import_describe(import *im)
{
    const jt_gguf *file = jt_model_file(im->model);
    for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
        char name[NAME_BYTES];
        uint64_t shape[JT_MAX_DIMS];
        if (starts_with(t->name, train_prefix))
            continue;
        memcpy(shape, t->shape, sizeof shape);
        shape[0] += new_rows(im, t);
        snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
        JT_TRY(jt_gguf_add_tensor(im->w, name, JT_F32, t->n_dims, shape, im->err));
    }
    return JT_OK;
}

/* Values of `t` in rows of `row`: its own, or single ones of a vector. */
static const void *row_at(const jt_gguf_tensor *t, size_t r, size_t row)
{
    if (t->n_dims > 1)
        return jt_gguf_row(t, r);
    return (const char *)t->data + r * jt_dtype_row_bytes(t->dtype, row);
}

static jt_status import_rows(import *im, const jt_gguf_tensor *t, size_t first,
                             size_t count, size_t row, float *room)
{
    for (size_t r = first; r < first + count; r++) {
        jt_dequantize(t->dtype, room, row_at(t, r, row), row);
        JT_TRY(jt_gguf_write(im->w, room, row * sizeof *room, im->err));
    }
    return JT_OK;
}

/* Vectors of routers are columns here: their rows are single values. */
static jt_status import_tensor(import *im, const jt_gguf_tensor *t)
{
    size_t row = (size_t)t->shape[t->n_dims - 1], rows = 1, more = new_rows(im, t);
    if (more && t->n_dims == 1)
        row = 1;
    for (int i = 0; i < t->n_dims; i++)
        rows *= (size_t)t->shape[i];
    rows /= row ? row : 1;
    float *room = jt_alloc(row, sizeof *room);
    if (!room)
        return jt_fail_memory(im->err, "copying a model");
    jt_status status = import_rows(im, t, 0, rows, row, room);
    for (size_t i = 0; i < more && status == JT_OK; i++)
        status = import_rows(im, t, i % rows, 1, row, room);
    free(room);
    return status;
}

static jt_status import_all(import *im)
{
    const jt_gguf *file = jt_model_file(im->model);
    JT_TRY(import_keys(im));
    JT_TRY(import_describe(im));
    for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
        if (!starts_with(t->name, train_prefix))
            JT_TRY(import_tensor(im, t));
    }
    return JT_OK;
}

jt_status jt_checkpoint_import(const char *path, const jt_model *model, int n_null,
                               int n_used, jt_err *err)
{
import im = {.model = model, .n_null = n_null, .n_used = n_used, .err = err };
    JT_TRY(jt_gguf_writer_new(&im.w, path, err));
    return close_writer(im.w, import_all(&im), err);
}

/* ---- saving ---- */

/* A tensor's shape is that of the file: memory has vectors as one-row matrices here and
 * there. */
static jt_status describe(jt_gguf_writer *w, const jt_model *model, const char *name,
                          jt_dtype dtype, jt_err *err)
{
    const jt_gguf_tensor *t = jt_gguf_find(jt_model_file(model), name);
    return jt_gguf_add_tensor(w, name, dtype, t->n_dims, t->shape, err);
}

/* Tensors of the file that are no parameters (tables of rope factors) stay as they are:
 * the i-th tensor if it is one of them, or NULL. */
static const jt_gguf_tensor *extra_at(const jt_model *model, const jt_variables *v,
                                      size_t i)
{
    const jt_gguf_tensor *t = jt_gguf_tensor_at(jt_model_file(model), i);
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
    return starts_with(t->name, train_prefix) || jt_variables_find(v, name) ? NULL : t;
}

static jt_status describe_extras(jt_gguf_writer *w, const jt_model *model,
                                 const jt_variables *v, jt_err *err)
{
    for (size_t i = 0; i < jt_gguf_tensor_count(jt_model_file(model)); i++) {
        const jt_gguf_tensor *t = extra_at(model, v, i);
        char name[NAME_BYTES];
        if (!t)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
        JT_TRY(jt_gguf_add_tensor(w, name, t->dtype, t->n_dims, t->shape, err));
    }
    return JT_OK;
}

static jt_status write_extras(jt_gguf_writer *w, const jt_model *model,
                              const jt_variables *v, jt_err *err)
{
    for (size_t i = 0; i < jt_gguf_tensor_count(jt_model_file(model)); i++) {
        const jt_gguf_tensor *t = extra_at(model, v, i);
        if (t)
            JT_TRY(jt_gguf_write_tensor(w, t, err));
    }
    return JT_OK;
}

static void state_name(char name[NAME_BYTES], const jt_optim_state *state)
{
    snprintf(name, NAME_BYTES, "%s/%s", train_prefix, state->name);
}

static jt_status set_made(jt_gguf_writer *w, const jt_progress_made *made, jt_err *err)
{
    JT_TRY(jt_gguf_set_u64(w, "junto.train.step", (uint64_t)made->step, err));
    return jt_gguf_set_u64(w, "junto.train.tokens", made->tokens, err);
}

static jt_status describe_states(jt_gguf_writer *w, jt_optim *optim, jt_err *err)
{
    char name[NAME_BYTES];
    jt_optim_state state;
    for (size_t i = 0; jt_optim_state_at(optim, i, &state); i++) {
        state_name(name, &state);
        JT_TRY(jt_gguf_add_tensor(w, name, JT_F32, 1, &(uint64_t){state.n}, err));
    }
    return JT_OK;
}

static jt_status write_states(jt_gguf_writer *w, jt_optim *optim, jt_err *err)
{
    jt_optim_state state;
    for (size_t i = 0; jt_optim_state_at(optim, i, &state); i++)
        JT_TRY(jt_gguf_write(w, state.data, state.n * sizeof *state.data, err));
    return JT_OK;
}

static size_t values_of(const jt_param *p)
{
    return p->count * p->rows * p->cols;
}

static jt_status write_variables(jt_gguf_writer *w, const jt_variables *v, jt_err *err)
{
    for (size_t i = 0; i < v->count; i++)
        JT_TRY(jt_gguf_write(w, v->list[i].value,
                             values_of(&v->list[i]) * sizeof(float), err));
    return JT_OK;
}

static jt_status save(jt_gguf_writer *w, const jt_model *model, const jt_variables *v,
                      jt_optim *optim, const jt_progress_made *made, jt_err *err)
{
    JT_TRY(copy_keys(w, jt_model_file(model), "", err));
    JT_TRY(set_made(w, made, err));
    for (size_t i = 0; i < v->count; i++)
        JT_TRY(describe(w, model, v->list[i].name, JT_F32, err));
    JT_TRY(describe_extras(w, model, v, err));
    JT_TRY(describe_states(w, optim, err));
    JT_TRY(write_variables(w, v, err));
    JT_TRY(write_extras(w, model, v, err));
    return write_states(w, optim, err);
}

static jt_status save_variables(jt_gguf_writer *w, const jt_variables *v,
                                jt_optim *optim, const jt_progress_made *made,
                                jt_err *err)
{
    JT_TRY(set_made(w, made, err));
    for (size_t i = 0; i < v->count; i++)
        JT_TRY(jt_gguf_add_tensor(w, v->list[i].name, JT_F32, 1,
                                  &(uint64_t){values_of(&v->list[i])}, err));
    JT_TRY(describe_states(w, optim, err));
    JT_TRY(write_variables(w, v, err));
    return write_states(w, optim, err);
}

jt_status jt_checkpoint_save_variables(const char *path, const jt_variables *variables,
                                       jt_optim *optim, const jt_progress_made *made,
                                       jt_err *err)
{
    jt_gguf_writer *w;
    JT_TRY(jt_gguf_writer_new(&w, path, err));
    return close_writer(w, save_variables(w, variables, optim, made, err), err);
}

jt_status jt_checkpoint_save(const char *path, const jt_model *model,
                             const jt_variables *variables, jt_optim *optim,
                             const jt_progress_made *made, jt_err *err)
{
    jt_gguf_writer *w;
    JT_TRY(jt_gguf_writer_new(&w, path, err));
    return close_writer(w, save(w, model, variables, optim, made, err), err);
}

/* ---- going on ---- */

jt_progress_made jt_checkpoint_made(const jt_gguf *file)
{
    int64_t step = 0, tokens = 0;
    jt_gguf_get_i64(file, "junto.train.step", &step);
    jt_gguf_get_i64(file, "junto.train.tokens", &tokens);
    return (jt_progress_made){step > 0 ? step : 0, tokens > 0 ? (uint64_t)tokens : 0};
}

/* An array of floats of the file, at once given back to the system. */
static bool read_array(const jt_gguf *file, const char *name, float *to, size_t n)
{
    const jt_gguf_tensor *t = jt_gguf_find(file, name);
    if (!t || t->dtype != JT_F32 || t->bytes != n * sizeof *to)
        return false;
    memcpy(to, t->data, t->bytes);
    jt_map_forget(t->data, t->bytes);
    return true;
}

jt_status jt_checkpoint_read_variables(const jt_gguf *file, jt_variables *v,
                                       jt_err *err)
{
    for (size_t i = 0; i < v->count; i++) {
        const jt_param *p = &v->list[i];
        if (!read_array(file, p->name, p->value, values_of(p)))
            return jt_fail(err, JT_E_FORMAT,
                           "'%s' has no '%s' of this size (was the training begun with "
                           "other settings?)",
                           jt_gguf_path(file), p->name);
    }
    return JT_OK;
}

jt_status jt_checkpoint_restore(const jt_gguf *file, jt_optim *optim, jt_err *err)
{
    jt_optim_state state;
    int64_t step = jt_checkpoint_made(file).step;
    for (size_t i = 0; step > 0 && jt_optim_state_at(optim, i, &state); i++) {
        char name[NAME_BYTES];
        state_name(name, &state);
        if (!read_array(file, name, state.data, state.n))
            return jt_fail(err, JT_E_FORMAT,
                           "'%s' has no state '%s' of %zu values (was it trained with "
                           "another optimiser?)",
                           jt_gguf_path(file), name, state.n);
    }
    jt_optim_set_steps(optim, step);
    return JT_OK;
}

/* ---- the model alone ---- */

/* Matrices with whole blocks in their rows, except routers, whose choices are sharp. */
static jt_dtype exported(const jt_param *p, jt_dtype dtype)
{
    bool fits = p->rows > 1 && p->cols % jt_dtype_block_values(dtype) == 0;
    return fits && !strstr(p->name, "ffn_gate_inp") ? dtype : JT_F32;
}

static jt_status export_tensor(jt_gguf_writer *w, const jt_param *p, jt_dtype dtype,
                               jt_err *err)
{
    size_t rows = p->count * p->rows, bytes = jt_dtype_row_bytes(dtype, p->cols);
    char *row = jt_alloc(bytes, 1);
    if (!row)
        return jt_fail_memory(err, "writing a model");
    jt_status status = JT_OK;
    for (size_t r = 0; r < rows && status == JT_OK; r++) {
        jt_quantize(dtype, row, p->value + r * p->cols, p->cols);
        status = jt_gguf_write(w, row, bytes, err);
    }
    free(row);
    return status;
}

static jt_status export_all(jt_gguf_writer *w, const jt_model *model,
                            const jt_variables *v, jt_dtype dtype, jt_err *err)
{
    JT_TRY(copy_keys(w, jt_model_file(model), "", err));
    for (size_t i = 0; i < v->count; i++)
        JT_TRY(describe(w, model, v->list[i].name, exported(&v->list[i], dtype), err));
    JT_TRY(describe_extras(w, model, v, err));
    for (size_t i = 0; i < v->count; i++)
        JT_TRY(export_tensor(w, &v->list[i], exported(&v->list[i], dtype), err));
    return write_extras(w, model, v, err);
}

jt_status jt_checkpoint_export(const char *path, const jt_model *model,
                               const jt_variables *variables, jt_dtype dtype,
                               jt_err *err)
{
    jt_gguf_writer *w;
    JT_TRY(jt_gguf_writer_new(&w, path, err));
    return close_writer(w, export_all(w, model, variables, dtype, err), err);
}
