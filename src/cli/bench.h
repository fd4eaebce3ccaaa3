/* The parts of `junto bench`: measuring and reporting. */
#ifndef JUNTO_CLI_BENCH_H
#define JUNTO_CLI_BENCH_H

#include "common.h"

struct bench_args {
    cli_common common;
    const char *model;
    int prompt, gen, repeat, depth, parallel;
    cli_ints threads;
    int64_t seed;
    uint64_t stream;
    bool json;
    jt_session_options session;
    cli_policies policies;
};

/* Tokens per second of the rounds, and where the time went. In a memory budget the
 * limit is the speed of the disk, and what a round should have taken the longer of
 * reading what was missing and of computing. */
struct bench_phase {
    double *rates;  /* [repeat], sorted */
    double *limits; /* [repeat], sorted: what the machine did around each round */
    double *shares; /* [repeat], sorted: of its limit that each round reached */
    double seconds;
    double computing;     /* seconds of it, with --ram */
    jt_store_stats store; /* what it did meanwhile: counters and seconds only */
    double stages[JT_STAGE_COUNT]; /* seconds, all rounds together */
};

/* Everything measured with one number of threads. */
struct bench_run {
    int threads;
    char cpu[16];
    struct bench_phase prefill, decode;
    double bytes_per_token;  /* that decoding must read */
    bool int8;               /* whether products are those of bytes */
    double token_operations; /* of a prompt token: weights, without attention */
    uint64_t kv_bytes, peak_bytes;
};

/* `threads` 0: all. Free with bench_run_free, also after a failure. */
jt_status bench_measure(cli_context *cli, const struct bench_args *args,
                        const cli_model *m, int threads, uint64_t seed,
                        struct bench_run *run, jt_err *err);
void bench_run_free(struct bench_run *run);

/* With --ram: the disk's speed as the session reads; and, after a round that took so
 * many seconds of stages and from what the store had done before it, seconds that it
 * should have taken: the longer of reading and of computing. */
jt_status bench_store_disk(double *speed, const char *path, const jt_session *session,
                           jt_err *err);
double bench_store_bound(struct bench_phase *phase, const jt_session *session,
                         const jt_store_stats *before, double disk);
void bench_store_print(const struct bench_phase *phase, int tokens, int repeat);
json_t *bench_store_json(const struct bench_phase *phase, int tokens, int repeat);

/* Median of sorted values. */
double bench_median(const double *values, int count);

void bench_print_table(const struct bench_args *args, const cli_model *m,
                       const struct bench_run *runs, size_t count);
int bench_print_json(cli_context *cli, const struct bench_args *args,
                     const cli_model *m, uint64_t seed, const struct bench_run *runs,
                     size_t count);

#endif
