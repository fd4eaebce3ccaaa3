/* Completion for the shells, from the tables of the verbs. */
#include "cli.h"

#include <string.h>

#include "verbs.h"

typedef void word_fn(FILE *out, const cli_verb *verb, const cli_option *option,
                     const char *word, int len);

/* Call `fn` for every spelling of every flag of `verb`; "--no-NAME" included. */
static void each_flag(FILE *out, const cli_verb *verb, word_fn *fn)
{
    for (const cli_group *group = verb->groups; group->options; group++) {
        for (const cli_option *o = group->options; o->flags; o++) {
            const char *rest = o->flags, *word;
            size_t len;
            while (cli_next_word(&rest, &word, &len)) {
                fn(out, verb, o, word, (int)len);
                if (o->kind != CLI_SWITCH || word[1] != '-')
                    continue;
                char negated[64];
                int n = snprintf(negated, sizeof negated, "--no-%.*s", (int)len - 2,
                                 word + 2);
                fn(out, verb, o, negated, n);
            }
        }
    }
}

/* "random|zero" as "random zero". */
static void print_choices(FILE *out, const char *choices)
{
    for (; *choices; choices++)
        fputc(*choices == '|' ? ' ' : *choices, out);
}

static void print_verbs(FILE *out)
{
    for (const cli_verb *const *verb = cli_verbs; *verb; verb++)
        fprintf(out, "%s%s", verb == cli_verbs ? "" : " ", (*verb)->name);
}

/* What may stand where no flag does; false: file names. */
static bool print_operand_words(FILE *out, const cli_verb *verb)
{
    if (verb == &cli_verb_help)
        print_verbs(out);
    else if (verb->operands && verb->operands->kind == CLI_CHOICE)
        print_choices(out, verb->operands->value);
    else
        return false;
    return true;
}

/* Text in single quotes for a shell; zsh reads brackets and colons. */
static void print_quoted(FILE *out, const char *text, const char *special)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", out);
        else
            fprintf(out, strchr(special, *text) ? "\\%c" : "%c", *text);
    }
}

/* ---- bash ---- */

static void bash_flag(FILE *out, const cli_verb *verb, const cli_option *option,
                      const char *word, int len)
{
    (void)verb;
    (void)option;
    fprintf(out, "%.*s ", len, word);
}

static void bash_value(FILE *out, const cli_verb *verb, const cli_option *option,
                       const char *word, int len)
{
    if (!cli_takes_value(option))
        return;
    fprintf(out, "    %s:%.*s) ", verb->name, len, word);
    if (option->kind == CLI_CHOICE) {
        fputs("words='", out);
        print_choices(out, option->value);
        fputs("' ;;\n", out);
    } else if (option->kind == CLI_PATH) {
        fputs("files=1 ;;\n", out);
    } else {
        fputs("return ;;\n", out);
    }
}

void cli_print_bash(FILE *out)
{
    fputs("# bash completion of junto: source <(junto completion bash)\n"
          "_junto()\n{\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
          "    local verb=${COMP_WORDS[1]} words='' files=''\n"
          "    COMPREPLY=()\n"
          "    if [[ $COMP_CWORD -eq 1 ]]; then\n"
          "        COMPREPLY=($(compgen -W '",
          out);
    print_verbs(out);
    fputs(" --help --version' -- \"$cur\"))\n        return\n    fi\n"
          "    case $verb:$prev in\n",
          out);
    for (const cli_verb *const *verb = cli_verbs; *verb; verb++)
        each_flag(out, *verb, bash_value);
    fputs("    *)\n        case $verb:$cur in\n", out);
    for (const cli_verb *const *verb = cli_verbs; *verb; verb++) {
        fprintf(out, "        %s:-*) words='", (*verb)->name);
        each_flag(out, *verb, bash_flag);
        fputs("' ;;\n", out);
        fprintf(out, "        %s:*) words='", (*verb)->name);
        bool words = print_operand_words(out, *verb);
        fprintf(out, words ? "' ;;\n" : "' files=1 ;;\n");
    }
    fputs("        esac ;;\n    esac\n"
          "    [[ -n $files ]] && compopt -o filenames\n"
          "    COMPREPLY=($(compgen ${files:+-f} -W \"$words\" -- \"$cur\"))\n"
          "}\ncomplete -F _junto junto\n",
          out);
}

/* ---- zsh ---- */

static void zsh_action(FILE *out, const cli_option *option)
{
    fprintf(out, ":%s:", option->kind == CLI_CHOICE ? "choice" : option->value);
    if (option->kind == CLI_CHOICE) {
        fputc('(', out);
        print_choices(out, option->value);
        fputc(')', out);
    } else if (option->kind == CLI_PATH) {
        fputs("_files", out);
    } else {
        fputc(' ', out);
    }
}

static void zsh_flag(FILE *out, const cli_verb *verb, const cli_option *option,
                     const char *word, int len)
{
    (void)verb;
    fprintf(out, " \\\n            '%s%.*s[", option->kind == CLI_LIST ? "*" : "", len,
            word);
    print_quoted(out, option->help, "[]:\\");
    fputc(']', out);
    if (cli_takes_value(option))
        zsh_action(out, option);
    fputc('\'', out);
}

void cli_print_zsh(FILE *out)
{
    fputs("#compdef junto\n"
          "# zsh completion of junto: junto completion zsh > DIR_IN_FPATH/_junto\n"
          "_junto()\n{\n    local -a verbs\n    verbs=(\n",
          out);
    for (const cli_verb *const *verb = cli_verbs; *verb; verb++) {
        fprintf(out, "        '%s:", (*verb)->name);
        print_quoted(out, (*verb)->summary, ":\\");
        fputs("'\n", out);
    }
    fputs("    )\n"
          "    if (( CURRENT == 2 )); then\n"
          "        _describe command verbs\n"
          "        return\n    fi\n"
          "    shift words\n    (( CURRENT-- ))\n"
          "    case $words[1] in\n",
          out);
    for (const cli_verb *const *verb = cli_verbs; *verb; verb++) {
        fprintf(out, "    %s)\n        _arguments", (*verb)->name);
        each_flag(out, *verb, zsh_flag);
        fputs(" \\\n            '*:", out);
        fputs("argument:", out);
        bool has_words = *verb == &cli_verb_help ||
                         ((*verb)->operands && (*verb)->operands->kind == CLI_CHOICE);
        fputs(has_words ? "(" : "_files", out);
        print_operand_words(out, *verb);
        fputs(has_words ? ")'\n        ;;\n" : "'\n        ;;\n", out);
    }
    fputs("    esac\n}\n"
          "if [[ $funcstack[1] == _junto ]]; then _junto; else compdef _junto junto; "
          "fi\n",
          out);
}

/* ---- fish ---- */

static void fish_flag(FILE *out, const cli_verb *verb, const cli_option *option,
                      const char *word, int len)
{
    const char *how = word[1] != '-' ? (len == 2 ? "-s" : "-o") : "-l";
    int dashes = word[1] == '-' ? 2 : 1;
    fprintf(out, "complete -c junto -n '__fish_seen_subcommand_from %s' %s %.*s",
            verb->name, how, len - dashes, word + dashes);
    if (option->kind == CLI_CHOICE) {
        fputs(" -x -a '", out);
        print_choices(out, option->value);
        fputc('\'', out);
    } else if (cli_takes_value(option)) {
        fputs(option->kind == CLI_PATH ? " -r" : " -x", out);
    }
    fputs(" -d '", out);
    print_quoted(out, option->help, "\\");
    fputs("'\n", out);
}

void cli_print_fish(FILE *out)
{
    fputs("# fish completion of junto: junto completion fish | source\n", out);
    for (const cli_verb *const *verb = cli_verbs; *verb; verb++) {
        fprintf(out, "complete -c junto -f -n __fish_use_subcommand -a %s -d '",
                (*verb)->name);
        print_quoted(out, (*verb)->summary, "\\");
        fputs("'\n", out);
        each_flag(out, *verb, fish_flag);
        if ((*verb)->operands && (*verb)->operands->kind != CLI_CHOICE &&
            *verb != &cli_verb_help)
            continue;
        fprintf(out, "complete -c junto -f -n '__fish_seen_subcommand_from %s' -a '",
                (*verb)->name);
        print_operand_words(out, *verb);
        fputs("'\n", out);
    }
}

/* ---- junto completion ---- */

struct completion_args {
    cli_common common;
    const char *shell;
};

static const cli_option completion_operands[] = {
    {.flags = "SHELL",
     .kind = CLI_CHOICE,
     .value = "bash|zsh|fish",
     .offset = offsetof(struct completion_args, shell),
     .required = true,
     .help = "bash, zsh or fish"},
    {0}};

static const cli_group completion_groups[] = {{"Flags", cli_common_options, 0}, {0}};

static int run_completion(cli_context *cli, const void *raw)
{
    (void)cli;
    const struct completion_args *args = raw;
    if (!strcmp(args->shell, "bash"))
        cli_print_bash(stdout);
    else if (!strcmp(args->shell, "zsh"))
        cli_print_zsh(stdout);
    else
        cli_print_fish(stdout);
    return CLI_DONE;
}

static const char *const completion_examples[] = {
    "source <(junto completion bash)", "complete junto in this bash",
    "junto completion fish > ~/.config/fish/completions/junto.fish",
    "complete junto in every fish", NULL};

const cli_verb cli_verb_completion = {
    .name = "completion",
    .section = "About the command",
    .summary = "print the completion script of a shell",
    .operands = completion_operands,
    .groups = completion_groups,
    .examples = completion_examples,
    .args_size = sizeof(struct completion_args),
    .run = run_completion,
};
