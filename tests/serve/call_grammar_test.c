/* Replies that must be calls: what their grammars let through, and how it is read. */
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
#include "serve/calls.h"

static const char coder[] = "<tool_call> <function=", hermes[] = "<tool_call> name";

/* Tools in JSON, with ' for ". */
static json_t *tools_of(const char *text)
{
    char *json = strdup(text);
    for (char *c = json; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    json_t *tools = json_loads(json, 0, NULL);
    free(json);
    assert_non_null(tools);
    return tools;
}

static const char write_tool[] =
    "[{'function': {'name': 'write', 'parameters': {'type': 'object', 'properties': {"
    "'text': {'type': 'string'}, 'lines': {'type': 'integer'}}, 'required': "
    "['text']}}},"
    " {'function': {'name': 'time'}}]";

static jt_grammar *grammar_of(const char *style, const char *tools, bool many)
{
    jt_grammar *grammar;
    jt_problem problem;
    char *text = NULL;
    json_t *list = tools_of(tools);
    assert_true(
        jt_call_style_grammar(jt_call_style_find((jt_str){style, strlen(style)}), list,
                              many, &text, &problem));
    assert_int_equal(jt_grammar_new(&grammar, text, strlen(text), NULL), JT_OK);
    free(text);
    json_decref(list);
    return grammar;
}

static bool fits(const jt_grammar *grammar, const char *text)
{
    bool is = false;
    assert_int_equal(jt_grammar_match(grammar, text, strlen(text), &is, NULL), JT_OK);
    return is;
}

#define CALL(parameters) \
    "<tool_call>\n<function=write>\n" parameters "</function>\n</tool_call>"
#define P(key, value) "<parameter=" key ">\n" value "\n</parameter>\n"

static void parameters_stand_in_tags(void **state)
{
    (void)state;
    jt_grammar *g = grammar_of(coder, write_tool, false);
    assert_true(fits(g, CALL(P("text", "Hello"))));
    assert_true(fits(g, CALL(P("text", "") P("lines", "-3"))));
    assert_true(fits(g, "<tool_call>\n<function=time>\n</function>\n</tool_call>"));
    assert_false(fits(g, CALL("")));              /* text is required */
    assert_false(fits(g, CALL(P("lines", "1")))); /* the same */
    assert_false(fits(g, CALL(P("text", "a") P("lines", "b"))));
    assert_false(fits(g, CALL(P("lines", "1") P("text", "a"))));
    assert_false(fits(g, CALL(P("text", "a") P("more", "b"))));
    assert_false(fits(g, "<tool_call>\n<function=other>\n</function>\n</tool_call>"));
    assert_false(fits(g, "Well.\n" CALL(P("text", "a"))));
    assert_false(fits(g, CALL(P("text", "a")) "\n" CALL(P("text", "b"))));
    jt_grammar_free(g);
    g = grammar_of(coder, write_tool, true);
    assert_true(fits(g, CALL(P("text", "a")) "\n" CALL(P("text", "b"))));
    jt_grammar_free(g);
}

/* A text may have anything but what ends it, and what is nearly that. */
static void texts_end_with_their_tag(void **state)
{
    (void)state;
    static const char *const good[] = {
        "a < b </p>",  "</parameter",      "<</parameter <", "</</parameter/>",
        "</paramete>", "<</</parameter<x", "line\n\nline\n", "\"\\ \n</function>\n"};
    static const char *const bad[] = {"</parameter>", "a</parameter>b", "<</parameter>",
                                      "</parameter</parameter>"};
    jt_grammar *g = grammar_of(coder, write_tool, false);
    char text[256];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(text, sizeof text, CALL(P("text", "%s")), good[i]);
        assert_true(fits(g, text));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, CALL(P("text", "%s")), bad[i]);
        assert_false(fits(g, text));
    }
    jt_grammar_free(g);
}

static void kinds_of_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *good[3], *bad[3];
    } kinds[] = {
        {"{'type': 'string', 'enum': ['a \\\\ b', 'c']}",
         {"a \\ b", "c"},
         {"d", "'c'"}},
        {"{'type': 'string', 'const': 'x'}", {"x"}, {"y", ""}},
        {"{'type': 'string', 'minLength': 2, 'maxLength': 3}",
         {"ab", "abc"},
         {"a", "abcd"}},
        {"{'type': 'string', 'format': 'date'}", {"2026-11-23"}, {"today"}},
        {"{'type': ['string', 'null']}", {"\"a\"", "null"}, {"a"}},
        {"{'enum': ['a', 1]}", {"\"a\"", "1"}, {"a"}},
        {"{'type': 'boolean'}", {"true", "false"}, {"yes"}},
        {"{'type': 'array', 'items': {'$ref': '#/$defs/n'}}",
         {"[1, 2]"},
         {"[\"a\"]", "1"}},
        {"{'type': 'object', 'properties': {'a': {'type': 'integer'}}}",
         {"{\"a\": 1}"},
         {"a"}},
        {"true", {"\"x\"", "[]"}, {"x"}},
    };
    char tools[512], text[256];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        snprintf(
            tools, sizeof tools,
            "[{'function': {'name': 'write', 'parameters': {'$defs': {'n': {'type': "
            "'integer'}}, 'properties': {'p': %s}, 'required': ['p']}}}]",
            kinds[i].schema);
        jt_grammar *g = grammar_of(coder, tools, false);
        for (size_t k = 0; k < 3 && kinds[i].good[k]; k++) {
            snprintf(text, sizeof text, CALL(P("p", "%s")), kinds[i].good[k]);
            assert_true(fits(g, text));
        }
        for (size_t k = 0; k < 3 && kinds[i].bad[k]; k++) {
            snprintf(text, sizeof text, CALL(P("p", "%s")), kinds[i].bad[k]);
            assert_false(fits(g, text));
        }
        jt_grammar_free(g);
    }
}

static void what_tags_cannot_have_is_told(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "{'name': 'a>b'}",
        "{'name': 'a', 'parameters': {'properties': {'b>': {'type': 'string'}}}}",
        "{'name': 'a', 'parameters': {'$ref': '#/$defs/x'}}",
        "{'name': 'a', 'parameters': {'required': ['x']}}",
        "{'name': 'a', 'parameters': {'properties': {'b': {'type': 'string', "
        "'pattern': 'x'}}}}",
        "{'name': 'a', 'parameters': {'properties': {'b': {'type': 'string', "
        "'format': 'none'}}}}",
        "{'name': 'a', 'parameters': {'properties': {'b': {'type': 'string', "
        "'minLength': 3, 'maxLength': 2}}}}",
        "{'name': 'a', 'parameters': {'properties': {'b': {'type': 'string', 'enum': "
        "[1]}}}}",
        "{'name': 'a', 'parameters': {'properties': {'b': {'not': {}}}}}"};
    char tools[512];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(tools, sizeof tools, "[{'function': %s}]", wrong[i]);
        json_t *list = tools_of(tools);
        jt_problem problem = {0};
        char *text = NULL;
        assert_false(
            jt_call_style_grammar(jt_call_style_find((jt_str){coder, strlen(coder)}),
                                  list, false, &text, &problem));
        assert_int_equal(problem.status, 400);
        assert_string_equal(problem.param, "tools");
        assert_null(text);
        json_decref(list);
    }
}

/* A value that holds what begins a rule is no rule. */
static void values_are_not_rules(void **state)
{
    (void)state;
    static const char tools[] =
        "[{'function': {'name': 'write', 'parameters': {'properties': {'p': {'type': "
        "'string', 'const': 'root ::= x'}}, 'required': ['p']}}}]";
    jt_grammar *g = grammar_of(coder, tools, false);
    assert_true(fits(g, CALL(P("p", "root ::= x"))));
    jt_grammar_free(g);
    g = grammar_of(hermes, tools, false);
    assert_true(fits(g, "<tool_call>\n{\"name\": \"write\", \"arguments\": "
                        "{\"p\": \"root ::= x\"}}\n</tool_call>"));
    jt_grammar_free(g);
}

static void no_memory_is_told(void **state)
{
    (void)state;
    json_t *list = tools_of(write_tool);
    char *text = NULL;
    bool made = false;
    for (long n = 0; !made && n < 100; n++) {
        jt_problem problem = {0};
        jt_fault_after(n);
        made = jt_call_style_grammar(jt_call_style_find((jt_str){coder, strlen(coder)}),
                                     list, false, &text, &problem);
        jt_fault_after(-1);
        assert_true(made || problem.status == 500);
    }
    assert_true(made);
    free(text);
    json_decref(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_stand_in_tags),
        cmocka_unit_test(texts_end_with_their_tag),
        cmocka_unit_test(kinds_of_parameters),
        cmocka_unit_test(what_tags_cannot_have_is_told),
        cmocka_unit_test(values_are_not_rules),
        cmocka_unit_test(no_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
