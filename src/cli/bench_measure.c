#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench.h"

enum { STREAM_ROUNDS = 5 };

/* SplitMix64 of a counter: token i is the same whatever was drawn before. */
static int32_t random_token(uint64_t seed, uint64_t i, int n_vocab)
{
    uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (int32_t)(z % (uint64_t)n_vocab);
}

/* Measuring the bandwidth takes memory of its own, which must not count as the model's:
 * start the record of the peak again. Linux only; elsewhere the peak includes it. */
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

double bench_median(const struct bench_phase *phase, int repeat)
{
    const double *middle = phase->rates + repeat / 2;
    return repeat % 2 ? *middle : (middle[-1] + *middle) / 2;
}

static void add_stages(struct bench_phase *phase, jt_session *session)
{
    const double *times = jt_session_times(session);
    for (int s = 0; s < JT_STAGE_COUNT; s++)
        phase->stages[s] += times[s];
    jt_session_reset_times(session);
}

static int stop_when_interrupted(void *user, const char *what, unsigned long long done,
                                 unsigned long long total)
{
    (void)user, (void)what, (void)done, (void)total;
    return cli_interrupted();
}

/* Evaluate tokens in one call (prefill) or one by one (decode). */
static jt_status time_tokens(jt_session *session, const int32_t *tokens, int count,
                             bool one_by_one, double *seconds, jt_err *err)
{
    int step = one_by_one ? 1 : count;
    jt_eval_options options = {.progress = {stop_when_interrupted, NULL}};
    double start = cli_seconds();
    for (int i = 0; i < count; i += step) {
        JT_TRY(jt_session_eval(session, tokens + i, (size_t)step, &options, err));
    }
    *seconds = cli_seconds() - start;
    return JT_OK;
}

static jt_status measure_round(const struct bench_args *args, jt_session *session,
                               const int32_t *tokens, int round, struct bench_run *run,
                               jt_err *err)
{
    double seconds = 0;
    jt_session_truncate(session, 0);
    jt_session_reset_times(session);
    if (args->prompt) {
        JT_TRY(time_tokens(session, tokens, args->prompt, false, &seconds, err));
        run->prefill.rates[round] = args->prompt / seconds;
        run->prefill.seconds += seconds;
        add_stages(&run->prefill, session);
    }
    if (args->gen) {
        JT_TRY(time_tokens(session, tokens + args->prompt, args->gen, true, &seconds,
                           err));
        run->decode.rates[round] = args->gen / seconds;
        run->decode.seconds += seconds;
        add_stages(&run->decode, session);
    }
    return JT_OK;
}

/* Keep the better of two measurements: other work on the machine only takes away. */
static jt_status measure_bandwidth(const struct bench_args *args, struct bench_run *run,
                                   jt_err *err)
{
    double bandwidth;
    JT_TRY(jt_measure_bandwidth(&bandwidth, run->threads, (size_t)args->stream,
                                STREAM_ROUNDS, err));
    if (bandwidth > run->bandwidth)
        run->bandwidth = bandwidth;
    return JT_OK;
}

static jt_status measure_session(cli_context *cli, const struct bench_args *args,
                                 const cli_model *m, jt_session *session, uint64_t seed,
                                 struct bench_run *run, jt_err *err)
{
    int count = args->prompt + args->gen;
    int32_t *tokens = malloc((size_t)count * sizeof *tokens);
    run->prefill.rates = calloc((size_t)args->repeat, sizeof(double));
    run->decode.rates = calloc((size_t)args->repeat, sizeof(double));
    if (!tokens || !run->prefill.rates || !run->decode.rates) {
        free(tokens);
        return jt_fail(err, JT_E_MEMORY, "out of memory for the rounds");
    }
    for (int i = 0; i < count; i++)
        tokens[i] = random_token(seed, (uint64_t)i, m->info.n_vocab);
    jt_progress progress = cli_progress(cli);
    unsigned long long rounds = (unsigned long long)args->repeat + 1;
    jt_status status = measure_round(args, session, tokens, 0, run, err);
    /* The first round brought the weights into memory; forget its figures. */
    run->prefill = (struct bench_phase){.rates = run->prefill.rates};
    run->decode = (struct bench_phase){.rates = run->decode.rates};
    for (int r = 0; r < args->repeat && status == JT_OK; r++) {
        status = jt_progress_report(&progress, "bench", (unsigned long long)r + 1,
                                    rounds, err);
        if (status == JT_OK)
            status = measure_round(args, session, tokens, r, run, err);
    }
    free(tokens);
    cli_progress_clear(cli);
    return status;
}

jt_status bench_measure(cli_context *cli, const struct bench_args *args,
                        const cli_model *m, int threads, uint64_t seed,
                        struct bench_run *run, jt_err *err)
{
    jt_session_options options = args->session;
    options.n_ctx = args->prompt + args->gen;
    options.threads = threads;
    jt_session *session;
    JT_TRY(cli_new_session(&session, m, &options, "--prompt and --gen together", err));
    run->threads = jt_session_threads(session);
    snprintf(run->cpu, sizeof run->cpu, "%s", jt_session_cpu(session));
    run->kv_bytes = jt_session_kv_bytes(session);
    jt_steering *steering = NULL;
    jt_status status = cli_steer(&steering, &args->policies, m, session, err);
    if (status == JT_OK)
        status = measure_bandwidth(args, run, err);
    forget_peak();
    if (status == JT_OK)
        status = measure_session(cli, args, m, session, seed, run, err);
    run->peak_bytes = peak_bytes();
    jt_session_free(session);
    jt_steering_free(steering);
    if (status != JT_OK)
        return status;
    JT_TRY(measure_bandwidth(args, run, err));
    qsort(run->prefill.rates, (size_t)args->repeat, sizeof(double), compare_doubles);
    qsort(run->decode.rates, (size_t)args->repeat, sizeof(double), compare_doubles);
    double context = args->prompt + args->gen / 2.0; /* on average */
    run->bytes_per_token =
        (double)m->info.active_bytes + (double)run->kv_bytes * context / options.n_ctx;
    run->roofline_share = bench_median(&run->decode, args->repeat) *
                          run->bytes_per_token / run->bandwidth;
    return JT_OK;
}

void bench_run_free(struct bench_run *run)
{
    free(run->prefill.rates);
    free(run->decode.rates);
}
