#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "verbs.h"

struct perplexity_args {
    cli_common common;
    const char *model, *file;
    bool json;
    int n_ctx;
    jt_session_options session;
    cli_trace_flags trace;
    cli_policies policies;
};

static const cli_option operands[] = {CLI_MODEL_OPERAND(struct perplexity_args), {0}};

static const cli_option options[] = {
    {.flags = "-f --file",
     .kind = CLI_PATH,
     .value = "FILE",
     .required = true,
     .offset = offsetof(struct perplexity_args, file),
     .help = "the text to score; - is standard input"},
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

/* What was measured; experts per token, mean over layers, with --policy; else NaN. */
typedef struct figures {
    jt_perplexity p;
    double experts;
} figures;

static int report(cli_context *cli, const struct perplexity_args *args,
                  const figures *f)
{
    const jt_perplexity *p = &f->p;
    if (args->json) {
        json_t *json = json_pack(
            "{s:o, s:o, s:i, s:I, s:I, s:I, s:o, s:o, s:o, s:f, s:o}", "model",
            cli_json_text(args->model, strlen(args->model)), "file",
            cli_json_text(args->file, strlen(args->file)), "n_ctx", args->n_ctx,
            "tokens", (json_int_t)p->tokens, "scored", (json_int_t)p->scored, "windows",
            (json_int_t)p->windows, "nll", cli_json_number(p->nll), "perplexity",
            cli_json_number(p->perplexity), "error", cli_json_number(p->error),
            "seconds", p->seconds, "experts_used", cli_json_number(f->experts));
        return cli_print_json(cli, json);
    }
    printf("perplexity  %.4f +- %.4f\n", p->perplexity, p->error);
    printf("nll         %.5f nats per token\n", p->nll);
    printf("scored      %zu of %zu tokens, in %zu windows of %d\n", p->scored,
           p->tokens, p->windows, args->n_ctx);
    if (!isnan(f->experts))
        printf("experts     %.3f per token\n", f->experts);
    cli_note(cli, "%.1f s, %.1f tokens/s", p->seconds,
             p->seconds > 0 ? (double)p->tokens / p->seconds : 0.0);
    return CLI_DONE;
}

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

static jt_status measure(cli_context *cli, const struct perplexity_args *args,
                         const cli_model *m, jt_trace_writer **trace, figures *result,
                         jt_err *err)
{
    char *text;
    size_t len;
    JT_TRY(cli_read_text(&text, &len, args->file, err));
    jt_tokens tokens = {0};
    jt_session *session = NULL;
    jt_steering *steering = NULL;
    jt_usage *usage = NULL;
    jt_session_options wanted = args->session;
    wanted.n_ctx = args->n_ctx;
    jt_status status =
        jt_encode(m->tokenizer, text, len, JT_ENCODE_ADD_SPECIAL, &tokens, err);
    if (status == JT_OK && tokens.count < (size_t)args->n_ctx)
        status = jt_fail(err, JT_E_LIMIT,
                         "'%s' has %zu tokens, less than one window of %d (see --ctx)",
                         args->file, tokens.count, args->n_ctx);
    if (status == JT_OK)
        status = cli_new_session(&session, m, &wanted, "--ctx", err);
    if (status == JT_OK)
        status = cli_steer(&steering, &args->policies, m, session, err);
    if (status == JT_OK && steering)
        status = watch_usage(&usage, m, session, err);
    if (status == JT_OK)
        status = cli_trace_begin(trace, &args->trace, m, session, err);
    if (status == JT_OK && *trace)
        status = jt_trace_label(*trace, args->file, err);
    if (status == JT_OK)
        status = jt_measure_perplexity(session, tokens.ids, tokens.count, args->n_ctx,
                                       cli_progress(cli), &result->p, err);
    result->experts = usage ? experts_used(usage) : (double)NAN;
    jt_session_free(session);
    jt_steering_free(steering);
    jt_usage_free(usage);
    free(tokens.ids);
    free(text);
    return status;
}

static int run(cli_context *cli, const void *raw)
{
    const struct perplexity_args *args = raw;
    cli_interrupt_catch();
    jt_err err = {0};
    cli_model m;
    if (cli_load(&m, args->model, true, &err) != JT_OK)
        return cli_fail(cli, &err);
    figures result;
    jt_trace_writer *trace = NULL;
    jt_status status = measure(cli, args, &m, &trace, &result, &err);
    int code = status == JT_OK ? report(cli, args, &result) : cli_fail(cli, &err);
    code = cli_trace_end(cli, trace, code);
    cli_unload(&m);
    return code;
}

static const cli_group groups[] = {
    {"Flags", options, 0},
    {NULL, cli_policy_options, offsetof(struct perplexity_args, policies)},
    {NULL, cli_threads_options, offsetof(struct perplexity_args, session)},
    {NULL, cli_kernel_options, offsetof(struct perplexity_args, session)},
    {NULL, cli_trace_options, offsetof(struct perplexity_args, trace)},
    {NULL, cli_common_options, 0},
    {0}};

static const char *const examples[] = {
    "junto perplexity model.gguf -f text.txt --ctx 512",
    "how well the model foresees a text, in windows of 512 tokens", NULL};

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
