/* --grammar and --json-schema. */
#include <stdlib.h>
#include <string.h>

#include "grammar.h"

#define FIELD(name) offsetof(cli_grammar_args, name)

const cli_option cli_grammar_options[] = {
    {.flags = "--grammar --grammar-file",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = FIELD(grammar),
     .help =
         "the reply is a text of this grammar: a file in GBNF, or the grammar itself"},
    {.flags = "-j --json-schema --json-schema-file",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = FIELD(schema),
     .help = "the reply is JSON that fits this schema: a file, or the schema itself"},
    {0}};

/* A flag's text, or that of the file that it names. */
static jt_status read_given(char **text, size_t *len, const char *given, bool is_text,
                            jt_err *err)
{
    if (!is_text)
        return cli_read_text(text, len, given, err);
    *text = strdup(given);
    *len = strlen(given);
    return *text ? JT_OK : jt_fail(err, JT_E_MEMORY, "out of memory for the grammar");
}

static jt_status open_grammar(jt_grammar **out, const char *given, jt_err *err)
{
    char *text;
    size_t len;
    JT_TRY(read_given(&text, &len, given, strstr(given, "::="), err));
    jt_status status = jt_grammar_new(out, text, len, err);
    free(text);
    return status == JT_OK ? JT_OK : jt_fail_within(err, status, "--grammar");
}

static jt_status open_schema(jt_grammar **out, const char *given, jt_err *err)
{
    char *text;
    size_t len;
    JT_TRY(read_given(&text, &len, given, strchr("{[", given[0]), err));
    jt_status status = jt_grammar_of_schema(out, text, len, err);
    free(text);
    return status == JT_OK ? JT_OK : jt_fail_within(err, status, "--json-schema");
}

jt_status cli_grammar_open(cli_grammar *g, const cli_grammar_args *args,
                           const jt_tokenizer *tok, jt_err *err)
{
    if (args->grammar && args->schema)
        return jt_fail(err, JT_E_ARG, "give only one of --grammar and --json-schema");
    if (!args->grammar && !args->schema)
        return JT_OK;
    JT_TRY(args->grammar ? open_grammar(&g->grammar, args->grammar, err)
                         : open_schema(&g->grammar, args->schema, err));
    JT_TRY(jt_token_tree_new(&g->tree, tok, err));
    return jt_constraint_new(&g->constraint, g->grammar, g->tree, err);
}

void cli_grammar_close(cli_grammar *g)
{
    jt_constraint_free(g->constraint);
    jt_token_tree_free(g->tree);
    jt_grammar_free(g->grammar);
    *g = (cli_grammar){0};
}
