/* Vocabularies of bytes with ranks: files of tiktoken, and tekken.json of Mistral. Two
 * neighbours are merged when their bytes together are a token, the lowest rank first;
 * as merges, each token has one for each way to halve it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "format/json.h"
#include "text/alphabet.h"
#include "text/base64.h"
#include "text/dialect.h"
#include "text/draft.h"
#include "text/pretoken.h"
#include "text/vocab.h"

static jt_status no_memory(const jt_draft *d)
{
    return jt_fail_memory(d->err, "reading a tokenizer");
}

/* Token `id` from bytes in base64: its text in the alphabet. */
static jt_status set_bytes(jt_draft *d, int64_t id, jt_str base64)
{
    char *bytes = jt_arena_alloc(&d->arena, base64.len, 1);
    if (!bytes)
        return no_memory(d);
    size_t len = jt_base64_decode(bytes, base64);
    if (len == 0 || len == SIZE_MAX)
        return jt_fail(d->err, JT_E_FORMAT, "token %" PRId64 " is not base64", id);
    char *text = jt_arena_alloc(&d->arena, len, 2);
    if (!text)
        return no_memory(d);
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += jt_alphabet_char((unsigned char)bytes[i], text + n);
    return jt_draft_set(d, id, (jt_str){text, n}, JT_TOKEN_NORMAL);
}

/* Two tokens that together are a third. */
static jt_status add_halves(jt_draft *d, jt_str text)
{
    /* Longer ones are found as whole pieces only; no vocabulary needs them merged. */
    enum { LONGEST = 1024 };
    for (size_t at = 1; at < text.len && text.len <= LONGEST; at++) {
        if (((unsigned char)text.data[at] & 0xc0) == 0x80)
            continue; /* inside a character of the alphabet */
        jt_str left = {text.data, at}, right = {text.data + at, text.len - at};
        if (jt_draft_find(d, left) >= 0 && jt_draft_find(d, right) >= 0)
            JT_TRY(jt_draft_add_merge(d, left, right));
    }
    return JT_OK;
}

jt_status jt_import_rank_merges(jt_draft *d, size_t first, size_t end)
{
    for (size_t i = first; i < end && i < d->count; i++) {
        if (d->tokens[i].text.data)
            JT_TRY(add_halves(d, d->tokens[i].text));
    }
    return JT_OK;
}

/* A line "BASE64 RANK"; *text moves behind it. */
static jt_status read_line(jt_draft *d, jt_str *text)
{
    const char *end = memchr(text->data, '\n', text->len);
    size_t len = end ? (size_t)(end - text->data) : text->len;
    jt_str line = {text->data, len};
    const char *space = len ? memchr(line.data, ' ', len) : NULL;
    *text = (jt_str){text->data + len + (end != NULL), text->len - len - (end != NULL)};
    if (len && line.data[len - 1] == '\r')
        line.len--;
    if (line.len == 0)
        return JT_OK;
    int64_t rank = -1;
    size_t at = space ? (size_t)(space - line.data) + 1 : line.len;
    for (size_t i = at; i < line.len; i++) {
        char c = line.data[i];
        if (c < '0' || c > '9' || rank >= JT_DRAFT_MOST)
            return jt_fail(d->err, JT_E_FORMAT, "line %zu has no rank",
                           d->by_text.used + 1);
        rank = (rank < 0 ? 0 : rank * 10) + (c - '0');
    }
    if (rank < 0)
        return jt_fail(d->err, JT_E_FORMAT, "line %zu has no rank",
                       d->by_text.used + 1);
    return set_bytes(d, rank, (jt_str){line.data, at - 1});
}

jt_status jt_import_ranks(jt_draft *d, jt_str text)
{
    d->model = "gpt2";
    while (text.len > 0)
        JT_TRY(read_line(d, &text));
    return jt_import_rank_merges(d, 0, d->count);
}

/* ---- tekken ---- */

typedef struct tekken {
    jt_draft *d;
    jt_json j;
    jt_json vocab, specials; /* bookmarks */
    bool has_vocab, has_specials;
    jt_str pattern;
    int64_t size, n_specials;
} tekken;

static void read_tekken_config(tekken *t)
{
    jt_json *j = &t->j;
    jt_json_enter(j, JT_JSON_OBJECT);
    while (jt_json_next(j)) {
        if (jt_json_key_is(j, "pattern"))
            t->pattern = jt_json_str(j);
        else if (jt_json_key_is(j, "default_vocab_size"))
            t->size = jt_json_int(j);
        else if (jt_json_key_is(j, "default_num_special_tokens"))
            t->n_specials = jt_json_int(j);
    }
}

static jt_status read_tekken_top(tekken *t)
{
    jt_json *j = &t->j;
    jt_json_enter(j, JT_JSON_OBJECT);
    while (jt_json_next(j)) {
        if (jt_json_key_is(j, "config")) {
            read_tekken_config(t);
        } else if (jt_json_key_is(j, "vocab")) {
            t->vocab = *j;
            t->has_vocab = true;
        } else if (jt_json_key_is(j, "special_tokens")) {
            t->has_specials = jt_json_peek(j) == JT_JSON_ARRAY;
            t->specials = *j;
        }
    }
    JT_TRY(jt_json_finish(j));
    if (!t->has_vocab || !t->pattern.len || t->n_specials <= 0 ||
        t->size <= t->n_specials || t->size > JT_DRAFT_MOST)
        return jt_fail(t->d->err, JT_E_FORMAT,
                       "'vocab' or a part of 'config' is missing or wrong");
    return JT_OK;
}

/* Tokens behind the special ones; those above the size are not used. */
static jt_status read_tekken_vocab(tekken *t)
{
    jt_json *j = &t->vocab;
    jt_json_enter(j, JT_JSON_ARRAY);
    while (jt_json_next(j)) {
        jt_str bytes = {0};
        int64_t rank = -1;
        jt_json_enter(j, JT_JSON_OBJECT);
        while (jt_json_next(j)) {
            if (jt_json_key_is(j, "rank"))
                rank = jt_json_int(j);
            else if (jt_json_key_is(j, "token_bytes"))
                bytes = jt_json_str(j);
        }
        if (rank < 0)
            return jt_json_fail(j, JT_E_FORMAT, "a token without a rank");
        if (j->status == JT_OK && rank < t->size - t->n_specials)
            JT_TRY(set_bytes(t->d, rank + t->n_specials, bytes));
    }
    return j->status;
}

/* Of files that do not list them. */
static jt_status set_old_specials(jt_draft *d)
{
    static const char *const names[] = {"<unk>",
                                        "<s>",
                                        "</s>",
                                        "[INST]",
                                        "[/INST]",
                                        "[AVAILABLE_TOOLS]",
                                        "[/AVAILABLE_TOOLS]",
                                        "[TOOL_RESULTS]",
                                        "[/TOOL_RESULTS]",
                                        "[TOOL_CALLS]",
                                        "[IMG]",
                                        "<pad>",
                                        "[IMG_BREAK]",
                                        "[IMG_END]",
                                        "[PREFIX]",
                                        "[MIDDLE]",
                                        "[SUFFIX]",
                                        "[SYSTEM_PROMPT]",
                                        "[/SYSTEM_PROMPT]",
                                        "[TOOL_CONTENT]"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        JT_TRY(jt_draft_set(d, (int64_t)i, (jt_str){names[i], strlen(names[i])},
                            JT_TOKEN_CONTROL));
    return JT_OK;
}

static jt_status read_tekken_specials(tekken *t)
{
    jt_json *j = &t->specials;
    if (!t->has_specials)
        return set_old_specials(t->d);
    jt_json_enter(j, JT_JSON_ARRAY);
    while (jt_json_next(j)) {
        jt_str text = {0};
        int64_t rank = -1;
        jt_json_enter(j, JT_JSON_OBJECT);
        while (jt_json_next(j)) {
            if (jt_json_key_is(j, "rank"))
                rank = jt_json_int(j);
            else if (jt_json_key_is(j, "token_str"))
                text = jt_json_str(j);
        }
        if (j->status == JT_OK && (!text.len || rank >= t->n_specials))
            return jt_json_fail(j, JT_E_FORMAT, "a special token with rank %" PRId64,
                                rank);
        if (j->status == JT_OK)
            JT_TRY(jt_draft_set(t->d, rank, text, JT_TOKEN_CONTROL));
    }
    return j->status;
}

/* The pattern must be one that the table knows. */
static jt_status find_pattern(const tekken *t)
{
    jt_draft *d = t->d;
    jt_steps steps;
    char *expression = NULL;
    jt_status status = jt_steps_new(&steps, true, d->err);
    if (status == JT_OK)
        status = jt_dialect_translate(&expression, &d->arena, t->pattern, d->err);
    if (status == JT_OK)
        status = jt_steps_add_expression(&steps, (jt_step){.kind = JT_STEP_CUT},
                                         expression, d->err);
    const jt_pretokenizer *known =
        status == JT_OK ? jt_pretokenizer_match(&steps, true) : NULL;
    jt_steps_free(&steps);
    JT_TRY(status);
    if (!known)
        return jt_fail(d->err, JT_E_UNSUPPORTED, "'pattern' is not one that is known");
    d->pre = known->name;
    return JT_OK;
}

jt_status jt_import_tekken(jt_draft *d, jt_str text)
{
    tekken t = {.d = d};
    jt_json_open(&t.j, text.data, text.len, &d->arena, d->err);
    JT_TRY(read_tekken_top(&t));
    d->model = "gpt2";
    d->roles[JT_ROLE_BOS] = 1;
    d->roles[JT_ROLE_EOS] = 2;
    d->add_bos = true;
    JT_TRY(find_pattern(&t));
    JT_TRY(read_tekken_specials(&t));
    JT_TRY(read_tekken_vocab(&t));
    return jt_import_rank_merges(d, (size_t)t.n_specials, d->count);
}
