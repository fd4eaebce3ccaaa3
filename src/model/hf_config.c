/* config.json: reading, paths in it, and the key rows in both directions. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "format/gguf_writer.h"
#include "model/family.h"
#include "model/hf.h"

enum { KEY_BYTES = 160, PATH_BYTES = 160, CONFIG_MOST = 16 << 20 };

/* ---- reading the file ---- */

/* Python writes what JSON does not have: Infinity becomes null, NaN 0. */
static void replace_words(char *text, size_t len)
{
    static const char *const words[] = {"-Infinity", "Infinity", "NaN"};
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '"')
            in_string = !in_string;
        else if (in_string && text[i] == '\\')
            i++;
        for (size_t w = 0; w < 3 && !in_string; w++) {
            size_t n = strlen(words[w]);
            if (len - i >= n && memcmp(text + i, words[w], n) == 0) {
                memset(text + i, ' ', n);
                memcpy(text + i, n == 3 ? "0  " : "null", n == 3 ? 3 : 4);
            }
        }
    }
}

static jt_status parse(json_t **out, char *text, size_t len, const char *path,
                       jt_err *err)
{
    json_error_t why;
    replace_words(text, len);
    *out = json_loadb(text, len, 0, &why);
    if (!*out)
        return jt_fail(err, JT_E_FORMAT, "'%s': line %d: %s", path, why.line, why.text);
    if (!json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        return jt_fail(err, JT_E_FORMAT, "'%s' holds no object", path);
    }
    return JT_OK;
}

jt_status jt_hf_read_json(json_t **out, const char *folder, const char *name,
                          jt_err *err)
{
    char path[4096], *text;
    size_t len;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    JT_TRY(jt_read_file(&text, &len, path, CONFIG_MOST, err));
    jt_status status = parse(out, text, len, path, err);
    free(text);
    return status;
}

/* Models with eyes and ears keep the language model in an object of its own. */
jt_status jt_hf_read_config(jt_hf_job *job, const char *folder)
{
    static const char *const inner[] = {"text_config", "llm_config", "language_config"};
    JT_TRY(jt_hf_read_json(&job->config, folder, "config.json", job->err));
    for (size_t i = 0; i < sizeof inner / sizeof *inner; i++) {
        json_t *text = json_object_get(job->config, inner[i]);
        if (json_is_object(text) && json_object_update(job->config, text) != 0)
            return jt_fail_memory(job->err, "reading config.json");
    }
    return JT_OK;
}

/* ---- paths ---- */

/* The next of "a|b|c" into `one`; false at the end. */
static bool next_path(const char **paths, char one[PATH_BYTES])
{
    size_t len = strcspn(*paths, "|");
    if (len == 0 || len >= PATH_BYTES)
        return false;
    memcpy(one, *paths, len);
    one[len] = '\0';
    *paths += len + ((*paths)[len] == '|');
    return true;
}

static json_t *walk(json_t *object, char *path)
{
    for (char *dot; (dot = strchr(path, '.')); path = dot + 1) {
        *dot = '\0';
        object = json_object_get(object, path);
    }
    return json_object_get(object, path);
}

json_t *jt_hf_config(const jt_hf_job *job, const char *path)
{
    char one[PATH_BYTES];
    while (next_path(&path, one)) {
        json_t *value = walk(job->config, one);
        if (value && !json_is_null(value))
            return value;
    }
    return NULL;
}

json_int_t jt_hf_whole(const jt_hf_job *job, const char *path, json_int_t otherwise)
{
    const json_t *value = jt_hf_config(job, path);
    return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

/* The object at `name` of `object`, made when it is not there. */
static json_t *inner_object(json_t *object, const char *name)
{
    json_t *found = json_object_get(object, name);
    if (found)
        return found;
    json_object_set_new(object, name, json_object());
    return json_object_get(object, name);
}

jt_status jt_hf_put(jt_hf_job *job, const char *path, json_t *value)
{
    char one[PATH_BYTES], *at = one;
    json_t *object = job->config;
    if (!next_path(&path, one)) {
        json_decref(value);
        return jt_fail(job->err, JT_E_ARG, "no place in config.json");
    }
    for (char *dot; (dot = strchr(at, '.')); at = dot + 1) {
        *dot = '\0';
        object = inner_object(object, at);
    }
    if (!value || json_object_set_new(object, at, value) != 0)
        return jt_fail_memory(job->err, "making config.json");
    return JT_OK;
}

/* ---- keys ---- */

static const char *key_of(const jt_hf_job *job, const char *name, char key[KEY_BYTES])
{
    snprintf(key, KEY_BYTES, "%s.%s", job->family->arch, name);
    return key;
}

jt_status jt_hf_set_int(jt_hf_job *job, const char *name, int64_t value)
{
    char key[KEY_BYTES];
    return jt_gguf_set_u32(job->writer, key_of(job, name, key), (uint32_t)value,
                           job->err);
}

jt_status jt_hf_set_float(jt_hf_job *job, const char *name, double value)
{
    char key[KEY_BYTES];
    return jt_gguf_set_f32(job->writer, key_of(job, name, key), (float)value, job->err);
}

jt_status jt_hf_set_bool(jt_hf_job *job, const char *name, bool value)
{
    char key[KEY_BYTES];
    return jt_gguf_set_bool(job->writer, key_of(job, name, key), value, job->err);
}

/* A key that was set, or that the file has. */
static bool find_key(const jt_hf_job *job, const char *name, jt_gguf_kv *kv)
{
    char key[KEY_BYTES];
    key_of(job, name, key);
    if (job->writer)
        return jt_gguf_written(job->writer, key, kv);
    const jt_gguf_kv *found = jt_gguf_kv_find(job->file, key);
    if (found)
        *kv = *found;
    return found;
}

bool jt_hf_get_int(const jt_hf_job *job, const char *name, int64_t *value)
{
    jt_gguf_kv kv;
    if (!find_key(job, name, &kv))
        return false;
    if (kv.type == JT_GGUF_ARRAY)
        return job->layer >= 0 && jt_gguf_item_i64(&kv, (uint64_t)job->layer, value);
    return jt_gguf_integer(&kv, value);
}

bool jt_hf_get_float(const jt_hf_job *job, const char *name, double *value)
{
    jt_gguf_kv kv;
    float number;
    if (!find_key(job, name, &kv) || !jt_gguf_number(&kv, &number))
        return false;
    *value = (double)number;
    return true;
}

bool jt_hf_any_layer(const jt_hf_job *job, const char *name)
{
    char full[KEY_BYTES];
    int64_t layers = 0;
    jt_hf_get_int(job, "block_count", &layers);
    for (int64_t i = 0; i < layers; i++) {
        snprintf(full, sizeof full, "blk.%lld.%s", (long long)i, name);
        if (jt_gguf_find(job->file, full))
            return true;
    }
    return false;
}

/* ---- rows to keys ---- */

static jt_status fail_value(jt_hf_job *job, const jt_hf_key *row, const char *wanted)
{
    char *text = json_dumps(jt_hf_config(job, row->config), JSON_ENCODE_ANY);
    jt_status status =
        jt_fail(job->err, JT_E_FORMAT, "config.json: '%s' is %.60s, expected %s",
                row->config, text ? text : "?", wanted);
    free(text);
    return status;
}

/* The number behind a word of "softmax=1|sigmoid=2"; -1 for another one. */
static int word_number(const char *words, const char *word)
{
    char one[PATH_BYTES];
    while (next_path(&words, one)) {
        char *equals = strchr(one, '=');
        *equals = '\0';
        if (strcmp(one, word) == 0)
            return atoi(equals + 1);
    }
    return -1;
}

/* The default of a row as config.json would have it; NULL: out of memory. */
static json_t *default_value(const jt_hf_key *row)
{
    switch (row->kind) {
    case JT_HF_INT:
        return json_integer(strtoll(row->otherwise, NULL, 10));
    case JT_HF_FLOAT:
        return json_real(strtod(row->otherwise, NULL));
    case JT_HF_BOOL:
        return json_boolean(strcmp(row->otherwise, "true") == 0);
    default:
        return json_string(row->otherwise);
    }
}

static jt_status import_value(jt_hf_job *job, const jt_hf_key *row, const json_t *value)
{
    char key[KEY_BYTES];
    switch (row->kind) {
    case JT_HF_INT: /* some configurations write 1.0 */
        if (!json_is_number(value) || !(json_number_value(value) >= 0.0) ||
            json_number_value(value) > INT_MAX)
            return fail_value(job, row, "a whole number from 0 to 2147483647");
        return jt_hf_set_int(job, row->gguf, (int64_t)json_number_value(value));
    case JT_HF_FLOAT:
        if (!json_is_number(value) || !isfinite((float)json_number_value(value)))
            return fail_value(job, row, "a number");
        return jt_hf_set_float(job, row->gguf, json_number_value(value));
    case JT_HF_BOOL:
        if (!json_is_boolean(value))
            return fail_value(job, row, "true or false");
        return jt_hf_set_bool(job, row->gguf, json_is_true(value));
    case JT_HF_WORD:
        if (!json_is_string(value) ||
            word_number(row->words, json_string_value(value)) < 0)
            return fail_value(job, row, row->words);
        return jt_hf_set_int(job, row->gguf,
                             word_number(row->words, json_string_value(value)));
    case JT_HF_TEXT:
        if (!json_is_string(value))
            return fail_value(job, row, "a text");
        return jt_gguf_set_str(job->writer, key_of(job, row->gguf, key),
                               json_string_value(value), job->err);
    case JT_HF_HAS:
        break;
    }
    return JT_OK;
}

/* A form that is the same in all models of the family. */
static jt_status check_value(jt_hf_job *job, const jt_hf_key *row, const json_t *wanted)
{
    json_t *value = jt_hf_config(job, row->config);
    bool same = !value || json_equal(value, wanted);
    if (value && json_is_number(value) && json_is_number(wanted))
        same = json_number_value(value) == json_number_value(wanted);
    return same ? JT_OK : fail_value(job, row, row->otherwise);
}

static jt_status import_row(jt_hf_job *job, const jt_hf_key *row)
{
    json_t *value = row->config ? jt_hf_config(job, row->config) : NULL;
    json_t *usual = row->otherwise ? default_value(row) : NULL;
    jt_status status = JT_OK;
    if (row->otherwise && !usual)
        status = jt_fail_memory(job->err, "reading config.json");
    else if (row->kind == JT_HF_HAS)
        ;
    else if (!row->gguf)
        status = check_value(job, row, usual);
    else if (value || usual)
        status = import_value(job, row, value ? value : usual);
    else if (row->required)
        status =
            jt_fail(job->err, JT_E_FORMAT, "config.json: '%s' is missing", row->config);
    json_decref(usual);
    return status;
}

static jt_status import_rows(jt_hf_job *job)
{
    for (int i = 0; i < JT_HF_LISTS && job->family->keys[i]; i++) {
        for (const jt_hf_key *row = job->family->keys[i]; row->config || row->gguf;
             row++)
            JT_TRY(import_row(job, row));
    }
    return JT_OK;
}

jt_status jt_hf_read_keys(jt_hf_job *job)
{
    JT_TRY(jt_gguf_set_str(job->writer, "general.architecture", job->family->arch,
                           job->err));
    JT_TRY(jt_gguf_set_str(job->writer, "general.type", "model", job->err));
    JT_TRY(import_rows(job));
    JT_TRY(jt_hf_import_rope(job));
    return job->family->import ? job->family->import(job) : JT_OK;
}

/* ---- rows to config.json ---- */

/* The shortest decimal that is the same float: 1e-5, not 9.99999974e-06. */
json_t *jt_hf_real(float value)
{
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value)
            break;
    }
    return json_real(strtod(text, NULL));
}

static json_t *word_json(const char *words, int64_t number)
{
    char one[PATH_BYTES];
    while (next_path(&words, one)) {
        char *equals = strchr(one, '=');
        *equals = '\0';
        if (atoi(equals + 1) == number)
            return json_string(one);
    }
    return NULL;
}

/* What the family implies where a file says nothing of its router; NULL: nothing. */
static json_t *implied_value(const jt_hf_job *job, const jt_hf_key *row)
{
    const jt_family *f = jt_family_find(job->family->arch, strlen(job->family->arch));
    if (!f || !row->gguf)
        return NULL;
    if (strcmp(row->gguf, "expert_weights_norm") == 0)
        return json_boolean(f->renormalise);
    if (strcmp(row->gguf, "expert_gating_func") == 0 && row->kind == JT_HF_WORD)
        return word_json(row->words, f->gating == JT_GATE_SIGMOID ? 2 : 1);
    return NULL;
}

/* What the file has for a row; NULL: nothing. */
static json_t *file_value(const jt_hf_job *job, const jt_hf_key *row)
{
    jt_gguf_kv kv;
    int64_t whole;
    float number;
    jt_str text;
    char key[KEY_BYTES];
    if (row->kind == JT_HF_HAS)
        return json_boolean(jt_gguf_find(job->file, row->gguf));
    if (!row->gguf || !find_key(job, row->gguf, &kv))
        return implied_value(job, row);
    switch (row->kind) {
    case JT_HF_INT:
        return jt_gguf_integer(&kv, &whole) ? json_integer(whole) : NULL;
    case JT_HF_BOOL:
        return jt_gguf_integer(&kv, &whole) ? json_boolean(whole) : NULL;
    case JT_HF_WORD:
        return jt_gguf_integer(&kv, &whole) ? word_json(row->words, whole) : NULL;
    case JT_HF_FLOAT:
        return jt_gguf_number(&kv, &number) ? jt_hf_real(number) : NULL;
    default:
        return jt_gguf_get_str(job->file, key_of(job, row->gguf, key), &text)
                   ? json_stringn(text.data, text.len)
                   : NULL;
    }
}

static jt_status export_row(jt_hf_job *job, const jt_hf_key *row)
{
    if (!row->config)
        return JT_OK;
    json_t *value = file_value(job, row);
    if (value)
        return jt_hf_put(job, row->config, value);
    if (row->required)
        return jt_fail(job->err, JT_E_FORMAT, "key '%s.%s' is missing",
                       job->family->arch, row->gguf);
    return row->otherwise ? jt_hf_put(job, row->config, default_value(row)) : JT_OK;
}

static jt_status export_rows(jt_hf_job *job)
{
    for (int i = 0; i < JT_HF_LISTS && job->family->keys[i]; i++) {
        for (const jt_hf_key *row = job->family->keys[i]; row->config || row->gguf;
             row++)
            JT_TRY(export_row(job, row));
    }
    return JT_OK;
}

/* GGUF counts layers that predict the token after the next; folders get none. */
static jt_status export_layers(jt_hf_job *job)
{
    int layers;
    int64_t predictors = 0;
    if (!jt_hf_get_int(job, "nextn_predict_layers", &predictors) || !predictors)
        return JT_OK;
    JT_TRY(jt_hf_layers(job, &layers));
    return jt_hf_put(job, "num_hidden_layers", json_integer(layers));
}

jt_status jt_hf_make_config(jt_hf_job *job, jt_dtype dtype)
{
    const char *name = dtype == JT_F32   ? "float32"
                       : dtype == JT_F16 ? "float16"
                                         : "bfloat16";
    bool tied = !jt_gguf_find(job->file, "output.weight");
    char type[PATH_BYTES];
    const char *types = job->family->model_type;
    next_path(&types, type);
    JT_TRY(
        jt_hf_put(job, "architectures", json_pack("[s]", job->family->architecture)));
    JT_TRY(jt_hf_put(job, "model_type", json_string(type)));
    JT_TRY(jt_hf_put(job, "dtype", json_string(name)));
    JT_TRY(jt_hf_put(job, "tie_word_embeddings", json_boolean(tied)));
    JT_TRY(export_rows(job));
    JT_TRY(export_layers(job));
    JT_TRY(jt_hf_export_rope(job));
    return job->family->export ? job->family->export(job) : JT_OK;
}

/* ---- families ---- */

static bool has_word(const char *words, const char *word)
{
    char one[PATH_BYTES];
    while (next_path(&words, one)) {
        if (strcmp(one, word) == 0)
            return true;
    }
    return false;
}

jt_status jt_hf_family_of_config(jt_hf_job *job)
{
    const char *type = json_string_value(json_object_get(job->config, "model_type"));
    if (!type)
        return jt_fail(job->err, JT_E_FORMAT, "config.json: 'model_type' is missing");
    for (size_t i = 0; jt_hf_families[i]; i++) {
        const jt_hf_family *f = jt_hf_families[i];
        job->family = f;
        if (has_word(f->model_type, type) && (!f->reads || f->reads(job)))
            return JT_OK;
    }
    return jt_fail(job->err, JT_E_UNSUPPORTED,
                   "config.json: model_type '%.60s' is not supported", type);
}

jt_status jt_hf_family_of_file(jt_hf_job *job)
{
    jt_str arch = {"?", 1};
    jt_gguf_get_str(job->file, "general.architecture", &arch);
    for (size_t i = 0; jt_hf_families[i]; i++) {
        const jt_hf_family *f = jt_hf_families[i];
        int64_t experts = 0;
        job->family = f;
        jt_hf_get_int(job, "expert_count", &experts);
        if (strlen(f->arch) == arch.len && !memcmp(f->arch, arch.data, arch.len) &&
            (f->exports == JT_HF_ANY ||
             (f->exports == JT_HF_MIXTURE) == (experts > 0)) &&
            (!f->fits || f->fits(job)))
            return JT_OK;
    }
    return jt_fail(job->err, JT_E_UNSUPPORTED,
                   "family '%.*s' has no form on Hugging Face that Junto writes",
                   (int)(arch.len < 64 ? arch.len : 64), arch.data);
}
