#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "verbs.h"

struct perplexity_args {
    cli_common common;
    const char *model;
    cli_list files;
    bool json;
    int n_ctx;
    jt_session_options session;
    cli_list adapters;
    cli_trace_flags trace;
    cli_policies policies;
};

static const cli_option operands[] = {CLI_MODEL_OPERAND(struct perplexity_args), {0}};

static const cli_option options[] = {
    {.flags = "-f --file",
     .kind = CLI_LIST,
     .value = "FILE",
     .required = true,
     .offset = offsetof(struct perplexity_args, files),
     .help = "the text to score; - is standard input; may be given several times: each "
             "text is scored by itself, and is a label of the trace"},
    {.flags = "-c --ctx --ctx-size",
     .kind = CLI_INT,
     .value = "N",
     .initial = "512",
     .offset = offsetof(struct perplexity_args, n_ctx),
     .min = 2,
     .max = 1 << 24,
     .help =
         "tokens per window; windows do not overlap, the first token of each is not "
         "scored"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct perplexity_args, json),
     .help = "one JSON object instead of text"},
    {0}};

/* ---- what was measured ---- */

typedef struct measured {
    jt_perplexity all, *of; /* all texts together; [files] each */
    jt_tokens *tokens;      /* [files] */
    double experts;         /* per token, mean over layers, with --policy; else NaN */
} measured;

/* Means weigh each text by its scored tokens; errors of means add as squares do. */
static void add_text(jt_perplexity *all, const jt_perplexity *one)
{
    double n = (double)all->scored, more = (double)one->scored, sum = n + more;
    double before = n > 0 ? n * all->error / all->perplexity : 0.0;
    double after = hypot(before, more * one->error / one->perplexity);
    all->tokens += one->tokens;
    all->scored += one->scored;
    all->windows += one->windows;
    all->seconds += one->seconds;
    all->nll = (n * all->nll + more * one->nll) / sum;
    all->perplexity = exp(all->nll);
    all->error = all->perplexity * after / sum;
}

static json_t *texts_json(const struct perplexity_args *args, const measured *m)
{
    json_t *list = json_array();
    for (size_t i = 0; i < args->files.count; i++) {
        const char *file = args->files.items[i];
        json_array_append_new(list,
                              json_pack("{s:o, s:I, s:o, s:o, s:o}", "file",
                                        cli_json_text(file, strlen(file)), "scored",
                                        (json_int_t)m->of[i].scored, "nll",
                                        cli_json_number(m->of[i].nll), "perplexity",
                                        cli_json_number(m->of[i].perplexity), "error",
                                        cli_json_number(m->of[i].error)));
    }
    return list;
}

static int report_json(cli_context *cli, const struct perplexity_args *args,
                       const measured *m)
{
    const jt_perplexity *p = &m->all;
    json_t *json =
        json_pack("{s:o, s:o, s:i, s:I, s:I, s:I, s:o, s:o, s:o, s:f, s:o}", "model",
                  cli_json_text(args->model, strlen(args->model)), "texts",
                  texts_json(args, m), "n_ctx", args->n_ctx, "tokens",
                  (json_int_t)p->tokens, "scored", (json_int_t)p->scored, "windows",
                  (json_int_t)p->windows, "nll", cli_json_number(p->nll), "perplexity",
                  cli_json_number(p->perplexity), "error", cli_json_number(p->error),
                  "seconds", p->seconds, "experts_used", cli_json_number(m->experts));
    return cli_print_json(cli, json);
}

static int report(cli_context *cli, const struct perplexity_args *args,
                  const measured *m)
{
    const jt_perplexity *p = &m->all;
    if (args->json)
        return report_json(cli, args, m);
    for (size_t i = 0; i < args->files.count && args->files.count > 1; i++)
        printf("            %.4f +- %.4f  %s\n", m->of[i].perplexity, m->of[i].error,
               args->files.items[i]);
    printf("perplexity  %.4f +- %.4f\n", p->perplexity, p->error);
    printf("nll         %.5f nats per token\n", p->nll);
    printf("scored      %zu of %zu tokens, in %zu windows of %d\n", p->scored,
           p->tokens, p->windows, args->n_ctx);
    if (!isnan(m->experts))
        printf("experts     %.3f per token\n", m->experts);
    cli_note(cli, "%.1f s, %.1f tokens/s", p->seconds,
             p->seconds > 0 ? (double)p->tokens / p->seconds : 0.0);
    return CLI_DONE;
}

/* ---- measuring ---- */

static jt_status watch_usage(jt_usage **usage, const cli_model *m, jt_session *session,
                             jt_err *err)
{
    JT_TRY(jt_usage_new(usage, m->model, err));
    jt_watcher watcher = jt_usage_watcher(*usage);
    return jt_session_add_watcher(session, &watcher, err);
}

static double experts_used(const jt_usage *usage)
{
    double used = 0.0, tokens = 0.0;
    for (size_t i = 0; i < jt_usage_layers(usage); i++) {
        jt_layer_usage layer;
        jt_usage_layer(usage, i, &layer);
        for (int e = 0; e < layer.n_experts; e++)
            used += (double)layer.counts[e];
        tokens += (double)layer.tokens;
    }
    return used / tokens;
}

/* All texts are read before anything is measured or traced. */
static jt_status read_text(const struct perplexity_args *args, const cli_model *m,
                           const char *file, jt_tokens *tokens, jt_err *err)
{
    char *text;
    size_t len;
    JT_TRY(cli_read_text(&text, &len, file, err));
    jt_status status =
        jt_encode(m->tokenizer, text, len, JT_ENCODE_ADD_SPECIAL, tokens, err);
    free(text);
    if (status == JT_OK && tokens->count < (size_t)args->n_ctx)
        status = jt_fail(err, JT_E_LIMIT,
                         "'%s' has %zu tokens, less than one window of %d (see --ctx)",
                         file, tokens->count, args->n_ctx);
    return status;
}

static jt_status measure(cli_context *cli, const struct perplexity_args *args,
                         cli_model *m, jt_trace_writer **trace, measured *result,
                         jt_err *err)
{
    jt_session *session = NULL;
    jt_steering *steering = NULL;
    jt_usage *usage = NULL;
    jt_status status = JT_OK;
    for (size_t i = 0; i < args->files.count && status == JT_OK; i++)
        status = read_text(args, m, args->files.items[i], &result->tokens[i], err);
    if (status == JT_OK)
        status = cli_new_session_for(&session, m, (size_t)args->n_ctx, &args->session,
                                     "--ctx", &args->adapters, err);
    if (status == JT_OK)
        status = cli_steer(&steering, &args->policies, m, session, err);
    if (status == JT_OK && steering)
        status = watch_usage(&usage, m, session, err);
    if (status == JT_OK)
        status = cli_trace_begin(trace, &args->trace, m, session, err);
    for (size_t i = 0; i < args->files.count && status == JT_OK; i++) {
        const jt_tokens *tokens = &result->tokens[i];
        if (*trace)
            status = jt_trace_label(*trace, args->files.items[i], err);
        if (status == JT_OK)
            status =
                jt_measure_perplexity(session, tokens->ids, tokens->count, args->n_ctx,
                                      cli_progress(cli), &result->of[i], err);
        if (status == JT_OK)
            add_text(&result->all, &result->of[i]);
    }
    result->experts = usage ? experts_used(usage) : (double)NAN;
    jt_session_free(session);
    jt_steering_free(steering);
    jt_usage_free(usage);
    return status;
}

static void free_measured(const struct perplexity_args *args, measured *result)
{
    for (size_t i = 0; result->tokens && i < args->files.count; i++)
        free(result->tokens[i].ids);
    free(result->tokens);
    free(result->of);
}

static int run(cli_context *cli, const void *raw)
{
    const struct perplexity_args *args = raw;
    cli_interrupt_catch();
    jt_err err = {0};
    cli_model m;
    if (cli_load(&m, args->model, true, &err) != JT_OK)
        return cli_fail(cli, &err);
    measured result = {.of = calloc(args->files.count, sizeof *result.of),
                       .tokens = calloc(args->files.count, sizeof *result.tokens)};
    jt_trace_writer *trace = NULL;
    jt_status status = result.of ? measure(cli, args, &m, &trace, &result, &err)
                                 : jt_fail(&err, JT_E_MEMORY, "out of memory");
    int code = status == JT_OK ? report(cli, args, &result) : cli_fail(cli, &err);
    code = cli_trace_end(cli, trace, code);
    free_measured(args, &result);
    cli_unload(&m);
    return code;
}

static const cli_group groups[] = {
    {"Flags", options, 0},
    {NULL, cli_policy_options, offsetof(struct perplexity_args, policies)},
    {NULL, cli_threads_options, offsetof(struct perplexity_args, session)},
    {NULL, cli_kernel_options, offsetof(struct perplexity_args, session)},
    {NULL, cli_trace_options, offsetof(struct perplexity_args, trace)},
    {NULL, cli_residency_options, offsetof(struct perplexity_args, trace)},
    {NULL, cli_adapter_options, offsetof(struct perplexity_args, adapters)},
    {NULL, cli_adapter_type_options, offsetof(struct perplexity_args, session)},
    {NULL, cli_common_options, 0},
    {0}};

static const char *const examples[] = {
    "junto perplexity model.gguf -f text.txt --ctx 512",
    "how well the model foresees a text, in windows of 512 tokens",
    "junto perplexity model.gguf -f prose.txt -f code.txt --trace both.trace",
    "two texts, and a trace in which each is a label", NULL};

const cli_verb cli_verb_perplexity = {
    .name = "perplexity",
    .section = "Measure",
    .summary = "measure how well a model foresees a text",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct perplexity_args),
    .run = run,
};
