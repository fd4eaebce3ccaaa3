#include "adapt/blend_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/files.h"
#include "base/memory.h"
#include "format/gguf_file.h"

static const char a_tail[] = ".mix_a", b_tail[] = ".mix_b", gate_tail[] = ".mix_gate";
static const char head[] = "mix.head.";

static bool ends_with(jt_str name, const char *tail)
{
    size_t n = strlen(tail);
    return name.len > n && memcmp(name.data + name.len - n, tail, n) == 0;
}

static bool starts_with(jt_str name, const char *start)
{
    size_t n = strlen(start);
    return name.len > n && memcmp(name.data, start, n) == 0;
}

bool jt_blend_owns(jt_str name)
{
    return ends_with(name, a_tail) || ends_with(name, b_tail) ||
           ends_with(name, gate_tail) || starts_with(name, head);
}

/* ---- metadata ---- */

static jt_status need(const jt_safetensors *file, const char *key, jt_str *out,
                      jt_err *err)
{
    if (jt_safetensors_metadata(file, key, out))
        return JT_OK;
    return jt_fail(err, JT_E_FORMAT, "the metadata '%s' is missing", key);
}

static jt_status need_number(const jt_safetensors *file, const char *key, double *out,
                             jt_err *err)
{
    jt_str text;
    char copy[32] = "", *end;
    JT_TRY(need(file, key, &text, err));
    if (text.len < sizeof copy)
        memcpy(copy, text.data, text.len);
    *out = strtod(copy, &end);
    return *copy && !*end && isfinite(*out)
               ? JT_OK
               : jt_fail(err, JT_E_FORMAT, "metadata '%s' is '%.*s', expected a number",
                         key, JT_GGUF_SHOW(text));
}

/* Up to the next `end`, which is taken off. */
static jt_str next_piece(jt_str *rest, char end)
{
    const char *at = rest->len ? memchr(rest->data, end, rest->len) : NULL;
    jt_str piece = {rest->data, at ? (size_t)(at - rest->data) : rest->len};
    size_t skip = piece.len + (at != NULL);
    *rest = (jt_str){rest->data + skip, rest->len - skip};
    return piece;
}

static jt_status read_names(jt_blend *b, const jt_safetensors *file, jt_err *err)
{
    jt_str rest;
    JT_TRY(need(file, "junto.mix.names", &rest, err));
    for (size_t i = 0; i < b->n; i++) {
        jt_str name = next_piece(&rest, '\n');
        if (name.len >= JT_BLEND_NAME || memchr(name.data, '\0', name.len))
            return jt_fail(err, JT_E_FORMAT, "the name of adapter %zu is too long", i);
        memcpy(b->name[i], name.data, name.len);
    }
    return JT_OK;
}

static jt_status read_marker(jt_blend *b, size_t i, jt_str text, jt_err *err)
{
    int32_t ids[64];
    size_t n = 0;
    while (text.len) {
        jt_str word = next_piece(&text, ' ');
        char copy[16] = "", *end;
        if (word.len < sizeof copy)
            memcpy(copy, word.data, word.len);
        long id = strtol(copy, &end, 10);
        if (!*copy || *end || id < 0 || id > INT32_MAX || n == 64)
            return jt_fail(err, JT_E_FORMAT, "the marker of adapter %zu makes no sense",
                           i);
        ids[n++] = (int32_t)id;
    }
    return jt_blend_set_markers(b, i, ids, n, err);
}

static jt_status read_markers(jt_blend *b, const jt_safetensors *file, jt_err *err)
{
    jt_str rest;
    if (b->method->producer != JT_BY_RULE)
        return JT_OK;
    JT_TRY(need(file, "junto.mix.markers", &rest, err));
    for (size_t i = 0; i < b->n; i++)
        JT_TRY(read_marker(b, i, next_piece(&rest, ';'), err));
    return JT_OK;
}

static jt_status read_metadata(jt_blend **out, const jt_safetensors *file,
                               jt_str method, jt_err *err)
{
    const jt_blend_method *known = jt_blend_method_find(method.data, method.len);
    double n, k, scale, temperature, after;
    if (!known)
        return jt_fail(err, JT_E_UNSUPPORTED, "mixtures of adapters by '%.*s'",
                       JT_GGUF_SHOW(method));
    JT_TRY(need_number(file, "junto.mix.count", &n, err));
    JT_TRY(need_number(file, "junto.mix.top_k", &k, err));
    JT_TRY(need_number(file, "junto.mix.scale", &scale, err));
    JT_TRY(need_number(file, "junto.mix.temperature", &temperature, err));
    JT_TRY(need_number(file, "junto.mix.gate_after", &after, err));
    if (!(n >= 1 && n <= JT_BLEND_MOST && k >= 1 && k <= n))
        return jt_fail(err, JT_E_FORMAT, "%g of %g adapters make no sense", k, n);
    JT_TRY(jt_blend_new(out, known, (size_t)n, (int)k, err));
    (*out)->scale = (float)scale;
    (*out)->temperature = (float)temperature;
    (*out)->gate_after = after != 0.0;
    return JT_OK;
}

/* ---- tensors ---- */

static jt_status wrong(const jt_safetensor *t, jt_err *err)
{
    return jt_fail(err, JT_E_FORMAT,
                   "tensor '%.*s' has a shape that does not go with the others",
                   JT_GGUF_SHOW(t->name));
}

static const jt_safetensor *find(const jt_safetensors *file, jt_str target,
                                 const char *tail)
{
    char name[192];
    snprintf(name, sizeof name, "%.*s%s", JT_GGUF_SHOW(target), tail);
    return jt_safetensors_find(file, name);
}

static jt_status read_bank(jt_blend *b, const jt_safetensors *file,
                           const jt_safetensor *low, jt_err *err)
{
    jt_adapter_bank *bank;
    jt_str target = {low->name.data, low->name.len - strlen(a_tail)};
    if (target.len > 128 || memchr(target.data, '\0', target.len))
        return jt_fail(err, JT_E_FORMAT, "tensor '%.*s' has too long a name",
                       JT_GGUF_SHOW(low->name));
    const jt_safetensor *high = find(file, target, b_tail);
    if (!high)
        return jt_fail(err, JT_E_FORMAT, "tensor '%.*s%s' is missing",
                       JT_GGUF_SHOW(target), b_tail);
    if (low->n_dims != 3 || high->n_dims != 3 || low->shape[0] != b->n ||
        high->shape[0] != b->n || high->shape[2] != low->shape[1] || !low->shape[1] ||
        !low->shape[2] || !high->shape[1])
        return wrong(low, err);
    return jt_blend_add(b, &bank, target, (size_t)high->shape[1], (size_t)low->shape[2],
                        (size_t)low->shape[1], err);
}

static jt_status read_banks(jt_blend *b, const jt_safetensors *file, jt_err *err)
{
    for (size_t i = 0; i < jt_safetensors_count(file); i++) {
        const jt_safetensor *t = jt_safetensors_at(file, i);
        if (ends_with(t->name, a_tail))
            JT_TRY(read_bank(b, file, t, err));
    }
    if (!b->n_banks)
        return jt_fail(err, JT_E_FORMAT, "it mixes no adapters of any weight");
    return JT_OK;
}

static jt_status read_head(jt_blend *b, const jt_safetensors *file, jt_err *err)
{
    const jt_safetensor *layer[JT_HEAD_LAYERS];
    int depth = 0;
    for (; depth < JT_HEAD_LAYERS; depth++) {
        char name[32];
        snprintf(name, sizeof name, "mix.head.%d.weight", depth);
        layer[depth] = jt_safetensors_find(file, name);
        if (!layer[depth])
            break;
        if (layer[depth]->n_dims != 2)
            return wrong(layer[depth], err);
    }
    if (b->method->producer != JT_BY_PASS)
        return JT_OK;
    if (!depth)
        return jt_fail(err, JT_E_FORMAT, "tensor 'mix.head.0.weight' is missing");
    for (int i = 1; i < depth; i++) { /* before room is made for them */
        if (layer[i]->shape[1] != layer[i - 1]->shape[0] ||
            layer[i]->shape[1] != layer[0]->shape[0])
            return wrong(layer[i], err);
    }
    size_t width = depth > 1 ? (size_t)layer[0]->shape[0] : 1;
    bool layerwise = layer[depth - 1]->shape[0] != b->n;
    return jt_blend_add_head(b, (size_t)layer[0]->shape[1], depth, width, layerwise,
                             err);
}

/* Values of all parts, whose shapes were made from some of them. */
static jt_status read_values(jt_blend *b, const jt_safetensors *file, jt_err *err)
{
    for (size_t i = 0; i < jt_blend_parts(b); i++) {
        jt_blend_part p = jt_blend_part_at(b, i);
        const jt_safetensor *from = jt_safetensors_find(file, p.name);
        if (!jt_has(p.tensor))
            continue;
        if (!from)
            return jt_fail(err, JT_E_FORMAT, "tensor '%s' is missing", p.name);
        bool same = from->n_dims == p.tensor->n_dims;
        for (int d = 0; same && d < from->n_dims; d++)
            same = from->shape[d] == p.tensor->shape[d];
        if (!same)
            return wrong(from, err);
        JT_TRY(jt_safetensor_floats(p.tensor->data, from, err));
    }
    return jt_blend_check(b, err);
}

static jt_status read_all(jt_blend *b, const jt_safetensors *file, jt_err *err)
{
    JT_TRY(read_names(b, file, err));
    JT_TRY(read_markers(b, file, err));
    JT_TRY(read_banks(b, file, err));
    JT_TRY(read_head(b, file, err));
    return read_values(b, file, err);
}

jt_status jt_blend_read(jt_blend **out, const jt_safetensors *file, jt_err *err)
{
    jt_str method;
    jt_blend *b;
    *out = NULL;
    if (!jt_safetensors_metadata(file, "junto.mix.method", &method))
        return JT_OK;
    JT_TRY(read_metadata(&b, file, method, err));
    jt_status status = read_all(b, file, err);
    if (status == JT_OK)
        *out = b;
    else
        jt_blend_free(b);
    return status;
}

/* ---- writing ---- */

static jt_status set_number(jt_safetensors_writer *w, const char *key, double value,
                            jt_err *err)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", value);
    return jt_safetensors_set_metadata(w, key, text, err);
}

static jt_status set_names(const jt_blend *b, jt_safetensors_writer *w, jt_err *err)
{
    size_t len = 0;
    char *text = jt_calloc(b->n, JT_BLEND_NAME + 1);
    if (!text)
        return jt_fail_memory(err, "writing an adapter");
    for (size_t i = 0; i < b->n; i++)
        len += (size_t)sprintf(text + len, "%s%s", i ? "\n" : "", b->name[i]);
    jt_status status = jt_safetensors_set_metadata(w, "junto.mix.names", text, err);
    free(text);
    return status;
}

static jt_status set_markers(const jt_blend *b, jt_safetensors_writer *w, jt_err *err)
{
    enum { NUMBER = 12 };
    size_t len = 0;
    char *text = jt_calloc(b->n + b->marker_start[b->n] + 1, NUMBER);
    if (!text)
        return jt_fail_memory(err, "writing an adapter");
    for (size_t i = 0; i < b->n; i++) {
        len += (size_t)sprintf(text + len, "%s", i ? ";" : "");
        for (size_t j = b->marker_start[i]; j < b->marker_start[i + 1]; j++)
            len +=
                (size_t)sprintf(text + len, "%s%d", j > b->marker_start[i] ? " " : "",
                                (int)b->marker[j]);
    }
    jt_status status = jt_safetensors_set_metadata(w, "junto.mix.markers", text, err);
    free(text);
    return status;
}

jt_status jt_blend_describe(const jt_blend *b, jt_safetensors_writer *w, jt_err *err)
{
    JT_TRY(jt_safetensors_set_metadata(w, "junto.mix.method", b->method->name, err));
    JT_TRY(set_number(w, "junto.mix.count", (double)b->n, err));
    JT_TRY(set_number(w, "junto.mix.top_k", b->k, err));
    JT_TRY(set_number(w, "junto.mix.scale", (double)b->scale, err));
    JT_TRY(set_number(w, "junto.mix.temperature", (double)b->temperature, err));
    JT_TRY(set_number(w, "junto.mix.gate_after", b->gate_after, err));
    JT_TRY(set_names(b, w, err));
    if (b->method->producer == JT_BY_RULE)
        JT_TRY(set_markers(b, w, err));
    for (size_t i = 0; i < jt_blend_parts(b); i++) {
        jt_blend_part p = jt_blend_part_at(b, i);
        uint64_t shape[JT_MAX_DIMS];
        for (int d = 0; d < p.tensor->n_dims; d++)
            shape[d] = p.tensor->shape[d];
        if (jt_has(p.tensor))
            JT_TRY(
                jt_safetensors_add(w, p.name, JT_ST_F32, p.tensor->n_dims, shape, err));
    }
    return JT_OK;
}

jt_status jt_blend_write(const jt_blend *b, jt_safetensors_writer *w, jt_err *err)
{
    for (size_t i = 0; i < jt_blend_parts(b); i++) {
        const jt_tensor *t = jt_blend_part_at(b, i).tensor;
        if (jt_has(t))
            JT_TRY(jt_safetensors_write(w, t->data,
                                        jt_rows(t) * jt_cols(t) * sizeof(float), err));
    }
    return JT_OK;
}
