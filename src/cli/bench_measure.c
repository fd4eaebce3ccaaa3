#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench.h"

enum { LIMIT_ROUNDS = 2 }; /* of a measurement of the machine */

/* SplitMix64 of a counter: token i is the same whatever was drawn before. */
static int32_t random_token(uint64_t seed, uint64_t i, int n_vocab)
{
    uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (int32_t)(z % (uint64_t)n_vocab);
}

/* What came before the rounds must not count as the model's: start the record of the
 * peak again. Linux only; elsewhere the peak includes it. */
static void forget_peak(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t written = write(fd, "5", 1);
    (void)written;
    close(fd);
}

static uint64_t peak_bytes(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_maxrss * 1024;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(const double *values, int count)
{
    const double *middle = values + count / 2;
    return count % 2 ? *middle : (middle[-1] + *middle) / 2;
}

/* The sequences of a run. The first has the threads. */
struct sequences {
    jt_session **session; /* [count] */
    jt_steering **hand;   /* [count], NULL without --policy */
    int32_t *tokens;      /* [count, length] */
    jt_part *part;        /* [count] of the next call */
    size_t count, length;
};

static void add_stages(struct bench_phase *phase, const struct sequences *q)
{
    const double *times = jt_session_times(q->session[0]);
    for (int s = 0; s < JT_STAGE_COUNT; s++)
        phase->stages[s] += times[s];
    jt_session_reset_times(q->session[0]);
}

static int stop_when_interrupted(void *user, const char *what, unsigned long long done,
                                 unsigned long long total)
{
    (void)user, (void)what, (void)done, (void)total;
    return cli_interrupted();
}

/* Tokens first .. first + count of every sequence, in one call (prefill) or one by one
 * (decode). */
static jt_status time_tokens(const struct sequences *q, int first, int count,
                             bool one_by_one, double *seconds, jt_err *err)
{
    int step = one_by_one ? 1 : count;
    jt_progress progress = {stop_when_interrupted, NULL};
    double start = cli_seconds();
    for (int i = first; i < first + count; i += step) {
        for (size_t s = 0; s < q->count; s++)
            q->part[s] =
                (jt_part){q->session[s], q->tokens + s * q->length + i, (size_t)step};
        JT_TRY(jt_session_eval_together(q->part, q->count, &progress, err));
    }
    *seconds = cli_seconds() - start;
    return JT_OK;
}

/* Back to the context before a round. A cache that goes forward only is filled again by
 * the next token, which is not measured. */
static jt_status rewind_to(const struct sequences *q, int depth, jt_err *err)
{
    double ignored;
    int kept = depth ? depth - 1 : 0;
    bool fresh = jt_session_length(q->session[0]) < depth;
    for (size_t s = 0; s < q->count; s++)
        jt_session_truncate(q->session[s], fresh ? 0 : kept);
    if (depth)
        JT_TRY(
            time_tokens(q, fresh ? 0 : kept, fresh ? depth : 1, false, &ignored, err));
    jt_session_reset_times(q->session[0]);
    return JT_OK;
}

/* What the machine does at most of what a phase needs most: reading memory or, with
 * --ram, the disk; or multiplying. */
static jt_status measure_limit(double *limit, const struct sequences *q, bool decodes,
                               const struct bench_run *run, const char *model,
                               jt_roofline *machine, jt_err *err)
{
    if (!machine)
        return bench_store_disk(limit, model, q->session[0], err);
    *limit = decodes ? jt_roofline_bandwidth(machine, LIMIT_ROUNDS)
                     : jt_roofline_peak(machine, run->int8, LIMIT_ROUNDS);
    return JT_OK;
}

/* Time one phase of a round, and measure the machine before and after: the better
 * counts, as other work only takes away. `machine` is NULL with --ram. */
static jt_status measure_phase(const struct bench_args *args, const struct sequences *q,
                               bool decodes, int round, struct bench_run *run,
                               jt_roofline *machine, jt_err *err)
{
    struct bench_phase *phase = decodes ? &run->decode : &run->prefill;
    int count = decodes ? args->gen : args->prompt;
    double before, after, seconds = 0;
    jt_store_stats store = {0};
    jt_session_store_stats(q->session[0], &store);
    JT_TRY(measure_limit(&before, q, decodes, run, args->model, machine, err));
    JT_TRY(time_tokens(q, args->depth + (decodes ? args->prompt : 0), count, decodes,
                       &seconds, err));
    JT_TRY(measure_limit(&after, q, decodes, run, args->model, machine, err));
    double limit = before > after ? before : after;
    double rate = (double)q->count * count / seconds;
    double work = decodes ? run->bytes_per_token : run->token_operations;
    phase->rates[round] = rate;
    phase->limits[round] = limit;
    phase->shares[round] =
        machine ? rate / limit * work
                : bench_store_bound(phase, q->session[0], &store, limit) / seconds;
    phase->seconds += seconds;
    add_stages(phase, q);
    return JT_OK;
}

static jt_status measure_round(const struct bench_args *args, const struct sequences *q,
                               int round, struct bench_run *run, jt_roofline *machine,
                               jt_err *err)
{
    JT_TRY(rewind_to(q, args->depth, err));
    if (args->prompt)
        JT_TRY(measure_phase(args, q, false, round, run, machine, err));
    if (args->gen)
        JT_TRY(measure_phase(args, q, true, round, run, machine, err));
    return JT_OK;
}

static bool make_phase(struct bench_phase *phase, int repeat)
{
    phase->rates = calloc((size_t)repeat, 3 * sizeof(double));
    if (!phase->rates)
        return false;
    phase->limits = phase->rates + repeat;
    phase->shares = phase->limits + repeat;
    return true;
}

/* The first round brought the weights into memory: its figures do not count. */
static void forget_round(struct bench_phase *phase)
{
    phase->seconds = phase->computing = 0;
    phase->store = (jt_store_stats){0};
    memset(phase->stages, 0, sizeof phase->stages);
}

static jt_status measure_rounds(cli_context *cli, const struct bench_args *args,
                                const struct sequences *q, struct bench_run *run,
                                jt_roofline *machine, jt_err *err)
{
    jt_progress progress = cli_progress(cli);
    unsigned long long rounds = (unsigned long long)args->repeat + 1;
    jt_status status = measure_round(args, q, 0, run, machine, err);
    forget_round(&run->prefill);
    forget_round(&run->decode);
    for (int r = 0; r < args->repeat && status == JT_OK; r++) {
        status = jt_progress_report(&progress, "bench", (unsigned long long)r + 1,
                                    rounds, err);
        if (status == JT_OK)
            status = measure_round(args, q, r, run, machine, err);
    }
    cli_progress_clear(cli);
    return status;
}

static void free_sequences(struct sequences *q)
{
    for (size_t s = q->count; q->session && s-- > 0;)
        jt_session_free(q->session[s]);
    for (size_t s = 0; q->hand && s < q->count; s++)
        jt_steering_free(q->hand[s]);
    free(q->session);
    free(q->hand);
    free(q->tokens);
    free(q->part);
}

static jt_status open_sequences(struct sequences *q, const struct bench_args *args,
                                const cli_model *m, int threads, uint64_t seed,
                                jt_err *err)
{
    jt_session_options options = args->session;
    *q = (struct sequences){.count = (size_t)args->parallel,
                            .length = (size_t)(args->depth + args->prompt + args->gen)};
    q->session = calloc(q->count, sizeof *q->session);
    q->hand = calloc(q->count, sizeof *q->hand);
    q->tokens = calloc(q->count * q->length, sizeof *q->tokens);
    q->part = calloc(q->count, sizeof *q->part);
    if (!q->session || !q->hand || !q->tokens || !q->part)
        return jt_fail(err, JT_E_MEMORY, "out of memory for the sequences");
    for (size_t i = 0; i < q->count * q->length; i++)
        q->tokens[i] = random_token(seed, i, m->info.n_vocab);
    options.n_ctx = (int)q->length;
    options.threads = threads;
    for (size_t s = 0; s < q->count; s++) {
        options.beside = s ? q->session[0] : NULL;
        JT_TRY(cli_new_session(&q->session[s], m, &options,
                               "--depth, --prompt and --gen together", err));
        JT_TRY(cli_steer(&q->hand[s], &args->policies, m, q->session[s], err));
    }
    return JT_OK;
}

static void sort_phase(struct bench_phase *phase, int repeat)
{
    for (int i = 0; i < 3; i++)
        qsort(phase->rates + i * repeat, (size_t)repeat, sizeof(double),
              compare_doubles);
}

/* Quantised weights are multiplied as bytes, others as floats. */
static bool mostly_quantised(const jt_model_info *info)
{
    uint64_t bytes[2] = {0, 0};
    for (int type = 0; type < JT_DTYPE_COUNT; type++)
        bytes[jt_dtype_block_values((jt_dtype)type) > 1] += info->dtype_bytes[type];
    return bytes[1] > bytes[0];
}

static void describe(const struct bench_args *args, const cli_model *m,
                     const struct sequences *q, struct bench_run *run)
{
    double context = args->depth + args->prompt + args->gen / 2.0; /* on average */
    run->threads = jt_session_threads(q->session[0]);
    snprintf(run->cpu, sizeof run->cpu, "%s", jt_session_cpu(q->session[0]));
    run->kv_bytes = q->count * jt_session_kv_bytes(q->session[0]);
    /* the head works on the last token of a prompt only */
    run->token_operations = 2.0 * ((double)m->info.n_active_params -
                                   (double)m->info.n_vocab * m->info.d_model);
    run->int8 = mostly_quantised(&m->info);
    run->bytes_per_token = (double)m->info.active_bytes + (double)run->kv_bytes /
                                                              args->parallel * context /
                                                              (double)q->length;
}

static jt_status measure(cli_context *cli, const struct bench_args *args,
                         const struct sequences *q, struct bench_run *run, jt_err *err)
{
    bool stored = args->session.store.ram > 0; /* its memory has no room to stream */
    jt_roofline *machine = NULL;
    if (!make_phase(&run->prefill, args->repeat) ||
        !make_phase(&run->decode, args->repeat))
        return jt_fail(err, JT_E_MEMORY, "out of memory for the rounds");
    if (!stored)
        JT_TRY(jt_roofline_new(&machine, run->threads, (size_t)args->stream, run->cpu,
                               err));
    forget_peak();
    jt_status status = measure_rounds(cli, args, q, run, machine, err);
    uint64_t peak = peak_bytes(), streamed = stored ? 0 : args->stream;
    run->peak_bytes = peak > streamed ? peak - streamed : 0;
    jt_roofline_free(machine);
    sort_phase(&run->prefill, args->repeat);
    sort_phase(&run->decode, args->repeat);
    return status;
}

jt_status bench_measure(cli_context *cli, const struct bench_args *args,
                        const cli_model *m, int threads, uint64_t seed,
                        struct bench_run *run, jt_err *err)
{
    struct sequences q;
    jt_status status = open_sequences(&q, args, m, threads, seed, err);
    if (status == JT_OK) {
        describe(args, m, &q, run);
        status = measure(cli, args, &q, run, err);
    }
    free_sequences(&q);
    return status;
}

void bench_run_free(struct bench_run *run)
{
    free(run->prefill.rates);
    free(run->decode.rates);
}
