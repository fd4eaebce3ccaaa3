#include "cli.h"

#include <ctype.h>
#include <string.h>

#include "junto/junto.h"
#include "verbs.h"

enum { WIDTH = 80, HELP_COLUMN = 28, SYNOPSIS = 256 };

/* Print words from column `from` on, broken at WIDTH; `at` is where the cursor is. */
static void print_wrapped(FILE *out, const char *text, int at, int from)
{
    bool first = true;
    while (*text) {
        int len = (int)strcspn(text, " ");
        if (!first && at + 1 + len > WIDTH) {
            fprintf(out, "\n%*s", from, "");
            at = from;
        } else if (!first) {
            fputc(' ', out);
            at++;
        }
        fwrite(text, 1, (size_t)len, out);
        at += len;
        first = false;
        text += len;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

/* The letter and the main name into `text`: "-n, --predict N", "--[no-]special". */
static void write_synopsis(char *text, size_t size, const cli_option *option)
{
    const char *flag, *letter = "";
    int len = (int)cli_main_flag(option, &flag), letter_len = 0;
    if (option->flags[0] == '-' && option->flags[1] != '-') {
        letter = option->flags;
        letter_len = (int)strcspn(letter, " ");
    }
    const char *comma = letter_len ? ", " : "";
    if (option->kind == CLI_SWITCH)
        snprintf(text, size, "%.*s%s--[no-]%.*s", letter_len, letter, comma, len - 2,
                 flag + 2);
    else if (cli_takes_value(option) && flag[0] == '-')
        snprintf(text, size, "%.*s%s%.*s %s", letter_len, letter, comma, len, flag,
                 option->value);
    else
        snprintf(text, size, "%.*s%s%.*s", letter_len, letter, comma, len, flag);
}

void cli_print_synopsis(FILE *out, const cli_option *option)
{
    char text[SYNOPSIS];
    write_synopsis(text, sizeof text, option);
    fputs(text, out);
}

/* The other spellings: the words after the letter and the main name. */
static void write_aliases(char *text, size_t size, const cli_option *option)
{
    const char *main_flag, *rest = option->flags, *word;
    cli_main_flag(option, &main_flag);
    size_t len, used = 0;
    text[0] = '\0';
    while (cli_next_word(&rest, &word, &len)) {
        if (word <= main_flag || used + len + 3 > size)
            continue;
        used += (size_t)snprintf(text + used, size - used, "%s%.*s", used ? ", " : "",
                                 (int)len, word);
    }
}

/* Choices that are too many for a line go on in the next. Gives the column. */
static int print_choices(FILE *out, const char *text, int indent)
{
    int at = fprintf(out, "%*s", indent, "");
    while (*text) {
        int len = (int)strcspn(text, "|");
        len += text[len] == '|';
        if (at + len > WIDTH) {
            fputc('\n', out);
            at = fprintf(out, "%*s", indent + 9, "");
        }
        at += fprintf(out, "%.*s", len, text);
        text += len;
    }
    return at;
}

static void print_option(FILE *out, const cli_option *option)
{
    char synopsis[SYNOPSIS], aliases[128], text[640];
    write_synopsis(synopsis, sizeof synopsis, option);
    write_aliases(aliases, sizeof aliases, option);
    bool is_flag = option->flags[0] == '-';
    const char *usual = cli_default(option);
    snprintf(text, sizeof text, "%s%s%s%s%s%s%s", option->help,
             usual ? " (default: " : "", usual ? usual : "", usual ? ")" : "",
             *aliases ? " [also " : "", aliases, *aliases ? "]" : "");
    int indent = is_flag && !strncmp(synopsis, "--", 2) ? 6 : 2;
    int at = print_choices(out, synopsis, indent);
    if (at + 2 > HELP_COLUMN) {
        fputc('\n', out);
        at = 0;
    }
    at += fprintf(out, "%*s", HELP_COLUMN - at, "");
    print_wrapped(out, text, at, HELP_COLUMN);
}

void cli_print_usage(FILE *out, const cli_verb *verb)
{
    fprintf(out, "junto %s [FLAGS]", verb->name);
    for (const cli_option *o = verb->operands; o && o->flags; o++)
        fprintf(out, o->required ? " %s" : " [%s]", o->flags);
}

void cli_print_help(FILE *out, const cli_verb *verb)
{
    fputs("Usage: ", out);
    cli_print_usage(out, verb);
    fprintf(out, "\n\n%c%s.\n", toupper((unsigned char)verb->summary[0]),
            verb->summary + 1);
    if (verb->details) {
        fputc('\n', out);
        print_wrapped(out, verb->details, 0, 0);
    }
    if (verb->operands && verb->operands->flags)
        fputc('\n', out);
    for (const cli_option *o = verb->operands; o && o->flags; o++)
        print_option(out, o);
    for (const cli_group *group = verb->groups; group->options; group++) {
        if (group->title)
            fprintf(out, "\n%s:\n", group->title);
        for (const cli_option *o = group->options; o->flags; o++)
            print_option(out, o);
    }
    fputs("\nExamples:\n", out);
    for (const char *const *example = verb->examples; *example; example += 2)
        fprintf(out, "  # %s\n  %s\n", example[1], example[0]);
}

void cli_print_overview(FILE *out)
{
    fprintf(out, "junto %s: mixtures of experts on the machines that people have\n\n",
            jt_version());
    fputs("Usage: junto COMMAND [FLAGS] ...\n", out);
    const char *section = "";
    for (const cli_verb *const *verb = cli_verbs; *verb; verb++) {
        if (strcmp(section, (*verb)->section))
            fprintf(out, "\n%s:\n", (*verb)->section);
        section = (*verb)->section;
        fprintf(out, "  %-15s %s\n", (*verb)->name, (*verb)->summary);
    }
    fputs("\n'junto help COMMAND' or 'junto COMMAND --help' shows the flags and "
          "examples.\n",
          out);
}

/* ---- junto help ---- */

struct help_args {
    cli_common common;
    const char *verb;
};

static const cli_option help_operands[] = {
    {.flags = "COMMAND",
     .kind = CLI_STRING,
     .offset = offsetof(struct help_args, verb),
     .help = "the command to explain; without it, all are listed"},
    {0}};

static const cli_group help_groups[] = {{"Flags", cli_common_options, 0}, {0}};

static int run_help(cli_context *cli, const void *raw)
{
    const struct help_args *args = raw;
    const cli_verb *verb = args->verb ? cli_find_verb(args->verb) : NULL;
    if (args->verb && !verb)
        return cli_usage(cli, "unknown command '%s'", args->verb);
    if (verb)
        cli_print_help(stdout, verb);
    else
        cli_print_overview(stdout);
    return CLI_DONE;
}

static const char *const help_examples[] = {"junto help run", "the flags of run", NULL};

const cli_verb cli_verb_help = {
    .name = "help",
    .section = "About the command",
    .summary = "list the commands, or explain one",
    .operands = help_operands,
    .groups = help_groups,
    .examples = help_examples,
    .args_size = sizeof(struct help_args),
    .run = run_help,
};
