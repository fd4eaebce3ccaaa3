/* Adapters of any format: the bytes tell which. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "adapt/files.h"
#include "format/gguf_file.h"

/* What holds for all formats, and for a model if there is one. */
static jt_status check(const jt_adapter *a, const jt_model *model, jt_err *err)
{
    if (!a->count && !a->n_places && !a->blend)
        return jt_fail(err, JT_E_FORMAT, "it has no tensors of an adapter");
    for (size_t i = 0; i < a->count; i++)
        JT_TRY(jt_adapter_check(a, &a->slot[i], err));
    if (a->kind->check)
        JT_TRY(a->kind->check(a, err));
    return model ? jt_adapter_fits(a, model, err) : JT_OK;
}

static jt_status deliver(jt_adapter **out, jt_adapter *a, const char *path,
                         const jt_model *model, jt_status status, jt_err *err)
{
    if (status == JT_OK)
        status = check(a, model, err);
    if (status == JT_OK) {
        *out = a;
        return JT_OK;
    }
    jt_adapter_free(a);
    return jt_fail_within(err, status, "'%s'", path);
}

static jt_status read_safetensors(jt_adapter **out, const char *path, jt_err *err)
{
    jt_safetensors *file;
    JT_TRY(jt_safetensors_open(&file, path, err));
    jt_status status = jt_adapter_read_junto(out, path, file, err);
    jt_safetensors_close(file);
    return status;
}

static jt_status read_gguf(jt_adapter **out, const char *path, jt_err *err)
{
    jt_gguf *file;
    JT_TRY(jt_gguf_open(&file, path, err));
    jt_status status = jt_adapter_read_gguf(out, path, file, err);
    jt_gguf_close(file);
    return status;
}

static bool is_gguf(const char *path)
{
    char magic[4] = "";
    FILE *f = fopen(path, "rb");
    bool yes = f && fread(magic, 1, 4, f) == 4 && memcmp(magic, "GGUF", 4) == 0;
    if (f)
        fclose(f);
    return yes;
}

jt_status jt_adapter_open(jt_adapter **out, const char *path, const jt_model *model,
                          jt_err *err)
{
    struct stat st;
    jt_adapter *a = NULL;
    jt_status status;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        status = jt_adapter_read_peft(&a, path, model, err);
    else if (is_gguf(path))
        status = read_gguf(&a, path, err);
    else
        status = read_safetensors(&a, path, err);
    return deliver(out, a, path, model, status, err);
}

jt_status jt_adapter_open_memory(jt_adapter **out, const void *data, size_t bytes,
                                 const jt_model *model, jt_err *err)
{
    static const char path[] = "(memory)";
    jt_safetensors *file;
    jt_gguf *gguf;
    jt_adapter *a = NULL;
    jt_status status;
    if (bytes >= 4 && memcmp(data, "GGUF", 4) == 0) {
        JT_TRY(jt_gguf_open_memory(&gguf, data, bytes, err));
        status = jt_adapter_read_gguf(&a, path, gguf, err);
        jt_gguf_close(gguf);
    } else {
        JT_TRY(jt_safetensors_open_memory(&file, data, bytes, err));
        status = jt_adapter_read_junto(&a, path, file, err);
        jt_safetensors_close(file);
    }
    return deliver(out, a, path, model, status, err);
}

jt_status jt_adapter_save(const jt_adapter *a, const char *path,
                          jt_adapter_format format, const jt_model *model, jt_err *err)
{
    if (format != JT_ADAPTER_JUNTO && !model)
        return jt_fail(err, JT_E_ARG, "writing this format needs the model");
    if (a->blend && format != JT_ADAPTER_JUNTO)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "a mixture of adapters in this format: its file is Junto's own");
    switch (format) {
    case JT_ADAPTER_JUNTO:
        return jt_adapter_write_junto(a, path, err);
    case JT_ADAPTER_PEFT:
        return jt_adapter_write_peft(a, path, model, err);
    case JT_ADAPTER_GGUF:
        return jt_adapter_write_gguf(a, path, model, err);
    }
    return jt_fail(err, JT_E_ARG, "an unknown format of adapters");
}
