/* What a tokenizer.json does before tokens are looked up, and after. */
#include <string.h>

#include "base/memory.h"
#include "text/base64.h"
#include "text/export_impl.h"

#define KEY(name) "tokenizer.ggml." name

static const char mark[] = JT_SPACE_MARK;

/* Steps that the file brings itself are members of a tokenizer.json; else `usual`. */
static json_t *own_or(const jt_exporter *x, const char *key, json_t *usual)
{
    jt_str text;
    if (!x->own_steps)
        return usual;
    json_decref(usual);
    if (!jt_gguf_get_str(x->file, key, &text))
        return json_null();
    return json_loadb(text.data, text.len, JSON_DECODE_ANY, NULL);
}

/* ---- normalizers ---- */

static json_t *replace(const char *pattern, const char *from, const char *to)
{
    return json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", pattern, from,
                     "content", to);
}

/* SentencePiece's table of characters. */
static json_t *charsmap(const jt_exporter *x)
{
    const jt_gguf_kv *kv = jt_gguf_kv_find(x->file, KEY("precompiled_charsmap"));
    char *bytes = jt_alloc((size_t)kv->count, 1), *text = NULL;
    for (uint64_t i = 0; bytes && i < kv->count; i++) {
        int64_t value = 0;
        jt_gguf_item_i64(kv, i, &value);
        bytes[i] = (char)value;
    }
    if (bytes)
        text = jt_base64_encode((jt_str){bytes, (size_t)kv->count});
    json_t *step = text ? json_pack("{s:s, s:s}", "type", "Precompiled",
                                    "precompiled_charsmap", text)
                        : NULL;
    free(text);
    free(bytes);
    return step;
}

/* What SentencePiece does, in the order of vocab_steps.c. */
static json_t *sentence_normalizer(const jt_exporter *x)
{
    bool shrink = jt_export_switch(x, KEY("remove_extra_whitespaces"),
                                   x->kind == JT_VOCAB_UNIGRAM);
    json_t *steps = json_array();
    if (jt_gguf_kv_find(x->file, KEY("precompiled_charsmap")) &&
        json_array_append_new(steps, charsmap(x)) != 0) {
        json_decref(steps);
        return NULL;
    }
    if (shrink)
        json_array_append_new(steps, replace("Regex", "\\A +|(?<= ) +", ""));
    if (jt_export_switch(x, KEY("add_space_prefix"), true))
        json_array_append_new(
            steps, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", mark));
    json_array_append_new(steps, replace("String", " ", mark));
    if (shrink)
        json_array_append_new(
            steps,
            replace("Regex", "(?<!" JT_SPACE_MARK ")" JT_SPACE_MARK "++\\z", ""));
    return json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", steps);
}

static json_t *word_normalizer(const jt_exporter *x)
{
    bool lower = jt_export_switch(x, KEY("normalizer.lowercase"), true);
    bool strip = jt_export_switch(x, KEY("normalizer.strip_accents"), lower);
    return json_pack("{s:s, s:b, s:b, s:b, s:b}", "type", "BertNormalizer",
                     "clean_text", 1, "handle_chinese_chars", 1, "strip_accents", strip,
                     "lowercase", lower);
}

json_t *jt_export_normalizer(const jt_exporter *x)
{
    json_t *usual = json_null();
    if (x->kind == JT_VOCAB_PIECES || x->kind == JT_VOCAB_UNIGRAM)
        usual = sentence_normalizer(x);
    else if (x->kind == JT_VOCAB_WORDS)
        usual = word_normalizer(x);
    else if (x->pre && x->pre->nfc)
        usual = json_pack("{s:s}", "type", "NFC");
    return own_or(x, JT_KEY_NORMALIZER, usual);
}

/* ---- pre-tokenizers ---- */

static json_t *byte_level(void)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                     "trim_offsets", 1, "use_regex", 0);
}

/* An expression of PCRE2 as Oniguruma has it: there \p{Han} is the script, here
 * \p{sc:Han} (dialect.h). */
static json_t *expression_json(const char *expression)
{
    static const char script[] = "{sc:";
    json_t *text = json_string("");
    for (const char *at; (at = strstr(expression, script)) && text;) {
        json_t *longer = json_pack("s+#+", json_string_value(text), expression,
                                   (int)(at - expression), "{");
        json_decref(text);
        text = longer;
        expression = at + strlen(script);
    }
    json_t *whole = text ? json_pack("s+", json_string_value(text), expression) : NULL;
    json_decref(text);
    return whole;
}

/* One step of a known pre-tokenizer; NULL for one that is no cut. */
static json_t *step_json(const jt_step *step)
{
    if (step->kind == JT_STEP_SPELL)
        return byte_level();
    if (step->kind != JT_STEP_CUT)
        return NULL;
    return json_pack("{s:s, s:{s:o}, s:s, s:b}", "type", "Split", "pattern", "Regex",
                     expression_json(step->expression), "behavior", "Isolated",
                     "invert", 0);
}

static json_t *known_steps(const jt_exporter *x)
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

json_t *jt_export_pre_tokenizer(const jt_exporter *x)
{
    json_t *usual = json_null();
    if (x->pre)
        usual = known_steps(x);
    else if (x->kind == JT_VOCAB_WORDS)
        usual = json_pack("{s:s}", "type", "BertPreTokenizer");
    return own_or(x, JT_KEY_PRE_TOKENIZER, usual);
}

/* ---- decoders ---- */

static json_t *sentence_decoder(const jt_exporter *x)
{
    json_t *list = json_pack("[o, {s:s}, {s:s}]", replace("String", mark, " "), "type",
                             "ByteFallback", "type", "Fuse");
    if (jt_export_switch(x, KEY("add_space_prefix"), true))
        json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip",
                                              "content", " ", "start", 1, "stop", 0));
    return json_pack("{s:s, s:o}", "type", "Sequence", "decoders", list);
}

json_t *jt_export_decoder(const jt_exporter *x)
{
    if (x->kind == JT_VOCAB_BYTES)
        return byte_level();
    if (x->kind != JT_VOCAB_WORDS)
        return sentence_decoder(x);
    return json_pack("{s:s, s:s, s:b}", "type", "WordPiece", "prefix", "##", "cleanup",
                     1);
}
