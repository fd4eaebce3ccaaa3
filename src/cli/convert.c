#include <string.h>

#include "common.h"
#include "junto/convert.h"
#include "verbs.h"

struct convert_args {
    cli_common common;
    const char *source, *target, *type, *layout;
    uint64_t shard;
    bool json;
};

static const cli_option operands[] = {
    {.flags = "SRC",
     .kind = CLI_PATH,
     .is_model = true,
     .required = true,
     .offset = offsetof(struct convert_args, source),
     .help = "a GGUF file or a Hugging Face folder"},
    {.flags = "DST",
     .kind = CLI_PATH,
     .required = true,
     .offset = offsetof(struct convert_args, target),
     .help = "what to write: NAME.gguf for a file, any other name for a folder, which "
             "must not exist; it appears whole or not at all"},
    {0}};

static const cli_option options[] = {
    {.flags = "--type --outtype",
     .kind = CLI_STRING,
     .value = "TYPE",
     .offset = offsetof(struct convert_args, type),
     .help = "type of the matrices: f32, f16, bf16, and for a file also q8_0, q4_k and "
             "the other block formats; otherwise each keeps its own"},
    {.flags = "--layout",
     .kind = CLI_CHOICE,
     .value = "plain|experts",
     .offset = offsetof(struct convert_args, layout),
     .help = "of a file: experts lays each expert in one piece, aligned and with a "
             "checksum, for budgets (--ram) smaller than the model; plain (default) "
             "stacks those of a layer, and takes the other layout back"},
    {.flags = "--shard-size",
     .kind = CLI_SIZE,
     .value = "SIZE",
     .initial = "5G",
     .offset = offsetof(struct convert_args, shard),
     .min = 1,
     .help = "most data in one file of a folder"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct convert_args, json),
     .help = "one JSON object about the result on standard output"},
    {0}};

static int print_report(cli_context *cli, const struct convert_args *args,
                        const jt_convert_report *report)
{
    return cli_print_json(
        cli, json_pack("{s:o, s:o, s:I, s:I, s:b}", "source",
                       cli_json_text(args->source, strlen(args->source)), "target",
                       cli_json_text(args->target, strlen(args->target)), "tensors",
                       (json_int_t)report->tensors, "bytes", (json_int_t)report->bytes,
                       "tokenizer", report->tokenizer));
}

static int run(cli_context *cli, const void *raw)
{
    const struct convert_args *args = raw;
    cli_interrupt_catch();
    jt_convert_options convert = {.type = args->type,
                                  .layout = args->layout,
                                  .shard_bytes = args->shard,
                                  .progress = cli_progress(cli)};
    jt_convert_report report;
    jt_err err = {0};
    jt_status status = jt_convert(args->source, args->target, &convert, &report, &err);
    cli_progress_clear(cli);
    if (status != JT_OK)
        return cli_fail(cli, &err);
    cli_note(cli, "wrote %s: %zu tensors, %s", args->target, report.tensors,
             cli_show_bytes((double)report.bytes).text);
    if (!report.tokenizer)
        cli_note(cli, "without a tokenizer: none was found that could be written");
    return args->json ? print_report(cli, args, &report) : CLI_DONE;
}

static const cli_group groups[] = {
    {"Flags", options, 0}, {NULL, cli_common_options, 0}, {0}};

static const char *const examples[] = {
    "junto convert Qwen3-30B-A3B qwen3.gguf --type q8_0",
    "turn a Hugging Face folder into a GGUF file with 8-bit matrices",
    "junto convert mixture.gguf mixture",
    "turn a GGUF file into a Hugging Face folder",
    "junto convert big.gguf big-experts.gguf --layout experts",
    "lay the experts out for a machine with less memory than the model takes",
    NULL};

const cli_verb cli_verb_convert = {
    .name = "convert",
    .section = "Make",
    .summary = "convert between GGUF files and Hugging Face folders",
    .details = "Keys, names and layouts of GGUF files are those that llama.cpp's "
               "converter writes. Without --type nothing is lost, except that FP8 "
               "becomes BF16 and a folder gets BF16 for block formats.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct convert_args),
    .run = run,
};
