#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "verbs.h"

static const cli_option operands[] = {CLI_MODEL_OPERAND(struct bench_args), {0}};

static const cli_option options[] = {
    {.flags = "-p --prompt --n-prompt",
     .kind = CLI_INT,
     .value = "N",
     .initial = "128",
     .offset = offsetof(struct bench_args, prompt),
     .min = 0,
     .max = 1 << 20,
     .help = "prompt tokens per round; 0 leaves the prompt out"},
    {.flags = "-n --gen --n-gen",
     .kind = CLI_INT,
     .value = "M",
     .initial = "64",
     .offset = offsetof(struct bench_args, gen),
     .min = 0,
     .max = 1 << 20,
     .help = "tokens decoded per round, one by one; 0 leaves decoding out"},
    {.flags = "-d --depth --n-depth",
     .kind = CLI_INT,
     .value = "N",
     .initial = "0",
     .offset = offsetof(struct bench_args, depth),
     .min = 0,
     .max = 1 << 20,
     .help = "tokens that are in the context before each round"},
    {.flags = "-np --parallel",
     .kind = CLI_INT,
     .value = "N",
     .initial = "1",
     .offset = offsetof(struct bench_args, parallel),
     .min = 1,
     .max = 1024,
     .help = "sequences at once, each with a prompt and a reply of its own; tokens "
             "per second are those of all together"},
    {.flags = "-r --repeat --repetitions",
     .kind = CLI_INT,
     .value = "R",
     .initial = "3",
     .offset = offsetof(struct bench_args, repeat),
     .min = 1,
     .max = 1000,
     .help = "measured rounds, after one that warms up"},
    {.flags = "-t --threads",
     .kind = CLI_INTS,
     .value = "T,...",
     .offset = offsetof(struct bench_args, threads),
     .min = 1,
     .max = 4096,
     .help = "numbers of threads to measure, as 1,2 (default: all processors)"},
    {.flags = "-s --seed",
     .kind = CLI_SEED,
     .value = "N",
     .initial = "0",
     .offset = offsetof(struct bench_args, seed),
     .help = "seed of the random tokens; -1 takes one from the system"},
    {.flags = "--stream",
     .kind = CLI_SIZE,
     .value = "SIZE",
     .initial = "512M",
     .offset = offsetof(struct bench_args, stream),
     .min = 1,
     .help = "memory to read when the bandwidth is measured"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct bench_args, json),
     .help = "one JSON object instead of a table"},
    {0}};

static int run(cli_context *cli, const void *raw)
{
    const struct bench_args *args = raw;
    if (!args->prompt && !args->gen)
        return cli_usage(cli, "--prompt and --gen are both 0: nothing to measure");
    cli_interrupt_catch();
    jt_err err = {0};
    cli_model m;
    if (cli_load_stored(&m, args->model, false, &args->session.store, &err) != JT_OK)
        return cli_fail(cli, &err);
    static const int32_t all = 0;
    const int32_t *threads = args->threads.count ? args->threads.items : &all;
    size_t count = args->threads.count ? args->threads.count : 1;
    uint64_t seed = cli_seed(args->seed);
    struct bench_run *runs = calloc(count, sizeof *runs);
    jt_status status =
        runs ? JT_OK : jt_fail(&err, JT_E_MEMORY, "out of memory for the results");
    for (size_t i = 0; i < count && status == JT_OK; i++)
        status = bench_measure(cli, args, &m, threads[i], seed, &runs[i], &err);
    int code = CLI_DONE;
    if (status != JT_OK)
        code = cli_fail(cli, &err);
    else if (args->json)
        code = bench_print_json(cli, args, &m, seed, runs, count);
    else
        bench_print_table(args, &m, runs, count);
    for (size_t i = 0; runs && i < count; i++)
        bench_run_free(&runs[i]);
    free(runs);
    cli_unload(&m);
    return code;
}

static const cli_group groups[] = {
    {"Flags", options, 0},
    {NULL, cli_store_options, offsetof(struct bench_args, session.store)},
    {NULL, cli_store_read_options, offsetof(struct bench_args, session.store)},
    {NULL, cli_policy_options, offsetof(struct bench_args, policies)},
    {NULL, cli_kernel_options, offsetof(struct bench_args, session)},
    {NULL, cli_common_options, 0},
    {0}};

static const char *const examples[] = {
    "junto bench model.gguf",
    "tokens per second, and how near the memory's limit",
    "junto bench model.gguf -p 512 -n 128 -t 1,2 -r 5 --json",
    "one JSON object with the figures for one and for two threads",
    "junto bench model.gguf -np 16 -p 32",
    "sixteen users at once",
    "junto bench model.gguf -d 8192 -p 0",
    "decoding far into a long context",
    "junto bench model.gguf --ram 8G -p 512 --json",
    "in a memory budget: hits, bytes read, waiting, and the share of the disk",
    NULL};

const cli_verb cli_verb_bench = {
    .name = "bench",
    .section = "Measure",
    .summary = "measure tokens per second against the bandwidth of the memory",
    .details =
        "Each round evaluates random tokens as a prompt and then decodes more of "
        "them one by one. What the machine can do is measured with the same number of "
        "threads, and the median of the shares that the rounds reached is reported: of "
        "decoding that of the bandwidth at which memory was read in between, every 50 "
        "ms (the roofline), with the bytes that a token must touch, which are active "
        "weights and the keys and values of the context; of the prompt that of the "
        "multiplications which these threads can do in registers before or after (the "
        "better counts), counting weights. With --ram the disk is measured instead, "
        "and the share is of the longer of reading what the cache lacked and of "
        "computing.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct bench_args),
    .run = run,
};
