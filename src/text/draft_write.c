/* A draft becomes keys of GGUF. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/draft.h"
#include "text/vocab.h"

#define KEY(name) "tokenizer.ggml." name

typedef struct writing {
    jt_draft *d;
    jt_gguf_writer *w;
    size_t count; /* of tokens, filled up */
} writing;

static jt_status no_memory(const writing *x)
{
    return jt_fail_memory(x->d->err, "writing a vocabulary");
}

static bool is_words(const jt_draft *d)
{
    return strcmp(d->model, "bert") == 0;
}

/* "##ing" becomes "ing" and "the" becomes "▁the": GGUF marks where words begin. */
static jt_status spell_word(const writing *x, jt_str *text)
{
    const jt_str mark = {JT_SPACE_MARK, strlen(JT_SPACE_MARK)};
    if (text->len >= 2 && memcmp(text->data, "##", 2) == 0) {
        *text = (jt_str){text->data + 2, text->len - 2};
        return JT_OK;
    }
    char *spelt = jt_arena_alloc(&x->d->arena, text->len + mark.len, 1);
    if (!spelt)
        return no_memory(x);
    memcpy(spelt, mark.data, mark.len);
    memcpy(spelt + mark.len, text->data, text->len);
    *text = (jt_str){spelt, text->len + mark.len};
    return JT_OK;
}

/* Ids between the tokens, and up to the rows that a model has, are never used. */
static jt_status name_unused(const writing *x, size_t id, jt_str *text)
{
    char name[32];
    int len = snprintf(name, sizeof name, "[PAD%zu]", id);
    *text = jt_draft_copy(x->d, (jt_str){name, (size_t)len});
    return text->data ? JT_OK : no_memory(x);
}

static jt_status set_tokens(const writing *x)
{
    jt_draft *d = x->d;
    jt_str *texts = jt_arena_alloc(&d->arena, x->count, sizeof *texts);
    int32_t *types = jt_arena_alloc(&d->arena, x->count, sizeof *types);
    float *scores = jt_arena_alloc(&d->arena, x->count, sizeof *scores);
    if (!texts || !types || !scores)
        return no_memory(x);
    for (size_t i = 0; i < x->count; i++) {
        bool there = i < d->count && d->tokens[i].text.data;
        texts[i] = there ? d->tokens[i].text : (jt_str){0};
        types[i] = there ? d->tokens[i].type : JT_TOKEN_UNUSED;
        scores[i] = there ? d->tokens[i].score : 0;
        if (!there)
            JT_TRY(name_unused(x, i, &texts[i]));
        else if (is_words(d) && types[i] == JT_TOKEN_NORMAL)
            JT_TRY(spell_word(x, &texts[i]));
    }
    JT_TRY(jt_gguf_set_strs(x->w, KEY("tokens"), texts, x->count, d->err));
    JT_TRY(jt_gguf_set_i32s(x->w, KEY("token_type"), types, x->count, d->err));
    if (d->scores)
        JT_TRY(jt_gguf_set_f32s(x->w, KEY("scores"), scores, x->count, d->err));
    if (d->n_merges == 0 && strcmp(d->model, "gpt2") != 0)
        return JT_OK;
    return jt_gguf_set_strs(x->w, KEY("merges"), d->merges, d->n_merges, d->err);
}

/* The ids of tokens with a flag, when there are any. */
static jt_status set_flag(const writing *x, const char *key, size_t flag)
{
    jt_draft *d = x->d;
    jt_ids ids = {0};
    jt_status status = JT_OK;
    for (size_t i = 0; i < d->count && status == JT_OK; i++) {
        if (*(const bool *)((const char *)&d->tokens[i] + flag))
            status = jt_draft_add_id(d, &ids, (int64_t)i);
    }
    if (status == JT_OK && ids.count)
        status = jt_gguf_set_i32s(x->w, key, ids.items, ids.count, d->err);
    free(ids.items);
    return status;
}

static jt_status set_ids(const writing *x, const char *key, const jt_ids *ids)
{
    for (size_t i = 0; i < ids->count; i++) {
        if ((size_t)ids->items[i] >= x->count)
            return jt_fail(x->d->err, JT_E_FORMAT,
                           "%" PRId32 " stands for a special token, of %zu tokens",
                           ids->items[i], x->count);
    }
    return jt_gguf_set_i32s(x->w, key, ids->items, ids->count, x->d->err);
}

static jt_status set_roles(const writing *x)
{
    static const char *const keys[JT_ROLES] = {
        [JT_ROLE_BOS] = KEY("bos_token_id"),
        [JT_ROLE_EOS] = KEY("eos_token_id"),
        [JT_ROLE_UNKNOWN] = KEY("unknown_token_id"),
        [JT_ROLE_PAD] = KEY("padding_token_id"),
        [JT_ROLE_SEP] = KEY("seperator_token_id"), /* so it is spelt */
        [JT_ROLE_CLS] = KEY("cls_token_id"),
        [JT_ROLE_MASK] = KEY("mask_token_id")};
    jt_draft *d = x->d;
    for (int i = 0; i < JT_ROLES; i++) {
        if (d->roles[i] < 0 && d->role_texts[i].len)
            d->roles[i] = jt_draft_find(d, d->role_texts[i]);
        if (d->roles[i] >= 0 && (size_t)d->roles[i] < x->count)
            JT_TRY(jt_gguf_set_u32(x->w, keys[i], (uint32_t)d->roles[i], d->err));
    }
    if (d->ends.count)
        JT_TRY(set_ids(x, JT_KEY_REPLY_ENDS, &d->ends));
    return JT_OK;
}

/* Whether a list is one token, which then has a role. */
static bool is_role(const jt_draft *d, const jt_ids *ids, jt_role role, jt_role other)
{
    if (ids->count != 1)
        return false;
    return ids->items[0] == d->roles[role] ||
           (is_words(d) && ids->items[0] == d->roles[other]);
}

/* What is put before and after a text. */
static jt_status set_frame(const writing *x)
{
    jt_draft *d = x->d;
    const char *const eos_key =
        is_words(d) ? KEY("add_sep_token") : KEY("add_eos_token");
    if (d->framed && d->begin.count == 1 && d->roles[JT_ROLE_BOS] < 0 && !is_words(d)) {
        d->roles[JT_ROLE_BOS] = d->begin.items[0];
        JT_TRY(jt_gguf_set_u32(x->w, KEY("bos_token_id"), (uint32_t)d->begin.items[0],
                               d->err));
    }
    if (d->framed) {
        bool bos = is_role(d, &d->begin, JT_ROLE_BOS, JT_ROLE_CLS);
        bool eos = is_role(d, &d->end, JT_ROLE_EOS, JT_ROLE_SEP);
        d->add_bos = bos;
        d->add_eos = eos;
        if (!bos && d->begin.count)
            JT_TRY(set_ids(x, JT_KEY_BEGIN, &d->begin));
        if (!eos && d->end.count)
            JT_TRY(set_ids(x, JT_KEY_END, &d->end));
    }
    d->add_bos = d->add_bos < 0 && d->plain ? 0 : d->add_bos;
    d->add_eos = d->add_eos < 0 && d->plain ? 0 : d->add_eos;
    if (d->add_bos >= 0)
        JT_TRY(jt_gguf_set_bool(x->w, KEY("add_bos_token"), d->add_bos, d->err));
    if (d->add_eos >= 0)
        JT_TRY(jt_gguf_set_bool(x->w, eos_key, d->add_eos, d->err));
    return JT_OK;
}

/* A string key from bytes that may not end with NUL. */
static jt_status set_text(const writing *x, const char *key, jt_str text)
{
    if (!text.data)
        return JT_OK;
    if (text.len && memchr(text.data, '\0', text.len))
        return jt_fail(x->d->err, JT_E_FORMAT, "%s would have a NUL", key);
    jt_str copy = jt_draft_copy(x->d, text);
    if (!copy.data)
        return no_memory(x);
    return jt_gguf_set_str(x->w, key, copy.data, x->d->err);
}

static jt_status set_charsmap(const writing *x)
{
    jt_str map = x->d->charsmap;
    const uint32_t type = JT_GGUF_U8;
    const uint64_t count = map.len;
    if (!map.len)
        return JT_OK;
    unsigned char *raw = jt_arena_alloc(&x->d->arena, map.len + 12, 1);
    if (!raw)
        return no_memory(x);
    memcpy(raw, &type, 4);
    memcpy(raw + 4, &count, 8);
    memcpy(raw + 12, map.data, map.len);
    const jt_gguf_kv kv = {.type = JT_GGUF_ARRAY,
                           .item_type = JT_GGUF_U8,
                           .count = count,
                           .raw = raw,
                           .raw_bytes = map.len + 12};
    return jt_gguf_set_kv(x->w, KEY("precompiled_charsmap"), &kv, x->d->err);
}

static jt_status set_steps(const writing *x)
{
    jt_draft *d = x->d;
    const struct {
        const char *key;
        int value;
    } switches[] = {{KEY("add_space_prefix"), d->prefix},
                    {KEY("remove_extra_whitespaces"), d->shrink},
                    {KEY("normalizer.lowercase"), d->lower},
                    {KEY("normalizer.strip_accents"), d->strip}};
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
        if (switches[i].value >= 0)
            JT_TRY(jt_gguf_set_bool(x->w, switches[i].key, switches[i].value, d->err));
    }
    JT_TRY(set_charsmap(x));
    JT_TRY(set_text(x, JT_KEY_NORMALIZER, d->normalizer));
    JT_TRY(set_text(x, JT_KEY_PRE_TOKENIZER, d->pre_tokenizer));
    bool own = d->normalizer.data || d->pre_tokenizer.data;
    if (own && d->whole_words)
        JT_TRY(jt_gguf_set_bool(x->w, JT_KEY_WHOLE_WORDS, true, d->err));
    if (d->word_most)
        JT_TRY(jt_gguf_set_u32(x->w, JT_KEY_WORD_MOST, d->word_most, d->err));
    if (d->n_merges && strcmp(d->model, "llama") == 0)
        JT_TRY(jt_gguf_set_bool(x->w, JT_KEY_USE_MERGES, true, d->err));
    return JT_OK;
}

/* "tokenizer.chat_template", and with ".NAME" those that have one. */
static jt_status set_templates(const writing *x)
{
    for (size_t i = 0; i < x->d->n_templates; i++) {
        const jt_template *t = &x->d->templates[i];
        char key[120];
        if (t->name.len > 60 || (t->name.len && memchr(t->name.data, 0, t->name.len)))
            return jt_fail(x->d->err, JT_E_FORMAT, "a chat template with a long name");
        snprintf(key, sizeof key, "tokenizer.chat_template%s%.*s",
                 t->name.len ? "." : "", (int)t->name.len,
                 t->name.len ? t->name.data : "");
        JT_TRY(set_text(x, key, t->text));
    }
    return JT_OK;
}

jt_status jt_draft_write(jt_draft *d, size_t size, jt_gguf_writer *w)
{
    writing x = {d, w, size > d->count ? size : d->count};
    if (d->by_text.used == 0)
        return jt_fail(d->err, JT_E_FORMAT, "the vocabulary is empty");
    if (x.count > JT_DRAFT_MOST || d->count / 16 > d->by_text.used + 256)
        return jt_fail(d->err, JT_E_FORMAT, "%zu tokens have ids up to %zu",
                       d->by_text.used, x.count - 1);
    JT_TRY(jt_gguf_set_str(w, KEY("model"), d->model, d->err));
    if (d->pre)
        JT_TRY(jt_gguf_set_str(w, KEY("pre"), d->pre, d->err));
    JT_TRY(set_tokens(&x));
    JT_TRY(set_flag(&x, JT_KEY_STRIP_LEFT, offsetof(jt_draft_token, strip_left)));
    JT_TRY(set_flag(&x, JT_KEY_STRIP_RIGHT, offsetof(jt_draft_token, strip_right)));
    JT_TRY(set_flag(&x, JT_KEY_SINGLE_WORD, offsetof(jt_draft_token, single_word)));
    JT_TRY(set_roles(&x));
    JT_TRY(set_frame(&x));
    JT_TRY(set_steps(&x));
    return set_templates(&x);
}
