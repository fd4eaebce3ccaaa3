#include "report.h"

#include <stdlib.h>
#include <string.h>

#include "verbs.h"

struct report_args {
    cli_common common;
    cli_list traces;
    const char *out, *model;
    bool json, text;
    int sample;
    jt_session_options session;
};

enum { MOST_TRACES = 8 };

static const cli_option operands[] = {
    {.flags = "TRACE",
     .kind = CLI_LIST,
     .required = true,
     .offset = offsetof(struct report_args, traces),
     .help = "what --trace of run or perplexity wrote; up to 8 of one model stand side "
             "by side"},
    {0}};

static const cli_option options[] = {
    {.flags = "-o --output",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = offsetof(struct report_args, out),
     .help = "write a page for a browser, all in one file"},
    {.flags = "--text",
     .kind = CLI_FLAG,
     .offset = offsetof(struct report_args, text),
     .help = "print the figures; what happens without --output and --json"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct report_args, json),
     .help = "print one JSON object"},
    {.flags = "-m --model",
     .kind = CLI_PATH,
     .is_model = true,
     .value = "MODEL",
     .offset = offsetof(struct report_args, model),
     .help = "the model of the trace: its vocabulary tells letters from digits, ..; "
             "fails for another model"},
    {.flags = "--sample",
     .kind = CLI_INT,
     .value = "N",
     .initial = "16384",
     .offset = offsetof(struct report_args, sample),
     .min = 256,
     .max = 1 << 26,
     .help = "tokens, in evenly spread stretches, over which pairs of experts, the "
             "caches but LRU, and the shuffled baseline are measured"},
    {0}};

/* ---- the verb ---- */

typedef struct work {
    jt_trace *trace[MOST_TRACES];
    jt_report *report[MOST_TRACES];
    size_t n;
    cli_model model;
} work;

static jt_status gather(cli_context *cli, const struct report_args *args, work *w,
                        jt_err *err)
{
    if (args->model)
        JT_TRY(cli_load(&w->model, args->model, true, err));
    for (; w->n < args->traces.count; w->n++) {
        jt_trace_info info;
        jt_report_options o = {.model = w->model.model,
                               .threads = args->session.threads,
                               .sample = (size_t)args->sample,
                               .progress = cli_progress(cli)};
        JT_TRY(jt_trace_open(&w->trace[w->n], args->traces.items[w->n], err));
        jt_trace_describe(w->trace[w->n], &info);
        if (info.cut_bytes)
            cli_note(cli,
                     "'%s' was cut: %llu bytes of an unfinished block are left out",
                     info.path, (unsigned long long)info.cut_bytes);
        jt_status status = jt_report_new(&w->report[w->n], w->trace[w->n], &o, err);
        cli_progress_clear(cli);
        if (status != JT_OK) {
            jt_trace_close(w->trace[w->n]);
            return status;
        }
    }
    return jt_report_check_same((const jt_report *const *)w->report, w->n, err);
}

static int print_json(cli_context *cli, const work *w)
{
    json_t *list = json_array();
    for (size_t i = 0; i < w->n; i++)
        json_array_append_new(list, report_json(w->report[i]));
    return cli_print_json(cli, json_pack("{s:o}", "traces", list));
}

static int show(cli_context *cli, const struct report_args *args, const work *w)
{
    jt_err err = {0};
    if (args->out) {
        if (jt_report_write_html((const jt_report *const *)w->report, w->n, args->out,
                                 &err) != JT_OK)
            return cli_fail(cli, &err);
        cli_note(cli, "wrote %s", args->out);
    }
    if (args->json)
        return print_json(cli, w);
    for (size_t i = 0; i < w->n && (args->text || !args->out); i++) {
        if (i)
            printf("\n");
        report_print(w->report[i]);
    }
    return CLI_DONE;
}

static int run(cli_context *cli, const void *raw)
{
    const struct report_args *args = raw;
    if (args->traces.count > MOST_TRACES)
        return cli_usage(cli, "%zu traces are more than a page can show (%d)",
                         args->traces.count, MOST_TRACES);
    if (args->json && args->text)
        return cli_usage(cli, "--json and --text exclude each other");
    cli_interrupt_catch();
    jt_err err = {0};
    work w = {0};
    jt_status status = gather(cli, args, &w, &err);
    int code = status == JT_OK ? show(cli, args, &w) : cli_fail(cli, &err);
    for (size_t i = 0; i < w.n; i++) {
        jt_report_free(w.report[i]);
        jt_trace_close(w.trace[i]);
    }
    cli_unload(&w.model);
    return code;
}

static const cli_group groups[] = {
    {"Flags", options, 0},
    {NULL, cli_threads_options, offsetof(struct report_args, session)},
    {NULL, cli_common_options, 0},
    {0}};

static const char *const examples[] = {
    "junto report story.trace -o story.html",
    "a page about the routing of a run",
    "junto report story.trace -m model.gguf",
    "the figures on the terminal, also by class of token",
    "junto report prose.trace code.trace -o both.html",
    "two texts side by side",
    NULL};

const cli_verb cli_verb_report = {
    .name = "report",
    .section = "Look",
    .summary = "say what a trace tells about the routing",
    .details =
        "Load, entropy, specialisation, which experts go together, and locality: SRP "
        "and hit rates of caches, each beside what shuffled tokens give. "
        "docs/report.md "
        "explains the figures.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct report_args),
    .run = run,
};
