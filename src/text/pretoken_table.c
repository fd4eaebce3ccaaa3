/* The pre-tokenizers as data. Expressions are those of the families' published
 * tokenizer.json files, as jt_dialect_translate spells them; names are the ones that
 * GGUF files use. */
#include "text/pretoken.h"

#include <string.h>

#include "base/join.h"
#include "text/dialect.h"

#define SPACES    JT_SPACES
#define SPACE     "[" SPACES "]"
#define NOT_SPACE "[^" SPACES "]"

/* Spaces at the end; others but for the last, which belongs to the next word. */
#define SPACE_RUNS SPACE "+(?!" NOT_SPACE ")|" SPACE "+"
/* Line ends with all space before them. */
#define LINE_ENDS SPACE "*[\\r\\n]+|"

#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WORD        "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define SYMBOLS(more) \
    " ?[^" SPACES "\\p{L}\\p{N}]+[\\r\\n" more "]*|" LINE_ENDS SPACE_RUNS

#define DIGITS_OF_3 "(?=(\\p{Nd}{3})+(?!\\p{Nd}))"

#define GPT2                                                  \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACES \
    "\\p{L}\\p{N}]+|" SPACE_RUNS

/* A word whose capitals come first: at least one small letter, or at least one capital.
 */
#define CAPITALS "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define SMALLS   "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED_WORD(tail)                                      \
    "[^\\r\\n\\p{L}\\p{N}]?" CAPITALS "*" SMALLS "+" tail "|" \
    "[^\\r\\n\\p{L}\\p{N}]?" CAPITALS "+" SMALLS "*" tail "|"

static const char *const gpt2[] = {GPT2, NULL};
static const char *const gpt2_digits[] = {"\\p{N}", GPT2, NULL};
static const char *const llama3[] = {CONTRACTION "|" WORD "\\p{N}{1,3}|" SYMBOLS(""),
                                     NULL};
static const char *const qwen2[] = {CONTRACTION "|" WORD "\\p{N}|" SYMBOLS(""), NULL};
static const char *const qwen35[] = {
    CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}|"
                " ?[^" SPACES "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" LINE_ENDS SPACE_RUNS,
    NULL};
static const char *const gpt4o[] = {
    CASED_WORD(CONTRACTION "?") "\\p{N}{1,3}|" SYMBOLS("/"), NULL};
static const char *const tekken[] = {CASED_WORD("") "\\p{N}|" SYMBOLS("/"), NULL};
static const char *const seed_coder[] = {CONTRACTION
                                         "|" WORD "\\p{N}{1}| ?[^" SPACES
                                         "\\p{L}\\p{N}\\r\\n]+|" LINE_ENDS SPACE_RUNS,
                                         NULL};
static const char *const bailing[] = {
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|"
    "\\p{N}| ?[^" SPACES "\\p{L}\\p{N}]++[\\r\\n]*|" SPACE "*[\\r\\n]|" SPACE_RUNS,
    NULL};

#define DEEPSEEK_EAST_ASIAN \
    "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"
/* Letters with case, as of the day when this tokenizer was made. */
#define DEEPSEEK_LETTERS                                                           \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}"                  \
    "\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}"         \
    "\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}"   \
    "\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}"         \
    "\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}"   \
    "\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}"                    \
    "\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}"                    \
    "\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}"                    \
    "\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}"            \
    "\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}"           \
    "\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}" \
    "\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}"                     \
    "\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}"   \
    "\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}"           \
    "\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}"            \
    "\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}"                     \
    "\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}"                    \
    "\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}"                    \
    "\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}"                    \
    "\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}"                \
    "\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"              \
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"

/* The look behind and the ++ keep a long run of spaces that is not at the end from
 * being tried from each of its places. */
#define SPACE_AT_END "(?<!" SPACE ")" SPACE "++$"
static const char *const deepseek_llm[] = {
    "[\\r\\n]",
    SPACE "?[" DEEPSEEK_LETTERS "]+",
    SPACE "?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}"
          "\\x{3000}-\\x{3002}]+",
    SPACE_AT_END,
    DEEPSEEK_EAST_ASIAN,
    "\\p{N}",
    NULL};
static const char *const deepseek_coder[] = {"[\\r\\n]",       SPACE "?\\p{L}+",
                                             SPACE "?\\p{P}+", DEEPSEEK_EAST_ASIAN,
                                             "\\p{N}",         NULL};
#define DEEPSEEK_V3_WORDS                                    \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|" \
    "[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "          \
    "?[\\p{P}\\p{S}]+[\\r\\n]*|" LINE_ENDS SPACE_RUNS
static const char *const deepseek_v3[] = {
    "\\p{N}{1,3}", "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+",
    DEEPSEEK_V3_WORDS, NULL};
#define PUNCTUATION "[\\p{P}$+<=>^`|~]+"
/* What follows cuts the bytes of the text as the alphabet writes them, where some of
 * them are numbers: 0xbd is U+00BD, one half. */
static const char as_bytes[] = "as bytes";
static const char *const falcon[] = {PUNCTUATION,       GPT2, as_bytes, "\\p{N}+",
                                     "[0-9][0-9][0-9]", NULL};

/* As CASED_WORD, of letters that are not Han. */
#define KIMI(class) "(?:(?=[^\\p{sc:Han}])" class ")"
static const char *const kimi_k2[] = {
    "[\\p{sc:Han}]+|"
    "[^\\r\\n\\p{L}\\p{N}]?" KIMI(CAPITALS) "*" KIMI(
        SMALLS) "+" CONTRACTION "?|"
                "[^\\r\\n\\p{L}\\p{N}]?" KIMI(CAPITALS) "+" KIMI(
                    SMALLS) "*" CONTRACTION "?|"
                            "\\p{N}{1,3}|" SYMBOLS(""),
    NULL};
static const char *const superbpe[] = {"\\p{N}+", DIGITS_OF_3, NULL};
/* Letters, each with its marks, and single spaces between them. */
#define EXAONE_WORDS "\\p{L}[\\p{L}\\p{M}]*+(?: \\p{L}[\\p{L}\\p{M}]*+)*+"
#define EXAONE(words)                                                 \
    CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?" words "|\\p{N}| ?[^" SPACES \
                "\\p{L}\\p{N}]+[\\r\\n/]?|" SPACE "*[\\r\\n]|" SPACE_RUNS
static const char *const exaone_moe[] = {EXAONE(EXAONE_WORDS), NULL};
static const char *const afmoe[] = {
    "\\p{N}+", "(?=(\\p{N}{3})+(?!\\p{N}))",
    "[\\x{4e00}-\\x{9fff}\\x{3400}-\\x{4dbf}\\x{f900}-\\x{faff}\\x{3040}-\\x{309f}"
    "\\x{30a0}-\\x{30ff}\\x{ff65}-\\x{ff9f}\\x{2f00}-\\x{2fdf}\\x{e40}-\\x{e7f}"
    "\\x{e80}-\\x{eff}\\x{1780}-\\x{17ff}\\x{1000}-\\x{109f}\\x{aa60}-\\x{aa7f}"
    "\\x{a9e0}-\\x{a9ff}\\x{ac00}-\\x{d7af}\\x{1100}-\\x{11ff}]+",
    DEEPSEEK_V3_WORDS, NULL};
static const char *const cohere2[] = {
    "\\p{Nd}{1,3}(?=(?:\\p{Nd}{3})*\\b)",
    CASED_WORD(CONTRACTION "?") "\\p{N}{1,3}|" SYMBOLS("/"), NULL};
static const char *const minicpm5[] = {
    "\\p{N}{1,3}", CONTRACTION "|" WORD "\\p{N}+|" SYMBOLS(""), NULL};
static const char *const laguna[] = {"[^\\n]+|[\\n]+",
                                     CONTRACTION "|" WORD "\\p{N}|" SYMBOLS(""), NULL};
/* What files get whose maker did not know the pre-tokenizer. */
static const char *const unnamed[] = {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+",
                                      "[0-9][0-9][0-9]", NULL};

/* clang-format off */
static const jt_pretokenizer table[] = {
    /* name             expressions     nfc    whole  bos */
    {"gpt-2",           gpt2,           false, false, false},
    {"phi-2",           gpt2,           false, false, false},
    {"mpt",             gpt2,           true,  false, false},
    {"olmo",            gpt2,           true,  false, false},
    {"jais",            gpt2,           false, false, false},
    {"mellum",          gpt2,           false, false, false},
    {"exaone4",         gpt2,           false, false, false},
    {"trillion",        gpt2,           false, false, false},
    {"granite-docling", gpt2,           false, false, false},
    {"smollm",          gpt2_digits,    false, false, false},
    {"starcoder",       gpt2_digits,    false, false, false},
    {"refact",          gpt2_digits,    false, false, false},
    {"command-r",       gpt2_digits,    true,  false, false},
    {"codeshell",       gpt2_digits,    false, false, false},
    {"exaone",          gpt2_digits,    false, false, false},
    {"minerva-7b",      gpt2_digits,    false, false, false},
    {"mellum2",         gpt2_digits,    false, false, false},
    {"llama-bpe",       llama3,         false, true,  true},
    {"llama3",          llama3,         false, true,  true},
    {"llama-v3",        llama3,         false, true,  true},
    {"falcon3",         llama3,         false, true,  true},
    {"falcon-h1",       llama3,         false, true,  true},
    {"midm-2.0",        llama3,         false, true,  true},
    {"pixtral",         llama3,         false, true,  true},
    {"lfm2",            llama3,         false, true,  true},
    {"dbrx",            llama3,         false, false, false},
    {"smaug-bpe",       llama3,         false, false, false},
    {"glm4",            llama3,         false, false, false},
    {"chatglm-bpe",     llama3,         false, false, false},
    {"qwen2",           qwen2,          true,  false, false},
    {"deepseek-r1-qwen",qwen2,          true,  false, false},
    {"megrez",          qwen2,          true,  false, false},
    {"kormo",           qwen2,          true,  false, false},
    {"hunyuan",         qwen2,          false, false, false},
    {"stablelm2",       qwen2,          false, false, false},
    {"solar-open",      qwen2,          false, false, false},
    {"grok-2",          qwen2,          false, false, false},
    {"qwen35",          qwen35,         true,  false, false},
    {"gpt-4o",          gpt4o,          false, false, false},
    {"llama4",          gpt4o,          false, false, false},
    {"kanana2",         gpt4o,          false, false, false},
    {"talkie",          gpt4o,          false, false, false},
    {"minimax-m2",      gpt4o,          false, false, false},
    {"tekken",          tekken,         false, true,  true},
    {"seed-coder",      seed_coder,     false, false, false},
    {"bailingmoe",      bailing,        false, false, false},
    {"bailingmoe2",     bailing,        false, false, false},
    {"llada-moe",       bailing,        false, false, false},
    {"deepseek-llm",    deepseek_llm,   false, false, false},
    {"deepseek-coder",  deepseek_coder, false, false, false},
    {"deepseek-v3",     deepseek_v3,    false, false, false},
    {"hunyuan-dense",   deepseek_v3,    false, false, false},
    {"hy_v4",           deepseek_v3,    false, false, false},
    {"joyai-llm",       deepseek_v3,    false, false, false},
    {"falcon",          falcon,         false, false, false},
    {"kimi-k2",         kimi_k2,        false, true,  false},
    {"superbpe",        superbpe,       false, false, false},
    {"exaone-moe",      exaone_moe,     false, false, false},
    {"afmoe",           afmoe,          false, false, false},
    {"tiny_aya",        cohere2,        false, false, false},
    {"cohere2moe",      cohere2,        false, false, false},
    {"minicpm5",        minicpm5,       false, true,  false},
    {"laguna",          laguna,         false, false, false},
    {"default",         unnamed,        false, false, false},
};
/* clang-format on */

enum { TABLE_COUNT = sizeof table / sizeof *table };

const jt_pretokenizer *jt_pretokenizer_find(jt_str name)
{
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        if (strlen(table[i].name) == name.len &&
            memcmp(table[i].name, name.data, name.len) == 0)
            return &table[i];
    }
    return NULL;
}

const char *const jt_pretokenizer_gpt2 = GPT2;

static jt_step step_of(const char *expression)
{
    return (jt_step){.kind = expression == as_bytes ? JT_STEP_SPELL : JT_STEP_CUT};
}

jt_status jt_pretokenizer_steps(jt_steps *out, const jt_pretokenizer *kind, jt_err *err)
{
    JT_TRY(jt_steps_new(out, false, err));
    if (kind->nfc)
        JT_TRY(jt_steps_add(out, (jt_step){.kind = JT_STEP_FORM, .form = JT_NFC}, err));
    bool bytes = false;
    for (size_t i = 0; kind->expressions[i]; i++) {
        jt_step step = step_of(kind->expressions[i]);
        bytes |= step.kind == JT_STEP_SPELL;
        if (step.kind == JT_STEP_SPELL)
            JT_TRY(jt_steps_add(out, step, err));
        else
            JT_TRY(jt_steps_add_expression(out, step, kind->expressions[i], err));
    }
    if (bytes)
        JT_TRY(jt_steps_add(out, (jt_step){.kind = JT_STEP_UNSPELL}, err));
    return JT_OK;
}

/* Expressions that a table has in another form than the published one, because that is
 * fast for any text, and where they stand means the same. */
static const struct {
    const char *ours, *published;
} respelt[] = {
    {SPACE_AT_END, SPACE "+(?m:$)"},
    {EXAONE(EXAONE_WORDS), EXAONE("(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+")},
};

static bool same_expression(const char *ours, const char *found)
{
    for (size_t i = 0; i < sizeof respelt / sizeof *respelt; i++) {
        if (strcmp(ours, respelt[i].ours) == 0)
            return strcmp(found, respelt[i].published) == 0;
    }
    return strcmp(ours, found) == 0;
}

static bool does(const jt_pretokenizer *kind, const jt_steps *steps)
{
    size_t at = 0;
    bool bytes = false;
    if (kind->nfc) {
        const jt_step *step = &steps->items[at++];
        if (steps->count == 0 || step->kind != JT_STEP_FORM || step->form != JT_NFC)
            return false;
    }
    for (const char *const *e = kind->expressions; *e; e++, at++) {
        const jt_step *step = &steps->items[at];
        if (at == steps->count || step->kind != step_of(*e).kind)
            return false;
        bytes |= step->kind == JT_STEP_SPELL;
        if (step->kind == JT_STEP_CUT &&
            (step->cut != JT_CUT_ISOLATED || !same_expression(*e, step->expression)))
            return false;
    }
    return at + bytes == steps->count; /* the last one takes the spelling back */
}

const jt_pretokenizer *jt_pretokenizer_match(const jt_steps *steps, bool whole_words)
{
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        if (table[i].whole_words == whole_words && does(&table[i], steps))
            return &table[i];
    }
    return NULL;
}

static const char *name_at(size_t i)
{
    return i < TABLE_COUNT ? table[i].name : NULL;
}

void jt_pretokenizer_names(char *out, size_t size)
{
    jt_join_names(out, size, name_at);
}
