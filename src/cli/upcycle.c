#include <string.h>

#include "common.h"
#include "verbs.h"

struct upcycle_args {
    cli_common common;
    const char *dense, *out, *router;
    int experts, top_k;
    float noise;
    int64_t seed;
};

static const cli_option operands[] = {
    {.flags = "DENSE.gguf",
     .kind = CLI_PATH,
     .is_model = true,
     .required = true,
     .offset = offsetof(struct upcycle_args, dense),
     .help = "the dense model"},
    {.flags = "OUT.gguf",
     .kind = CLI_PATH,
     .required = true,
     .offset = offsetof(struct upcycle_args, out),
     .help = "the mixture to write; it appears whole or not at all"},
    {0}};

static const cli_option options[] = {
    {.flags = "-e --experts",
     .kind = CLI_INT,
     .value = "N",
     .required = true,
     .offset = offsetof(struct upcycle_args, experts),
     .min = 1,
     .max = 4096,
     .help = "experts per layer, each a copy of the dense FFN"},
    {.flags = "-k --top-k",
     .kind = CLI_INT,
     .value = "K",
     .required = true,
     .offset = offsetof(struct upcycle_args, top_k),
     .min = 1,
     .max = 4096,
     .help = "experts that each token uses"},
    {.flags = "--noise",
     .kind = CLI_FLOAT,
     .value = "S",
     .initial = "0",
     .offset = offsetof(struct upcycle_args, noise),
     .max = 10,
     .help = "Gaussian noise on the copies, so that they differ: S times the root mean "
             "square of each tensor"},
    {.flags = "--router",
     .kind = CLI_CHOICE,
     .value = "random|zero",
     .initial = "random",
     .offset = offsetof(struct upcycle_args, router),
     .help = "how the new routers begin"},
    {.flags = "-s --seed",
     .kind = CLI_SEED,
     .value = "N",
     .initial = "0",
     .offset = offsetof(struct upcycle_args, seed),
     .help = "seed of the noise and of the routers; -1 takes one from the system"},
    {0}};

static int run(cli_context *cli, const void *raw)
{
    const struct upcycle_args *args = raw;
    if (args->top_k > args->experts)
        return cli_usage(cli, "--top-k: %d is more than the %d experts", args->top_k,
                         args->experts);
    cli_interrupt_catch();
    jt_upcycle_options upcycle = {
        .n_experts = args->experts,
        .top_k = args->top_k,
        .noise = args->noise,
        .router = strcmp(args->router, "zero") ? JT_ROUTER_RANDOM : JT_ROUTER_ZERO,
        .seed = cli_seed(args->seed),
        .progress = cli_progress(cli),
    };
    jt_err err = {0};
    if (jt_upcycle(args->dense, args->out, &upcycle, &err) != JT_OK)
        return cli_fail(cli, &err);
    cli_note(cli, "wrote %s: %d experts, %d used, seed %llu", args->out, args->experts,
             args->top_k, (unsigned long long)upcycle.seed);
    return CLI_DONE;
}

static const cli_group groups[] = {
    {"Flags", options, 0}, {NULL, cli_common_options, 0}, {0}};

static const char *const examples[] = {
    "junto upcycle dense.gguf mixture.gguf --experts 4 --top-k 2 --noise 0.02",
    "turn a dense model into a mixture of four experts that differ a little", NULL};

const cli_verb cli_verb_upcycle = {
    .name = "upcycle",
    .section = "Make",
    .summary = "turn a dense model into a mixture of experts",
    .details = "Every FFN becomes copies of itself behind a fresh router (sparse "
               "upcycling, Komatsuzaki et al. 2022). The weights of a token's experts "
               "sum to one, so without noise the mixture computes what the dense model "
               "computes.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct upcycle_args),
    .run = run,
};
