#include "text/export.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "text/export_merges.h"
#include "text/pretoken.h"
#include "text/vocab.h"

#define KEY(name) "tokenizer.ggml." name

/* json_pack takes over what it is given; a NULL in it makes the whole NULL, so that one
 * check at the end finds every failure. */
typedef struct exporter {
    const jt_gguf *file;
    const jt_pretokenizer *pre; /* of byte-level BPE; NULL: its steps are in the file */
    bool pieces;                /* SentencePiece */
    const jt_gguf_kv *tokens, *types;
    jt_err *err;
} exporter;

static jt_str token_at(const exporter *x, int64_t id)
{
    jt_str text = {"", 0};
    jt_gguf_item_str(x->tokens, (uint64_t)id, &text);
    return text;
}

static int64_t type_at(const exporter *x, uint64_t i)
{
    int64_t type = JT_TOKEN_NORMAL;
    if (x->types)
        jt_gguf_item_i64(x->types, i, &type);
    return type;
}

static bool switched(const exporter *x, const char *key, bool otherwise)
{
    bool on = otherwise;
    jt_gguf_get_bool(x->file, key, &on);
    return on;
}

static json_t *text_json(jt_str text)
{
    return json_stringn(text.data, text.len);
}

/* ---- the vocabulary ---- */

/* Is token `id` in the list of that key? */
static bool is_listed(const exporter *x, const char *key, uint64_t id)
{
    const jt_gguf_kv *kv = jt_gguf_kv_find(x->file, key);
    int64_t item;
    for (uint64_t i = 0; kv && jt_gguf_item_i64(kv, i, &item); i++) {
        if ((uint64_t)item == id)
            return true;
    }
    return false;
}

static json_t *added_token(const exporter *x, uint64_t id, bool special)
{
    return json_pack("{s:I, s:o, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)id,
                     "content", text_json(token_at(x, (int64_t)id)), "single_word",
                     is_listed(x, JT_KEY_SINGLE_WORD, id), "lstrip",
                     is_listed(x, JT_KEY_STRIP_LEFT, id), "rstrip",
                     is_listed(x, JT_KEY_STRIP_RIGHT, id), "normalized", 0, "special",
                     special);
}

/* Special and user-defined tokens, which are found before anything is cut. */
static json_t *added_tokens(const exporter *x)
{
    json_t *list = json_array();
    for (uint64_t i = 0; i < x->tokens->count; i++) {
        int64_t type = type_at(x, i);
        bool special = type == JT_TOKEN_CONTROL || type == JT_TOKEN_UNKNOWN;
        if (special || type == JT_TOKEN_USER)
            json_array_append_new(list, added_token(x, i, special));
    }
    return list;
}

/* {"token": id}; in order of the ids. Bytes of SentencePiece are tokens, too. */
static json_t *vocabulary(const exporter *x)
{
    json_t *vocab = json_object();
    for (uint64_t i = 0; i < x->tokens->count; i++) {
        int64_t type = type_at(x, i);
        jt_str text = token_at(x, (int64_t)i);
        if (type == JT_TOKEN_NORMAL || type == JT_TOKEN_BYTE || x->pieces)
            json_object_setn_new(vocab, text.data, text.len,
                                 json_integer((json_int_t)i));
    }
    return vocab;
}

/* "a b" -> ["a", "b"] */
static json_t *listed_merges(const jt_gguf_kv *kv)
{
    json_t *merges = json_array();
    for (uint64_t i = 0; i < kv->count; i++) {
        jt_str text = {"", 0};
        jt_gguf_item_str(kv, i, &text);
        const char *space =
            text.len > 1 ? memchr(text.data + 1, ' ', text.len - 1) : NULL;
        size_t left = space ? (size_t)(space - text.data) : text.len;
        size_t right = space ? text.len - left - 1 : 0;
        json_array_append_new(merges, json_pack("[s%, s%]", text.data, left,
                                                space ? space + 1 : "", right));
    }
    return merges;
}

static jt_status merges(const exporter *x, json_t **out)
{
    const jt_gguf_kv *kv = jt_gguf_kv_find(x->file, KEY("merges"));
    if (!kv && x->pieces)
        return jt_export_merges(out, x->file, x->err);
    *out = kv ? listed_merges(kv) : json_array();
    return JT_OK;
}

static json_t *unknown_token(const exporter *x)
{
    int64_t id;
    if (!x->pieces || !jt_gguf_get_i64(x->file, KEY("unknown_token_id"), &id))
        return json_null();
    return text_json(token_at(x, id));
}

static jt_status model(const exporter *x, json_t **out)
{
    json_t *list;
    JT_TRY(merges(x, &list));
    bool whole = switched(x, JT_KEY_WHOLE_WORDS, x->pre && x->pre->whole_words);
    *out = json_pack("{s:s, s:n, s:o, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type",
                     "BPE", "dropout", "unk_token", unknown_token(x),
                     "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                     x->pieces, "byte_fallback", x->pieces, "ignore_merges", whole,
                     "vocab", vocabulary(x), "merges", list);
    return JT_OK;
}

/* ---- what happens before and after ---- */

/* Steps that the file brings itself are members of a tokenizer.json; else `usual`. */
static json_t *own_or(const exporter *x, const char *key, json_t *usual)
{
    jt_str text;
    if (!jt_gguf_get_str(x->file, key, &text))
        return usual;
    json_decref(usual);
    return json_loadb(text.data, text.len, JSON_DECODE_ANY, NULL);
}

static json_t *normalizer(const exporter *x)
{
    static const char underline[] = "\xe2\x96\x81";
    json_t *usual = json_null();
    if (x->pieces) {
        json_t *replace = json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern",
                                    "String", " ", "content", underline);
        usual = !switched(x, KEY("add_space_prefix"), true)
                    ? replace
                    : json_pack("{s:s, s:[{s:s, s:s}, o]}", "type", "Sequence",
                                "normalizers", "type", "Prepend", "prepend", underline,
                                replace);
    } else if (x->pre && x->pre->nfc) {
        usual = json_pack("{s:s}", "type", "NFC");
    }
    return own_or(x, JT_KEY_NORMALIZER, usual);
}

static json_t *byte_level(void)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                     "trim_offsets", 1, "use_regex", 0);
}

/* One step of a known pre-tokenizer; NULL for one that is no cut. */
static json_t *step_json(const jt_step *step)
{
    if (step->kind == JT_STEP_SPELL)
        return byte_level();
    if (step->kind != JT_STEP_CUT)
        return NULL;
    return json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex",
                     step->expression, "behavior", "Isolated", "invert", 0);
}

static json_t *known_steps(const exporter *x)
{
    jt_steps steps = {0};
    json_t *list = NULL;
    bool spelt = false;
    if (jt_pretokenizer_steps(&steps, x->pre, x->err) == JT_OK)
        list = json_array();
    for (size_t i = 0; i < steps.count; i++) {
        json_t *step = step_json(&steps.items[i]);
        spelt |= steps.items[i].kind == JT_STEP_SPELL;
        if (step)
            json_array_append_new(list, step);
    }
    if (!spelt)
        json_array_append_new(list, byte_level());
    jt_steps_free(&steps);
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", list);
}

static json_t *pre_tokenizer(const exporter *x)
{
    return own_or(x, JT_KEY_PRE_TOKENIZER, x->pre ? known_steps(x) : json_null());
}

static json_t *decoder(const exporter *x)
{
    if (!x->pieces)
        return byte_level();
    json_t *list = json_pack("[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}]", "type", "Replace",
                             "pattern", "String", "\xe2\x96\x81", "content", " ",
                             "type", "ByteFallback", "type", "Fuse");
    if (switched(x, KEY("add_space_prefix"), true))
        json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip",
                                              "content", " ", "start", 1, "stop", 0));
    return json_pack("{s:s, s:o}", "type", "Sequence", "decoders", list);
}

static void put_special(const exporter *x, int64_t id, json_t *single, json_t *tokens)
{
    json_t *text = text_json(token_at(x, id));
    json_array_append_new(
        single, json_pack("{s:{s:O, s:i}}", "SpecialToken", "id", text, "type_id", 0));
    if (text)
        json_object_set_new(tokens, json_string_value(text),
                            json_pack("{s:O, s:[I], s:[O]}", "id", text, "ids",
                                      (json_int_t)id, "tokens", text));
    json_decref(text);
}

/* Tokens in front or at the end, where the file says so: those of a list, or one. */
static void put_specials(const exporter *x, const char *list_key, const char *id_key,
                         bool on, json_t *single, json_t *tokens)
{
    const jt_gguf_kv *list = jt_gguf_kv_find(x->file, list_key);
    int64_t id;
    for (uint64_t i = 0; list && jt_gguf_item_i64(list, i, &id); i++)
        put_special(x, id, single, tokens);
    if (!list && on && jt_gguf_get_i64(x->file, id_key, &id))
        put_special(x, id, single, tokens);
}

static json_t *post_processor(const exporter *x)
{
    bool usual = x->pieces || (x->pre && x->pre->add_bos);
    json_t *single = json_array(), *tokens = json_object();
    put_specials(x, JT_KEY_BEGIN, KEY("bos_token_id"),
                 switched(x, KEY("add_bos_token"), usual), single, tokens);
    json_array_append_new(
        single, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0));
    put_specials(x, JT_KEY_END, KEY("eos_token_id"),
                 switched(x, KEY("add_eos_token"), false), single, tokens);
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

static jt_status write_tokenizer(const exporter *x, const char *folder)
{
    json_t *bpe;
    JT_TRY(model(x, &bpe));
    return write_json(json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:o, s:o}",
                                "version", "1.0", "truncation", "padding",
                                "added_tokens", added_tokens(x), "normalizer",
                                normalizer(x), "pre_tokenizer", pre_tokenizer(x),
                                "post_processor", post_processor(x), "decoder",
                                decoder(x), "model", bpe),
                      folder, "tokenizer.json", x->err);
}

static jt_status write_config(const exporter *x, const char *folder)
{
    static const struct {
        const char *name, *key;
    } roles[] = {{"bos_token", KEY("bos_token_id")},
                 {"eos_token", KEY("eos_token_id")},
                 {"pad_token", KEY("padding_token_id")},
                 {"unk_token", KEY("unknown_token_id")}};
    json_t *config =
        json_pack("{s:s, s:b}", "tokenizer_class", "PreTrainedTokenizerFast",
                  "clean_up_tokenization_spaces", 0);
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        int64_t id;
        if (jt_gguf_get_i64(x->file, roles[i].key, &id))
            json_object_set_new(config, roles[i].name, text_json(token_at(x, id)));
    }
    jt_str template;
    if (jt_gguf_get_str(x->file, "tokenizer.chat_template", &template))
        json_object_set_new(config, "chat_template", text_json(template));
    return write_json(config, folder, "tokenizer_config.json", x->err);
}

static bool is(jt_str text, const char *word)
{
    return text.len == strlen(word) && memcmp(text.data, word, text.len) == 0;
}

jt_status jt_tokenizer_export(const jt_gguf *file, const char *folder, bool *written,
                              jt_err *err)
{
    jt_str kind, pre = {jt_pretokenizer_gpt2, strlen(jt_pretokenizer_gpt2)};
    exporter x = {.file = file,
                  .tokens = jt_gguf_kv_find(file, KEY("tokens")),
                  .types = jt_gguf_kv_find(file, KEY("token_type")),
                  .err = err};
    *written = false;
    if (!x.tokens || !jt_gguf_get_str(file, KEY("model"), &kind))
        return JT_OK;
    x.pieces = is(kind, "llama");
    jt_gguf_get_str(file, KEY("pre"), &pre);
    x.pre = x.pieces ? NULL : jt_pretokenizer_find(pre);
    bool own = jt_gguf_kv_find(file, JT_KEY_PRE_TOKENIZER);
    if (!x.pieces && (!is(kind, "gpt2") || (!x.pre && !own)))
        return JT_OK;
    JT_TRY(write_tokenizer(&x, folder));
    JT_TRY(write_config(&x, folder));
    *written = true;
    return JT_OK;
}
