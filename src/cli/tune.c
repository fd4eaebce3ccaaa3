/* `junto tune`: an adapter for a model, from texts. The flags become a configuration of
 * junto train. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train.h"
#include "verbs.h"

struct tune_args {
    struct train_args train; /* settings and what it shares with junto train */
    const char *model, *out, *method, *init, *targets, *places, *mask, *chat, *schedule;
    cli_list data, parts, markers;
    int experts, top_k, choose;
    float balance, gate_loss, entropy;
    bool train_experts;
    int rank, steps, batch, accumulate, length, every, patience, threads;
    float alpha, lr, held_out;
    int64_t seed;
    bool recompute;
    jt_store_options store;
};

#define FIELD(name) offsetof(struct tune_args, name)

static const cli_option operands[] = {CLI_MODEL_OPERAND(struct tune_args), {0}};

static const cli_option adapter_options[] = {
    {.flags = "-o --output",
     .kind = CLI_PATH,
     .value = "DIR",
     .required = true,
     .offset = FIELD(out),
     .help = "folder of the run; DIR/adapter.safetensors is what --adapter takes"},
    {.flags = "--method",
     .kind = CLI_CHOICE,
     .value = "lora|rslora|dora|shira|mos|poly|bits|mora|bottleneck|mosa|mixda|p-"
              "adapter|soft-prompt|prefix|mixlora|meteora|"
              "lora-mixer|k-shot|x-lora|phi-4",
     .initial = "lora",
     .offset = FIELD(method),
     .help = "kind of the adapter; from mixlora on LoRAs that are mixed token by "
             "token: see docs/adapters.md. Settings that only some kinds have are keys "
             "of [adapter] for --set, as adapter.skills=4"},
    {.flags = "--init",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = FIELD(init),
     .help = "an adapter to go on from (docs/adapters.md: what each kind makes of it)"},
    {.flags = "-r --rank",
     .kind = CLI_INT,
     .value = "N",
     .initial = "16",
     .offset = FIELD(rank),
     .min = 1,
     .max = 65536,
     .help = "its rank; shira has as many values as LoRA of that rank would have"},
    {.flags = "--alpha",
     .kind = CLI_FLOAT,
     .value = "A",
     .initial = "32",
     .offset = FIELD(alpha),
     .min = 1e-6,
     .max = 1e6,
     .help = "the change is multiplied by A / rank (rslora: / root of the rank; shira: "
             "not at all)"},
    {.flags = "--target",
     .kind = CLI_STRING,
     .value = "REGEX",
     .offset = FIELD(targets),
     .help =
         "weights that are changed, by their names in GGUF files; without: those of "
         "attention and of all FFNs and experts"},
    {.flags = "--place",
     .kind = CLI_STRING,
     .value = "REGEX",
     .initial = "ffn[.]beside",
     .offset = FIELD(places),
     .help = "bottleneck: where it stands: blk.N.attn or blk.N.ffn, each with .before, "
             ".beside or .after"},
    {.flags = "--mask",
     .kind = CLI_CHOICE,
     .value = "magnitude|random|struct|gradient|snip",
     .initial = "magnitude",
     .offset = FIELD(mask),
     .help = "shira: the largest values of a weight change, any, the diagonal and some "
             "rows, "
             "those with the largest gradients, or with the largest products of both"},
    {0}};

static const cli_option mixture_options[] = {
    {.flags = "--adapter --lora",
     .kind = CLI_LIST,
     .value = "FILE",
     .offset = FIELD(parts),
     .help = "a LoRA that is mixed; given once for each; without: fresh ones"},
    {.flags = "--marker",
     .kind = CLI_LIST,
     .value = "TEXT",
     .offset = FIELD(markers),
     .help = "phi-4: text that calls the LoRA, one for each in the same order; "
             "p-adapter: text that ends a prompt"},
    {.flags = "--experts",
     .kind = CLI_INT,
     .value = "N",
     .initial = "8",
     .offset = FIELD(experts),
     .min = 1,
     .max = 256,
     .help = "LoRAs of a mixture that begins with fresh ones"},
    {.flags = "--top-k",
     .kind = CLI_INT,
     .value = "N",
     .initial = "0",
     .offset = FIELD(top_k),
     .max = 256,
     .help = "LoRAs that a token gets; 0: as many as the method says"},
    {.flags = "--balance",
     .kind = CLI_FLOAT,
     .value = "X",
     .initial = "0.01",
     .offset = FIELD(balance),
     .max = 1e6,
     .help = "mixlora, lora-mixer: coefficient of the loss that evens their loads"},
    {.flags = "--gate-loss",
     .kind = CLI_FLOAT,
     .value = "X",
     .initial = "1",
     .offset = FIELD(gate_loss),
     .max = 1e6,
     .help = "meteora: coefficient of the loss by which gates learn which LoRA belongs "
             "to which --data (in the same order)"},
    {.flags = "--entropy",
     .kind = CLI_FLOAT,
     .value = "X",
     .initial = "0",
     .offset = FIELD(entropy),
     .min = -1e6,
     .max = 1e6,
     .help = "lora-mixer: above 0 a token's weights become peaked, below flat"},
    {.flags = "--choose",
     .kind = CLI_INT,
     .value = "N",
     .initial = "0",
     .offset = FIELD(choose),
     .max = 16,
     .help = "mix only N of the LoRAs given, chosen by the documents of the first "
             "--data: right and sure on them, and not alike (k-shot); 0: all"},
    {.flags = "--train-experts",
     .kind = CLI_FLAG,
     .offset = FIELD(train_experts),
     .help = "LoRAs of --adapter are trained on, too, not only what decides"},
    {0}};

static const cli_option data_options[] = {
    {.flags = "--data",
     .kind = CLI_LIST,
     .value = "FILE",
     .required = true,
     .offset = FIELD(data),
     .help =
         "JSON lines with text, prompt and completion, or messages; tokens; or plain "
         "text (docs/training.md); may be given several times"},
    {.flags = "-c --ctx --seq-len",
     .kind = CLI_INT,
     .value = "N",
     .initial = "256",
     .offset = FIELD(length),
     .min = 2,
     .max = 1 << 24,
     .help = "tokens of a packed sequence"},
    {.flags = "--held-out",
     .kind = CLI_FLOAT,
     .value = "X",
     .initial = "0.05",
     .offset = FIELD(held_out),
     .max = 0.5,
     .help = "share of the documents that is kept for evaluation"},
    {.flags = "--chat-format",
     .kind = CLI_STRING,
     .value = "NAME",
     .initial = "chatml",
     .offset = FIELD(chat),
     .help = "how messages are written"},
    {0}};

static const cli_option store_options[] = {
    {.flags = "--ram",
     .kind = CLI_MEMORY,
     .value = "SIZE",
     .offset = FIELD(store.ram),
     .help = "memory to use in all, as 4G or 75% of what there is: experts that do not "
             "fit stay in the file and come layer by layer, forward and back (default: "
             "the file is mapped)"},
    {0}};

static const cli_option run_options[] = {
    {.flags = "-n --steps",
     .kind = CLI_INT,
     .value = "N",
     .initial = "200",
     .offset = FIELD(steps),
     .min = 1,
     .max = 1000000000,
     .help = "steps of the optimiser"},
    {.flags = "-b --batch",
     .kind = CLI_INT,
     .value = "N",
     .initial = "4",
     .offset = FIELD(batch),
     .min = 1,
     .max = 1 << 20,
     .help = "sequences that are in memory at a time"},
    {.flags = "--accumulate",
     .kind = CLI_INT,
     .value = "N",
     .initial = "1",
     .offset = FIELD(accumulate),
     .min = 1,
     .max = 1 << 20,
     .help = "such batches that make a step"},
    {.flags = "--lr",
     .kind = CLI_FLOAT,
     .value = "X",
     .initial = "0.0002",
     .offset = FIELD(lr),
     .max = 1e6,
     .help = "learning rate after the warm-up (one step in twenty)"},
    {.flags = "--schedule",
     .kind = CLI_CHOICE,
     .value = "constant|linear|cosine|wsd",
     .initial = "cosine",
     .offset = FIELD(schedule),
     .help = "how the rate falls"},
    {.flags = "--eval-every",
     .kind = CLI_INT,
     .value = "N",
     .initial = "50",
     .offset = FIELD(every),
     .max = 1000000000,
     .help = "steps between evaluations; 0: only at the end"},
    {.flags = "--patience",
     .kind = CLI_INT,
     .value = "N",
     .initial = "0",
     .offset = FIELD(patience),
     .max = 1000000,
     .help = "stop after so many evaluations without a better loss, and keep the best "
             "adapter; 0: never"},
    {.flags = "--recompute",
     .kind = CLI_FLAG,
     .offset = FIELD(recompute),
     .help = "layers run again on the way back: less memory, more time"},
    {.flags = "-s --seed",
     .kind = CLI_SEED,
     .value = "N",
     .initial = "1",
     .offset = FIELD(seed),
     .help = "of the first values and of the order of the data"},
    {.flags = "-t --threads",
     .kind = CLI_INT,
     .value = "N",
     .initial = "0",
     .offset = FIELD(threads),
     .max = 4096,
     .help = "0: all processors"},
    {.flags = "--set",
     .kind = CLI_LIST,
     .value = "KEY=VALUE",
     .offset = FIELD(train.settings),
     .help =
         "any other key of a configuration of junto train, as optim.weight_decay=0.1"},
    {.flags = "--resume",
     .kind = CLI_FLAG,
     .offset = FIELD(train.resume),
     .help = "go on from the checkpoint in DIR"},
    {.flags = "--dry-run",
     .kind = CLI_FLAG,
     .offset = FIELD(train.dry_run),
     .help = "only say what it would cost: parameters, memory, time"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = FIELD(train.json),
     .help = "one JSON object instead of text"},
    {0}};

/* LoRAs that are mixed, with their markers. */
static json_t *parts_of(const struct tune_args *a)
{
    json_t *list = json_array();
    size_t n = a->parts.count > a->markers.count ? a->parts.count : a->markers.count;
    for (size_t i = 0; i < n; i++)
        json_array_append_new(
            list,
            json_pack("{s:s, s:s}", "path", i < a->parts.count ? a->parts.items[i] : "",
                      "marker", i < a->markers.count ? a->markers.items[i] : ""));
    return list;
}

static json_t *adapter_of(const struct tune_args *a)
{
    json_t *adapter = json_pack(
        "{s:s, s:i, s:f, s:s, s:s, s:i, s:i, s:i, s:f, s:f, s:f, s:b}", "kind",
        a->method, "rank", a->rank, "alpha", (double)a->alpha, "mask", a->mask, "place",
        a->places, "experts", a->experts, "top_k", a->top_k, "choose", a->choose,
        "balance", (double)a->balance, "gate_loss", (double)a->gate_loss, "entropy",
        (double)a->entropy, "train_experts", a->train_experts);
    if (strcmp(a->method, "p-adapter") != 0)
        json_object_set_new(adapter, "part", parts_of(a));
    else if (a->markers.count)
        json_object_set_new(adapter, "marker", json_string(a->markers.items[0]));
    if (a->init)
        json_object_set_new(adapter, "init", json_string(a->init));
    if (a->targets)
        json_object_set_new(adapter, "target", json_string(a->targets));
    return adapter;
}

/* Routers stay as they are, so nothing balances them; adapters are not pulled to 0. */
static json_t *make_config(const struct tune_args *a)
{
    json_t *sources = json_array();
    for (size_t i = 0; i < a->data.count; i++)
        json_array_append_new(sources, json_pack("{s:s}", "path", a->data.items[i]));
    json_t *config =
        json_pack("{s:{s:s}, s:o, s:{s:f, s:f}, s:{s:i, s:f, s:s, s:o}}", "model",
                  "init", a->model, "adapter", adapter_of(a), "balance", "loss", 0.0,
                  "z_loss", 0.0, "data", "seq_len", a->length, "held_out",
                  (double)a->held_out, "chat", a->chat, "source", sources);
    json_object_set_new(config, "optim",
                        json_pack("{s:f, s:s, s:f, s:f}", "lr", (double)a->lr,
                                  "schedule", a->schedule, "weight_decay", 0.0, "beta2",
                                  0.999));
    json_object_set_new(config, "train",
                        json_pack("{s:i, s:i, s:i, s:I, s:i, s:b}", "steps", a->steps,
                                  "batch", a->batch, "accumulate", a->accumulate,
                                  "seed", (json_int_t)cli_seed(a->seed), "threads",
                                  a->threads, "checkpoint_activations", a->recompute));
    json_object_set_new(
        config, "eval",
        json_pack("{s:i, s:i}", "every", a->every, "patience", a->patience));
    json_object_set_new(config, "output", json_pack("{s:s}", "dir", a->out));
    return config;
}

/* `text` as the configuration; reports name the copy that the run leaves in DIR. */
static int tune(cli_context *cli, const struct tune_args *args, const char *text)
{
    struct train_args shared = args->train;
    jt_train_options options = {
        .json = text,
        .settings = shared.settings.items,
        .n_settings = shared.settings.count,
        .store = args->store,
        .resume = shared.resume,
        .progress = cli_progress(cli),
    };
    char *copy;
    jt_err err = {0};
    if (asprintf(&copy, "%s/config.json", args->out) < 0) {
        jt_fail(&err, JT_E_MEMORY, "out of memory");
        return cli_fail(cli, &err);
    }
    shared.config = copy;
    int code = train_go(cli, &shared, &options);
    free(copy);
    return code;
}

static int run(cli_context *cli, const void *raw)
{
    const struct tune_args *args = raw;
    json_t *config = make_config(args);
    char *text = config ? json_dumps(config, 0) : NULL;
    jt_err err = {0};
    json_decref(config);
    if (!text) {
        jt_fail(&err, JT_E_ARG, "an argument is not UTF-8, or memory is out");
        return cli_fail(cli, &err);
    }
    cli_interrupt_catch();
    int code = tune(cli, args, text);
    free(text);
    return code;
}

static const cli_group groups[] = {{"The adapter", adapter_options, 0},
                                   {"Mixtures of adapters", mixture_options, 0},
                                   {"Data", data_options, 0},
                                   {"The run", run_options, 0},
                                   {"Models larger than memory", store_options, 0},
                                   {NULL, cli_store_read_options, FIELD(store)},
                                   {NULL, cli_common_options, 0},
                                   {0}};

static const char *const examples[] = {
    "junto tune model.gguf --data poems.jsonl -o poet --dry-run",
    "how much memory and time it would take",
    "junto tune model.gguf --data poems.jsonl -o poet -n 500 -r 8 --alpha 16",
    "tune a LoRA of rank 8; the model may be quantised",
    "junto tune large.gguf --data poems.jsonl -o poet --ram 16G --recompute",
    "a mixture larger than memory: its experts stay on the disk",
    "junto run model.gguf --adapter poet/adapter.safetensors -p \"The sea\"",
    "use it",
    NULL};

const cli_verb cli_verb_tune = {
    .name = "tune",
    .section = "Make",
    .summary = "fine-tune an adapter for a model",
    .details =
        "The weights of the model stay as they are, quantised or not, and are decoded "
        "some rows at a time for gradients; only the adapter is trained. With --ram "
        "the "
        "experts of a mixture need not fit into memory. In the output "
        "folder appear adapter.safetensors, checkpoint.gguf for --resume, log.jsonl, "
        "curves.svg and config.json, which junto train takes, too.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct tune_args),
    .run = run,
};
