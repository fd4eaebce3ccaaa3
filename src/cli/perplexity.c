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
    cli_list adapters;
    cli_trace_flags trace;
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

static int report(cli_context *cli, const struct perplexity_args *args,
                  const jt_perplexity *p)
{
    if (args->json) {
        json_t *json = json_pack(
            "{s:o, s:o, s:i, s:I, s:I, s:I, s:o, s:o, s:o, s:f}", "model",
            cli_json_text(args->model, strlen(args->model)), "file",
            cli_json_text(args->file, strlen(args->file)), "n_ctx", args->n_ctx,
            "tokens", (json_int_t)p->tokens, "scored", (json_int_t)p->scored, "windows",
            (json_int_t)p->windows, "nll", cli_json_number(p->nll), "perplexity",
            cli_json_number(p->perplexity), "error", cli_json_number(p->error),
            "seconds", p->seconds);
        return cli_print_json(cli, json);
    }
    printf("perplexity  %.4f +- %.4f\n", p->perplexity, p->error);
    printf("nll         %.5f nats per token\n", p->nll);
    printf("scored      %zu of %zu tokens, in %zu windows of %d\n", p->scored,
           p->tokens, p->windows, args->n_ctx);
    cli_note(cli, "%.1f s, %.1f tokens/s", p->seconds,
             p->seconds > 0 ? (double)p->tokens / p->seconds : 0.0);
    return CLI_DONE;
}

static jt_status measure(cli_context *cli, const struct perplexity_args *args,
                         cli_model *m, jt_trace_writer **trace,
                         jt_perplexity *result, jt_err *err)
{
    char *text;
    size_t len;
    JT_TRY(cli_read_text(&text, &len, args->file, err));
    jt_tokens tokens = {0};
    jt_session *session = NULL;
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
        status = cli_add_adapters(m, session, &args->adapters, err);
    if (status == JT_OK)
        status = cli_trace_begin(trace, &args->trace, m, session, err);
    if (status == JT_OK && *trace)
        status = jt_trace_label(*trace, args->file, err);
    if (status == JT_OK)
        status = jt_measure_perplexity(session, tokens.ids, tokens.count, args->n_ctx,
                                       cli_progress(cli), result, err);
    jt_session_free(session);
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
    jt_perplexity result;
    jt_trace_writer *trace = NULL;
    jt_status status = measure(cli, args, &m, &trace, &result, &err);
    int code = status == JT_OK ? report(cli, args, &result) : cli_fail(cli, &err);
    code = cli_trace_end(cli, trace, code);
    cli_unload(&m);
    return code;
}

static const cli_group groups[] = {
    {"Flags", options, 0},
    {NULL, cli_threads_options, offsetof(struct perplexity_args, session)},
    {NULL, cli_kernel_options, offsetof(struct perplexity_args, session)},
    {NULL, cli_trace_options, offsetof(struct perplexity_args, trace)},
    {NULL, cli_adapter_options, offsetof(struct perplexity_args, adapters)},
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
