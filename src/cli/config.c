#include "config.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common.h"

static const char flag_name[] = "--config";

static bool takes_config(const cli_verb *verb)
{
    for (const cli_group *g = verb->groups; g->options; g++) {
        for (const cli_option *o = g->options; o->flags; o++) {
            if (o->has_flags && strcmp(o->flags, flag_name) == 0)
                return true;
        }
    }
    return false;
}

/* The file that is named; NULL: none is. */
static const char *find_path(int argc, char **argv)
{
    size_t len = sizeof flag_name - 1;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0)
            return NULL;
        if (strncmp(argv[i], flag_name, len) == 0 && argv[i][len] == '=')
            return argv[i] + len + 1;
        if (strcmp(argv[i], flag_name) == 0 && i + 1 < argc)
            return argv[i + 1];
    }
    return NULL;
}

/* The part of a line that says something, in place. */
static char *trim(char *text)
{
    char *comment = strchr(text, '#');
    if (comment && (comment == text || isspace((unsigned char)comment[-1])))
        *comment = '\0';
    while (isspace((unsigned char)*text))
        text++;
    for (size_t n = strlen(text); n && isspace((unsigned char)text[n - 1]);)
        text[--n] = '\0';
    return text;
}

/* "NAME = VALUE" as "--NAME=VALUE", or the VALUE of an operand. */
static jt_status add_line(cli_words *out, char *line, const char *path, int number,
                          jt_err *err)
{
    line = trim(line);
    char *equals = strchr(line, '='), *word = NULL;
    if (equals)
        *equals = '\0';
    const char *name = trim(line), *value = equals ? trim(equals + 1) : NULL;
    size_t len = strlen(name);
    if (!len && !equals)
        return JT_OK;
    if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-") != len ||
        !len || (equals && !*value) || strcmp(name, flag_name + 2) == 0)
        return jt_fail(err, JT_E_FORMAT, "'%s', line %d: not NAME = VALUE", path,
                       number);
    int made = strcasecmp(name, "model") == 0 && value
                   ? asprintf(&word, "%s", value)
                   : asprintf(&word, value ? "--%s=%s" : "--%s", name, value);
    if (made < 0)
        return jt_fail(err, JT_E_MEMORY, "out of memory for flags");
    out->list[out->count++] = word;
    return JT_OK;
}

static jt_status read_lines(cli_words *out, const char *path, jt_err *err)
{
    int number = 1;
    for (char *line = out->text, *end; line; line = end, number++) {
        end = strchr(line, '\n');
        if (end)
            *end++ = '\0';
        JT_TRY(add_line(out, line, path, number, err));
    }
    return JT_OK;
}

jt_status cli_config_expand(cli_words *out, const cli_verb *verb, int argc, char **argv,
                            jt_err *err)
{
    const char *path = takes_config(verb) ? find_path(argc, argv) : NULL;
    size_t len, lines = 0;
    *out = (cli_words){0};
    if (path) {
        JT_TRY(cli_read_text(&out->text, &len, path, err));
        lines = len + 1; /* at most */
    }
    out->list = calloc(lines + (size_t)argc + 1, sizeof *out->list);
    if (!out->list)
        return jt_fail(err, JT_E_MEMORY, "out of memory for flags");
    if (path)
        JT_TRY(read_lines(out, path, err));
    for (int i = 0; i < argc && argv[i]; i++) {
        char *word = strdup(argv[i]);
        if (!word)
            return jt_fail(err, JT_E_MEMORY, "out of memory for flags");
        out->list[out->count++] = word;
    }
    return JT_OK;
}

void cli_config_free(cli_words *words)
{
    for (int i = 0; i < words->count; i++)
        free(words->list[i]);
    free(words->list);
    free(words->text);
    *words = (cli_words){0};
}
