/* Steps that change the text of a piece. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "text/alphabet.h"
#include "text/pieces_impl.h"

/* A step at work: what it reads, and the buffer that it writes. */
typedef struct change {
    const jt_pieces_work *w;
    const jt_step *step;
    jt_pieces_buffer *out;
    jt_str text;
} change;

static jt_status put(const change *c, const char *text, size_t len)
{
    jt_pieces_buffer *out = c->out;
    if (len == 0)
        return JT_OK;
    if (len > c->w->longest - out->len)
        return jt_fail(c->w->err, JT_E_LIMIT, "text grows too much when normalized");
    if (!jt_grow((void **)&out->data, &out->capacity, out->len + len, 1))
        return jt_fail_memory(c->w->err, "normalizing text");
    memcpy(out->data + out->len, text, len);
    out->len += len;
    return JT_OK;
}

static jt_status put_str(const change *c, jt_str text)
{
    return put(c, text.data, text.len);
}

static jt_status put_char(const change *c, int32_t code)
{
    utf8proc_uint8_t utf8[4];
    return put(c, (const char *)utf8, (size_t)utf8proc_encode_char(code, utf8));
}

/* The character at `at`, which is moved behind it. */
static int32_t next_char(jt_str text, size_t *at)
{
    utf8proc_int32_t code = 0;
    *at += (size_t)utf8proc_iterate((const utf8proc_uint8_t *)text.data + *at,
                                    (utf8proc_ssize_t)(text.len - *at), &code);
    return code;
}

static jt_status replace_text(const change *c)
{
    jt_str from = c->step->from, left = c->text;
    const char *found;
    while ((found = memmem(left.data, left.len, from.data, from.len)) != NULL) {
        size_t before = (size_t)(found - left.data);
        JT_TRY(put_str(c, (jt_str){left.data, before}));
        JT_TRY(put_str(c, c->step->text));
        left = (jt_str){found + from.len, left.len - before - from.len};
    }
    return put_str(c, left);
}

static jt_status replace_matches(const change *c)
{
    bool found = true;
    for (size_t done = 0, start, end; found; done = end) {
        JT_TRY(jt_pieces_find(c->w, c->step, c->text, done, &found, &start, &end));
        JT_TRY(put_str(c, (jt_str){c->text.data + done, start - done}));
        if (found)
            JT_TRY(put_str(c, c->step->text));
        if (found && end == start) { /* empty: go on behind the next character */
            size_t len = jt_utf8_char(c->text.data + end, c->text.len - end);
            JT_TRY(put_str(c, (jt_str){c->text.data + end, len}));
            found = len > 0;
            end += len;
        }
    }
    return JT_OK;
}

static jt_status change_char(const change *c, int32_t code)
{
    int32_t lower[2];
    switch (c->step->kind) {
    case JT_STEP_LOWER:
        for (size_t i = 0, n = jt_char_lower(code, lower); i < n; i++)
            JT_TRY(put_char(c, lower[i]));
        return JT_OK;
    case JT_STEP_DROP_MARKS:
        return jt_char_is_mark(code, c->step->all) ? JT_OK : put_char(c, code);
    case JT_STEP_CLEAN:
        if (code == 0xfffd || jt_char_is_control(code))
            return JT_OK;
        return put_char(c, jt_char_is_space(code) ? ' ' : code);
    default: { /* JT_STEP_IDEOGRAPHS */
        bool apart = jt_char_is_ideograph(code);
        JT_TRY(put(c, " ", apart));
        JT_TRY(put_char(c, code));
        return put(c, " ", apart);
    }
    }
}

static jt_status change_chars(const change *c)
{
    for (size_t at = 0; at < c->text.len;)
        JT_TRY(change_char(c, next_char(c->text, &at)));
    return JT_OK;
}

/* What takes the place of the longest sequence at the start of `text`, or the shortest
 * one; how many bytes that has, 0 when there is none. */
static size_t find_mapped(const change *c, jt_str text, bool shortest, jt_str *instead)
{
    size_t len = jt_charsmap_find(&c->step->charsmap, text, shortest, instead);
    /* A wrong table could end inside a character or begin there. */
    bool whole =
        jt_utf8_valid(text.data, len) == len &&
        (len == 0 || jt_utf8_valid(instead->data, instead->len) == instead->len);
    return whole ? len : 0;
}

/* SentencePiece: the longest sequence at each place. */
static jt_status map_chars(const change *c)
{
    for (size_t at = 0, len; at < c->text.len; at += len) {
        jt_str left = {c->text.data + at, c->text.len - at}, instead;
        len = find_mapped(c, left, false, &instead);
        if (len == 0) {
            len = jt_utf8_char(left.data, left.len);
            instead = (jt_str){left.data, len};
        }
        JT_TRY(put_str(c, instead));
    }
    return JT_OK;
}

/* Bytes of the grapheme cluster at `at`. */
static size_t cluster_bytes(jt_str text, size_t at)
{
    size_t start = at;
    utf8proc_int32_t state = 0;
    for (int32_t last = next_char(text, &at); at < text.len;) {
        size_t end = at;
        int32_t next = next_char(text, &at);
        if (utf8proc_grapheme_break_stateful(last, next, &state))
            return end - start;
        last = next;
    }
    return text.len - start;
}

/* The tokenizers library: a short cluster becomes what its shortest sequence does, all
 * of it; others are looked up character by character (spm_precompiled, lib.rs). */
static jt_status map_clusters(const change *c)
{
    enum { SHORT = 6 };
    size_t left = 0; /* of a cluster that is looked up by characters */
    for (size_t at = 0, len; at < c->text.len; at += len, left -= len) {
        jt_str instead;
        if (left == 0)
            left = cluster_bytes(c->text, at);
        len = left;
        if (len < SHORT &&
            find_mapped(c, (jt_str){c->text.data + at, len}, true, &instead) > 0) {
            JT_TRY(put_str(c, instead));
            continue;
        }
        len = jt_utf8_char(c->text.data + at, c->text.len - at);
        if (find_mapped(c, (jt_str){c->text.data + at, len}, true, &instead) == 0)
            instead = (jt_str){c->text.data + at, len};
        JT_TRY(put_str(c, instead));
    }
    return JT_OK;
}

static jt_str strip(jt_str text, bool left, bool right)
{
    size_t start = text.len, end = 0; /* of what is no space */
    for (size_t at = 0, before; before = at, at < text.len;) {
        if (jt_char_is_space(next_char(text, &at)))
            continue;
        start = before < start ? before : start;
        end = at;
    }
    start = left ? start : 0;
    end = right ? end : text.len;
    return (jt_str){text.data + start, end > start ? end - start : 0};
}

static bool begins_with(jt_str text, jt_str prefix)
{
    return text.len >= prefix.len && memcmp(text.data, prefix.data, prefix.len) == 0;
}

/* `text` of the step before the piece, where it belongs. */
static jt_status put_front(const change *c, const jt_piece *piece)
{
    bool wanted =
        c->step->kind == JT_STEP_PREPEND
            ? piece->stretch
            : (!c->step->first || piece->start) && !begins_with(c->text, c->step->text);
    if (wanted)
        JT_TRY(put_str(c, c->step->text));
    return put_str(c, c->text);
}

static jt_status spell(const change *c)
{
    for (size_t i = 0; i < c->text.len; i++) {
        char text[2];
        JT_TRY(put(c, text, jt_alphabet_char((unsigned char)c->text.data[i], text)));
    }
    return JT_OK;
}

static jt_status unspell(const change *c)
{
    jt_pieces_buffer *out = c->out;
    if (!jt_grow((void **)&out->data, &out->capacity, c->text.len, 1))
        return jt_fail_memory(c->w->err, "normalizing text");
    out->len = jt_alphabet_decode(out->data, c->text);
    return JT_OK;
}

static jt_status rewrite(const change *c, const jt_piece *piece)
{
    switch (c->step->kind) {
    case JT_STEP_REPLACE:
        return c->step->code ? replace_matches(c) : replace_text(c);
    case JT_STEP_PREPEND:
    case JT_STEP_PREFIX:
        return put_front(c, piece);
    case JT_STEP_CHARSMAP:
        return c->step->clusters ? map_clusters(c) : map_chars(c);
    case JT_STEP_SPELL:
        return spell(c);
    case JT_STEP_UNSPELL:
        return unspell(c);
    default:
        return change_chars(c);
    }
}

jt_status jt_pieces_change(const jt_pieces_work *w, size_t i, jt_piece *piece)
{
    const jt_step *step = &w->pieces->steps->items[i];
    jt_pieces_buffer *out = &w->pieces->buffers[i];
    if (step->kind == JT_STEP_FORM)
        return jt_normal_run(&out->normal, step->form, piece->text, &piece->text,
                             w->err);
    if (step->kind == JT_STEP_STRIP) {
        piece->text = strip(piece->text, step->left, step->right);
        return JT_OK;
    }
    out->len = 0;
    change c = {w, step, out, piece->text};
    JT_TRY(rewrite(&c, piece));
    piece->text = (jt_str){out->data, out->len};
    return JT_OK;
}
