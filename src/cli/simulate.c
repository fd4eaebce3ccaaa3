#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "verbs.h"

struct simulate_args {
    cli_common common;
    const char *trace, *model;
    uint64_t ram;
    cli_ints slots, share;
    cli_list policy;
    int chunk;
    bool json;
};

static const cli_option operands[] = {
    {.flags = "TRACE",
     .kind = CLI_PATH,
     .required = true,
     .offset = offsetof(struct simulate_args, trace),
     .help = "what --trace of run or perplexity wrote"},
    {0}};

static const cli_option options[] = {
    {.flags = "--share",
     .kind = CLI_INTS,
     .value = "P,...",
     .offset = offsetof(struct simulate_args, share),
     .min = 1,
     .max = 100,
     .help = "sizes of the cache, in percent of all experts (default: 25,50,75)"},
    {.flags = "--slots",
     .kind = CLI_INTS,
     .value = "N,...",
     .offset = offsetof(struct simulate_args, slots),
     .min = 1,
     .max = 1 << 24,
     .help = "sizes of the cache, in experts"},
    {.flags = "--ram",
     .kind = CLI_MEMORY,
     .value = "SIZE",
     .offset = offsetof(struct simulate_args, ram),
     .help = "the size that the cache has in a run of --model with this budget"},
    {.flags = "-m --model",
     .kind = CLI_PATH,
     .is_model = true,
     .value = "MODEL",
     .offset = offsetof(struct simulate_args, model),
     .help = "with --ram: the model of the trace"},
    {.flags = "--policy",
     .kind = CLI_LIST,
     .value = "NAME",
     .offset = offsetof(struct simulate_args, policy),
     .help = "only this policy; may be given several times (default: all)"},
    {.flags = "-b --chunk",
     .kind = CLI_INT,
     .value = "N",
     .initial = "1",
     .offset = offsetof(struct simulate_args, chunk),
     .min = 1,
     .max = 1 << 16,
     .help = "tokens per pass: 1 as in decoding, more as in a prompt"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct simulate_args, json),
     .help = "one JSON object instead of a table"},
    {0}};

/* The sizes to play with. */
typedef struct sizes {
    int slots[64];
    int count;
} sizes;

static void add_size(sizes *s, int slots)
{
    if (s->count < (int)(sizeof s->slots / sizeof *s->slots))
        s->slots[s->count++] = slots > 0 ? slots : 1;
}

/* Slots of a run with a budget. */
static jt_status slots_of_budget(int *slots, const struct simulate_args *args,
                                 const jt_trace *trace, jt_err *err)
{
    jt_model *model;
    jt_session *session;
    jt_store_stats stats = {0};
    jt_session_options with_ram = {.store = {.ram = args->ram}};
    JT_TRY(jt_model_load_apart(&model, args->model, err));
    jt_status status = jt_trace_check_model(trace, model, err);
    if (status == JT_OK)
        status = jt_session_new(&session, model, &with_ram, err);
    if (status == JT_OK) {
        jt_session_store_stats(session, &stats);
        *slots = stats.budget.slots;
        jt_session_free(session);
    }
    jt_model_free(model);
    return status;
}

static jt_status choose_sizes(sizes *s, const struct simulate_args *args,
                              const jt_trace *trace, int experts, jt_err *err)
{
    static const int usual[] = {25, 50, 75};
    for (size_t i = 0; i < args->slots.count; i++)
        add_size(s, args->slots.items[i]);
    for (size_t i = 0; i < args->share.count; i++)
        add_size(s, experts * args->share.items[i] / 100);
    if (args->ram) {
        int slots = 0;
        JT_TRY(slots_of_budget(&slots, args, trace, err));
        add_size(s, slots);
    }
    bool none = s->count == 0;
    for (size_t i = 0; none && i < sizeof usual / sizeof *usual; i++)
        add_size(s, experts * usual[i] / 100);
    return JT_OK;
}

static bool wanted(const cli_list *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++) {
        if (!strcmp(list->items[i], name))
            return true;
    }
    return !list->count;
}

static jt_status check_policies(const cli_list *list, jt_err *err)
{
    for (size_t i = 0; i < list->count; i++) {
        const char *name;
        size_t p = 0;
        while ((name = jt_cache_policy_name(p)) && strcmp(name, list->items[i]) != 0)
            p++;
        if (!name)
            return jt_fail(err, JT_E_ARG, "--policy: no cache policy '%s'",
                           list->items[i]);
    }
    return JT_OK;
}

static double hit_rate(const jt_simulated *r)
{
    return r->uses ? 1.0 - (double)r->misses / (double)r->uses : 0.0;
}

/* ---- output ---- */

static void print_head(const sizes *s, int experts)
{
    printf("%-8s", "policy");
    for (int i = 0; i < s->count; i++) {
        char text[32];
        snprintf(text, sizeof text, "%d (%.0f%%)", s->slots[i],
                 100.0 * s->slots[i] / experts);
        printf(" %14s", text);
    }
    printf("   hits of what is asked for, at so many of %d experts\n", experts);
}

/* Play every policy at every size; a row of a table, or an entry of `rows`, each. */
static jt_status play_all(cli_context *cli, const struct simulate_args *args,
                          jt_trace *trace, const sizes *s, json_t *rows, jt_err *err)
{
    const char *name;
    for (size_t p = 0; (name = jt_cache_policy_name(p)); p++) {
        if (!wanted(&args->policy, name))
            continue;
        if (!rows)
            printf("%-8s", name);
        for (int i = 0; i < s->count; i++) {
            jt_simulated r;
            jt_simulate_options o = {
                .policy = name, .slots = s->slots[i], .chunk = args->chunk};
            jt_progress progress = cli_progress(cli);
            JT_TRY(jt_progress_report(&progress, name, (unsigned)i, (unsigned)s->count,
                                      err));
            JT_TRY(jt_simulate(trace, &o, &r, err));
            cli_progress_clear(cli);
            if (rows)
                json_array_append_new(
                    rows, json_pack("{s:s, s:i, s:I, s:I, s:I, s:f}", "policy", name,
                                    "slots", s->slots[i], "uses", (json_int_t)r.uses,
                                    "misses", (json_int_t)r.misses, "first",
                                    (json_int_t)r.first, "hit_rate", hit_rate(&r)));
            else
                printf(" %13.2f%%", 100.0 * hit_rate(&r));
        }
        if (!rows)
            printf("   %s\n", jt_cache_policy_help(p));
    }
    return JT_OK;
}

static int report(cli_context *cli, const struct simulate_args *args, jt_trace *trace)
{
    jt_err err = {0};
    jt_trace_info info;
    sizes s = {0};
    int experts = 0;
    jt_trace_describe(trace, &info);
    for (int l = 0; l < info.n_layers; l++)
        experts += info.layers[l].n_experts;
    if (check_policies(&args->policy, &err) != JT_OK ||
        choose_sizes(&s, args, trace, experts, &err) != JT_OK)
        return cli_fail(cli, &err);
    json_t *rows = args->json ? json_array() : NULL;
    if (!rows)
        print_head(&s, experts);
    if (play_all(cli, args, trace, &s, rows, &err) != JT_OK) {
        json_decref(rows);
        return cli_fail(cli, &err);
    }
    if (!rows)
        return CLI_DONE;
    return cli_print_json(cli,
                          json_pack("{s:o, s:I, s:i, s:i, s:o}", "trace",
                                    cli_json_text(args->trace, strlen(args->trace)),
                                    "tokens", (json_int_t)info.tokens, "experts",
                                    experts, "chunk", args->chunk, "results", rows));
}

static int run(cli_context *cli, const void *raw)
{
    const struct simulate_args *args = raw;
    if (!args->ram != !args->model)
        return cli_usage(cli, "--ram and --model go together");
    cli_interrupt_catch();
    jt_err err = {0};
    jt_trace *trace;
    if (jt_trace_open(&trace, args->trace, &err) != JT_OK)
        return cli_fail(cli, &err);
    int code = report(cli, args, trace);
    jt_trace_close(trace);
    return code;
}

static const cli_group groups[] = {
    {"Flags", options, 0}, {NULL, cli_common_options, 0}, {0}};

static const char *const examples[] = {
    "junto simulate story.trace",
    "how often each policy would have had what was asked for",
    "junto simulate story.trace --ram 4G -m model.gguf",
    "the same for the cache of a run with 4 GiB", NULL};

const cli_verb cli_verb_simulate = {
    .name = "simulate",
    .section = "Measure",
    .summary = "play a trace back through caches of experts",
    .details =
        "Rows are policies, columns sizes of the cache. belady knows the future: "
        "no policy can do better. pin knows how often each expert was used in "
        "all. The other policies are those of run --cache-policy, and miss here "
        "as often as there.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct simulate_args),
    .run = run,
};
