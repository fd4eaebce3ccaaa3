#include "text/export.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "text/export_impl.h"

#define KEY(name) "tokenizer.ggml." name

jt_str jt_export_token(const jt_exporter *x, int64_t id)
{
    jt_str text = {"", 0};
    jt_gguf_item_str(x->tokens, (uint64_t)id, &text);
    return text;
}

int64_t jt_export_type(const jt_exporter *x, uint64_t i)
{
    int64_t type = JT_TOKEN_NORMAL;
    if (x->types)
        jt_gguf_item_i64(x->types, i, &type);
    return type;
}

bool jt_export_switch(const jt_exporter *x, const char *key, bool otherwise)
{
    bool on = otherwise;
    jt_gguf_get_bool(x->file, key, &on);
    return on;
}

json_t *jt_export_text(jt_str text)
{
    return json_stringn(text.data, text.len);
}

/* ---- the vocabulary ---- */

/* Is token `id` in the list of that key? */
static bool is_listed(const jt_exporter *x, const char *key, uint64_t id)
{
    const jt_gguf_kv *kv = jt_gguf_kv_find(x->file, key);
    int64_t item;
    for (uint64_t i = 0; kv && jt_gguf_item_i64(kv, i, &item); i++) {
        if ((uint64_t)item == id)
            return true;
    }
    return false;
}

static json_t *added_token(const jt_exporter *x, uint64_t id, bool special)
{
    return json_pack("{s:I, s:o, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)id,
                     "content", jt_export_text(jt_export_token(x, (int64_t)id)),
                     "single_word", is_listed(x, JT_KEY_SINGLE_WORD, id), "lstrip",
                     is_listed(x, JT_KEY_STRIP_LEFT, id), "rstrip",
                     is_listed(x, JT_KEY_STRIP_RIGHT, id), "normalized", 0, "special",
                     special);
}

/* Special and user-defined tokens, which are found before anything is cut. */
static json_t *added_tokens(const jt_exporter *x)
{
    json_t *list = json_array();
    for (uint64_t i = 0; i < x->tokens->count; i++) {
        int64_t type = jt_export_type(x, i);
        bool special = type == JT_TOKEN_CONTROL || type == JT_TOKEN_UNKNOWN;
        if (special || type == JT_TOKEN_USER)
            json_array_append_new(list, added_token(x, i, special));
    }
    return list;
}

static void put_special(const jt_exporter *x, int64_t id, json_t *single,
                        json_t *tokens)
{
    json_t *text = jt_export_text(jt_export_token(x, id));
    json_array_append_new(
        single, json_pack("{s:{s:O, s:i}}", "SpecialToken", "id", text, "type_id", 0));
    if (text)
        json_object_set_new(tokens, json_string_value(text),
                            json_pack("{s:O, s:[I], s:[O]}", "id", text, "ids",
                                      (json_int_t)id, "tokens", text));
    json_decref(text);
}

/* Tokens in front or at the end, where the file says so: those of a list, or one, -1
 * for none. */
static void put_specials(const jt_exporter *x, const char *list_key, int64_t one,
                         json_t *single, json_t *tokens)
{
    const jt_gguf_kv *list = jt_gguf_kv_find(x->file, list_key);
    int64_t id;
    for (uint64_t i = 0; list && jt_gguf_item_i64(list, i, &id); i++)
        put_special(x, id, single, tokens);
    if (!list && one >= 0)
        put_special(x, one, single, tokens);
}

/* The first of two keys that the file has; -1 for neither. */
static int64_t either(const jt_exporter *x, const char *key, const char *other)
{
    int64_t id;
    if (jt_gguf_get_i64(x->file, key, &id) || jt_gguf_get_i64(x->file, other, &id))
        return id;
    return -1;
}

/* What begins and ends a text; -1 for nothing. */
static int64_t begin_id(const jt_exporter *x)
{
    bool words = x->kind == JT_VOCAB_WORDS;
    bool usual = words || x->kind == JT_VOCAB_PIECES || (x->pre && x->pre->add_bos);
    if (!jt_export_switch(x, KEY("add_bos_token"), usual))
        return -1;
    return either(x, KEY("bos_token_id"),
                  words ? KEY("cls_token_id") : KEY("bos_token_id"));
}

static int64_t end_id(const jt_exporter *x)
{
    bool words = x->kind == JT_VOCAB_WORDS;
    bool usual = words || x->kind == JT_VOCAB_UNIGRAM;
    if (!jt_export_switch(x, words ? KEY("add_sep_token") : KEY("add_eos_token"),
                          usual))
        return -1;
    return either(x, words ? KEY("seperator_token_id") : KEY("eos_token_id"),
                  KEY("eos_token_id"));
}

static json_t *post_processor(const jt_exporter *x)
{
    json_t *single = json_array(), *tokens = json_object();
    put_specials(x, JT_KEY_BEGIN, begin_id(x), single, tokens);
    json_array_append_new(
        single, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0));
    put_specials(x, JT_KEY_END, end_id(x), single, tokens);
    return json_pack("{s:s, s:o, s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}], s:o}", "type",
                     "TemplateProcessing", "single", single, "pair", "Sequence", "id",
                     "A", "type_id", 0, "Sequence", "id", "B", "type_id", 1,
                     "special_tokens", tokens);
}

/* ---- files ---- */

/* Takes over `json`. */
static jt_status write_json(json_t *json, const char *folder, const char *name,
                            jt_err *err)
{
    char path[4096], *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    jt_output out;
    json_decref(json);
    if (!text)
        return jt_fail_memory(err, "writing a tokenizer");
    snprintf(path, sizeof path, "%s/%s", folder, name);
    jt_status status = jt_output_open(&out, path, err);
    if (status == JT_OK) {
        status = jt_output_write(&out, text, strlen(text), err);
        if (status == JT_OK)
            status = jt_output_commit(&out, err);
        else
            jt_output_abort(&out);
    }
    free(text);
    return status;
}

static jt_status write_tokenizer(const jt_exporter *x, const char *folder)
{
    json_t *model;
    JT_TRY(jt_export_model(x, &model));
    return write_json(
        json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:o, s:o}", "version", "1.0",
                  "truncation", "padding", "added_tokens", added_tokens(x),
                  "normalizer", jt_export_normalizer(x), "pre_tokenizer",
                  jt_export_pre_tokenizer(x), "post_processor", post_processor(x),
                  "decoder", jt_export_decoder(x), "model", model),
        folder, "tokenizer.json", x->err);
}

static jt_status write_config(const jt_exporter *x, const char *folder)
{
    static const struct {
        const char *name, *key;
    } roles[] = {{"bos_token", KEY("bos_token_id")},
                 {"eos_token", KEY("eos_token_id")},
                 {"pad_token", KEY("padding_token_id")},
                 {"unk_token", KEY("unknown_token_id")},
                 {"cls_token", KEY("cls_token_id")},
                 {"sep_token", KEY("seperator_token_id")},
                 {"mask_token", KEY("mask_token_id")}};
    json_t *config =
        json_pack("{s:s, s:b}", "tokenizer_class", "PreTrainedTokenizerFast",
                  "clean_up_tokenization_spaces", 0);
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        int64_t id;
        if (jt_gguf_get_i64(x->file, roles[i].key, &id))
            json_object_set_new(config, roles[i].name,
                                jt_export_text(jt_export_token(x, id)));
    }
    jt_str template;
    if (jt_gguf_get_str(x->file, "tokenizer.chat_template", &template))
        json_object_set_new(config, "chat_template", jt_export_text(template));
    return write_json(config, folder, "tokenizer_config.json", x->err);
}

static bool is(jt_str text, const char *word)
{
    return text.len == strlen(word) && memcmp(text.data, word, text.len) == 0;
}

/* False for a kind that is not known. */
static bool find_kind(jt_exporter *x)
{
    static const struct {
        const char *name;
        jt_vocab_kind kind;
    } kinds[] = {{"gpt2", JT_VOCAB_BYTES},
                 {"llama", JT_VOCAB_PIECES},
                 {"gemma4", JT_VOCAB_PIECES},
                 {"t5", JT_VOCAB_UNIGRAM},
                 {"bert", JT_VOCAB_WORDS}};
    jt_str kind;
    if (!x->tokens || !jt_gguf_get_str(x->file, KEY("model"), &kind))
        return false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!is(kind, kinds[i].name))
            continue;
        x->kind = kinds[i].kind;
        x->listed_merges = x->kind == JT_VOCAB_BYTES || is(kind, "gemma4") ||
                           jt_export_switch(x, JT_KEY_USE_MERGES, false);
        return true;
    }
    return false;
}

jt_status jt_tokenizer_export(const jt_gguf *file, const char *folder, bool *written,
                              jt_err *err)
{
    jt_str pre = {jt_pretokenizer_gpt2, strlen(jt_pretokenizer_gpt2)};
    jt_exporter x = {.file = file,
                     .tokens = jt_gguf_kv_find(file, KEY("tokens")),
                     .types = jt_gguf_kv_find(file, KEY("token_type")),
                     .err = err};
    *written = false;
    if (!find_kind(&x))
        return JT_OK;
    bool bytes = x.kind == JT_VOCAB_BYTES;
    jt_gguf_get_str(file, KEY("pre"), &pre);
    x.pre = bytes ? jt_pretokenizer_find(pre) : NULL;
    x.own_steps = !x.pre && (jt_gguf_kv_find(file, JT_KEY_NORMALIZER) ||
                             jt_gguf_kv_find(file, JT_KEY_PRE_TOKENIZER));
    if (bytes && !x.pre && !x.own_steps)
        return JT_OK;
    JT_TRY(write_tokenizer(&x, folder));
    JT_TRY(write_config(&x, folder));
    *written = true;
    return JT_OK;
}
