/* Grammars and schemas: which texts fit, which tokens can come next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "junto/grammar.h"

static bool fits(const jt_grammar *grammar, const char *text)
{
    bool result;
    jt_err err = {0};
    jt_status status = jt_grammar_match(grammar, text, strlen(text), &result, &err);
    if (status != JT_OK)
        fail_msg("'%s': %s", text, err.msg);
    return result;
}

/* Texts that fit, then NULL, then texts that do not. */
typedef struct example {
    const char *form;
    const char *texts[16];
} example;

static void check_texts(const jt_grammar *grammar, const example *e)
{
    bool expected = true;
    for (size_t i = 0; e->texts[i] || expected; i++) {
        if (!e->texts[i]) {
            expected = false;
            continue;
        }
        if (fits(grammar, e->texts[i]) != expected)
            fail_msg("%s: '%s' should %sfit", e->form, e->texts[i],
                     expected ? "" : "not ");
    }
}

static void grammars_say_what_fits(void **state)
{
    (void)state;
    static const example examples[] = {
        {"root ::= \"a\"", {"a", NULL, "", "b", "aa"}},
        {"root ::= \"a\" | \"bc\" |", {"a", "bc", "", NULL, "b", "abc"}},
        {"root ::= [a-c]+ [^a-z]?",
         {"abc", "a1", "c\xe2\x82\xac", NULL, "", "1", "ad"}},
        {"root ::= .",
         {"x", "\n", "\xc3\xa4", "\xf0\x9f\x98\x80", NULL, "xy", "\xc3",
          "\xed\xa0\x80"}},
        {"root ::= [\\u00e4-\\u20ac]",
         {"\xc3\xa4", "\xe2\x82\xac", "\xe0\xa4\x85", NULL, "\xc3\xa3", "\xe2\x82\xad",
          "a"}},
        {"root ::= [\\U0001f600\\-\\]^]",
         {"\xf0\x9f\x98\x80", "-", "]", "^", NULL, "a"}},
        {"root ::= \"a\"{2} \"b\"{1,} \"c\"{0,2} \"d\"{ 1 , 2 }",
         {"aabd", "aabbbccdd", NULL, "abd", "aab", "aabcccd", "aabddd"}},
        {"root ::= (\"a\" | \"b\" \"c\")* # a comment\n",
         {"", "abcbca", NULL, "b", "ac"}},
        {"root ::= \"(\" root \")\" | \"x\"",
         {"x", "((x))", NULL, "((x)", "(x))", "()"}},
        {"root ::= list\nlist ::= item (\",\"\n  item)*\nitem ::= [0-9]+",
         {"1", "1,22,3", NULL, "", "1,", ",1"}},
        {"root ::= a a \"!\"\na ::= \"x\"?", {"!", "x!", "xx!", NULL, "xxx!"}},
        {"root ::= \"\\x41\\n\\t\\\\\\\"\\u00e9\"", {"A\n\t\\\"\xc3\xa9", NULL, "A"}},
        {"root ::= (\"\"*)* \"a\"", {"a", NULL, ""}},
        {"root ::= ((\"a\"?)*)+ \"b\"", {"b", "aaab", NULL, "a"}},
    };
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        jt_grammar *grammar;
        jt_err err = {0};
        const char *form = examples[i].form;
        if (jt_grammar_new(&grammar, form, strlen(form), &err) != JT_OK)
            fail_msg("%s: %s", form, err.msg);
        check_texts(grammar, &examples[i]);
        jt_grammar_free(grammar);
    }
}

static void wrong_grammars_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *form, *says;
    } wrong[] = {
        {"", "no rule 'root'"},
        {"a ::= \"b\"", "no rule 'root'"},
        {"root ::= a", "line 1, column 11: there is no rule"},
        {"root ::= \"a", "without its end"},
        {"root ::= [a", "ends too soon"},
        {"root ::= []", "class without"},
        {"root ::= [b-a]", "range that ends"},
        {"root ::= (\"a\"", "group without"},
        {"root ::= \"a\")", "no part of a rule"},
        {"root = \"a\"", "'::=' is missing"},
        {"root ::= \"a\"\nroot ::= \"b\"", "there already"},
        {"root ::= \"\\q\"", "unknown escape"},
        {"root ::= \"\\u12\"", "too few hex"},
        {"root ::= \"\\ud800\"", "no character"},
        {"root ::= \"a\"{2,1}", "bad bounds"},
        {"root ::= \"a\"{x}", "number is missing"},
        {"root ::= \"a\"{99999999}", "too many repetitions"},
        {"root ::= *", "no part of a rule"},
        {"root ::= root \"a\" | \"b\"", "'root' can begin with itself"},
        {"root ::= a\na ::= \"x\"? b\nb ::= (\"y\")* a", "can begin with itself"},
        {"root ::= <think>", "tokens in grammars"},
        {"root ::= ((\"a\"{9999}){9999}){9999}", "too large"},
        {"root ::= (((\"\"{9999}){9999}){9999}){9999}", "too large"},
        {"root ::= \"\xff\"", "no UTF-8"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        jt_grammar *grammar = NULL;
        jt_err err = {0};
        const char *form = wrong[i].form;
        assert_int_not_equal(jt_grammar_new(&grammar, form, strlen(form), &err), JT_OK);
        if (!strstr(err.msg, wrong[i].says))
            fail_msg("%s: %s", form, err.msg);
    }
}

static void schemas_say_what_fits(void **state)
{
    (void)state;
    static const example examples[] = {
        {"{}",
         {"{}", "[1, \"a\"]", "null", "-1.5e3", "\"\\ud83d\\ude00\"", NULL, "", "{",
          "01", "\"\\ud83d\"", "\"\n\"", "tru"}},
        {"true", {"1", NULL, "x"}},
        {"{\"type\": \"object\"}",
         {"{}", "{\"a\": {\"b\": []}}", NULL, "[]", "{\"a\"}"}},
        {"{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}, "
         "\"b\": "
         "{\"type\": \"boolean\"}}, \"required\": [\"b\"]}",
         {"{\"b\": true}", "{\"a\": 1, \"b\":false}", "{\n  \"b\": true\n}", NULL, "{}",
          "{\"a\": 1}", "{\"b\": 1}", "{\"b\": true, \"a\": 1}",
          "{\"b\": true, \"c\": 1}", "{\"b\": true,}", "{,\"b\": true}"}},
        {"{\"properties\": {\"ab\": {}, \"ac\\\"\": {}}, \"additionalProperties\": "
         "{\"type\": \"null\"}}",
         {"{}", "{\"ab\": 1}", "{\"ab\": 1, \"x\": null}", "{\"a\": null}",
          "{\"abc\": null, \"b\": null}", NULL, "{\"x\": 1}",
          "{\"x\": null, \"ab\": 1}", "{\"\\u0061b\": null}"}},
        {"{\"required\": [\"a\", \"ab\", \"a\", \"ab\"], \"additionalProperties\": "
         "{\"type\": \"null\"}}",
         {"{\"a\": null, \"ab\": null}", "{\"a\": null, \"ab\": null, \"b\": null}",
          NULL, "{\"a\": null}", "{\"a\": null, \"ab\": null, \"a\": null}"}},
        {"{\"additionalProperties\": {\"type\": \"integer\"}, \"minProperties\": 1, "
         "\"maxProperties\": 2}",
         {"{\"a\": 1}", "{\"a\": 1, \"b\": 2}", NULL, "{}",
          "{\"a\": 1, \"b\": 2, \"c\": 3}", "{\"a\": \"b\"}"}},
        {"{\"type\": \"array\", \"items\": {\"enum\": [1, \"x\\\"\", null, [1]]}, "
         "\"minItems\": 1, \"maxItems\": 3}",
         {"[1]", "[\"x\\\"\", null,[1]]", NULL, "[]", "[2]", "[1,1,1,1]", "[1,]"}},
        {"{\"type\": \"array\", \"minItems\": 2}",
         {"[1,2]", "[1,2,3]", NULL, "[]", "[1]"}},
        {"{\"prefixItems\": [{\"const\": \"a\"}, {\"type\": \"null\"}], \"items\": "
         "{\"type\": \"integer\"}, \"maxItems\": 3}",
         {"[\"a\", null]", "[\"a\", null, 4]", NULL, "[\"a\"]", "[\"a\", null, 4, 4]",
          "[\"a\", null, \"b\"]"}},
        {"{\"type\": \"array\", \"maxItems\": 0}", {"[]", NULL, "[1]"}},
        {"{\"type\": \"string\", \"minLength\": 2, \"maxLength\": 3}",
         {"\"ab\"", "\"\xc3\xa4\xc3\xa4\xc3\xa4\"", "\"\\n\\\"\"", NULL, "\"a\"",
          "\"abcd\"", "\"\""}},
        {"{\"type\": [\"string\", \"null\"], \"enum\": [\"a\", 1, null]}",
         {"\"a\"", "null", NULL, "1", "\"b\""}},
        {"{\"anyOf\": [{\"type\": \"integer\"}, {\"type\": \"array\"}]}",
         {"5", "[]", NULL, "\"a\"", "{}"}},
        {"{\"type\": \"object\", \"properties\": {\"a\": {\"const\": 1}}, \"oneOf\": "
         "[{\"required\": [\"a\"]}, {\"properties\": {\"b\": {\"const\": 2}}, "
         "\"required\": "
         "[\"b\"]}]}",
         {"{\"a\": 1}", "{\"a\": 1, \"b\": 2}", "{\"b\": 2}", NULL, "{}",
          "{\"b\": 1}"}},
        {"{\"allOf\": [{\"$ref\": \"#/$defs/a\"}, {\"properties\": {\"y\": "
         "{\"minLength\": "
         "2}}, \"required\": [\"y\"]}], \"$defs\": {\"a\": {\"type\": \"object\", "
         "\"properties\": {\"x\": {}, \"y\": {\"type\": \"string\", \"maxLength\": "
         "3}}}}}",
         {"{\"y\": \"ab\"}", "{\"x\": 1, \"y\": \"abc\"}", NULL, "{}", "{\"y\": \"a\"}",
          "{\"y\": \"abcd\"}", "{\"x\": 1}"}},
        {"{\"$ref\": \"#/definitions/t~1r~0e\", \"definitions\": {\"t/r~e\": "
         "{\"type\": "
         "\"object\", \"properties\": {\"sub\": {\"type\": \"array\", \"items\": "
         "{\"$ref\": "
         "\"#\"}}}}}}",
         {"{}", "{\"sub\": [{}, {\"sub\": []}]}", NULL, "{\"sub\": {}}",
          "{\"sub\": [1]}"}},
        {"{\"type\": \"integer\", \"minimum\": -12, \"maximum\": 305}",
         {"-12", "-9", "0", "9", "10", "99", "100", "299", "305", NULL, "-13", "306",
          "400", "007", "1.0"}},
        {"{\"type\": \"integer\", \"exclusiveMinimum\": 7}",
         {"8", "10", "123456", NULL, "7", "0", "-9"}},
        {"{\"type\": \"integer\", \"exclusiveMaximum\": -10.5}",
         {"-11", "-20", "-100", NULL, "-10", "-5", "3"}},
        {"{\"type\": \"number\", \"minimum\": 0, \"maximum\": 1}",
         {"0", "0.25", "1", NULL, "1.5", "-0.5", "2"}},
        {"{\"type\": \"number\", \"exclusiveMinimum\": -2, \"exclusiveMaximum\": 2}",
         {"-1.5", "1.99", "0", "-0.1", NULL, "2", "-2", "2.5", "-2.5"}},
        {"{\"type\": \"number\", \"exclusiveMinimum\": 0}",
         {"0.01", "1", "20.5", NULL, "0", "-1", "0.0"}},
        {"{\"type\": \"string\", \"pattern\": \"^[a-z]{2,3}-\\\\d+(x|y)?$\"}",
         {"\"ab-1\"", "\"abc-12y\"", NULL, "\"a-1\"", "\"ab-\"", "\"ab-1z\"",
          "\"xxab-1\""}},
        {"{\"pattern\": \"b+\"}", {"\"abc\"", "\"b\"", NULL, "\"\"", "\"ac\""}},
        {"{\"pattern\": \"^a|c$\"}", {"\"ab\"", "\"bc\"", NULL, "\"bd\""}},
        {"{\"pattern\": \"^[^x\\\\s]\\\\.\\\"\\\\\\\\[\\\\w-]$\"}",
         {"\"a.\\\"\\\\_\"", "\"\\\".\\\"\\\\-\"", NULL, "\"x.\\\"\\\\a\"",
          "\"a.\"\\a\""}},
        {"{\"format\": \"date-time\"}",
         {"\"2024-02-28T23:59:59Z\"", "\"2024-12-01T00:00:00.5+02:00\"", NULL,
          "\"2024-13-01T00:00:00Z\"", "\"2024-01-01\""}},
        {"{\"format\": \"ipv4\"}",
         {"\"192.168.0.255\"", NULL, "\"256.1.1.1\"", "\"1.1.1\""}},
        {"{\"format\": \"uuid\"}",
         {"\"01234567-89ab-cdef-0123-456789abcdef\"", NULL, "\"0\""}},
        {"{\"format\": \"email\"}",
         {"\"a.b@example.org\"", NULL, "\"a@b\"", "\"@b.c\""}},
    };
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        jt_grammar *grammar;
        jt_err err = {0};
        const char *form = examples[i].form;
        if (jt_grammar_of_schema(&grammar, form, strlen(form), &err) != JT_OK)
            fail_msg("%s: %s", form, err.msg);
        check_texts(grammar, &examples[i]);
        jt_grammar_free(grammar);
    }
}

static void wrong_schemas_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *form, *says;
    } wrong[] = {
        {"", "no JSON"},
        {"{\"a\": 1, \"a\": 2}", "no JSON"},
        {"5", "no schema"},
        {"false", "fits nothing"},
        {"{\"type\": \"text\"}", "no type 'text'"},
        {"{\"type\": 5}", "no type"},
        {"{\"not\": {}}", "'not' is not supported"},
        {"{\"uniqueItems\": true}", "'uniqueItems'"},
        {"{\"type\": \"array\", \"minItems\": 2, \"maxItems\": 1}", "too small"},
        {"{\"type\": \"array\", \"maxItems\": -1}", "whole number"},
        {"{\"type\": \"string\", \"minLength\": 2, \"maxLength\": 1}", "below"},
        {"{\"pattern\": \"(?=a)\"}", "look around"},
        {"{\"pattern\": \"(a\"}", "group without"},
        {"{\"pattern\": \"a\\\\b\"}", "not supported"},
        {"{\"pattern\": \"a**\"}", "repeated twice"},
        {"{\"pattern\": \"a$b\"}", "cannot stand here"},
        {"{\"pattern\": \"[\"}", "too soon"},
        {"{\"pattern\": \"a\", \"maxLength\": 3}", "beside a length"},
        {"{\"format\": \"color\"}", "format 'color'"},
        {"{\"enum\": []}", "nothing that fits"},
        {"{\"anyOf\": []}", "no alternatives"},
        {"{\"allOf\": [{\"type\": \"string\"}, {\"type\": \"null\"}]}",
         "two different 'type'"},
        {"{\"$ref\": \"#/nope\"}", "no '#/nope'"},
        {"{\"$ref\": \"http://example.org\"}", "part of the schema"},
        {"{\"$ref\": \"#\"}", "begin with itself"},
        {"{\"properties\": {}, \"required\": [\"a\"], \"additionalProperties\": false}",
         "'a' is required"},
        {"{\"type\": \"integer\", \"minimum\": 2, \"maximum\": 1}",
         "between its bounds"},
        {"{\"type\": \"number\", \"minimum\": 0.5}", "with a fraction"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        jt_grammar *grammar = NULL;
        jt_err err = {0};
        const char *form = wrong[i].form;
        assert_int_not_equal(jt_grammar_of_schema(&grammar, form, strlen(form), &err),
                             JT_OK);
        if (!strstr(err.msg, wrong[i].says))
            fail_msg("%s: %s", form, err.msg);
    }
}

/* Schemas in each other, and a grammar that a small automaton cannot follow. */
static void what_grows_without_end_is_refused(void **state)
{
    (void)state;
    static const char blow[] = "root ::= [ab]* \"a\" [ab]{4000} \"c\"";
    jt_grammar *grammar;
    bool result;
    char text[8000];
    assert_int_equal(jt_grammar_new(&grammar, blow, strlen(blow), NULL), JT_OK);
    memset(text, 'a', sizeof text);
    assert_int_equal(jt_grammar_match(grammar, text, sizeof text, &result, NULL),
                     JT_OK);
    assert_false(result);
    jt_grammar_free(grammar);
    size_t n = 0;
    for (size_t i = 0; i < 100; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "{\"items\": ");
    n += (size_t)snprintf(text + n, sizeof text - n, "1");
    memset(text + n, '}', 100);
    assert_int_equal(jt_grammar_of_schema(&grammar, text, n + 100, NULL), JT_E_LIMIT);
}

/* ---- tokens ---- */

static jt_gguf *file;
static jt_tokenizer *tok;
static jt_token_tree *tree;

static int open_vocabulary(void **state)
{
    (void)state;
    char path[512];
    const char *data = getenv("JUNTO_TEST_DATA");
    snprintf(path, sizeof path, "%s/golden/mixtral.gguf", data ? data : "tests");
    return jt_gguf_open(&file, path, NULL) != JT_OK ||
           jt_tokenizer_new(&tok, file, NULL) != JT_OK ||
           jt_token_tree_new(&tree, tok, NULL) != JT_OK;
}

static int close_vocabulary(void **state)
{
    (void)state;
    jt_token_tree_free(tree);
    jt_tokenizer_free(tok);
    jt_gguf_close(file);
    return 0;
}

static bool allowed(const uint64_t *mask, int32_t id)
{
    return mask[id / 64] >> (id % 64) & 1;
}

/* The mask after `text` says of every token what trying it says. */
static void check_mask(const jt_grammar *grammar, const char *text, size_t len)
{
    jt_constraint *c, *other;
    const uint64_t *mask;
    assert_int_equal(jt_constraint_new(&c, grammar, tree, NULL), JT_OK);
    assert_int_equal(jt_constraint_new(&other, grammar, tree, NULL), JT_OK);
    assert_int_equal(jt_constraint_accept(c, text, len, NULL), JT_OK);
    assert_int_equal(jt_constraint_mask(c, &mask, NULL), JT_OK);
    for (int32_t id = 0; (size_t)id < jt_vocab_size(tok); id++) {
        jt_str piece = jt_token_piece(tok, id);
        bool fits = jt_token_is_end(tok, id) && jt_constraint_may_end(c);
        if (!jt_token_is_special(tok, id) && piece.len) {
            jt_constraint_reset(other);
            assert_int_equal(jt_constraint_accept(other, text, len, NULL), JT_OK);
            fits = jt_constraint_accept(other, piece.data, piece.len, NULL) == JT_OK;
        }
        assert_int_equal(allowed(mask, id), fits);
    }
    jt_constraint_free(c);
    jt_constraint_free(other);
}

static void a_mask_is_what_can_follow(void **state)
{
    (void)state;
    static const char schema[] = "{\"type\": \"object\", \"properties\": {\"name\": "
                                 "{\"type\": \"string\", \"maxLength\": 5}, \"n\": "
                                 "{\"type\": \"integer\"}}, \"required\": [\"name\"]}";
    static const char text[] = "{\"name\": \"k\xc3\xa4x\", \"n\": -12}";
    jt_grammar *grammar;
    assert_int_equal(jt_grammar_of_schema(&grammar, schema, strlen(schema), NULL),
                     JT_OK);
    for (size_t len = 0; len < sizeof text; len++)
        check_mask(grammar, text, len);
    jt_grammar_free(grammar);
}

static void a_text_ends_where_it_may(void **state)
{
    (void)state;
    static const char form[] = "root ::= \"ab\" \"c\"?";
    jt_grammar *grammar;
    jt_constraint *c;
    assert_int_equal(jt_grammar_new(&grammar, form, strlen(form), NULL), JT_OK);
    assert_int_equal(jt_constraint_new(&c, grammar, tree, NULL), JT_OK);
    for (size_t round = 0; round < 2; round++) {
        assert_false(jt_constraint_may_end(c));
        assert_int_equal(jt_constraint_accept(c, "ab", 2, NULL), JT_OK);
        assert_true(jt_constraint_may_end(c));
        assert_false(jt_constraint_is_over(c));
        assert_int_equal(jt_constraint_accept(c, "x", 1, NULL), JT_E_FORMAT);
        assert_int_equal(jt_constraint_accept(c, "c", 1, NULL), JT_OK); /* as before */
        assert_true(jt_constraint_is_over(c));
        jt_constraint_reset(c);
    }
    jt_constraint_free(c);
    jt_grammar_free(grammar);
}

/* A stack as deep as the text, over the point where the automaton forgets. */
static void what_is_forgotten_is_not_missed(void **state)
{
    (void)state;
    enum { DEEP = 6000 };
    static const char form[] = "root ::= \"[\" root \"]\" | \"x\"";
    jt_grammar *grammar;
    jt_constraint *c;
    const uint64_t *mask;
    assert_int_equal(jt_grammar_new(&grammar, form, strlen(form), NULL), JT_OK);
    assert_int_equal(jt_constraint_new(&c, grammar, tree, NULL), JT_OK);
    for (size_t i = 0; i < DEEP; i++)
        assert_int_equal(jt_constraint_accept(c, "[", 1, NULL), JT_OK);
    assert_int_equal(jt_constraint_mask(c, &mask, NULL), JT_OK);
    assert_int_equal(jt_constraint_accept(c, "x", 1, NULL), JT_OK);
    for (size_t i = 0; i < DEEP; i++) {
        assert_false(jt_constraint_may_end(c));
        assert_int_equal(jt_constraint_accept(c, "]", 1, NULL), JT_OK);
    }
    assert_true(jt_constraint_is_over(c));
    jt_constraint_free(c);
    jt_grammar_free(grammar);
}

static jt_status build_and_ask(void)
{
    static const char schema[] = "{\"properties\": {\"a\": {\"enum\": [1, 2]}}, "
                                 "\"additionalProperties\": true}";
    jt_grammar *grammar = NULL;
    jt_constraint *c = NULL;
    const uint64_t *mask;
    jt_status status = jt_grammar_of_schema(&grammar, schema, strlen(schema), NULL);
    if (status == JT_OK)
        status = jt_constraint_new(&c, grammar, tree, NULL);
    if (status == JT_OK)
        status = jt_constraint_mask(c, &mask, NULL);
    jt_constraint_free(c);
    jt_grammar_free(grammar);
    return status;
}

static void memory_may_end(void **state)
{
    (void)state;
    jt_status status = JT_E_MEMORY;
    long n = 0;
    for (; status != JT_OK && n < 10000; n++) {
        jt_fault_after(n);
        status = build_and_ask();
        jt_fault_after(-1);
        assert_true(status == JT_OK || status == JT_E_MEMORY);
    }
    assert_true(n > 20 && n < 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grammars_say_what_fits),
        cmocka_unit_test(wrong_grammars_are_refused),
        cmocka_unit_test(schemas_say_what_fits),
        cmocka_unit_test(wrong_schemas_are_refused),
        cmocka_unit_test(what_grows_without_end_is_refused),
        cmocka_unit_test(a_mask_is_what_can_follow),
        cmocka_unit_test(a_text_ends_where_it_may),
        cmocka_unit_test(what_is_forgotten_is_not_missed),
        cmocka_unit_test(memory_may_end),
    };
    return cmocka_run_group_tests(tests, open_vocabulary, close_vocabulary);
}
