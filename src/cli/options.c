#include "options.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "junto/text.h"
#include "value.h"

const cli_option cli_common_options[] = {
    {.flags = "-q --quiet",
     .kind = CLI_FLAG,
     .offset = offsetof(cli_common, quiet),
     .help = "no progress and no figures on standard error, only errors"},
    {.flags = "--color --colour",
     .kind = CLI_CHOICE,
     .value = "auto|always|never",
     .initial = "auto",
     .offset = offsetof(cli_common, color),
     .help = "colours; auto: on a terminal, unless NO_COLOR is set"},
    {.flags = "-h --help",
     .kind = CLI_FLAG,
     .offset = offsetof(cli_common, help),
     .help = "show this help"},
    {0}};

bool cli_next_word(const char **rest, const char **word, size_t *len)
{
    *word = *rest + strspn(*rest, " ");
    *len = strcspn(*word, " ");
    *rest = *word + *len;
    return *len > 0;
}

size_t cli_main_flag(const cli_option *option, const char **flag)
{
    const char *rest = option->flags, *word;
    size_t len = 0, word_len;
    while (cli_next_word(&rest, &word, &word_len)) {
        if (!len || !strncmp(word, "--", 2)) {
            *flag = word;
            len = word_len;
        }
        if (!strncmp(word, "--", 2))
            break;
    }
    return len;
}

bool cli_takes_value(const cli_option *option)
{
    return option->kind != CLI_FLAG && option->kind != CLI_SWITCH;
}

const char *cli_default(const cli_option *option)
{
    if (option->unset)
        return option->unset;
    return option->kind == CLI_SWITCH ? NULL : option->initial;
}

/* One word of the command line, matched with the tables. */
typedef struct match {
    const cli_option *option;
    void *field;
    const char *attached; /* value in the same word: --n=5, -n5 */
    bool negated;         /* --no-NAME of a switch */
} match;

static bool option_has(const cli_option *option, const char *name, size_t len)
{
    const char *rest = option->flags, *word;
    size_t word_len;
    while (cli_next_word(&rest, &word, &word_len)) {
        if (word_len == len && !memcmp(word, name, len))
            return true;
    }
    return false;
}

static bool option_has_negated(const cli_option *option, const char *name, size_t len)
{
    static const char no[] = "--no-";
    if (option->kind != CLI_SWITCH || len < sizeof no ||
        strncmp(name, no, sizeof no - 1))
        return false;
    const char *flag;
    size_t flag_len = cli_main_flag(option, &flag);
    return flag_len - 2 == len - (sizeof no - 1) &&
           !memcmp(flag + 2, name + sizeof no - 1, flag_len - 2);
}

static bool find_flag(const cli_verb *verb, char *args, const char *name, size_t len,
                      match *found)
{
    for (const cli_group *group = verb->groups; group->options; group++) {
        for (const cli_option *o = group->options; o->flags; o++) {
            found->negated = option_has_negated(o, name, len);
            if (!found->negated && !option_has(o, name, len))
                continue;
            found->option = o;
            found->field = args + group->base + o->offset;
            return true;
        }
    }
    return false;
}

/* "--name", "--name=value", "-n", "-n5", "-sys". */
static bool match_flag(const cli_verb *verb, char *args, const char *text, match *found)
{
    *found = (match){0};
    const char *equals = strncmp(text, "--", 2) ? NULL : strchr(text, '=');
    if (find_flag(verb, args, text, equals ? (size_t)(equals - text) : strlen(text),
                  found)) {
        found->attached = equals ? equals + 1 : NULL;
        return true;
    }
    if (text[1] == '-' || !find_flag(verb, args, text, 2, found) ||
        !cli_takes_value(found->option))
        return false;
    found->attached = text + 2;
    return true;
}

static jt_status fail_unknown(const cli_verb *verb, const char *text, jt_err *err)
{
    size_t len = strcspn(text, "=");
    const char *nearest = NULL;
    size_t nearest_len = 0;
    int best = len > 9 ? 4 : 1 + (int)len / 3;
    for (const cli_group *group = verb->groups; group->options; group++) {
        for (const cli_option *o = group->options; o->flags; o++) {
            const char *rest = o->flags, *word;
            size_t word_len;
            while (cli_next_word(&rest, &word, &word_len)) {
                int distance = jt_text_distance(text, len, word, word_len);
                if (distance < best && word_len > 2) {
                    best = distance;
                    nearest = word;
                    nearest_len = word_len;
                }
            }
        }
    }
    if (nearest)
        return jt_fail(err, JT_E_ARG, "unknown flag '%.*s' (did you mean '%.*s'?)",
                       (int)len, text, (int)nearest_len, nearest);
    return jt_fail(err, JT_E_ARG, "unknown flag '%.*s' (see 'junto help %s')", (int)len,
                   text, verb->name);
}

/* Defaults, through the same door as values given by a user. */
static jt_status store_defaults(const cli_verb *verb, char *args, jt_err *err)
{
    for (const cli_group *group = verb->groups; group->options; group++) {
        for (const cli_option *o = group->options; o->flags; o++) {
            void *field = args + group->base + o->offset;
            if (o->initial)
                JT_TRY(cli_store(o, field, o->flags, o->initial, err));
            else if (o->unset && o->kind == CLI_FLOAT)
                *(float *)field = NAN;
            else if (o->unset)
                *(int *)field = INT_MIN;
        }
    }
    return JT_OK;
}

/* A flag at argv[*i]; *i moves on over its value. */
static jt_status parse_flag(const cli_verb *verb, int argc, char *const *argv, int *i,
                            char *args, jt_err *err)
{
    match found;
    if (!match_flag(verb, args, argv[*i], &found))
        return fail_unknown(verb, argv[*i], err);
    const cli_option *option = found.option;
    char flag[64];
    size_t len = strlen(argv[*i]) - (found.attached ? strlen(found.attached) : 0);
    if (found.attached && argv[*i][len - 1] == '=')
        len--;
    if (len >= sizeof flag)
        len = sizeof flag - 1;
    memcpy(flag, argv[*i], len);
    flag[len] = '\0';
    if (!cli_takes_value(option)) {
        if (found.attached)
            return jt_fail(err, JT_E_ARG, "%s takes no value", flag);
        return cli_store(option, found.field, flag, found.negated ? "0" : "1", err);
    }
    const char *value = found.attached;
    if (!value) {
        if (*i + 1 >= argc)
            return jt_fail(err, JT_E_ARG, "%s needs a value (%s)", flag, option->value);
        value = argv[++*i];
    }
    return cli_store(option, found.field, flag, value, err);
}

static bool is_empty(const cli_option *option, const char *field)
{
    switch (option->kind) {
    case CLI_STRING:
    case CLI_PATH:
    case CLI_CHOICE:
        return !*(const char *const *)field;
    case CLI_INT:
        return !*(const int *)field;
    case CLI_INTS:
        return !((const cli_ints *)field)->count;
    case CLI_LIST:
        return !((const cli_list *)field)->count;
    default:
        return false;
    }
}

static jt_status check_required(const cli_verb *verb, const char *args, jt_err *err)
{
    for (const cli_option *o = verb->operands; o && o->flags; o++) {
        if (o->required && is_empty(o, args + o->offset))
            return jt_fail(err, JT_E_ARG, "%s is missing (see 'junto help %s')",
                           o->flags, verb->name);
    }
    for (const cli_group *group = verb->groups; group->options; group++) {
        for (const cli_option *o = group->options; o->flags; o++) {
            if (!o->required || !is_empty(o, args + group->base + o->offset))
                continue;
            const char *flag = NULL;
            int len = (int)cli_main_flag(o, &flag);
            return jt_fail(err, JT_E_ARG, "%.*s is missing (see 'junto help %s')", len,
                           flag, verb->name);
        }
    }
    return JT_OK;
}

jt_status cli_parse(const cli_verb *verb, int argc, char *const *argv, void *args,
                    jt_err *err)
{
    memset(args, 0, verb->args_size);
    JT_TRY(store_defaults(verb, args, err));
    const cli_common *common = args;
    const cli_option *operand = verb->operands;
    bool only_operands = false;
    for (int i = 0; i < argc; i++) {
        const char *text = argv[i];
        if (!only_operands && !strcmp(text, "--")) {
            only_operands = true;
        } else if (!only_operands && text[0] == '-' && text[1]) {
            JT_TRY(parse_flag(verb, argc, argv, &i, args, err));
            if (common->help)
                return JT_OK;
        } else if (operand && operand->flags) {
            JT_TRY(cli_store(operand, (char *)args + operand->offset, operand->flags,
                             text, err));
            operand += operand->kind != CLI_LIST; /* a list takes all that follow */
        } else {
            return jt_fail(err, JT_E_ARG, "unexpected argument '%s'", text);
        }
    }
    return check_required(verb, args, err);
}

static void free_fields(const cli_option *options, char *base)
{
    for (const cli_option *o = options; o && o->flags; o++) {
        char *field = base + o->offset;
        if (o->kind == CLI_LIST)
            free(((cli_list *)field)->items);
        else if (o->kind == CLI_INTS)
            free(((cli_ints *)field)->items);
    }
}

void cli_args_free(const cli_verb *verb, void *args)
{
    free_fields(verb->operands, args);
    for (const cli_group *group = verb->groups; group->options; group++)
        free_fields(group->options, (char *)args + group->base);
}
