#include "cli.h"
#include "config.h"
#include "names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "junto/junto.h"
#include "verbs.h"

/* clang-format off */
const cli_verb *const cli_verbs[] = {
    &cli_verb_run,
    &cli_verb_chat,
    &cli_verb_serve,
    &cli_verb_pull,
    &cli_verb_list,
    &cli_verb_rm,
    &cli_verb_ps,
    &cli_verb_info,
    &cli_verb_families,
    &cli_verb_policies,
    &cli_verb_tokenize,
    &cli_verb_template,
    &cli_verb_logits,
    &cli_verb_trace,
    &cli_verb_report,
    &cli_verb_compare,
    &cli_verb_audit,
    &cli_verb_bench,
    &cli_verb_perplexity,
    &cli_verb_eval,
    &cli_verb_modes,
    &cli_verb_simulate,
    &cli_verb_plan,
    &cli_verb_recipe,
    &cli_verb_train,
    &cli_verb_train_tokenizer,
    &cli_verb_tune,
    &cli_verb_adapter,
    &cli_verb_merge_adapter,
    &cli_verb_upcycle,
    &cli_verb_convert,
    &cli_verb_quantize,
    &cli_verb_imatrix,
    &cli_verb_diff,
    &cli_verb_completion,
    &cli_verb_man,
    &cli_verb_help,
    NULL,
};
/* clang-format on */

const cli_verb *cli_find_verb(const char *name)
{
    for (const cli_verb *const *verb = cli_verbs; *verb; verb++) {
        if (!strcmp((*verb)->name, name))
            return *verb;
    }
    return NULL;
}

static bool wants_color(const char *when, bool terminal)
{
    if (strcmp(when, "auto"))
        return !strcmp(when, "always");
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    return terminal && !(no_color && *no_color) && term && strcmp(term, "dumb");
}

static int unknown_verb(const char *name)
{
    const cli_verb *nearest = NULL;
    int best = 1 + (int)strlen(name) / 3;
    for (const cli_verb *const *verb = cli_verbs; *verb; verb++) {
        const char *known = (*verb)->name;
        int distance = jt_text_distance(name, strlen(name), known, strlen(known));
        if (distance <= best) {
            best = distance - 1;
            nearest = *verb;
        }
    }
    jt_err err = {0};
    if (nearest)
        jt_fail(&err, JT_E_ARG, "unknown command '%s' (did you mean '%s'?)", name,
                nearest->name);
    else
        jt_fail(&err, JT_E_ARG, "unknown command '%s' (see 'junto help')", name);
    fprintf(stderr, "junto: %s\n", err.msg);
    return CLI_USAGE;
}

static int run_verb(cli_context *cli, int argc, char **argv)
{
    void *args = malloc(cli->verb->args_size);
    if (!args) {
        fprintf(stderr, "junto: out of memory\n");
        return CLI_FAILED;
    }
    jt_err err = {0};
    int code;
    cli_names names = {0};
    cli_words words;
    memset(args, 0, cli->verb->args_size);
    jt_status status = cli_config_expand(&words, cli->verb, argc, argv, &err);
    if (status == JT_OK)
        status = cli_parse(cli->verb, words.count, words.list, args, &err);
    const cli_common *common = args;
    if (status == JT_OK && !common->help)
        status = cli_names_resolve(&names, cli->verb, args, &err);
    if (status == JT_OK && common->help) {
        cli_print_help(stdout, cli->verb);
        code = CLI_DONE;
    } else if (status != JT_OK) {
        code = cli_fail(cli, &err);
    } else {
        cli->quiet = common->quiet;
        cli->color = wants_color(common->color, cli->terminal);
        code = cli->verb->run(cli, args);
    }
    cli_args_free(cli->verb, args);
    cli_names_free(&names);
    cli_config_free(&words);
    free(args);
    return code;
}

/* A full disk shows itself only when the last bytes leave the buffer. */
static int check_output(int code)
{
    bool flushed = !fflush(stdout);
    if (flushed && !ferror(stdout))
        return code;
    if (code != CLI_DONE)
        return code;
    fprintf(stderr, "junto: cannot write to standard output: %s\n",
            flushed ? "write error" : strerror(errno));
    return CLI_FAILED;
}

int cli_main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;
    if (!name) {
        cli_print_overview(stderr);
        return CLI_USAGE;
    }
    if (!strcmp(name, "-h") || !strcmp(name, "--help")) {
        cli_print_overview(stdout);
        return check_output(CLI_DONE);
    }
    if (!strcmp(name, "-V") || !strcmp(name, "--version")) {
        printf("junto %s\n", jt_version());
        return check_output(CLI_DONE);
    }
    cli_context cli = {.verb = cli_find_verb(name)};
    if (!cli.verb)
        return unknown_verb(name);
    cli.terminal = isatty(STDERR_FILENO);
    return check_output(run_verb(&cli, argc - 2, argv + 2));
}
