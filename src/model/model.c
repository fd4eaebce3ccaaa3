#include <stdlib.h>
#include <sys/stat.h>

#include "base/join.h"
#include "base/memory.h"
#include "base/process.h"
#include "format/gguf_file.h"
#include "model/apart.h"
#include "model/hf.h"
#include "model/model.h"
#include "model/nested_file.h"
#include "model/single_experts.h"

static jt_status find_family(jt_model *model, jt_err *err)
{
    jt_str arch;
    if (!jt_gguf_get_str(model->file, "general.architecture", &arch))
        return jt_fail(err, JT_E_FORMAT, "key 'general.architecture' is missing");
    model->family = jt_family_find(arch.data, arch.len);
    if (model->family)
        return JT_OK;
    char known[400];
    jt_join_names(known, sizeof known, jt_family_name);
    return jt_fail(err, JT_E_UNSUPPORTED, "family '%.*s' is not supported (known: %s)",
                   (int)(arch.len < 64 ? arch.len : 64), arch.data, known);
}

/* A file may have no vocabulary at all; a broken one is an error. */
static jt_status load_tokenizer(jt_model *model, jt_err *err)
{
    jt_str kind;
    if (!jt_gguf_get_str(model->file, "tokenizer.ggml.model", &kind))
        return JT_OK;
    JT_TRY(jt_tokenizer_new(&model->tokenizer, model->file, err));
    if (jt_vocab_size(model->tokenizer) > (size_t)model->params.n_vocab)
        return jt_fail(
            err, JT_E_FORMAT,
            "the vocabulary has %zu tokens, tensor 'token_embd.weight' %d rows",
            jt_vocab_size(model->tokenizer), model->params.n_vocab);
    return JT_OK;
}

static jt_status build(jt_model *model, jt_err *err)
{
    JT_TRY(find_family(model, err));
    JT_TRY(jt_params_read(&model->params, model->file, model->family, err));
    JT_TRY(jt_weights_bind(model, err));
    for (int i = 0; i < JT_ROPE_USES; i++) {
        if (model->params.rope[i].dims)
            JT_TRY(jt_rope_init(&model->rope[i], &model->params.rope[i], err));
    }
    return load_tokenizer(model, err);
}

/* Takes over `file`, also on failure. */
static jt_status load(jt_model **out, jt_gguf *file, jt_err *err)
{
    jt_model *model = jt_calloc(1, sizeof *model);
    if (!model) {
        jt_gguf_close(file);
        return jt_fail_memory(err, "loading a model");
    }
    model->file = file;
    jt_status status = build(model, err);
    if (status != JT_OK) {
        jt_fail_within(err, status, "'%s'", jt_gguf_path(file));
        jt_model_free(model);
        return status;
    }
    *out = model;
    return JT_OK;
}

jt_status jt_model_open_file(jt_gguf **out, const char *path, jt_err *err)
{
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return jt_hf_open(out, path, err);
    jt_gguf *file;
    JT_TRY(jt_gguf_open(&file, path, err));
    jt_status status = jt_stack_single_experts(&file, err);
    if (status == JT_OK)
        status = jt_weave_experts(&file, err);
    if (status == JT_OK)
        *out = file;
    else
        jt_gguf_close(file);
    return status;
}

/* Weights that are in tiles are there for others to map, but not in this process. */
static void forget_rows(const void *file, const void *data, size_t bytes)
{
    uint64_t offset;
    if (jt_gguf_locate(file, data, bytes, &offset))
        jt_map_forget(data, bytes);
}

/* Tiles are memory, a mapped file is not: a model that memory hardly holds stays as it
 * is. */
static jt_status prepare_tiles(jt_model *model, jt_err *err)
{
    uint64_t bytes = jt_gguf_file_bytes(model->file);
    if (bytes + bytes / 8 > jt_machine_available())
        return JT_OK;
    return jt_tiles_new(&model->tiles, (jt_tiles_owner){model->file, forget_rows}, err);
}

jt_status jt_model_load(jt_model **out, const char *path, jt_err *err)
{
    jt_gguf *file;
    jt_model *model;
    JT_TRY(jt_model_open_file(&file, path, err));
    JT_TRY(load(&model, file, err));
    jt_status status = prepare_tiles(model, err);
    if (status == JT_OK)
        *out = model;
    else
        jt_model_free(model);
    return status;
}

jt_status jt_model_load_apart(jt_model **out, const char *path, jt_err *err)
{
    jt_gguf *file;
    jt_apart *apart;
    jt_model *model;
    JT_TRY(jt_apart_open(&apart, &file, path, err));
    jt_status status = load(&model, file, err);
    if (status != JT_OK) {
        jt_apart_free(apart);
        return status;
    }
    model->apart = apart;
    status = jt_apart_bind(apart, model, err);
    if (status == JT_OK)
        *out = model;
    else
        jt_model_free(model);
    return status;
}

jt_status jt_model_load_memory(jt_model **out, const void *data, size_t bytes,
                               jt_err *err)
{
    jt_gguf *file;
    JT_TRY(jt_gguf_open_memory(&file, data, bytes, err));
    return load(out, file, err);
}

void jt_model_free(jt_model *model)
{
    if (!model)
        return;
    jt_tokenizer_free(model->tokenizer);
    for (int i = 0; i < JT_ROPE_USES; i++)
        free(model->rope[i].frequency);
    jt_apart_free(model->apart);
    jt_tiles_free(model->tiles);
    free(model->layers);
    jt_gguf_close(model->file);
    free(model);
}

const jt_gguf *jt_model_file(const jt_model *model)
{
    return model->file;
}

const jt_tokenizer *jt_model_tokenizer(const jt_model *model)
{
    return model->tokenizer;
}

int jt_model_layer_experts(const jt_model *model, int layer)
{
    const jt_layer *l = &model->layers[layer];
    return l->is_mixture ? l->mixture.router.n_experts : 0;
}
