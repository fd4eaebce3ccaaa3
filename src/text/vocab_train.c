#include "junto/vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "text/alphabet.h"
#include "text/bpe.h"
#include "text/jsonl.h"
#include "text/pieces.h"
#include "text/pretoken.h"
#include "text/vocab.h"

#define KEY(name) "tokenizer.ggml." name

static const char *const default_specials[] = {"<|endoftext|>", "<|im_start|>",
                                               "<|im_end|>"};
enum { DEFAULT_SPECIALS = sizeof default_specials / sizeof *default_specials };

/* One call of jt_vocabulary_train. */
typedef struct making {
    jt_vocabulary_options options; /* with the defaults filled in */
    const jt_pretokenizer *pre;
    jt_steps steps;
    jt_pieces pieces;
    jt_specials specials;
    jt_names names; /* of the special tokens */
    jt_words words;
    jt_bpe bpe;
    const char *what;   /* the file that is read */
    size_t total, seen; /* its bytes, and those of its records so far */
    jt_err *err;
} making;

static jt_status no_memory(const making *m)
{
    return jt_fail_memory(m->err, "learning a vocabulary");
}

static jt_status fill_in(making *m, const jt_vocabulary_options *options)
{
    jt_vocabulary_options *o = &m->options;
    *o = *options;
    o->pre = o->pre ? o->pre : "gpt-2";
    o->min_count = o->min_count ? o->min_count : 2;
    if (!o->specials) {
        o->specials = default_specials;
        o->n_specials = DEFAULT_SPECIALS;
    }
    if (o->size > INT32_MAX || o->size < 256 || o->size - 256 < o->n_specials)
        return jt_fail(m->err, JT_E_ARG,
                       "a vocabulary of %zu tokens: there are 256 bytes and %zu special"
                       " tokens, and at most 2^31 tokens",
                       o->size, o->n_specials);
    m->pre = jt_pretokenizer_find((jt_str){o->pre, strlen(o->pre)});
    if (m->pre)
        return JT_OK;
    char known[400];
    jt_pretokenizer_names(known, sizeof known);
    return jt_fail(m->err, JT_E_ARG, "no pre-tokenizer '%.40s'; known are %s", o->pre,
                   known);
}

static jt_status list_specials(making *m)
{
    size_t count = m->options.n_specials;
    m->specials.list = jt_alloc(count, sizeof *m->specials.list);
    if (!m->specials.list)
        return no_memory(m);
    for (size_t i = 0; i < count; i++) {
        jt_str text = {m->options.specials[i], strlen(m->options.specials[i])};
        if (!text.len || jt_names_find(&m->names, text) != JT_NAMES_NONE)
            return jt_fail(m->err, JT_E_ARG, "special token '%.80s' is %s", text.data,
                           text.len ? "there twice" : "empty");
        if (!jt_names_add(&m->names, text, i))
            return no_memory(m);
        m->specials.list[i] =
            (jt_special){.text = text, .id = (int32_t)i, .control = true};
    }
    m->specials.count = count;
    jt_specials_index(&m->specials);
    return JT_OK;
}

static jt_status count_word(void *user, jt_str piece)
{
    making *m = user;
    return jt_words_add(&m->words, piece, m->err);
}

/* Bytes up to the next special token, or all; *border: bytes of the token. */
static size_t find_special(const making *m, jt_str text, size_t *border)
{
    for (size_t at = 0; at < text.len; at++) {
        jt_str rest = {text.data + at, text.len - at};
        const jt_special *special = jt_specials_match(&m->specials, rest, true);
        if (special) {
            *border = special->text.len;
            return at;
        }
    }
    *border = 0;
    return text.len;
}

/* Count a stretch without special tokens, chunk by chunk: memory is bounded, and one
 * can see how far it is. Where chunks meet, words may be cut other than in one piece.
 */
static jt_status count_stretch(making *m, jt_str text, size_t before)
{
    enum { CHUNK = 1 << 20 };
    for (size_t at = 0, len; at < text.len; at += len) {
        JT_TRY(jt_progress_report(&m->options.progress, m->what, before + at, m->total,
                                  m->err));
        jt_str rest = {text.data + at, text.len - at};
        len = jt_pieces_chunk(rest, CHUNK);
        jt_str chunk = {rest.data, len};
        JT_TRY(jt_pieces_run(&m->pieces, chunk, false, count_word, m, m->err));
    }
    return JT_OK;
}

/* `before`: bytes of the file before this text. */
static jt_status count_text(making *m, jt_str text, size_t before)
{
    for (size_t at = 0; at < text.len;) {
        jt_str rest = {text.data + at, text.len - at};
        size_t border, len = find_special(m, rest, &border);
        JT_TRY(count_stretch(m, (jt_str){rest.data, len}, before + at));
        at += len + border;
    }
    return JT_OK;
}

static jt_status count_record(void *user, const jt_record *record, jt_err *err)
{
    making *m = user;
    jt_message message;
    size_t before = m->seen;
    m->seen = record->end;
    for (size_t i = 0; i < jt_record_messages(record); i++) {
        JT_TRY(jt_record_message(record, i, &message, err));
        JT_TRY(count_text(m, message.content, before));
    }
    JT_TRY(count_text(m, record->text, before));
    return count_text(m, record->completion, before);
}

static jt_status count_file(making *m, const char *path)
{
    jt_map map;
    JT_TRY(jt_map_open(&map, path, m->err));
    jt_str text = {(const char *)map.data, map.bytes};
    m->what = path;
    m->total = text.len;
    m->seen = 0;
    jt_status status = jt_is_jsonl(path) ? jt_jsonl_read(text, count_record, m, m->err)
                                         : count_text(m, text, 0);
    jt_map_close(&map);
    if (status == JT_E_INTERRUPTED)
        return status;
    if (status != JT_OK)
        return jt_fail_within(m->err, status, "'%s'", path);
    return jt_progress_report(&m->options.progress, path, text.len, text.len, m->err);
}

static jt_status count_files(making *m, const char *const *paths, size_t n_paths)
{
    JT_TRY(jt_pretokenizer_steps(&m->steps, m->pre, m->err));
    JT_TRY(jt_pieces_new(&m->pieces, &m->steps, m->err));
    for (size_t i = 0; i < n_paths; i++)
        JT_TRY(count_file(m, paths[i]));
    return JT_OK;
}

/* Tokens as text: each byte a character of the alphabet. NULL: out of memory. */
static jt_str *spell_tokens(const jt_bpe *bpe, jt_arena *arena)
{
    jt_str *texts = jt_arena_alloc(arena, bpe->n_tokens, sizeof *texts);
    for (size_t i = 0; texts && i < bpe->n_tokens; i++) {
        jt_str bytes = bpe->tokens[i];
        char *text = jt_arena_alloc(arena, bytes.len, 2);
        if (!text)
            return NULL;
        texts[i] = (jt_str){text, 0};
        for (size_t j = 0; j < bytes.len; j++)
            texts[i].len +=
                jt_alphabet_char((unsigned char)bytes.data[j], text + texts[i].len);
    }
    return texts;
}

/* "left right" of each merge. NULL: out of memory. */
static jt_str *spell_merges(const jt_bpe *bpe, const jt_str *texts, jt_arena *arena)
{
    jt_str *merges = jt_arena_alloc(arena, bpe->n_merges, sizeof *merges);
    for (size_t i = 0; merges && i < bpe->n_merges; i++) {
        jt_str left = texts[bpe->merges[i].left], right = texts[bpe->merges[i].right];
        size_t len = left.len + 1 + right.len;
        char *text = jt_arena_alloc(arena, len, 1);
        if (!text)
            return NULL;
        memcpy(text, left.data, left.len);
        text[left.len] = ' ';
        memcpy(text + left.len + 1, right.data, right.len);
        merges[i] = (jt_str){text, len};
    }
    return merges;
}

/* The keys that are lists. */
static jt_status set_lists(const making *m, jt_gguf_writer *w, jt_arena *arena)
{
    const jt_bpe *bpe = &m->bpe;
    const jt_vocabulary_options *o = &m->options;
    size_t count = bpe->n_tokens + o->n_specials;
    jt_str *spelt = spell_tokens(bpe, arena);
    jt_str *merges = spelt ? spell_merges(bpe, spelt, arena) : NULL;
    jt_str *texts = jt_arena_alloc(arena, count, sizeof *texts);
    int32_t *types = jt_arena_alloc(arena, count, sizeof *types);
    if (!merges || !texts || !types)
        return no_memory(m);
    for (size_t i = 0; i < bpe->n_tokens; i++) {
        if (jt_names_find(&m->names, spelt[i]) != JT_NAMES_NONE)
            return jt_fail(m->err, JT_E_ARG,
                           "special token '%.*s' has the name of another token",
                           (int)spelt[i].len, spelt[i].data);
    }
    for (size_t i = 0; i < count; i++) {
        bool special = i >= bpe->n_tokens;
        const char *name = special ? o->specials[i - bpe->n_tokens] : NULL;
        texts[i] = special ? (jt_str){name, strlen(name)} : spelt[i];
        types[i] = special ? JT_TOKEN_CONTROL : JT_TOKEN_NORMAL;
    }
    JT_TRY(jt_gguf_set_strs(w, KEY("tokens"), texts, count, m->err));
    JT_TRY(jt_gguf_set_i32s(w, KEY("token_type"), types, count, m->err));
    return jt_gguf_set_strs(w, KEY("merges"), merges, bpe->n_merges, m->err);
}

static jt_status set_keys(const making *m, jt_gguf_writer *w)
{
    JT_TRY(jt_gguf_set_str(w, KEY("model"), "gpt2", m->err));
    JT_TRY(jt_gguf_set_str(w, KEY("pre"), m->pre->name, m->err));
    jt_arena arena = {0};
    jt_status status = set_lists(m, w, &arena);
    jt_arena_free(&arena);
    JT_TRY(status);
    if (m->options.n_specials > 0) {
        uint32_t id = (uint32_t)m->bpe.n_tokens;
        JT_TRY(jt_gguf_set_u32(w, KEY("bos_token_id"), id, m->err));
        JT_TRY(jt_gguf_set_u32(w, KEY("eos_token_id"), id, m->err));
    }
    return jt_gguf_set_bool(w, KEY("add_bos_token"), false, m->err);
}

static jt_status write_file(const making *m, const char *path)
{
    jt_gguf_writer *w;
    JT_TRY(jt_gguf_writer_new(&w, path, m->err));
    jt_status status = set_keys(m, w);
    if (status == JT_OK)
        return jt_gguf_writer_finish(w, m->err);
    jt_gguf_writer_abort(w);
    return status;
}

static jt_status make(making *m, const char *const *paths, size_t n_paths,
                      const char *out_path, const jt_vocabulary_options *options)
{
    JT_TRY(fill_in(m, options));
    JT_TRY(list_specials(m));
    JT_TRY(count_files(m, paths, n_paths));
    const jt_vocabulary_options *o = &m->options;
    JT_TRY(jt_bpe_train(&m->bpe, &m->words, o->size - o->n_specials, o->min_count,
                        &o->progress, m->err));
    return write_file(m, out_path);
}

jt_status jt_vocabulary_train(const char *const *paths, size_t n_paths,
                              const char *out_path,
                              const jt_vocabulary_options *options,
                              jt_vocabulary_report *report, jt_err *err)
{
    making m = {.err = err};
    jt_status status = make(&m, paths, n_paths, out_path, options);
    if (status == JT_OK && report)
        *report = (jt_vocabulary_report){
            .tokens = m.bpe.n_tokens + m.options.n_specials,
            .merges = m.bpe.n_merges,
            .bytes = m.words.bytes,
            .pieces = m.words.pieces,
            .words = m.words.count,
            .text_tokens = m.bpe.text_tokens,
        };
    jt_pieces_free(&m.pieces);
    jt_steps_free(&m.steps);
    free(m.specials.list);
    jt_names_free(&m.names);
    jt_words_free(&m.words);
    jt_bpe_free(&m.bpe);
    return status;
}
