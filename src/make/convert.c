#include "junto/convert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "format/gguf_writer.h"
#include "make/folder.h"
#include "make/retype.h"
#include "make/singles.h"
#include "model/hf.h"
#include "model/model.h"
#include "text/export.h"

enum { NAME_BYTES = 256 };
static const uint64_t usual_shard = 5000000000; /* bytes, as transformers had it */

typedef struct conversion {
    const char *from, *to;
    const jt_convert_options *o;
    jt_dtype type;          /* of matrices, when `retyped` */
    bool retyped, laid_out; /* laid_out: the experts one by one */
    /* one of the two */
    jt_gguf *file;
    jt_hf_import *import;
    jt_singles *singles; /* of the file, when its experts are laid out; or NULL */
    jt_gguf_writer *writer;
    jt_pool *pool;
    uint64_t done, total; /* bytes of the result */
    uint64_t bytes[JT_DTYPE_COUNT];
    jt_convert_report report;
    jt_err *err;
} conversion;

/* ---- the tensors of either source ---- */

static size_t count_of(const conversion *c)
{
    if (c->singles)
        return jt_singles_count(c->singles);
    return c->file ? jt_gguf_tensor_count(c->file) : jt_hf_import_count(c->import);
}

static const jt_gguf_tensor *described(const conversion *c, size_t i)
{
    if (c->singles)
        return jt_singles_at(c->singles, i);
    return c->file ? jt_gguf_tensor_at(c->file, i) : jt_hf_import_at(c->import, i);
}

static jt_status with_data(const conversion *c, size_t i, jt_gguf_tensor *t)
{
    if (c->import)
        return jt_hf_import_make(c->import, i, t, c->err);
    *t = *described(c, i);
    return JT_OK;
}

/* ---- types ---- */

static jt_dtype target_of(const conversion *c, const jt_gguf_tensor *t)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
    if (!c->retyped || t->dtype == JT_I32 || jt_hf_wants_f32(name, t->n_dims))
        return t->dtype;
    uint64_t row = t->shape[t->n_dims - 1];
    return row % jt_dtype_block_values(c->type) == 0 ? c->type : JT_F16;
}

/* general.file_type (llama.cpp, enum llama_ftype): what most bytes are. */
static uint32_t file_type(const conversion *c)
{
    static const uint32_t ids[JT_DTYPE_COUNT] = {
        [JT_F32] = 0,      [JT_F16] = 1,     [JT_Q4_0] = 2,     [JT_Q4_1] = 3,
        [JT_Q8_0] = 7,     [JT_Q5_0] = 8,    [JT_Q5_1] = 9,     [JT_Q2_K] = 10,
        [JT_Q3_K] = 11,    [JT_Q4_K] = 14,   [JT_Q5_K] = 16,    [JT_Q6_K] = 18,
        [JT_IQ2_XXS] = 19, [JT_IQ2_XS] = 20, [JT_IQ3_XXS] = 23, [JT_IQ1_S] = 24,
        [JT_IQ4_NL] = 25,  [JT_IQ3_S] = 26,  [JT_IQ2_S] = 28,   [JT_IQ4_XS] = 30,
        [JT_IQ1_M] = 31,   [JT_BF16] = 32,   [JT_TQ1_0] = 36,   [JT_TQ2_0] = 37,
        [JT_MXFP4] = 38,   [JT_NVFP4] = 39,  [JT_Q1_0] = 40,    [JT_Q2_0] = 41};
    int most = JT_F32;
    for (int d = 0; d < JT_DTYPE_COUNT; d++)
        most = c->bytes[d] > c->bytes[most] ? d : most;
    return ids[most];
}

/* ---- the source ---- */

/* Damage is found before anything is written. */
static jt_status open_checked(conversion *c)
{
    if (!jt_is_folder(c->from))
        JT_TRY(jt_singles_check(c->from, &c->o->progress, c->err));
    return jt_model_open_file(&c->file, c->from, c->err);
}

/* ---- into GGUF ---- */

static jt_status describe(conversion *c)
{
    for (size_t i = 0; i < count_of(c); i++) {
        const jt_gguf_tensor *t = described(c, i);
        char name[NAME_BYTES];
        jt_dtype dtype = target_of(c, t);
        uint64_t bytes = jt_dtype_row_bytes(dtype, (size_t)t->shape[t->n_dims - 1]);
        for (int d = 0; d + 1 < t->n_dims; d++)
            bytes *= t->shape[d];
        if (t->types && !c->retyped)
            return jt_fail(c->err, JT_E_UNSUPPORTED,
                           "tensor '%.*s' has experts of different types, which need "
                           "the layout 'experts'",
                           JT_GGUF_SHOW(t->name));
        if (t->name.len >= sizeof name)
            return jt_fail(c->err, JT_E_UNSUPPORTED, "tensor name '%.*s' is too long",
                           NAME_BYTES, t->name.data);
        snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
        JT_TRY(jt_gguf_add_tensor(c->writer, name, dtype, t->n_dims, t->shape, c->err));
        c->bytes[dtype] += bytes;
        c->total += bytes;
    }
    return JT_OK;
}

/* What has changed, or was never said. */
static jt_status set_keys(conversion *c)
{
    if (c->import || c->retyped) {
        JT_TRY(jt_gguf_set_u32(c->writer, "general.file_type", file_type(c), c->err));
        JT_TRY(jt_gguf_set_u32(c->writer, "general.quantization_version", 2, c->err));
    }
    return c->singles ? jt_singles_set_keys(c->singles, c->writer, c->err) : JT_OK;
}

static jt_status report(void *user, size_t bytes)
{
    conversion *c = user;
    c->done += bytes;
    return jt_progress_report(&c->o->progress, "converting", c->done, c->total, c->err);
}

static jt_status write_data(conversion *c)
{
    JT_TRY(jt_progress_report(&c->o->progress, "converting", 0, c->total, c->err));
    JT_TRY(jt_gguf_write(c->writer, "", 0, c->err)); /* the head: it is not summed */
    for (size_t i = 0; i < count_of(c); i++) {
        jt_gguf_tensor t;
        if (c->singles)
            jt_singles_begin(c->singles, c->writer, i);
        JT_TRY(with_data(c, i, &t));
        jt_retype how = {.writer = c->writer,
                         .pool = c->pool,
                         .to = target_of(c, &t),
                         .written = report,
                         .user = c};
        JT_TRY(jt_retype_tensor(&t, &how, c->err));
        if (c->import)
            jt_hf_import_drop(c->import);
    }
    return JT_OK;
}

static jt_status copy_keys(conversion *c)
{
    for (size_t i = 0; i < jt_gguf_kv_count(c->file); i++)
        JT_TRY(jt_gguf_set_kv(c->writer, NULL, jt_gguf_kv_at(c->file, i), c->err));
    return JT_OK;
}

static jt_status fill_gguf(conversion *c)
{
    if (jt_is_folder(c->from) && !c->laid_out) {
        JT_TRY(jt_hf_import_new(&c->import, c->from, c->writer, c->err));
    } else {
        JT_TRY(open_checked(c));
        JT_TRY(copy_keys(c));
    }
    if (c->laid_out)
        JT_TRY(jt_singles_new(&c->singles, c->file, c->err));
    JT_TRY(describe(c));
    JT_TRY(set_keys(c));
    c->report.tensors = count_of(c);
    jt_gguf_kv kind;
    c->report.tokenizer = jt_gguf_written(c->writer, "tokenizer.ggml.model", &kind);
    return write_data(c);
}

static jt_status to_gguf(conversion *c)
{
    JT_TRY(jt_pool_new(&c->pool, 0, c->err));
    jt_status status = jt_gguf_writer_new(&c->writer, c->to, c->err);
    if (status == JT_OK) {
        status = fill_gguf(c);
        if (status == JT_OK)
            status = jt_gguf_writer_finish(c->writer, c->err);
        else
            jt_gguf_writer_abort(c->writer);
    }
    c->report.bytes = c->done;
    jt_pool_free(c->pool);
    jt_hf_import_free(c->import);
    jt_singles_free(c->singles);
    jt_gguf_close(c->file);
    return status;
}

/* ---- into a folder ---- */

/* What a tokenizer is made of, to be taken along from folder to folder. */
static const char *const tokenizer_files[] = {"tokenizer.json",
                                              "tokenizer.model",
                                              "tokenizer_config.json",
                                              "special_tokens_map.json",
                                              "added_tokens.json",
                                              "vocab.json",
                                              "merges.txt",
                                              "chat_template.jinja",
                                              "chat_template.json"};

static jt_status copy_tokenizer(conversion *c, const char *folder)
{
    for (size_t i = 0; i < sizeof tokenizer_files / sizeof *tokenizer_files; i++) {
        bool copied;
        JT_TRY(jt_folder_copy(c->from, folder, tokenizer_files[i], &copied, c->err));
        c->report.tokenizer |= copied && i < 2;
    }
    return JT_OK;
}

static jt_status fill_folder(conversion *c, const char *folder)
{
    jt_hf_export_options o = {.dtype = c->retyped ? c->type : JT_BF16,
                              .all = c->retyped,
                              .shard_bytes =
                                  c->o->shard_bytes ? c->o->shard_bytes : usual_shard,
                              .progress = c->o->progress};
    JT_TRY(open_checked(c));
    c->report.tensors = count_of(c);
    JT_TRY(jt_hf_export(c->file, folder, &o, c->err));
    if (jt_is_folder(c->from))
        return copy_tokenizer(c, folder);
    return jt_tokenizer_export(c->file, folder, &c->report.tokenizer, c->err);
}

static jt_status to_folder(conversion *c)
{
    jt_folder out;
    JT_TRY(jt_folder_open(&out, c->to, c->err));
    jt_status status = fill_folder(c, out.part);
    if (status == JT_OK)
        status = jt_folder_commit(&out, &c->report.bytes, c->err);
    else
        jt_folder_abort(&out);
    jt_gguf_close(c->file);
    return status;
}

/* ---- the whole ---- */

static bool names_gguf(const char *path)
{
    static const char suffix[] = ".gguf";
    size_t len = strlen(path);
    return len >= strlen(suffix) && strcmp(path + len - strlen(suffix), suffix) == 0;
}

static jt_status read_type(conversion *c, bool folder)
{
    if (!c->o->type)
        return JT_OK;
    c->retyped = true;
    if (!jt_dtype_from_name(c->o->type, &c->type) || c->type == JT_I32)
        return jt_fail(c->err, JT_E_ARG, "type '%s' is not known", c->o->type);
    if (folder && c->type != JT_F32 && c->type != JT_F16 && c->type != JT_BF16)
        return jt_fail(c->err, JT_E_ARG,
                       "a folder cannot have type '%s' (known: f32, f16, bf16)",
                       c->o->type);
    return JT_OK;
}

static jt_status read_layout(conversion *c, bool folder)
{
    const char *layout = c->o->layout;
    c->laid_out = layout && strcmp(layout, "experts") == 0;
    if (layout && !c->laid_out && strcmp(layout, "plain") != 0)
        return jt_fail(c->err, JT_E_ARG, "layout '%s' is not known (plain, experts)",
                       layout);
    if (c->laid_out && folder)
        return jt_fail(c->err, JT_E_ARG, "a folder has no layout: name a .gguf file");
    return JT_OK;
}

jt_status jt_convert(const char *from, const char *to,
                     const jt_convert_options *options, jt_convert_report *report_out,
                     jt_err *err)
{
    conversion c = {.from = from, .to = to, .o = options, .err = err};
    bool gguf = names_gguf(to);
    JT_TRY(read_type(&c, !gguf));
    JT_TRY(read_layout(&c, !gguf));
    JT_TRY(gguf ? to_gguf(&c) : to_folder(&c));
    if (report_out)
        *report_out = c.report;
    return JT_OK;
}
