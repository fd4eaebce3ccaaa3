#include <string.h>

#include "common.h"
#include "verbs.h"

struct trace_args {
    cli_common common;
    const char *action, *trace, *out, *model;
    bool npy, csv, json;
};

static const cli_option operands[] = {
    {.flags = "ACTION",
     .kind = CLI_CHOICE,
     .value = "info|export",
     .required = true,
     .offset = offsetof(struct trace_args, action),
     .help = "info shows what is in a trace, export writes it for other programs"},
    {.flags = "TRACE",
     .kind = CLI_PATH,
     .required = true,
     .offset = offsetof(struct trace_args, trace),
     .help = "what --trace of run, perplexity, train or serve wrote"},
    {0}};

static const cli_option options[] = {
    {.flags = "-o --output",
     .kind = CLI_PATH,
     .value = "DIR",
     .offset = offsetof(struct trace_args, out),
     .help = "export: the folder for the files"},
    {.flags = "--npy",
     .kind = CLI_FLAG,
     .offset = offsetof(struct trace_args, npy),
     .help = "export: a NumPy file per column"},
    {.flags = "--csv",
     .kind = CLI_FLAG,
     .offset = offsetof(struct trace_args, csv),
     .help = "export: one table, trace.csv, with a line per token and layer"},
    {.flags = "-m --model",
     .kind = CLI_PATH,
     .is_model = true,
     .value = "MODEL",
     .offset = offsetof(struct trace_args, model),
     .help = "fail unless the trace was made with this model"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct trace_args, json),
     .help = "info: one JSON object instead of text"},
    {0}};

/* ---- info ---- */

static json_t *layers_json(const jt_trace_info *info)
{
    json_t *layers = json_array();
    for (int i = 0; i < info->n_layers; i++) {
        const jt_trace_layer *layer = &info->layers[i];
        json_array_append_new(layers,
                              json_pack("{s:i, s:i, s:i, s:i}", "layer", layer->layer,
                                        "experts", layer->n_experts, "rows",
                                        layer->n_rows, "slots", layer->k));
    }
    return layers;
}

static json_t *info_json(const jt_trace *trace, const jt_trace_info *info)
{
    char fingerprint[20];
    snprintf(fingerprint, sizeof fingerprint, "%016llx",
             (unsigned long long)info->fingerprint);
    json_t *columns = json_object(), *labels = json_array();
    for (int c = 0; c < JT_TRACE_COLUMNS; c++) {
        if (info->columns >> c & 1)
            json_object_set_new(columns, jt_trace_column_name(c),
                                json_integer((json_int_t)info->column_bytes[c]));
    }
    for (size_t i = 0; i < info->n_labels; i++) {
        const char *name = jt_trace_label_name(trace, (int32_t)i);
        json_array_append_new(labels, cli_json_text(name, strlen(name)));
    }
    return json_pack("{s:o, s:o, s:o, s:s, s:I, s:I, s:I, s:I, s:i, s:o, s:o, s:o}",
                     "trace", cli_json_text(info->path, strlen(info->path)), "model",
                     cli_json_text(info->name, strlen(info->name)), "family",
                     cli_json_text(info->family, strlen(info->family)), "fingerprint",
                     fingerprint, "tokens", (json_int_t)info->tokens, "bytes",
                     (json_int_t)info->bytes, "cut_bytes", (json_int_t)info->cut_bytes,
                     "blocks", (json_int_t)jt_trace_blocks(trace), "block_tokens",
                     info->block_tokens, "column_bytes", columns, "labels", labels,
                     "layers", layers_json(info));
}

static void print_layers(const jt_trace_info *info)
{
    const jt_trace_layer *a = info->layers;
    bool same = true;
    for (int i = 1; i < info->n_layers; i++)
        same = same && a[i].n_experts == a->n_experts && a[i].n_rows == a->n_rows &&
               a[i].k == a->k;
    if (same) {
        printf("layers       %d, each with %d of %d experts", info->n_layers, a->k,
               a->n_experts);
        if (a->n_rows > a->n_experts)
            printf(" and %d null ones", a->n_rows - a->n_experts);
        printf("\n");
        return;
    }
    for (int i = 0; i < info->n_layers; i++)
        printf("layer %-6d %d of %d experts, %d rows\n", a[i].layer, a[i].k,
               a[i].n_experts, a[i].n_rows);
}

static void print_info(const jt_trace *trace, const jt_trace_info *info)
{
    double tokens = info->tokens ? (double)info->tokens : 1.0;
    printf("model        %s\n", *info->name ? info->name : "(no name)");
    printf("family       %s\n", info->family);
    printf("fingerprint  %016llx\n", (unsigned long long)info->fingerprint);
    print_layers(info);
    printf("tokens       %llu, in %zu blocks\n", (unsigned long long)info->tokens,
           jt_trace_blocks(trace));
    printf("size         %s, %.0f bytes per token\n",
           cli_show_bytes((double)info->bytes).text, (double)info->bytes / tokens);
    for (int c = 0; c < JT_TRACE_COLUMNS; c++) {
        if (info->columns >> c & 1)
            printf("  %-10s %.1f bytes per token\n", jt_trace_column_name(c),
                   (double)info->column_bytes[c] / tokens);
    }
    for (size_t i = 0; i < info->n_labels; i++)
        printf("%s%s\n", i ? "             " : "labels       ",
               jt_trace_label_name(trace, (int32_t)i));
}

/* ---- the verb ---- */

static jt_status check_model(const jt_trace *trace, const char *path, jt_err *err)
{
    jt_model *model;
    JT_TRY(jt_model_load(&model, path, err));
    jt_status status = jt_trace_check_model(trace, model, err);
    jt_model_free(model);
    return status;
}

static int export_trace(cli_context *cli, const struct trace_args *args,
                        jt_trace *trace, const jt_trace_info *info)
{
    jt_err err = {0};
    jt_status status = JT_OK;
    if (args->npy)
        status = jt_trace_export_npy(trace, args->out, cli_progress(cli), &err);
    if (status == JT_OK && args->csv)
        status = jt_trace_export_csv(trace, args->out, cli_progress(cli), &err);
    cli_progress_clear(cli);
    if (status != JT_OK)
        return cli_fail(cli, &err);
    cli_note(cli, "wrote %llu tokens to %s", (unsigned long long)info->tokens,
             args->out);
    return CLI_DONE;
}

static int run(cli_context *cli, const void *raw)
{
    const struct trace_args *args = raw;
    bool exports = !strcmp(args->action, "export");
    if (exports && !args->out)
        return cli_usage(cli, "export needs a folder (--output)");
    if (exports && !args->npy && !args->csv)
        return cli_usage(cli, "export needs --npy or --csv");
    cli_interrupt_catch();
    jt_err err = {0};
    jt_trace *trace;
    jt_trace_info info;
    if (jt_trace_open(&trace, args->trace, &err) != JT_OK)
        return cli_fail(cli, &err);
    jt_trace_describe(trace, &info);
    int code = CLI_DONE;
    if (info.cut_bytes)
        cli_note(cli, "'%s' was cut: %llu bytes of an unfinished block are left out",
                 args->trace, (unsigned long long)info.cut_bytes);
    if (args->model && check_model(trace, args->model, &err) != JT_OK)
        code = cli_fail(cli, &err);
    else if (exports)
        code = export_trace(cli, args, trace, &info);
    else if (args->json)
        code = cli_print_json(cli, info_json(trace, &info));
    else
        print_info(trace, &info);
    jt_trace_close(trace);
    return code;
}

static const cli_group groups[] = {
    {"Flags", options, 0}, {NULL, cli_common_options, 0}, {0}};

static const char *const examples[] = {
    "junto run model.gguf -p 'Once upon a time' -n 200 --trace story.trace",
    "note which experts wrote a text",
    "junto trace info story.trace",
    "what the trace holds, and how large its columns are",
    "junto trace export story.trace -o story --npy",
    "files for NumPy: story/expert.npy is [tokens, layers, slots]",
    NULL};

const cli_verb cli_verb_trace = {
    .name = "trace",
    .section = "Look",
    .summary = "show or export what --trace wrote",
    .details = "A trace holds, for each token and layer, the chosen experts, their "
               "weights and the entropy of the router; docs/trace.md describes the "
               "exported files. The trace of a run that was killed is read up to its "
               "last whole block.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct trace_args),
    .run = run,
};
