/* LoRA files of llama.cpp: general.type "adapter", adapter.type "lora", tensors
 * "TARGET.lora_a" and "TARGET.lora_b" (src/llama-adapter.cpp and
 * convert_lora_to_gguf.py there). The scale is alpha / rank, or 1 for an alpha of 0.
 * Those of token_embd lie the other way round: lora_a [vocab, rank], lora_b [d, rank].
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/files.h"
#include "base/memory.h"
#include "format/gguf_file.h"
#include "model/model.h"

static const char a_tail[] = ".lora_a", b_tail[] = ".lora_b";
static const char alpha_key[] = "adapter.lora.alpha";
static const char turned[] = "token_embd.weight";

static bool is(jt_str s, const char *word)
{
    return s.len == strlen(word) && memcmp(s.data, word, s.len) == 0;
}

static bool cut_tail(jt_str name, const char *tail, jt_str *out)
{
    size_t n = strlen(tail);
    if (name.len <= n || memcmp(name.data + name.len - n, tail, n) != 0)
        return false;
    *out = (jt_str){name.data, name.len - n};
    return true;
}

/* ---- reading ---- */

static const jt_gguf_tensor *find_b(const jt_gguf *file, jt_str target)
{
    for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
        jt_str found;
        if (cut_tail(t->name, b_tail, &found) && found.len == target.len &&
            memcmp(found.data, target.data, target.len) == 0)
            return t;
    }
    return NULL;
}

/* [.., rows, cols] or, of the embedding, its transpose. */
static void read_values(jt_tensor *to, const jt_gguf_tensor *from, bool turn)
{
    size_t rows = jt_rows(to), cols = jt_cols(to);
    float *out = to->data;
    if (!turn) {
        for (size_t r = 0; r < rows; r++)
            jt_gguf_read_row(from, r, out + r * cols);
        return;
    }
    for (size_t c = 0; c < cols; c++) { /* rows are few: the rank */
        float row[1024];
        jt_gguf_read_row(from, c, row);
        for (size_t r = 0; r < rows; r++)
            out[r * cols + c] = row[r];
    }
}

static jt_status check_pair(const jt_gguf_tensor *a, const jt_gguf_tensor *b,
                            size_t shape[3], size_t *rank, bool turn, jt_err *err)
{
    int first = a->n_dims - 2;
    bool floats = jt_dtype_is_weight(a->dtype) && jt_dtype_is_weight(b->dtype);
    if (first < 0 || first > (turn ? 0 : 1) || b->n_dims != a->n_dims || !floats ||
        (first && a->shape[0] != b->shape[0]))
        return jt_fail(err, JT_E_FORMAT, "tensors '%.*s' and '%.*s' do not go together",
                       JT_GGUF_SHOW(a->name), JT_GGUF_SHOW(b->name));
    uint64_t low = turn ? a->shape[1] : a->shape[first];
    uint64_t again = b->shape[first + 1];
    if (low != again || (turn && low > 1024))
        return jt_fail(err, JT_E_FORMAT, "tensor '%.*s' has rank %llu, '%.*s' %llu",
                       JT_GGUF_SHOW(a->name), (unsigned long long)low,
                       JT_GGUF_SHOW(b->name), (unsigned long long)again);
    *rank = (size_t)low;
    shape[0] = first ? (size_t)a->shape[0] : 1;
    shape[1] = (size_t)(turn ? a->shape[0] : b->shape[first]);
    shape[2] = (size_t)(turn ? b->shape[0] : a->shape[first + 1]);
    return JT_OK;
}

static jt_status read_pair(jt_adapter *adapter, const jt_gguf *file,
                           const jt_gguf_tensor *a, jt_str target, float alpha,
                           jt_err *err)
{
    const jt_gguf_tensor *b = find_b(file, target);
    bool turn = is(target, turned);
    size_t shape[3], rank = 0;
    jt_adapter_slot *slot;
    if (!b)
        return jt_fail(err, JT_E_FORMAT, "tensor '%.*s%s' is missing",
                       JT_GGUF_SHOW(target), b_tail);
    JT_TRY(check_pair(a, b, shape, &rank, turn, err));
    JT_TRY(jt_adapter_add(adapter, &slot, target, shape, rank,
                          alpha == 0.0f ? (float)rank : alpha, err));
    read_values(&slot->part[JT_LOW_A], turn ? b : a, turn);
    read_values(&slot->part[JT_LOW_B], turn ? a : b, false);
    return JT_OK;
}

static jt_status read_pairs(jt_adapter *adapter, const jt_gguf *file, jt_err *err)
{
    float alpha = 0.0f;
    jt_gguf_get_f32(file, alpha_key, &alpha);
    for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
        jt_str target;
        if (cut_tail(t->name, a_tail, &target))
            JT_TRY(read_pair(adapter, file, t, target, alpha, err));
        else if (!cut_tail(t->name, b_tail, &target))
            return jt_fail(err, JT_E_UNSUPPORTED,
                           "tensor '%.*s' is not known in a LoRA file",
                           JT_GGUF_SHOW(t->name));
    }
    return JT_OK;
}

jt_status jt_adapter_read_gguf(jt_adapter **out, const char *path, const jt_gguf *file,
                               jt_err *err)
{
    jt_str type = {"", 0}, kind = {"", 0}, family = {"", 0};
    jt_adapter *a;
    jt_gguf_get_str(file, "general.type", &type);
    jt_gguf_get_str(file, "adapter.type", &kind);
    jt_gguf_get_str(file, "general.architecture", &family);
    if (!is(type, "adapter"))
        return jt_fail(err, JT_E_FORMAT, "key 'general.type' is '%.*s', not 'adapter'",
                       JT_GGUF_SHOW(type));
    if (!is(kind, "lora"))
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "key 'adapter.type' is '%.*s', not 'lora'", JT_GGUF_SHOW(kind));
    JT_TRY(jt_adapter_new(&a, &jt_adapter_lora, path, err));
    free(a->family);
    a->family = jt_strndup(family.data, family.len);
    jt_status status = a->family ? read_pairs(a, file, err)
                                 : jt_fail_memory(err, "reading an adapter");
    if (status != JT_OK) {
        jt_adapter_free(a);
        return status;
    }
    *out = a;
    return JT_OK;
}

/* ---- writing ---- */

/* Slot by slot, lora_a before lora_b. One alpha is for all: what it does not say of a
 * slot goes into its B. */
typedef struct writing {
    jt_gguf_writer *w;
    const jt_gguf *model;
    float alpha;
} writing;

static jt_status describe(const writing *x, const jt_adapter_slot *s, int part,
                          jt_err *err)
{
    char name[192];
    bool turn = strcmp(s->target, turned) == 0;
    const jt_gguf_tensor *t = jt_gguf_find(x->model, s->target);
    size_t rows = part == JT_LOW_A ? s->rank : s->rows;
    size_t cols = part == JT_LOW_A ? s->cols : s->rank;
    if (turn) {
        rows = part == JT_LOW_A ? s->rows : s->cols;
        cols = s->rank;
    }
    const uint64_t shape[] = {s->count, rows, cols};
    int skip = !t || t->n_dims < 3;
    snprintf(name, sizeof name, "%s%s", s->target, part == JT_LOW_A ? a_tail : b_tail);
    return jt_gguf_add_tensor(x->w, name, JT_F32, 3 - skip, shape + skip, err);
}

/* Row r of part B, or column r of A, times `factor`. */
static jt_status write_row(const writing *x, const float *from, size_t step, size_t n,
                           float factor, float *row, jt_err *err)
{
    for (size_t i = 0; i < n; i++)
        row[i] = factor * from[i * step];
    return jt_gguf_write(x->w, row, n * sizeof *row, err);
}

static jt_status write_part(const writing *x, const jt_adapter_slot *s, int part,
                            float *row, jt_err *err)
{
    bool turn = strcmp(s->target, turned) == 0;
    if (turn)
        part = part == JT_LOW_A ? JT_LOW_B : JT_LOW_A;
    const jt_tensor *t = &s->part[part];
    float factor = part == JT_LOW_B ? s->scale * (float)s->rank / x->alpha : 1.0f;
    if (turn && part == JT_LOW_A) {
        for (size_t c = 0; c < s->cols; c++)
            JT_TRY(write_row(x, (const float *)t->data + c, s->cols, s->rank, 1.0f, row,
                             err));
        return JT_OK;
    }
    for (size_t r = 0; r < jt_rows(t); r++)
        JT_TRY(write_row(x, jt_row(t, r), 1, jt_cols(t), factor, row, err));
    return JT_OK;
}

static jt_status write_all(const writing *x, const jt_adapter *a, jt_err *err)
{
    size_t widest = 0;
    JT_TRY(jt_gguf_set_str(x->w, "general.architecture", a->family, err));
    JT_TRY(jt_gguf_set_str(x->w, "general.type", "adapter", err));
    JT_TRY(jt_gguf_set_str(x->w, "adapter.type", "lora", err));
    JT_TRY(jt_gguf_set_f32(x->w, alpha_key, x->alpha, err));
    for (size_t i = 0; i < a->count; i++) {
        const jt_adapter_slot *s = &a->slot[i];
        widest = s->cols > widest ? s->cols : widest;
        widest = s->rank > widest ? s->rank : widest;
        JT_TRY(describe(x, s, JT_LOW_A, err));
        JT_TRY(describe(x, s, JT_LOW_B, err));
    }
    float *row = jt_alloc(widest, sizeof *row);
    if (!row)
        return jt_fail_memory(err, "writing an adapter");
    jt_status status = JT_OK;
    for (size_t i = 0; i < a->count && status == JT_OK; i++) {
        status = write_part(x, &a->slot[i], JT_LOW_A, row, err);
        if (status == JT_OK)
            status = write_part(x, &a->slot[i], JT_LOW_B, row, err);
    }
    free(row);
    return status;
}

jt_status jt_adapter_write_gguf(const jt_adapter *a, const char *path,
                                const jt_model *model, jt_err *err)
{
    if (!a->kind->low_rank || a->kind->magnitude || a->kind->by_token)
        return jt_fail(err, JT_E_UNSUPPORTED, "adapters of kind '%s' in GGUF files",
                       a->kind->name);
    if (!a->count)
        return jt_fail(err, JT_E_ARG, "an adapter without targets");
    writing x = {.model = model->file,
                 .alpha = a->slot[0].scale * (float)a->slot[0].rank};
    JT_TRY(jt_gguf_writer_new(&x.w, path, err));
    jt_status status = write_all(&x, a, err);
    if (status == JT_OK)
        return jt_gguf_writer_finish(x.w, err);
    jt_gguf_writer_abort(x.w);
    return status;
}
