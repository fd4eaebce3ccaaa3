#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/pieces_impl.h"

jt_status jt_pieces_new(jt_pieces *out, const jt_steps *steps, jt_err *err)
{
    *out = (jt_pieces){.steps = steps};
    out->scratch = pcre2_match_data_create(1, steps->memory);
    out->buffers = jt_calloc(steps->count, sizeof *out->buffers);
    return out->scratch && out->buffers ? JT_OK : jt_fail_memory(err, "splitting text");
}

void jt_pieces_free(jt_pieces *pieces)
{
    for (size_t i = 0; pieces->buffers && i < pieces->steps->count; i++) {
        free(pieces->buffers[i].data);
        jt_normal_free(&pieces->buffers[i].normal);
    }
    free(pieces->buffers);
    pcre2_match_data_free(pieces->scratch);
    *pieces = (jt_pieces){0};
}

jt_status jt_pieces_find(const jt_pieces_work *w, const jt_step *step, jt_str text,
                         size_t from, bool *found, size_t *start, size_t *end)
{
    PCRE2_SPTR bytes = (PCRE2_SPTR)text.data;
    pcre2_match_data *scratch = w->pieces->scratch;
    pcre2_match_context *context = w->pieces->steps->match;
    int code = pcre2_match(step->code, bytes, text.len, from, PCRE2_NO_UTF_CHECK,
                           scratch, context);
    /* Machine code has a small stack; the interpreter takes memory as it needs it. */
    if (code == PCRE2_ERROR_JIT_STACKLIMIT)
        code = pcre2_match(step->code, bytes, text.len, from,
                           PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, scratch, context);
    if (code == PCRE2_ERROR_NOMEMORY)
        return jt_fail_memory(w->err, "splitting text");
    if (code < 0 && code != PCRE2_ERROR_NOMATCH)
        return jt_fail(w->err, JT_E_LIMIT, "text too hard to split (pcre2 error %d)",
                       code);
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(scratch);
    *found = code >= 0;
    *start = code < 0 ? text.len : ends[0];
    *end = code < 0 ? text.len : ends[1];
    if (*start < from || *end < *start) /* what \K in a look around can do */
        return jt_fail(w->err, JT_E_UNSUPPORTED, "an expression matches backwards");
    return JT_OK;
}

jt_status jt_pieces_step(const jt_pieces_work *w, size_t i, jt_piece piece)
{
    if (piece.text.len == 0)
        return JT_OK;
    for (; i < w->pieces->steps->count; i++) {
        if (w->pieces->steps->items[i].kind == JT_STEP_CUT)
            return jt_pieces_cut(w, i, piece);
        JT_TRY(jt_pieces_change(w, i, &piece));
        if (piece.text.len == 0)
            return JT_OK;
    }
    return w->fn(w->user, piece.text);
}

jt_status jt_pieces_run(jt_pieces *pieces, jt_str text, bool start, jt_piece_fn *fn,
                        void *user, jt_err *err)
{
    enum { GROWTH = 64, LEAST = 4096 };
    if (text.len > (SIZE_MAX - LEAST) / GROWTH)
        return jt_fail(err, JT_E_LIMIT, "text of %zu bytes is too long", text.len);
    jt_pieces_work w = {pieces, fn, user, GROWTH * text.len + LEAST, err};
    for (bool stretch = true; text.len > 0; stretch = start = false) {
        jt_str run = {text.data, jt_utf8_valid(text.data, text.len)};
        if (run.len > 0) {
            JT_TRY(jt_pieces_step(&w, 0, (jt_piece){run, stretch, start}));
        } else {
            run.len = jt_utf8_invalid(text.data, text.len);
            JT_TRY(fn(user, run));
        }
        text = (jt_str){text.data + run.len, text.len - run.len};
    }
    return JT_OK;
}

size_t jt_pieces_chunk(jt_str text, size_t most)
{
    if (text.len <= most)
        return text.len;
    const char *line_end = memrchr(text.data, '\n', most);
    if (line_end)
        return (size_t)(line_end - text.data) + 1;
    return jt_utf8_whole(text.data, most);
}
