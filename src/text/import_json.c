/* tokenizer.json of the tokenizers library. */
#include <string.h>

#include "format/json.h"
#include "text/draft.h"
#include "text/pipeline.h"
#include "text/pretoken.h"
#include "text/vocab.h"

/* What stands in the file, before it is known what it means. */
typedef struct document {
    jt_draft *d;
    jt_json j;
    jt_json added, post; /* bookmarks */
    bool has_model, has_added, has_post;
    jt_str normalizer, pre_tokenizer;
    /* of the model */
    jt_str type, unknown, prefix, suffix;
    bool has_vocab, scored, has_merges, byte_fallback, ignore_merges;
    int64_t unknown_id, word_most;
} document;

static bool is(jt_str text, const char *word)
{
    size_t len = strlen(word);
    return text.len == len && (len == 0 || memcmp(text.data, word, len) == 0);
}

static void keep(jt_json *at, bool *has, const jt_json *j)
{
    *at = *j;
    *has = true;
}

/* ---- tokens ---- */

/* Pass on what went wrong with a value that was read well. */
static void check(jt_json *j, jt_status status)
{
    if (j->status == JT_OK)
        j->status = status;
}

static void set_token(const document *f, jt_json *j, int64_t id, jt_str text)
{
    if (j->status == JT_OK)
        j->status = jt_draft_set(f->d, id, text, JT_TOKEN_NORMAL);
}

/* {"text": id} */
static jt_status read_vocab(document *f, jt_json *j)
{
    jt_json_enter(j, JT_JSON_OBJECT);
    while (jt_json_next(j)) {
        jt_str text = j->key;
        set_token(f, j, jt_json_int(j), text);
    }
    return j->status;
}

/* [["text", score]], in the order of the ids */
static jt_status read_scored_vocab(document *f, jt_json *j)
{
    f->d->scores = true;
    jt_json_enter(j, JT_JSON_ARRAY);
    for (int64_t id = 0; jt_json_next(j); id++) {
        jt_json_enter(j, JT_JSON_ARRAY);
        jt_str text = jt_json_next(j) ? jt_json_str(j) : (jt_str){0};
        double score = jt_json_next(j) ? jt_json_double(j) : 0;
        while (jt_json_next(j))
            jt_json_fail(j, JT_E_FORMAT, "more than a text and a score");
        set_token(f, j, id, text);
        if (j->status == JT_OK)
            f->d->tokens[id].score = (float)score;
    }
    return j->status;
}

/* "left right" or ["left", "right"] */
static jt_status read_merge(document *f, jt_json *j)
{
    jt_draft *d = f->d;
    if (jt_json_peek(j) == JT_JSON_STRING) {
        jt_str merge = jt_json_str(j);
        if (!jt_grow((void **)&d->merges, &d->merges_capacity, d->n_merges + 1,
                     sizeof *d->merges))
            return jt_fail_memory(d->err, "reading a tokenizer");
        d->merges[d->n_merges++] = merge;
        return j->status;
    }
    jt_json_enter(j, JT_JSON_ARRAY);
    jt_str left = jt_json_next(j) ? jt_json_str(j) : (jt_str){0};
    jt_str right = jt_json_next(j) ? jt_json_str(j) : (jt_str){0};
    while (jt_json_next(j))
        jt_json_fail(j, JT_E_FORMAT, "a merge of more than two tokens");
    if (!left.len || !right.len)
        return jt_json_fail(j, JT_E_FORMAT, "a merge of fewer than two tokens");
    if (memchr(left.data, ' ', left.len) || memchr(right.data, ' ', right.len))
        return jt_json_fail(j, JT_E_UNSUPPORTED, "a merge of tokens with spaces");
    return jt_draft_add_merge(d, left, right);
}

static jt_status read_merges(document *f, jt_json *j)
{
    jt_json_enter(j, JT_JSON_ARRAY);
    while (jt_json_next(j))
        JT_TRY(read_merge(f, j));
    return j->status;
}

static jt_str text_or_none(jt_json *j)
{
    return jt_json_peek(j) == JT_JSON_NULL ? (jt_str){0} : jt_json_str(j);
}

/* A member of the model that is one value. */
static void read_option(document *f, jt_json *j)
{
    if (jt_json_key_is(j, "type"))
        f->type = jt_json_str(j);
    else if (jt_json_key_is(j, "unk_token"))
        f->unknown = text_or_none(j);
    else if (jt_json_key_is(j, "unk_id") && jt_json_peek(j) != JT_JSON_NULL)
        f->unknown_id = jt_json_int(j);
    else if (jt_json_key_is(j, "continuing_subword_prefix"))
        f->prefix = text_or_none(j);
    else if (jt_json_key_is(j, "end_of_word_suffix"))
        f->suffix = text_or_none(j);
    else if (jt_json_key_is(j, "max_input_chars_per_word"))
        f->word_most = jt_json_int(j);
    else if (jt_json_key_is(j, "byte_fallback"))
        f->byte_fallback = jt_json_bool(j);
    else if (jt_json_key_is(j, "ignore_merges"))
        f->ignore_merges = jt_json_bool(j);
}

/* Tokens and merges are read on the way: there are megabytes of them. */
static void read_model(document *f, jt_json *j)
{
    f->has_model = true;
    f->unknown_id = -1;
    jt_json_enter(j, JT_JSON_OBJECT);
    while (jt_json_next(j)) {
        if (jt_json_key_is(j, "vocab") && !f->has_vocab) {
            f->has_vocab = true;
            f->scored = jt_json_peek(j) == JT_JSON_ARRAY;
            check(j, f->scored ? read_scored_vocab(f, j) : read_vocab(f, j));
        } else if (jt_json_key_is(j, "merges") && !f->has_merges) {
            f->has_merges = true;
            check(j, read_merges(f, j));
        } else {
            read_option(f, j);
        }
    }
    if (!f->has_vocab)
        jt_json_fail(j, JT_E_FORMAT, "the model has no 'vocab'");
}

static jt_status read_top(document *f)
{
    jt_json *j = &f->j;
    jt_json_enter(j, JT_JSON_OBJECT);
    while (jt_json_next(j)) {
        if (jt_json_key_is(j, "model") && !f->has_model)
            read_model(f, j);
        else if (jt_json_key_is(j, "added_tokens"))
            keep(&f->added, &f->has_added, j);
        else if (jt_json_key_is(j, "post_processor"))
            keep(&f->post, &f->has_post, j);
        else if (jt_json_key_is(j, "normalizer"))
            f->normalizer = jt_json_raw(j);
        else if (jt_json_key_is(j, "pre_tokenizer"))
            f->pre_tokenizer = jt_json_raw(j);
    }
    JT_TRY(jt_json_finish(j));
    if (!f->has_model)
        return jt_fail(f->d->err, JT_E_FORMAT, "'model' is missing");
    return JT_OK;
}

/* For programs that merge by score: as the order of the merges has it. */
static jt_status score_merges(jt_draft *d)
{
    size_t most = 1;
    for (size_t i = 0; i < d->n_merges; i++)
        most = d->merges[i].len > most ? d->merges[i].len : most;
    char *joined = jt_arena_alloc(&d->arena, most, 1);
    if (!joined)
        return jt_fail_memory(d->err, "reading a tokenizer");
    d->scores = true;
    for (size_t i = 0; i < d->n_merges; i++) {
        jt_str merge = d->merges[i];
        const char *space = merge.len ? memchr(merge.data, ' ', merge.len) : NULL;
        if (!space)
            continue;
        size_t left = (size_t)(space - merge.data);
        memcpy(joined, merge.data, left);
        memcpy(joined + left, space + 1, merge.len - left - 1);
        int32_t id = jt_draft_find(d, (jt_str){joined, merge.len - 1});
        if (id >= 0 && d->tokens[id].score == 0)
            d->tokens[id].score = -(float)(i + 1);
    }
    return JT_OK;
}

static jt_status read_added_token(document *f, jt_json *j)
{
    jt_draft_added added = jt_draft_read_added(j);
    JT_TRY(j->status);
    if (!added.text.len)
        return jt_json_fail(j, JT_E_FORMAT, "an added token without content");
    JT_TRY(jt_draft_set(f->d, added.id, added.text,
                        added.special ? JT_TOKEN_CONTROL : JT_TOKEN_USER));
    jt_draft_token *token = &f->d->tokens[added.id];
    token->strip_left = added.strip_left;
    token->strip_right = added.strip_right;
    token->single_word = added.single_word;
    return JT_OK;
}

static jt_status read_added(document *f)
{
    if (!f->has_added)
        return JT_OK;
    jt_json_enter(&f->added, JT_JSON_ARRAY);
    while (jt_json_next(&f->added))
        JT_TRY(read_added_token(f, &f->added));
    return f->added.status;
}

/* ---- steps ---- */

/* Keep the steps as the file has them. */
static void keep_steps(document *f)
{
    f->d->normalizer = f->normalizer;
    f->d->pre_tokenizer = f->pre_tokenizer;
    if (!f->d->normalizer.data && !f->d->pre_tokenizer.data)
        f->d->pre_tokenizer = (jt_str){"null", 4};
}

static bool is_mark(jt_str text)
{
    return is(text, JT_SPACE_MARK);
}

/* Spaces become marks, all of them; `step` is the one that does it. */
static bool marks_spaces(const jt_step *step)
{
    return step->kind == JT_STEP_REPLACE && !step->code && is(step->from, " ") &&
           is_mark(step->text);
}

/* What GGUF's "llama" does: perhaps a mark before the text, then all spaces are marks.
 * A cut at the spaces, of which then there are none, does nothing (Gemma). */
static bool is_sentencepiece(const jt_steps *steps, int *prefix)
{
    const jt_step *step = steps->items, *end = step + steps->count;
    *prefix = step < end && step->kind == JT_STEP_PREPEND && is_mark(step->text);
    step += *prefix;
    if (step == end || !marks_spaces(step))
        return false;
    step++;
    if (step < end && step->kind == JT_STEP_CUT && strcmp(step->expression, " ") == 0)
        step++;
    return step == end;
}

static void describe_unigram(document *f, const jt_steps *steps)
{
    jt_draft *d = f->d;
    d->prefix = d->shrink = 0;
    for (size_t i = 0; i < steps->count; i++) {
        const jt_step *step = &steps->items[i];
        if (step->kind == JT_STEP_CHARSMAP)
            d->charsmap = jt_draft_copy(d, step->charsmap.bytes);
        if (step->kind == JT_STEP_PREPEND || step->kind == JT_STEP_PREFIX)
            d->prefix = 1;
        if ((step->kind == JT_STEP_CUT && step->cut == JT_CUT_REMOVED) ||
            (step->kind == JT_STEP_REPLACE && step->code))
            d->shrink = 1;
    }
    keep_steps(f);
}

/* Whether BERT's own steps are these, with some choice of small letters and accents. */
static jt_status is_bert(const jt_steps *steps, int *lower, int *strip, bool *same,
                         jt_err *err)
{
    *same = false;
    for (int i = 0; i < 4 && !*same; i++) {
        *lower = i & 1;
        *strip = i >> 1;
        jt_bert how = {true, true, *strip, *lower};
        jt_steps bert;
        jt_status status = jt_steps_new(&bert, false, err);
        if (status == JT_OK)
            status = jt_pipeline_add_bert_normalizer(&bert, &how, err);
        if (status == JT_OK)
            status = jt_pipeline_add_bert_words(&bert, err);
        *same = status == JT_OK && jt_steps_same(steps, &bert);
        jt_steps_free(&bert);
        JT_TRY(status);
    }
    return JT_OK;
}

static jt_status describe_words(document *f, const jt_steps *steps)
{
    bool same;
    JT_TRY(is_bert(steps, &f->d->lower, &f->d->strip, &same, f->d->err));
    if (!same) {
        f->d->lower = f->d->strip = -1;
        keep_steps(f);
    }
    return JT_OK;
}

static void describe_bytes(document *f, const jt_steps *steps)
{
    const jt_pretokenizer *known = jt_pretokenizer_match(steps, f->ignore_merges);
    f->d->whole_words = f->ignore_merges;
    f->d->pre = known ? known->name : "junto";
    if (!known)
        keep_steps(f);
}

static jt_status read_bpe(document *f, const jt_steps *steps, bool byte_level)
{
    jt_draft *d = f->d;
    if (f->prefix.len || f->suffix.len)
        return jt_fail(d->err, JT_E_UNSUPPORTED,
                       "BPE with continuing_subword_prefix or end_of_word_suffix");
    d->model = byte_level ? "gpt2" : "llama";
    if (byte_level) {
        describe_bytes(f, steps);
        return JT_OK;
    }
    if (!is_sentencepiece(steps, &d->prefix)) {
        d->prefix = -1;
        keep_steps(f);
    }
    d->pre = "default";
    return score_merges(d);
}

static jt_status read_by_type(document *f, const jt_steps *steps, bool byte_level)
{
    jt_draft *d = f->d;
    if (f->scored != is(f->type, "Unigram") && f->type.len)
        return jt_fail(d->err, JT_E_FORMAT, "'vocab' is not that of a '%.*s'",
                       (int)(f->type.len < 40 ? f->type.len : 40), f->type.data);
    if (is(f->type, "BPE") || (!f->type.len && f->has_merges))
        return read_bpe(f, steps, byte_level);
    if (is(f->type, "Unigram") || (!f->type.len && f->scored)) {
        d->model = "t5";
        describe_unigram(f, steps);
        d->roles[JT_ROLE_UNKNOWN] = f->unknown_id < INT32_MAX ? (int)f->unknown_id : -1;
        return JT_OK;
    }
    if (is(f->type, "WordPiece") || (!f->type.len && is(f->prefix, "##"))) {
        d->model = "bert";
        if (!is(f->prefix, "##"))
            return jt_fail(d->err, JT_E_UNSUPPORTED,
                           "WordPiece with continuing_subword_prefix '%.*s'",
                           (int)(f->prefix.len < 40 ? f->prefix.len : 40),
                           f->prefix.data);
        if (f->word_most > 0 && f->word_most != 100 && f->word_most <= UINT32_MAX)
            d->word_most = (uint32_t)f->word_most;
        return describe_words(f, steps);
    }
    return jt_fail(d->err, JT_E_UNSUPPORTED,
                   "a model of type '%.*s'; known are BPE, Unigram, WordPiece",
                   (int)(f->type.len < 40 ? f->type.len : 40), f->type.data);
}

static jt_status read_steps(document *f, jt_steps *steps, bool *byte_level)
{
    jt_err *err = f->d->err;
    const struct {
        const char *name;
        jt_str text;
    } parts[] = {{"normalizer", f->normalizer}, {"pre_tokenizer", f->pre_tokenizer}};
    jt_pipeline_notes notes = {0};
    JT_TRY(jt_steps_new(steps, true, err));
    for (size_t i = 0; i < 2; i++) {
        if (!parts[i].text.data)
            continue;
        jt_status status = jt_pipeline_read(steps, parts[i].text, &notes, err);
        if (status != JT_OK)
            return jt_fail_within(err, status, "%s", parts[i].name);
        if (i == 0 && notes.byte_level)
            return jt_fail(err, JT_E_UNSUPPORTED, "ByteLevel as a normalizer");
    }
    *byte_level = notes.byte_level;
    return JT_OK;
}

/* "<0x0A>" stands for a byte where bytes stand in for characters. */
static void mark_bytes(document *f)
{
    jt_draft *d = f->d;
    for (size_t i = 0; i < d->count && f->byte_fallback; i++) {
        jt_str text = d->tokens[i].text;
        if (text.len == 6 && memcmp(text.data, "<0x", 3) == 0 && text.data[5] == '>')
            d->tokens[i].type = JT_TOKEN_BYTE;
    }
}

/* The unknown token is one, whatever else it is. */
static void mark_unknown(document *f)
{
    jt_draft *d = f->d;
    int32_t id = f->unknown.len ? jt_draft_find(d, f->unknown) : -1;
    if (id >= 0)
        d->roles[JT_ROLE_UNKNOWN] = id;
    id = d->roles[JT_ROLE_UNKNOWN];
    if (id >= 0 && (size_t)id < d->count && strcmp(d->model, "gpt2") != 0)
        d->tokens[id].type = JT_TOKEN_UNKNOWN;
}

jt_status jt_import_json(jt_draft *draft, jt_str text)
{
    document f = {.d = draft};
    draft->plain = true;
    jt_json_open(&f.j, text.data, text.len, &draft->arena, draft->err);
    JT_TRY(read_top(&f));
    jt_steps steps = {0};
    bool byte_level = false;
    jt_status status = read_steps(&f, &steps, &byte_level);
    if (status == JT_OK)
        status = read_by_type(&f, &steps, byte_level);
    jt_steps_free(&steps);
    JT_TRY(status);
    mark_bytes(&f);
    JT_TRY(read_added(&f));
    mark_unknown(&f);
    return f.has_post ? jt_import_post(draft, &f.post) : JT_OK;
}
