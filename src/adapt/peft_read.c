/* PEFT folders in: adapter_config.json and adapter_model.safetensors, as
 * peft.PeftModel.save_pretrained writes them (peft 0.5 to 0.21; its
 * src/peft/tuners/lora/layer.py and utils/save_and_load.py). */
#include "adapt/peft_read.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/blend_peft.h"
#include "adapt/files.h"
#include "adapt/made.h"
#include "adapt/peft_config.h"
#include "adapt/peft_front.h"
#include "base/file.h"
#include "base/memory.h"
#include "format/gguf_file.h"

enum { MOST_CONFIG = 16 << 20 };

/* ---- names ---- */

/* Does `name` end with `tail`? Then the module's key and path are what comes before. */
bool jt_peft_cut(jt_str name, const char *tail, jt_peft_module *m)
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

const jt_safetensor *jt_peft_part(const jt_peft_reader *r, const jt_peft_module *m,
                                  const char *tail)
{
    char name[JT_PEFT_NAME + 64];
    snprintf(name, sizeof name, "%s%s", m->key, tail);
    return jt_safetensors_find(r->file, name);
}

jt_status jt_peft_need(const jt_peft_reader *r, const jt_peft_module *m,
                       const char *tail, const jt_safetensor **out)
{
    *out = jt_peft_part(r, m, tail);
    return *out
               ? JT_OK
               : jt_fail(r->err, JT_E_FORMAT, "tensor '%s%s' is missing", m->key, tail);
}

jt_status jt_peft_fetch(const jt_peft_reader *r, const jt_safetensor *from, float **out)
{
    *out = jt_alloc(jt_safetensor_values(from), sizeof **out);
    return *out ? jt_safetensor_floats(*out, from, r->err)
                : jt_fail_memory(r->err, "reading an adapter");
}

jt_status jt_peft_name_weight(const jt_peft_reader *r, jt_peft_module *m)
{
    static const char weight[] = ".weight";
    size_t len = strlen(m->path);
    if (len + sizeof weight > sizeof m->path)
        return jt_fail(r->err, JT_E_FORMAT, "'%s' is too long a name", m->path);
    memcpy(m->path + len, weight, sizeof weight);
    return JT_OK;
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
    jt_peft_module m;
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        if (jt_peft_cut(name, tails[i], &m))
            return true;
    }
    return false;
}

static jt_status read_tensor(jt_peft_reader *r, const jt_safetensor *t)
{
    jt_peft_module m = {.a = t};
    bool sparse = r->a->kind->sparse;
    if (r->a->kind->making && jt_peft_cut(t->name, ".poly_lora_A", &m))
        return jt_peft_read_skills(r, &m);
    if (!sparse && jt_peft_cut(t->name, ".lora_A.weight", &m))
        return jt_peft_read_low_rank(r, &m);
    if (!sparse && jt_peft_cut(t->name, ".lora_embedding_A", &m))
        return jt_peft_read_embedding(r, &m);
    if (sparse && jt_peft_cut(t->name, ".shira_weight", &m))
        return jt_peft_read_sparse(r, &m);
    if (is_companion(t->name))
        return JT_OK;
    return jt_fail(r->err, JT_E_UNSUPPORTED,
                   "tensor '%.*s' is not known in '%s' adapters", JT_GGUF_SHOW(t->name),
                   r->a->kind->name);
}

static jt_status read_all(jt_peft_reader *r, const char *path)
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

static jt_status open_folder(jt_peft_reader *r, const char *folder)
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

static jt_status open_source(jt_peft_reader *r, const source *s)
{
    if (s->folder)
        return open_folder(r, s->folder);
    JT_TRY(jt_peft_parse(&r->config, s->config, s->config_bytes, r->err));
    return jt_safetensors_open_memory(&r->file, s->data, s->bytes, r->err);
}

static jt_status read_source(jt_adapter **out, const source *s, const jt_model *model,
                             jt_err *err)
{
    jt_peft_reader r = {.model = model, .err = err};
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
