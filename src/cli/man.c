/* The manual, as a man page and as Markdown (docs/commands.md), from the tables. */
#include "cli.h"

#include <ctype.h>
#include <string.h>

#include "junto/junto.h"
#include "verbs.h"

/* ---- roff ---- */

/* '-' must stay a plain minus for copying, a leading dot is a request; a long choice
 * may be broken behind any '|'. */
static void roff(FILE *out, const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", out);
    for (; *text; text++) {
        if (*text == '-')
            fputs("\\-", out);
        else if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '|')
            fputs("|\\:", out);
        else
            fputc(*text, out);
    }
}

static void roff_flags(FILE *out, const cli_option *option)
{
    const char *rest = option->flags, *word;
    size_t len;
    const char *comma = "";
    while (cli_next_word(&rest, &word, &len)) {
        fprintf(out, "%s\\fB", comma);
        bool is_switch = option->kind == CLI_SWITCH && len > 2 && word[1] == '-';
        if (is_switch)
            fputs("\\-\\-[no\\-]", out);
        for (size_t i = is_switch ? 2 : 0; i < len; i++)
            fprintf(out, word[i] == '-' ? "\\-" : "%c", word[i]);
        fputs("\\fR", out);
        comma = ", ";
    }
    if (option->value) {
        fputs(" \\fI", out);
        roff(out, option->value);
        fputs("\\fR", out);
    }
}

static void roff_option(FILE *out, const cli_option *option)
{
    fputs(".TP\n", out);
    roff_flags(out, option);
    fputc('\n', out);
    roff(out, option->help);
    if (cli_default(option)) {
        fputs(" (default: ", out);
        roff(out, cli_default(option));
        fputc(')', out);
    }
    fputs(".\n", out);
}

static void roff_verb(FILE *out, const cli_verb *verb)
{
    fprintf(out, ".SS \"");
    cli_print_usage(out, verb);
    fprintf(out, "\"\n%c", toupper((unsigned char)verb->summary[0]));
    roff(out, verb->summary + 1);
    fputs(".\n", out);
    if (verb->details) {
        fputs(".PP\n", out);
        roff(out, verb->details);
        fputc('\n', out);
    }
    for (const cli_option *o = verb->operands; o && o->flags; o++)
        roff_option(out, o);
    for (const cli_group *group = verb->groups; group->options; group++) {
        if (group->options == cli_common_options)
            continue; /* once, in their own section */
        for (const cli_option *o = group->options; o->flags; o++)
            roff_option(out, o);
    }
    for (const char *const *example = verb->examples; *example; example += 2) {
        fputs(".PP\n", out);
        roff(out, example[1]);
        fputs(":\n.PP\n.RS 4\n.nf\n", out);
        roff(out, example[0]);
        fputs("\n.fi\n.RE\n", out);
    }
}

void cli_print_man(FILE *out)
{
    fprintf(out,
            ".TH JUNTO 1 \"\" \"Junto %s\" \"User commands\"\n.ad l\n"
            ".SH NAME\njunto \\- run, measure and make mixtures of experts\n"
            ".SH SYNOPSIS\n.B junto\n.I COMMAND\n.RI [ FLAGS ]\n.RI ...\n"
            ".SH DESCRIPTION\n"
            "Junto runs language models that are mixtures of experts (and dense ones) "
            "from GGUF files on CPUs, shows which experts worked, and turns dense "
            "models into mixtures. Results go to standard output; figures, progress "
            "and errors to standard error.\n"
            ".SH COMMANDS\n",
            jt_version());
    for (const cli_verb *const *verb = cli_verbs; *verb; verb++)
        roff_verb(out, *verb);
    fputs(".SH FLAGS OF EVERY COMMAND\n", out);
    for (const cli_option *o = cli_common_options; o->flags; o++)
        roff_option(out, o);
    fputs(".SH EXIT STATUS\n"
          ".TP\n0\ndone\n.TP\n1\nfailed; one line on standard error says why\n"
          ".TP\n2\nwrong usage\n.TP\n130\ninterrupted by Ctrl\\-C\n"
          ".SH ENVIRONMENT\n"
          ".TP\nJUNTO_CPU\nkernels to use when \\-\\-cpu is not given: scalar, avx2, "
          "avx512, neon or dotprod\n"
          ".TP\nNO_COLOR\nwhen set and not empty, no colours\n",
          out);
}

/* ---- Markdown ---- */

static void markdown_options(FILE *out, const cli_option *options)
{
    for (const cli_option *o = options; o && o->flags; o++) {
        fputs("| ", out);
        const char *rest = o->flags, *word, *comma = "";
        size_t len;
        while (cli_next_word(&rest, &word, &len)) {
            bool is_switch = o->kind == CLI_SWITCH && len > 2 && word[1] == '-';
            fprintf(out, "%s`%s%.*s`", comma, is_switch ? "--[no-]" : "",
                    (int)(is_switch ? len - 2 : len), is_switch ? word + 2 : word);
            comma = " ";
        }
        fputs(" | ", out);
        for (const char *p = o->value ? o->value : ""; *p; p++)
            fputs(*p == '|' ? ", " : (char[]){*p, '\0'}, out);
        fprintf(out, " | %s | %s |\n", cli_default(o) ? cli_default(o) : "", o->help);
    }
}

static void markdown_verb(FILE *out, const cli_verb *verb)
{
    fprintf(out, "\n## junto %s\n\n    ", verb->name);
    cli_print_usage(out, verb);
    fprintf(out, "\n\n%c%s.\n", toupper((unsigned char)verb->summary[0]),
            verb->summary + 1);
    if (verb->details)
        fprintf(out, "\n%s\n", verb->details);
    fputs("\n| flag | value | default | meaning |\n| --- | --- | --- | --- |\n", out);
    markdown_options(out, verb->operands);
    for (const cli_group *group = verb->groups; group->options; group++) {
        if (group->options != cli_common_options)
            markdown_options(out, group->options);
    }
    for (const char *const *example = verb->examples; *example; example += 2)
        fprintf(out, "\n%c%s:\n\n    %s\n", toupper((unsigned char)example[1][0]),
                example[1] + 1, example[0]);
}

void cli_print_markdown(FILE *out)
{
    fputs(
        "# Commands\n\n"
        "Written by `junto man --markdown`; the source is the tables in `src/cli`.\n\n"
        "Results go to standard output; figures, progress and errors to standard "
        "error.\nExit codes: 0 done, 1 failed (one line on standard error says why), "
        "2 wrong usage,\n130 interrupted by Ctrl-C.\n\n"
        "| command | what it does |\n| --- | --- |\n",
        out);
    for (const cli_verb *const *verb = cli_verbs; *verb; verb++)
        fprintf(out, "| [%s](#junto-%s) | %s |\n", (*verb)->name, (*verb)->name,
                (*verb)->summary);
    fputs("\nFlags of every command:\n\n"
          "| flag | value | default | meaning |\n| --- | --- | --- | --- |\n",
          out);
    markdown_options(out, cli_common_options);
    for (const cli_verb *const *verb = cli_verbs; *verb; verb++)
        markdown_verb(out, *verb);
}

/* ---- junto man ---- */

struct man_args {
    cli_common common;
    bool markdown;
};

static const cli_option man_options[] = {
    {.flags = "--markdown",
     .kind = CLI_FLAG,
     .offset = offsetof(struct man_args, markdown),
     .help = "write Markdown (docs/commands.md) instead of a man page"},
    {0}};

static const cli_group man_groups[] = {
    {"Flags", man_options, 0}, {NULL, cli_common_options, 0}, {0}};

static int run_man(cli_context *cli, const void *raw)
{
    (void)cli;
    const struct man_args *args = raw;
    if (args->markdown)
        cli_print_markdown(stdout);
    else
        cli_print_man(stdout);
    return CLI_DONE;
}

static const char *const man_examples[] = {"junto man | man -l -", "read the manual",
                                           NULL};

const cli_verb cli_verb_man = {
    .name = "man",
    .section = "About the command",
    .summary = "print the manual as a man page",
    .groups = man_groups,
    .examples = man_examples,
    .args_size = sizeof(struct man_args),
    .run = run_man,
};
