/* --ram and what belongs to it, for verbs that run a model. */
#include "common.h"

#define FIELD(name) offsetof(jt_store_options, name)

const cli_option cli_store_options[] = {
    {.flags = "--ram",
     .kind = CLI_MEMORY,
     .value = "SIZE",
     .offset = FIELD(ram),
     .help = "memory to use in all, as 4G or 75% of what there is: experts that do not "
             "fit are read from the file when they are asked for (default: the file is "
             "mapped)"},
    {.flags = "--cache-policy",
     .kind = CLI_CHOICE,
     .value = "lru|lfu|lfru|score|learned",
     .offset = FIELD(policy),
     .help = "with --ram: which expert leaves (default: learned)"},
    {.flags = "--prefetch",
     .kind = CLI_CHOICE,
     .value = "auto|router|paths|off",
     .offset = FIELD(prefetch),
     .help = "with --ram: read ahead what the next layer may ask for, guessed by its "
             "router or from the paths of tokens (default: auto, while it pays)"},
    {.flags = "--bits",
     .kind = CLI_STRING,
     .value = "N[-M]",
     .offset = FIELD(bits),
     .help = "of a file with nested experts ('junto quantize --nested'): how many bits "
             "of them to read; 2-4: two at first, up to four for those that are used "
             "again (default: all)"},
    {0}};

const cli_option cli_store_read_options[] = {
    {.flags = "--no-checks",
     .kind = CLI_FLAG,
     .offset = FIELD(no_checks),
     .help = "of a file with checksums ('junto convert --layout experts'): do not "
             "compare them as experts come"},
    {.flags = "--io",
     .kind = CLI_CHOICE,
     .value = "direct|buffered",
     .offset = FIELD(io),
     .help = "with --ram: read past the page cache or through it (default: the faster, "
             "measured)"},
    {.flags = "--io-engine",
     .kind = CLI_CHOICE,
     .value = "uring|pread",
     .offset = FIELD(engine),
     .help = "with --ram: io_uring, or threads (default: the first that the system "
             "allows)"},
    {0}};

jt_status cli_store_pin(jt_store_options *store, double **uses, const char *trace,
                        jt_err *err)
{
    jt_trace *opened;
    *uses = NULL;
    if (!trace)
        return JT_OK;
    if (!store->ram)
        return jt_fail(err, JT_E_ARG, "--cache-trace does nothing without --ram");
    if (store->policy)
        return jt_fail(err, JT_E_ARG,
                       "--cache-trace is a policy of its own: leave "
                       "--cache-policy out");
    JT_TRY(jt_trace_open(&opened, trace, err));
    jt_status status = jt_trace_uses(opened, uses, &store->n_uses, err);
    jt_trace_close(opened);
    store->uses = *uses;
    store->policy = "pin";
    return status;
}

static double share(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0.0;
}

/* Milliseconds per token. */
static double per_token(double seconds, uint64_t tokens)
{
    return tokens ? 1e3 * seconds / (double)tokens : 0.0;
}

void cli_store_note(cli_context *cli, const jt_session *session)
{
    jt_store_stats s;
    if (!jt_session_store_stats(session, &s))
        return;
    uint64_t asked = s.hits + s.hits_ahead + s.misses;
    cli_note(cli,
             "store %d of %d experts in memory; %s, %s %s at %s/s; hits %.1f%% and "
             "%.1f%% ahead of need; read %s, stalled %.1f ms per token; prefetch %s, "
             "%.0f%% of %llu guesses right",
             s.budget.slots, s.budget.experts, s.policy, s.engine,
             s.direct ? "direct" : "buffered", cli_show_bytes(s.disk_speed).text,
             share(s.hits, asked), share(s.hits_ahead, asked),
             cli_show_bytes((double)s.read_bytes).text,
             per_token(s.stall_seconds, s.tokens), s.prefetch,
             share(s.right_guesses, s.guesses), (unsigned long long)s.guesses);
    if (s.bits_high)
        cli_note(cli, "experts worked with %.2f bits on average, of %d to %d", s.bits,
                 s.bits_low, s.bits_high);
    jt_costs costs;
    jt_session_costs(session, &costs);
    cli_note(cli,
             "speed of all tokens: predicted %.1f ms per token, limited by the %s; "
             "measured %.1f ms",
             1e3 * jt_costs_seconds(&costs), jt_costs_limit(&costs),
             1e3 * costs.measured);
}

json_t *cli_budget_json(const jt_store_budget *b)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:i}", "ram",
                     (json_int_t)b->ram, "process", (json_int_t)b->process, "context",
                     (json_int_t)b->context, "scratch", (json_int_t)b->scratch,
                     "reserve", (json_int_t)b->reserve, "slot", (json_int_t)b->slot,
                     "least", (json_int_t)b->least, "slots", b->slots, "experts",
                     b->experts);
}

json_t *cli_store_stats_json(const jt_store_stats *s)
{
    return json_pack(
        "{s:o, s:s, s:s, s:s, s:s, s:f, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:I, "
        "s:I, s:f}",
        "budget", cli_budget_json(&s->budget), "policy", s->policy, "io",
        s->direct ? "direct" : "buffered", "engine", s->engine, "prefetch", s->prefetch,
        "disk_speed", s->disk_speed, "tokens", (json_int_t)s->tokens, "hits",
        (json_int_t)s->hits, "hits_ahead", (json_int_t)s->hits_ahead, "misses",
        (json_int_t)s->misses, "read_bytes", (json_int_t)s->read_bytes, "stall_seconds",
        s->stall_seconds, "guesses", (json_int_t)s->guesses, "right_guesses",
        (json_int_t)s->right_guesses, "ahead", (json_int_t)s->ahead, "ahead_used",
        (json_int_t)s->ahead_used, "bits", s->bits);
}

json_t *cli_store_json(const jt_session *session)
{
    jt_store_stats s;
    jt_costs costs;
    if (!jt_session_store_stats(session, &s))
        return NULL;
    jt_session_costs(session, &costs);
    json_t *json = cli_store_stats_json(&s);
    json_object_set_new(json, "predicted_seconds_per_token",
                        json_real(jt_costs_seconds(&costs)));
    json_object_set_new(json, "measured_seconds_per_token", json_real(costs.measured));
    return json;
}
