#include "train.h"

#include <stdlib.h>
#include <string.h>

#include "verbs.h"

static const cli_option operands[] = {
    {.flags = "CONFIG",
     .kind = CLI_PATH,
     .offset = offsetof(struct train_args, config),
     .help =
         "configuration, TOML or (by its name) JSON; docs/training.md has its keys"},
    {0}};

static const cli_option options[] = {
    {.flags = "--config",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = offsetof(struct train_args, config),
     .help = "the same as CONFIG"},
    {.flags = "--set",
     .kind = CLI_LIST,
     .value = "KEY=VALUE",
     .offset = offsetof(struct train_args, settings),
     .help = "a key instead of what the file says, as train.steps=100 or "
             "data.source.0.weight=2; may be repeated"},
    {.flags = "--resume",
     .kind = CLI_FLAG,
     .offset = offsetof(struct train_args, resume),
     .help = "go on from the checkpoint in the output folder"},
    {.flags = "--dry-run",
     .kind = CLI_FLAG,
     .offset = offsetof(struct train_args, dry_run),
     .help = "only say what it would cost: parameters, memory, time"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct train_args, json),
     .help = "one JSON object instead of text"},
    {.flags = "--help-keys",
     .kind = CLI_FLAG,
     .offset = offsetof(struct train_args, help_keys),
     .help = "print every key with its default and meaning: a configuration to begin "
             "with"},
    {.flags = "--markdown",
     .kind = CLI_FLAG,
     .offset = offsetof(struct train_args, markdown),
     .help = "with --help-keys: as the tables of docs/training.md"},
    {0}};

static const cli_option trace_options[] = {
    {.flags = "--trace-every",
     .kind = CLI_INT,
     .value = "N",
     .initial = "1",
     .offset = offsetof(struct train_args, trace_every),
     .min = 1,
     .max = 1 << 30,
     .help = "with --trace: only of every N-th step, the first included"},
    {0}};

static int print_keys(cli_context *cli, const struct train_args *args)
{
    jt_err err = {0};
    char *keys = jt_train_keys(args->markdown);
    jt_status status =
        keys ? cli_write(keys, strlen(keys), &err)
             : jt_fail(&err, JT_E_MEMORY, "out of memory while printing the keys");
    free(keys);
    return status == JT_OK ? CLI_DONE : cli_fail(cli, &err);
}

static int plan(cli_context *cli, const struct train_args *args,
                const jt_train_options *train)
{
    jt_err err = {0};
    jt_train_plan found;
    if (jt_train_dry_run(train, &found, &err) != JT_OK)
        return cli_fail(cli, &err);
    return train_print_plan(cli, args, &found);
}

int train_go(cli_context *cli, const struct train_args *args,
             jt_train_options *options_)
{
    if (args->dry_run)
        return plan(cli, args, options_);
    struct train_watch watch;
    train_watch_begin(&watch, cli);
    options_->on_event = train_on_event;
    options_->user = &watch;
    options_->progress = train_progress(&watch);
    jt_err err = {0};
    jt_status status = jt_train(options_, &err);
    cli_progress_clear(cli);
    int code;
    if (status == JT_OK)
        code = train_print_result(cli, args, &watch);
    else
        code = cli_fail(cli, &err);
    if (status == JT_E_INTERRUPTED && watch.last.step)
        cli_note(cli, "what was learnt is saved; the same command with --resume goes "
                      "on");
    train_watch_end(&watch);
    return code;
}

static int run(cli_context *cli, const void *raw)
{
    const struct train_args *args = raw;
    if (args->help_keys)
        return print_keys(cli, args);
    if (args->markdown)
        return cli_usage(cli, "--markdown goes with --help-keys");
    if (!args->config)
        return cli_usage(cli, "CONFIG is missing");
    jt_err err = {0};
    if (cli_trace_check(&args->trace, &err) != JT_OK)
        return cli_fail(cli, &err);
    cli_interrupt_catch();
    jt_train_options train_options = {
        .config = args->config,
        .settings = args->settings.items,
        .n_settings = args->settings.count,
        .resume = args->resume,
        .trace = args->trace.path,
        .trace_options = {.scores = args->trace.scores, .norms = args->trace.norms},
        .trace_every = args->trace_every,
        .progress = cli_progress(cli),
    };
    return train_go(cli, args, &train_options);
}

static const cli_group groups[] = {
    {"Flags", options, 0},
    {NULL, cli_trace_options, offsetof(struct train_args, trace)},
    {NULL, trace_options, 0},
    {NULL, cli_common_options, 0},
    {0}};

static const char *const examples[] = {
    "junto train --help-keys > run.toml",
    "begin a configuration: every key with its default",
    "junto train run.toml --dry-run",
    "what it would cost",
    "junto train run.toml --set train.steps=2000",
    "train, with one key changed",
    "junto train run.toml --set train.steps=2000 --resume",
    "go on after an interruption",
    NULL};

const cli_verb cli_verb_train = {
    .name = "train",
    .section = "Make",
    .summary = "train a model, from scratch or from one that is there",
    .details =
        "In the output folder (output.dir) appear checkpoint.gguf, from which --resume "
        "goes on to the same bits and which the other commands can run at once; "
        "log.jsonl with a line per step and evaluation; curves.svg, their picture; "
        "config.json with every key; and at the end model.gguf. Ctrl-C saves a "
        "checkpoint and ends.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct train_args),
    .run = run,
};
