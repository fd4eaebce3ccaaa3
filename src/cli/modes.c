#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "verbs.h"

struct modes_args {
    cli_common common;
    const char *model, *file, *out, *skip;
    bool json;
    int tokens, window, grid;
    cli_ints second;
    jt_session_options session;
};

enum { MAX_TARGETS = 64 };

static const cli_option operands[] = {CLI_MODEL_OPERAND(struct modes_args), {0}};

static const cli_option options[] = {
    {.flags = "-f --file",
     .kind = CLI_PATH,
     .value = "FILE",
     .required = true,
     .offset = offsetof(struct modes_args, file),
     .help = "the text to find importances and thresholds with; - is standard input"},
    {.flags = "-o --output",
     .kind = CLI_PATH,
     .value = "FILE.json",
     .required = true,
     .offset = offsetof(struct modes_args, out),
     .help = "where to write them, for --policy modes:file=FILE.json,skip=SHARE"},
    {.flags = "--skip",
     .kind = CLI_STRING,
     .value = "SHARES",
     .initial = "0.25,0.5,0.75",
     .offset = offsetof(struct modes_args, skip),
     .help = "shares of the chosen experts for which thresholds are found"},
    {.flags = "--tokens",
     .kind = CLI_INT,
     .value = "N",
     .initial = "2048",
     .offset = offsetof(struct modes_args, tokens),
     .min = 2,
     .max = 1 << 24,
     .help = "tokens of the text that are used"},
    {.flags = "-c --ctx --ctx-size",
     .kind = CLI_INT,
     .value = "N",
     .initial = "256",
     .offset = offsetof(struct modes_args, window),
     .min = 2,
     .max = 1 << 24,
     .help = "tokens per window; windows do not overlap"},
    {.flags = "--grid",
     .kind = CLI_INT,
     .value = "N",
     .initial = "100",
     .offset = offsetof(struct modes_args, grid),
     .min = 1,
     .max = 10000,
     .help = "thresholds that are tried"},
    {.flags = "--second",
     .kind = CLI_INTS,
     .value = "IDS",
     .offset = offsetof(struct modes_args, second),
     .min = 0,
     .max = INT32_MAX,
     .help = "tokens of a second class, such as those that stand for pictures, which "
             "get importances and a threshold of their own"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct modes_args, json),
     .help = "one JSON object instead of text"},
    {0}};

/* "0.25,0.5" */
static jt_status read_targets(const char *text, float targets[MAX_TARGETS],
                              size_t *count, jt_err *err)
{
    char *end;
    for (*count = 0; *count < MAX_TARGETS; text = end + 1) {
        targets[(*count)++] = strtof(text, &end);
        if (end == text || (*end && *end != ','))
            break;
        if (!*end)
            return JT_OK;
    }
    return jt_fail(err, JT_E_ARG, "--skip: '%s' is no list of shares as 0.25,0.5",
                   text);
}

static void print_text(const jt_modes_info *info)
{
    printf("layer  importance\n");
    for (int i = 0; i < info->n_layers; i++) {
        printf("%5d", i);
        for (int c = 0; c < info->n_classes; c++)
            printf("  %10.4f", (double)info->importance[c * info->n_layers + i]);
        printf("\n");
    }
    printf("\npower  target  skipped  KL        threshold\n");
    for (size_t i = 0; i < info->n_points; i++) {
        const jt_modes_point *p = &info->points[i];
        printf("%5g  %6.3f  %7.3f  %.6f  %.6f", (double)p->power, p->target, p->skipped,
               p->kl, (double)p->tau[0]);
        printf(info->n_classes > 1 ? ", %.6f\n" : "\n", (double)p->tau[1]);
    }
}

static int print_json(cli_context *cli, const jt_modes_info *info)
{
    json_t *importance = json_array(), *points = json_array();
    for (int c = 0; c < info->n_classes; c++) {
        json_t *list = json_array();
        for (int i = 0; i < info->n_layers; i++)
            json_array_append_new(
                list,
                cli_json_number((double)info->importance[c * info->n_layers + i]));
        json_array_append_new(importance, list);
    }
    for (size_t i = 0; i < info->n_points; i++) {
        const jt_modes_point *p = &info->points[i];
        json_t *tau = json_array();
        for (int c = 0; c < info->n_classes; c++)
            json_array_append_new(tau, cli_json_number((double)p->tau[c]));
        json_array_append_new(points, json_pack("{s:f, s:f, s:f, s:f, s:o}", "power",
                                                (double)p->power, "target", p->target,
                                                "skipped", p->skipped, "kl", p->kl,
                                                "tau", tau));
    }
    return cli_print_json(cli, json_pack("{s:I, s:o, s:o}", "tokens",
                                         (json_int_t)info->tokens, "importance",
                                         importance, "points", points));
}

static jt_status calibrate(cli_context *cli, const struct modes_args *args,
                           const cli_model *m, jt_modes **out, jt_err *err)
{
    char *text;
    size_t len;
    float targets[MAX_TARGETS];
    jt_tokens tokens = {0};
    jt_modes_options how = {.targets = targets,
                            .window = args->window,
                            .grid = args->grid,
                            .second = args->second.items,
                            .n_second = args->second.count,
                            .session = args->session,
                            .progress = cli_progress(cli)};
    JT_TRY(read_targets(args->skip, targets, &how.n_targets, err));
    JT_TRY(cli_read_text(&text, &len, args->file, err));
    jt_status status =
        jt_encode(m->tokenizer, text, len, JT_ENCODE_ADD_SPECIAL, &tokens, err);
    size_t most = (size_t)args->tokens;
    if (status == JT_OK)
        status =
            jt_modes_calibrate(out, m->model, tokens.ids,
                               tokens.count < most ? tokens.count : most, &how, err);
    cli_progress_clear(cli);
    free(tokens.ids);
    free(text);
    return status;
}

static int run(cli_context *cli, const void *raw)
{
    const struct modes_args *args = raw;
    cli_interrupt_catch();
    jt_err err = {0};
    cli_model m;
    if (cli_load(&m, args->model, true, &err) != JT_OK)
        return cli_fail(cli, &err);
    jt_modes *modes = NULL;
    jt_status status = calibrate(cli, args, &m, &modes, &err);
    if (status == JT_OK)
        status = jt_modes_write(modes, args->out, &err);
    int code = status == JT_OK ? CLI_DONE : cli_fail(cli, &err);
    if (status == JT_OK) {
        jt_modes_info info;
        jt_modes_describe(modes, &info);
        if (args->json)
            code = print_json(cli, &info);
        else
            print_text(&info);
    }
    jt_modes_free(modes);
    cli_unload(&m);
    return code;
}

static const cli_group groups[] = {
    {"Flags", options, 0},
    {NULL, cli_threads_options, offsetof(struct modes_args, session)},
    {NULL, cli_kernel_options, offsetof(struct modes_args, session)},
    {NULL, cli_common_options, 0},
    {0}};

static const char *const examples[] = {
    "junto modes model.gguf -f text.txt -o model.modes.json",
    "find which experts can be skipped, by how much their layers matter",
    "junto run model.gguf -p Hello --policy modes:file=model.modes.json,skip=0.4",
    "and skip two of five", NULL};

const cli_verb cli_verb_modes = {
    .name = "modes",
    .section = "Measure",
    .summary = "find which experts of a model can be skipped (MoDES)",
    .details =
        "How much the experts of a layer matter is what the model's predictions "
        "change without them. Thresholds on that, times the weight of an expert, "
        "are searched for on the same text, so that each wanted share of the "
        "chosen experts is skipped at the least change. Memory: all logits of the "
        "text, tokens times vocabulary times 4 bytes.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct modes_args),
    .run = run,
};
