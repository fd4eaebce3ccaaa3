/* junto pull: fetch a model. */
#include <stdlib.h>

#include "common.h"
#include "verbs.h"

struct pull_args {
    cli_common common;
    const char *source, *sha256;
};

static const cli_option operands[] = {
    {.flags = "SOURCE",
     .kind = CLI_STRING,
     .required = true,
     .offset = offsetof(struct pull_args, source),
     .help = "hf:ORG/NAME, hf:ORG/NAME:FILE (or a part of its name, as Q4_K_M), or the "
             "https address of a GGUF file"},
    {0}};

static const cli_option options[] = {
    {.flags = "--checksum",
     .kind = CLI_STRING,
     .value = "HEX",
     .offset = offsetof(struct pull_args, sha256),
     .help = "what the file must sum to (default: what the hub says)"},
    {0}};

static int run(cli_context *cli, const void *raw)
{
    const struct pull_args *args = raw;
    jt_pull_options pull = {.sha256 = args->sha256, .progress = cli_progress(cli)};
    jt_err err = {0};
    char *name;
    cli_interrupt_catch();
    jt_status status = jt_shelf_pull(&name, args->source, &pull, &err);
    cli_progress_clear(cli);
    if (status != JT_OK)
        return cli_fail(cli, &err);
    printf("%s\n", name);
    free(name);
    return CLI_DONE;
}

static const cli_group groups[] = {
    {"Flags", options, 0}, {NULL, cli_common_options, 0}, {0}};

static const char *const examples[] = {
    "junto pull hf:org/model:Q4_K_M",
    "fetch a model; its name, which is printed, can be used for MODEL from then on",
    "junto pull https://example.org/model.gguf --checksum HEX",
    "the same from anywhere, with a sum to check", NULL};

const cli_verb cli_verb_pull = {
    .name = "pull",
    .section = "Shelf",
    .summary = "fetch a model and put it on the shelf",
    .details =
        "What was begun is gone on with, and checksums are checked. The shelf is the "
        "folder $JUNTO_MODELS, otherwise junto/models in $XDG_DATA_HOME, otherwise "
        "~/.local/share/junto/models. HF_ENDPOINT names another hub, HF_TOKEN is "
        "shown to it.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct pull_args),
    .run = run,
};
