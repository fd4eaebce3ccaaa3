#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "verbs.h"

struct plan_args {
    cli_common common;
    const char *model, *trace;
    bool json;
    jt_session_options session;
};

static const cli_option operands[] = {CLI_MODEL_OPERAND(struct plan_args), {0}};

static const cli_option options[] = {
    {.flags = "--trace",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = offsetof(struct plan_args, trace),
     .help = "what a run of this model asked for (default: routing is taken for even, "
             "the worst case)"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct plan_args, json),
     .help = "one JSON object instead of text"},
    {0}};

static void print_plan(const jt_forecast *f, const jt_store_stats *s)
{
    const jt_store_budget *b = &s->budget;
    const jt_costs *c = &f->costs;
    printf("budget     %s: weights and process %s, context %s, scratch %s, reserve %s, "
           "experts %s\n",
           cli_show_bytes((double)b->ram).text, cli_show_bytes((double)b->process).text,
           cli_show_bytes((double)b->context).text,
           cli_show_bytes((double)b->scratch).text,
           cli_show_bytes((double)b->reserve).text,
           cli_show_bytes((double)b->slots * (double)b->slot).text);
    printf("smallest   %s\n", cli_show_bytes((double)b->least).text);
    printf("cache      %d of %d experts, %s: hits %.1f%%\n", b->slots, b->experts,
           s->policy, 100.0 * f->hit_rate);
    printf("disk       %s/s (%s, %s), %s per token: %.1f ms\n",
           cli_show_bytes(c->disk_speed).text, s->engine,
           s->direct ? "direct" : "buffered", cli_show_bytes(c->read_bytes).text,
           c->disk_speed > 0 ? 1e3 * c->read_bytes / c->disk_speed : 0.0);
    printf("guesses    read %.0f%% of what the cache lacks before it is asked for\n",
           100.0 * f->foreseen);
    printf(
        "processor  experts %.1f ms per token, asking for them %.1f ms, the rest %.1f "
        "ms\n",
        1e3 * c->experts, 1e3 * c->handling, 1e3 * c->rest);
    printf("predicted  %.2f tokens/s; the limit is the %s\n", 1.0 / f->seconds,
           jt_costs_limit(c));
}

static int print_json(cli_context *cli, const struct plan_args *args,
                      const jt_forecast *f, const jt_session *session)
{
    const jt_costs *c = &f->costs;
    return cli_print_json(
        cli,
        json_pack("{s:o, s:o, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:s}",
                  "model", cli_json_text(args->model, strlen(args->model)), "store",
                  cli_store_json(session), "hit_rate", f->hit_rate, "foreseen",
                  f->foreseen, "latency_seconds", c->latency, "handling_seconds",
                  c->handling, "expert_seconds", c->experts, "rest_seconds", c->rest,
                  "read_bytes", c->read_bytes, "disk_speed", c->disk_speed,
                  "tokens_per_second", 1.0 / f->seconds, "limit", jt_costs_limit(c)));
}

static int plan(cli_context *cli, const struct plan_args *args, const cli_model *m,
                jt_trace *trace)
{
    jt_err err = {0};
    jt_session *session;
    jt_forecast f;
    jt_store_stats stats;
    if (cli_new_session(&session, m, &args->session, "--ctx-size", &err) != JT_OK)
        return cli_fail(cli, &err);
    int code = CLI_DONE;
    jt_session_store_stats(session, &stats);
    if (jt_forecast_decoding(&f, session, trace, &err) != JT_OK)
        code = cli_fail(cli, &err);
    else if (args->json)
        code = print_json(cli, args, &f, session);
    else
        print_plan(&f, &stats);
    jt_session_free(session);
    return code;
}

static int run(cli_context *cli, const void *raw)
{
    const struct plan_args *args = raw;
    if (!args->session.store.ram)
        return cli_usage(cli, "give the memory to plan with (--ram)");
    cli_interrupt_catch();
    jt_err err = {0};
    jt_trace *trace = NULL;
    cli_model m;
    if (args->trace && jt_trace_open(&trace, args->trace, &err) != JT_OK)
        return cli_fail(cli, &err);
    int code =
        cli_load_stored(&m, args->model, false, &args->session.store, &err) == JT_OK
            ? plan(cli, args, &m, trace)
            : cli_fail(cli, &err);
    cli_unload(&m);
    jt_trace_close(trace);
    return code;
}

static const cli_group groups[] = {
    {"Flags", cli_store_options, offsetof(struct plan_args, session.store)},
    {NULL, cli_store_read_options, offsetof(struct plan_args, session.store)},
    {NULL, options, 0},
    {"Machine", cli_context_options, offsetof(struct plan_args, session)},
    {NULL, cli_threads_options, offsetof(struct plan_args, session)},
    {NULL, cli_kernel_options, offsetof(struct plan_args, session)},
    {NULL, cli_common_options, 0},
    {0}};

static const char *const examples[] = {
    "junto plan model.gguf --ram 8G",
    "how fast a run with 8 GiB will be at least, and what limits it",
    "junto plan model.gguf --ram 50% --trace story.trace -c 2048",
    "the same for texts like that of the trace", NULL};

const cli_verb cli_verb_plan = {
    .name = "plan",
    .section = "Measure",
    .summary = "foretell how fast a model larger than memory will run",
    .details = "Divides the budget as run --ram does, measures the disk and, with some "
               "tokens of no meaning, the processor, and plays the trace back through "
               "the cache. The prediction is for decoding: the time of everything but "
               "the experts, and the longer of computing and of reading those.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct plan_args),
    .run = run,
};
