#include <stdlib.h>

#include "common.h"
#include "verbs.h"

struct merge_args {
    cli_common common;
    const char *model, *out;
    cli_list adapters;
};

static const cli_option operands[] = {
    CLI_MODEL_OPERAND(struct merge_args),
    {.flags = "ADAPTER",
     .kind = CLI_LIST,
     .required = true,
     .offset = offsetof(struct merge_args, adapters),
     .help = "one or more, each with a scale if wanted: FILE:0.5"},
    {0}};

static const cli_option options[] = {{.flags = "-o --output",
                                      .kind = CLI_PATH,
                                      .value = "FILE.gguf",
                                      .required = true,
                                      .offset = offsetof(struct merge_args, out),
                                      .help = "the model to write"},
                                     {0}};

static jt_status merge(cli_context *cli, const struct merge_args *args, cli_model *m,
                       float *scales, jt_err *err)
{
    jt_progress progress = cli_progress(cli);
    for (size_t i = 0; i < args->adapters.count; i++) {
        jt_adapter *adapter;
        JT_TRY(cli_open_adapter(m, args->adapters.items[i], &adapter, &scales[i], err));
    }
    jt_adapter_mix mix = {m->adapters, scales, m->n_adapters};
    return jt_adapter_merge(args->out, m->model, &mix, &progress, err);
}

static int run(cli_context *cli, const void *raw)
{
    const struct merge_args *args = raw;
    cli_model m = {0};
    jt_err err = {0};
    float *scales = calloc(args->adapters.count, sizeof *scales);
    cli_interrupt_catch();
    jt_status status = scales ? cli_load(&m, args->model, false, &err)
                              : jt_fail(&err, JT_E_MEMORY, "out of memory");
    if (status == JT_OK)
        status = merge(cli, args, &m, scales, &err);
    cli_progress_clear(cli);
    cli_unload(&m);
    free(scales);
    if (status != JT_OK)
        return cli_fail(cli, &err);
    cli_note(cli, "wrote %s", args->out);
    return CLI_DONE;
}

static const cli_group groups[] = {
    {"Flags", options, 0}, {NULL, cli_common_options, 0}, {0}};

static const char *const examples[] = {
    "junto merge-adapter model.gguf poet.safetensors -o poet.gguf",
    "the model with the adapter in its weights, which keep their types", NULL};

const cli_verb cli_verb_merge_adapter = {
    .name = "merge-adapter",
    .section = "Make",
    .summary = "put adapters into the weights of a model",
    .details =
        "Weights that change are decoded, changed and quantised again to the type "
        "that they had; all others are copied as they are.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct merge_args),
    .run = run,
};
