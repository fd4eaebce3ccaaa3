#include "text/pipeline.h"

#include <string.h>

#include "text/base64.h"
#include "text/dialect.h"
#include "text/pretoken.h"

#define PUNCTUATION "[\\p{P}$+<=>^`|~]"
#define SPACE       "[" JT_SPACES "]"

/* All members that an element may have; each type uses some. */
typedef struct element {
    jt_str type;
    bool has_pattern, literal;
    jt_str pattern;
    jt_str content, prepend, replacement, behavior, scheme, charsmap;
    bool invert, add_prefix_space, use_regex, individual, split;
    bool strip_left, strip_right;
    bool clean, ideographs, lower, strip_accents, strip_given;
    bool has_list;
    jt_json list; /* of elements */
} element;

typedef struct reader {
    jt_steps *steps;
    jt_pipeline_notes notes;
    bool spelt; /* bytes are written in the alphabet: steps come after that */
    jt_err *err;
} reader;

static bool is(jt_str text, const char *word)
{
    size_t len = strlen(word);
    return text.len == len && (len == 0 || memcmp(text.data, word, len) == 0);
}

/* ---- members ---- */

static void read_pattern(jt_json *j, element *e)
{
    e->has_pattern = true;
    if (jt_json_peek(j) == JT_JSON_STRING) { /* old files */
        e->literal = true;
        e->pattern = jt_json_str(j);
        return;
    }
    jt_json_enter(j, JT_JSON_OBJECT);
    while (jt_json_next(j)) {
        e->literal = jt_json_key_is(j, "String");
        if (!e->literal && !jt_json_key_is(j, "Regex"))
            jt_json_fail(j, JT_E_UNSUPPORTED,
                         "a pattern that is no String and no Regex");
        e->pattern = jt_json_str(j);
    }
}

/* A member whose value is a string; false when it is none of these. */
static bool read_text(jt_json *j, element *e)
{
    const struct {
        const char *name;
        jt_str *to;
    } texts[] = {{"type", &e->type},
                 {"content", &e->content},
                 {"prepend", &e->prepend},
                 {"replacement", &e->replacement},
                 {"behavior", &e->behavior},
                 {"prepend_scheme", &e->scheme},
                 {"precompiled_charsmap", &e->charsmap}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (!jt_json_key_is(j, texts[i].name))
            continue;
        if (jt_json_peek(j) != JT_JSON_NULL)
            *texts[i].to = jt_json_str(j);
        return true;
    }
    return false;
}

static bool read_switch(jt_json *j, element *e)
{
    const struct {
        const char *name;
        bool *to;
    } switches[] = {{"invert", &e->invert},
                    {"add_prefix_space", &e->add_prefix_space},
                    {"use_regex", &e->use_regex},
                    {"individual_digits", &e->individual},
                    {"split", &e->split},
                    {"strip_left", &e->strip_left},
                    {"strip_right", &e->strip_right},
                    {"clean_text", &e->clean},
                    {"handle_chinese_chars", &e->ideographs},
                    {"lowercase", &e->lower},
                    {"strip_accents", &e->strip_accents}};
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
        if (!jt_json_key_is(j, switches[i].name))
            continue;
        if (jt_json_peek(j) == JT_JSON_NULL)
            return true;
        *switches[i].to = jt_json_bool(j);
        e->strip_given |= switches[i].to == &e->strip_accents;
        return true;
    }
    return false;
}

static void read_element(jt_json *j, element *e)
{
    *e = (element){.add_prefix_space = true, .use_regex = true, .split = true};
    jt_json_enter(j, JT_JSON_OBJECT);
    while (jt_json_next(j)) {
        if (read_text(j, e) || read_switch(j, e))
            continue;
        if (jt_json_key_is(j, "pattern")) {
            read_pattern(j, e);
        } else if (jt_json_key_is(j, "delimiter")) {
            e->has_pattern = e->literal = true;
            e->pattern = jt_json_str(j);
        } else if (jt_json_key_is(j, "normalizers") ||
                   jt_json_key_is(j, "pretokenizers")) {
            e->has_list = true;
            e->list = *j;
        }
    }
}

/* ---- steps ---- */

static jt_status no_memory(const reader *r)
{
    return jt_fail_memory(r->err, "reading a tokenizer");
}

/* A text of the document becomes the steps' own. */
static jt_status keep(const reader *r, jt_str *text)
{
    char *copy = jt_arena_alloc(&r->steps->arena, text->len, 1);
    if (!copy)
        return no_memory(r);
    if (text->len)
        memcpy(copy, text->data, text->len);
    *text = (jt_str){copy, text->len};
    return JT_OK;
}

static jt_status add(const reader *r, jt_step step)
{
    return jt_steps_add(r->steps, step, r->err);
}

static jt_status add_cut(const reader *r, const char *expression, jt_cut cut)
{
    return jt_steps_add_expression(r->steps, (jt_step){.kind = JT_STEP_CUT, .cut = cut},
                                   expression, r->err);
}

static jt_status read_cut(const reader *r, const element *e, jt_cut *cut)
{
    static const char *const names[] = {[JT_CUT_ISOLATED] = "Isolated",
                                        [JT_CUT_REMOVED] = "Removed",
                                        [JT_CUT_PREVIOUS] = "MergedWithPrevious",
                                        [JT_CUT_NEXT] = "MergedWithNext",
                                        [JT_CUT_RUNS] = "Contiguous"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (is(e->behavior, names[i])) {
            *cut = (jt_cut)i;
            return JT_OK;
        }
    }
    return jt_fail(r->err, JT_E_UNSUPPORTED, "a split with behavior '%.*s'",
                   (int)(e->behavior.len < 40 ? e->behavior.len : 40),
                   e->behavior.data);
}

static jt_status translate(const reader *r, const element *e, char **out)
{
    if (!e->has_pattern || !e->pattern.len)
        return jt_fail(r->err, JT_E_FORMAT, "'%.*s' has no pattern", (int)e->type.len,
                       e->type.data);
    return e->literal ? jt_dialect_quote(out, &r->steps->arena, e->pattern, r->err)
                      : jt_dialect_translate(out, &r->steps->arena, e->pattern, r->err);
}

static jt_status add_split(reader *r, const element *e)
{
    char *expression = NULL;
    jt_step step = {.kind = JT_STEP_CUT, .invert = e->invert};
    JT_TRY(translate(r, e, &expression));
    JT_TRY(read_cut(r, e, &step.cut));
    if (step.cut == JT_CUT_ISOLATED)
        step.invert = false; /* pieces are the same either way */
    return jt_steps_add_expression(r->steps, step, expression, r->err);
}

static jt_status add_delimiter(reader *r, const element *e)
{
    char *expression = NULL;
    JT_TRY(translate(r, e, &expression));
    return add_cut(r, expression, JT_CUT_REMOVED);
}

static jt_status add_digits(reader *r, const element *e)
{
    return add_cut(r, e->individual ? "\\p{N}" : "\\p{N}+", JT_CUT_ISOLATED);
}

static jt_status add_punctuation(reader *r, const element *e)
{
    jt_cut cut = JT_CUT_ISOLATED;
    if (e->behavior.len)
        JT_TRY(read_cut(r, e, &cut));
    if (cut == JT_CUT_RUNS)
        return add_cut(r, PUNCTUATION "+", JT_CUT_ISOLATED);
    return add_cut(r, PUNCTUATION, cut);
}

static jt_status add_words(reader *r, const element *e)
{
    (void)e;
    char *expression = NULL;
    const jt_str words = {"\\w+|[^\\w\\s]+", 13};
    JT_TRY(jt_dialect_translate(&expression, &r->steps->arena, words, r->err));
    jt_step step = {.kind = JT_STEP_CUT, .cut = JT_CUT_REMOVED, .invert = true};
    return jt_steps_add_expression(r->steps, step, expression, r->err);
}

static jt_status add_spaces(reader *r, const element *e)
{
    (void)e;
    return add_cut(r, SPACE "+", JT_CUT_REMOVED);
}

static jt_status add_byte_level(reader *r, const element *e)
{
    const jt_str space = {" ", 1};
    if (r->notes.byte_level)
        return jt_fail(r->err, JT_E_UNSUPPORTED, "ByteLevel twice");
    r->notes.byte_level = true;
    if (e->add_prefix_space)
        JT_TRY(add(r, (jt_step){.kind = JT_STEP_PREFIX, .text = space}));
    return e->use_regex ? add_cut(r, jt_pretokenizer_gpt2, JT_CUT_ISOLATED) : JT_OK;
}

static jt_status add_metaspace(reader *r, const element *e)
{
    jt_str mark = e->replacement;
    char *expression = NULL;
    if (!mark.len)
        return jt_fail(r->err, JT_E_FORMAT, "Metaspace without a replacement");
    JT_TRY(keep(r, &mark));
    jt_step replace = {.kind = JT_STEP_REPLACE, .from = {" ", 1}, .text = mark};
    jt_step prefix = {.kind = JT_STEP_PREFIX, .text = mark};
    JT_TRY(add(r, replace));
    prefix.first = is(e->scheme, "first");
    bool never = e->scheme.len ? is(e->scheme, "never") : !e->add_prefix_space;
    if (!never)
        JT_TRY(add(r, prefix));
    if (!e->split)
        return JT_OK;
    JT_TRY(jt_dialect_quote(&expression, &r->steps->arena, mark, r->err));
    return add_cut(r, expression, JT_CUT_NEXT);
}

static jt_status add_form(reader *r, const element *e)
{
    static const char *const names[] = {
        [JT_NFC] = "NFC", [JT_NFD] = "NFD", [JT_NFKC] = "NFKC", [JT_NFKD] = "NFKD"};
    jt_step step = {.kind = JT_STEP_FORM};
    while (!is(e->type, names[step.form]))
        step.form++;
    return add(r, step);
}

static jt_status add_replace(reader *r, const element *e)
{
    jt_step step = {.kind = JT_STEP_REPLACE, .text = e->content, .from = e->pattern};
    JT_TRY(keep(r, &step.text));
    if (!e->literal) {
        char *expression = NULL;
        step.from = (jt_str){0};
        JT_TRY(translate(r, e, &expression));
        return jt_steps_add_expression(r->steps, step, expression, r->err);
    }
    if (!step.from.len)
        return jt_fail(r->err, JT_E_FORMAT, "'Replace' has no pattern");
    JT_TRY(keep(r, &step.from));
    return add(r, step);
}

static jt_status add_prepend(reader *r, const element *e)
{
    jt_step step = {.kind = JT_STEP_PREPEND, .text = e->prepend};
    JT_TRY(keep(r, &step.text));
    return add(r, step);
}

static jt_status add_strip(reader *r, const element *e)
{
    return add(r, (jt_step){.kind = JT_STEP_STRIP,
                            .left = e->strip_left,
                            .right = e->strip_right});
}

static jt_status add_lower(reader *r, const element *e)
{
    (void)e;
    return add(r, (jt_step){.kind = JT_STEP_LOWER});
}

static jt_status add_drop_marks(reader *r, const element *e)
{
    (void)e;
    return add(r, (jt_step){.kind = JT_STEP_DROP_MARKS, .all = true});
}

static jt_status add_charsmap(reader *r, const element *e)
{
    jt_step step = {.kind = JT_STEP_CHARSMAP, .clusters = true};
    if (!e->charsmap.len) /* a table that replaces nothing */
        return JT_OK;
    char *bytes = jt_arena_alloc(&r->steps->arena, e->charsmap.len, 1);
    if (!bytes)
        return no_memory(r);
    size_t len = jt_base64_decode(bytes, e->charsmap);
    if (len == SIZE_MAX)
        return jt_fail(r->err, JT_E_FORMAT, "precompiled_charsmap is not base64");
    JT_TRY(jt_charsmap_open(&step.charsmap, (jt_str){bytes, len}, r->err));
    return add(r, step);
}

static jt_status add_bert_normalizer(reader *r, const element *e)
{
    bool strip = e->strip_given ? e->strip_accents : e->lower;
    jt_bert how = {e->clean, e->ideographs, strip, e->lower};
    return jt_pipeline_add_bert_normalizer(r->steps, &how, r->err);
}

static jt_status add_bert_words(reader *r, const element *e)
{
    (void)e;
    return jt_pipeline_add_bert_words(r->steps, r->err);
}

static const struct {
    const char *type;
    jt_status (*add)(reader *, const element *);
} types[] = {{"NFC", add_form},
             {"NFD", add_form},
             {"NFKC", add_form},
             {"NFKD", add_form},
             {"Lowercase", add_lower},
             {"StripAccents", add_drop_marks},
             {"Strip", add_strip},
             {"Prepend", add_prepend},
             {"Replace", add_replace},
             {"Precompiled", add_charsmap},
             {"BertNormalizer", add_bert_normalizer},
             {"Split", add_split},
             {"ByteLevel", add_byte_level},
             {"Digits", add_digits},
             {"Punctuation", add_punctuation},
             {"Metaspace", add_metaspace},
             {"Whitespace", add_words},
             {"WhitespaceSplit", add_spaces},
             {"CharDelimiterSplit", add_delimiter},
             {"BertPreTokenizer", add_bert_words}};

/* A reader's error, or one of the steps that the element at hand has become, which is
 * then the reader's. */
static void check(jt_json *j, jt_status status)
{
    if (j->status == JT_OK)
        j->status = status;
}

/* As deep as sequences are in each other. */
static void add_element(reader *r, jt_json *j)
{
    element e;
    if (jt_json_peek(j) == JT_JSON_NULL) {
        jt_json_skip(j);
        return;
    }
    read_element(j, &e);
    if (j->status != JT_OK)
        return;
    if (is(e.type, "Sequence") && e.has_list) {
        jt_json_enter(&e.list, JT_JSON_ARRAY);
        while (jt_json_next(&e.list))
            add_element(r, &e.list);
        check(j, e.list.status);
        return;
    }
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (is(e.type, types[i].type)) {
            if (r->notes.byte_level && !r->spelt)
                check(j, add(r, (jt_step){.kind = JT_STEP_SPELL}));
            r->spelt = r->notes.byte_level;
            check(j, types[i].add(r, &e));
            return;
        }
    }
    jt_json_fail(j, JT_E_UNSUPPORTED, "'%.*s' is not known",
                 (int)(e.type.len < 40 ? e.type.len : 40), e.type.data);
}

jt_status jt_pipeline_read(jt_steps *steps, jt_str json, jt_pipeline_notes *notes,
                           jt_err *err)
{
    reader r = {.steps = steps, .err = err};
    jt_json j;
    jt_json_open(&j, json.data, json.len, &steps->arena, err);
    add_element(&r, &j);
    JT_TRY(jt_json_finish(&j));
    if (r.spelt)
        JT_TRY(add(&r, (jt_step){.kind = JT_STEP_UNSPELL}));
    if (notes)
        notes->byte_level |= r.notes.byte_level;
    return JT_OK;
}

/* ---- BERT ---- */

jt_status jt_pipeline_add_bert_normalizer(jt_steps *steps, const jt_bert *how,
                                          jt_err *err)
{
    const struct {
        bool on;
        jt_step step;
    } parts[] = {{how->clean, {.kind = JT_STEP_CLEAN}},
                 {how->ideographs, {.kind = JT_STEP_IDEOGRAPHS}},
                 {how->strip, {.kind = JT_STEP_FORM, .form = JT_NFD}},
                 {how->strip, {.kind = JT_STEP_DROP_MARKS}},
                 {how->lower, {.kind = JT_STEP_LOWER}}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (parts[i].on)
            JT_TRY(jt_steps_add(steps, parts[i].step, err));
    }
    return JT_OK;
}

jt_status jt_pipeline_add_bert_words(jt_steps *steps, jt_err *err)
{
    JT_TRY(jt_steps_add_expression(
        steps, (jt_step){.kind = JT_STEP_CUT, .cut = JT_CUT_REMOVED}, SPACE "+", err));
    return jt_steps_add_expression(steps, (jt_step){.kind = JT_STEP_CUT}, PUNCTUATION,
                                   err);
}
