/* What is done to text before it is looked up: as the pre-tokenizer that a file names,
 * as its kind of vocabulary always has it, or as the file says in keys of our own. */
#include <string.h>

#include "text/dialect.h"
#include "text/pipeline.h"
#include "text/pretoken.h"
#include "text/vocab.h"

#define KEY(name) "tokenizer.ggml." name

static jt_status add(jt_tokenizer *tok, jt_step step, jt_err *err)
{
    return jt_steps_add(&tok->steps, step, err);
}

/* Spaces become marks; with `prefix` there is one at the beginning. */
static jt_status add_marks(jt_tokenizer *tok, bool prefix, jt_err *err)
{
    const jt_str mark = {JT_SPACE_MARK, strlen(JT_SPACE_MARK)};
    if (prefix)
        JT_TRY(add(tok, (jt_step){.kind = JT_STEP_PREPEND, .text = mark}, err));
    return add(tok, (jt_step){.kind = JT_STEP_REPLACE, .from = {" ", 1}, .text = mark},
               err);
}

/* The bytes of an array of bytes, in the tokenizer's own memory. */
static jt_status read_bytes(jt_tokenizer *tok, jt_str *out, const jt_gguf *file,
                            const char *key, jt_err *err)
{
    const jt_gguf_kv *kv = NULL;
    JT_TRY(jt_vocab_array(&kv, file, key, 0, err));
    if (kv->item_type != JT_GGUF_U8 && kv->item_type != JT_GGUF_I8)
        return jt_fail(err, JT_E_FORMAT, "%s is not an array of bytes", key);
    char *bytes = jt_arena_alloc(&tok->arena, (size_t)kv->count, 1);
    if (!bytes)
        return jt_fail_memory(err, "reading a vocabulary");
    for (uint64_t i = 0; i < kv->count; i++) {
        int64_t value = 0;
        (void)jt_gguf_item_i64(kv, i, &value);
        bytes[i] = (char)value;
    }
    *out = (jt_str){bytes, (size_t)kv->count};
    return JT_OK;
}

/* What SentencePiece does. */
static jt_status read_sentence(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
{
    bool prefix = true, shrink = tok->kind == JT_VOCAB_UNIGRAM;
    JT_TRY(jt_vocab_switch(&prefix, file, KEY("add_space_prefix"), err));
    JT_TRY(jt_vocab_switch(&shrink, file, KEY("remove_extra_whitespaces"), err));
    if (jt_gguf_kv_find(file, KEY("precompiled_charsmap"))) {
        jt_step step = {.kind = JT_STEP_CHARSMAP};
        jt_str bytes;
        JT_TRY(read_bytes(tok, &bytes, file, KEY("precompiled_charsmap"), err));
        JT_TRY(jt_charsmap_open(&step.charsmap, bytes, err));
        JT_TRY(add(tok, step, err));
    }
    /* A mark at the end goes too, wherever it is from. */
    const jt_step drop = {.kind = JT_STEP_REPLACE};
    if (shrink)
        JT_TRY(jt_steps_add_expression(&tok->steps, drop, "\\A +|(?<= ) +", err));
    JT_TRY(add_marks(tok, prefix, err));
    if (!shrink)
        return JT_OK;
    return jt_steps_add_expression(&tok->steps, drop, "(?<!\\x{2581})\\x{2581}++\\z",
                                   err);
}

static jt_status read_words(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
{
    bool lower = true;
    JT_TRY(jt_vocab_switch(&lower, file, KEY("normalizer.lowercase"), err));
    bool strip = lower;
    JT_TRY(jt_vocab_switch(&strip, file, KEY("normalizer.strip_accents"), err));
    jt_bert how = {.clean = true, .ideographs = true, .strip = strip, .lower = lower};
    JT_TRY(jt_pipeline_add_bert_normalizer(&tok->steps, &how, err));
    return jt_pipeline_add_bert_words(&tok->steps, err);
}

/* The steps that the file itself has, if it has any. */
static jt_status read_own(jt_tokenizer *tok, const jt_gguf *file, bool *found,
                          jt_err *err)
{
    static const char *const keys[] = {JT_KEY_NORMALIZER, JT_KEY_PRE_TOKENIZER};
    *found = false;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        jt_str text;
        if (!jt_gguf_kv_find(file, keys[i]))
            continue;
        if (!jt_gguf_get_str(file, keys[i], &text))
            return jt_fail(err, JT_E_FORMAT, "%s is not a string", keys[i]);
        jt_status status = jt_pipeline_read(&tok->steps, text, NULL, err);
        if (status != JT_OK)
            return jt_fail_within(err, status, "%s", keys[i]);
        *found = true;
    }
    return JT_OK;
}

/* Whether decoding takes a space off that one of the steps has put there. */
static void find_prefix(jt_tokenizer *tok)
{
    tok->space_prefix = tok->kind == JT_VOCAB_WORDS;
    for (size_t i = 0; i < tok->steps.count && tok->kind != JT_VOCAB_BYTES; i++) {
        const jt_step *step = &tok->steps.items[i];
        if (step->kind != JT_STEP_PREPEND && step->kind != JT_STEP_PREFIX)
            continue;
        tok->space_prefix = true;
        tok->space_once = step->first;
    }
}

jt_status jt_vocab_read_steps(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
{
    static jt_status (*const read[])(jt_tokenizer *, const jt_gguf *,
                                     jt_err *) = {[JT_VOCAB_PIECES] = read_sentence,
                                                  [JT_VOCAB_UNIGRAM] = read_sentence,
                                                  [JT_VOCAB_WORDS] = read_words};
    bool own = false;
    if (tok->pre)
        return jt_pretokenizer_steps(&tok->steps, tok->pre, err);
    JT_TRY(jt_steps_new(&tok->steps, true, err));
    JT_TRY(read_own(tok, file, &own, err));
    if (!own && tok->kind == JT_VOCAB_BYTES)
        return jt_fail(err, JT_E_FORMAT,
                       KEY("pre") " is 'junto', but " JT_KEY_PRE_TOKENIZER
                                  " is missing");
    if (!own)
        JT_TRY(read[tok->kind](tok, file, err));
    find_prefix(tok);
    return JT_OK;
}
