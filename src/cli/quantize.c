#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "junto/shrink.h"
#include "verbs.h"

struct quantize_args {
    cli_common common;
    const char *source, *target, *type, *importance, *layout;
    cli_list rules;
    int nested;
    bool dry_run, json;
    jt_session_options session; /* of it only the threads */
};

static const cli_option operands[] = {
    {.flags = "SRC",
     .kind = CLI_PATH,
     .is_model = true,
     .required = true,
     .offset = offsetof(struct quantize_args, source),
     .help = "a GGUF file, the first part of a split one, or a Hugging Face folder"},
    {.flags = "DST",
     .kind = CLI_PATH,
     .offset = offsetof(struct quantize_args, target),
     .help = "the GGUF file to write; it appears whole or not at all"},
    {0}};

static const cli_option options[] = {
    {.flags = "--type --mix",
     .kind = CLI_STRING,
     .value = "MIX",
     .initial = "q4_k_m",
     .offset = offsetof(struct quantize_args, type),
     .help =
         "a mix (q8_0, q6_k, q5_k_m, q4_k_m, iq4_xs, q4_0, q3_k_m, iq3_s, q2_k, "
         "iq2_xs, mxfp4_moe and more: docs/quantize.md) or a type for all matrices"},
    {.flags = "--rule",
     .kind = CLI_LIST,
     .value = "REGEX=TYPE",
     .offset = offsetof(struct quantize_args, rules),
     .help = "type of the matrices whose name matches, before the mix; may be given "
             "several times, the first that matches counts"},
    {.flags = "--imatrix",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = offsetof(struct quantize_args, importance),
     .help =
         "what 'junto imatrix' (or llama.cpp's) gathered: how much each input counts"},
    {.flags = "--nested",
     .kind = CLI_INT,
     .value = "BITS",
     .initial = "0",
     .max = 6,
     .offset = offsetof(struct quantize_args, nested),
     .help = "3 to 6: experts in 2 bits and planes up to so many, of which a run with "
             "--ram reads as many as --bits says"},
    {.flags = "--layout",
     .kind = CLI_CHOICE,
     .value = "plain|experts",
     .offset = offsetof(struct quantize_args, layout),
     .help =
         "experts: each expert in one piece, aligned and with a checksum; rules may "
         "then give each a type of its own, by names like blk.3.ffn_up.7.weight"},
    {.flags = "-n --dry-run",
     .kind = CLI_FLAG,
     .offset = offsetof(struct quantize_args, dry_run),
     .help = "write nothing, print the table of tensors, types and sizes"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct quantize_args, json),
     .help = "one JSON object with all tensors on standard output"},
    {0}};

typedef struct listing {
    const struct quantize_args *args;
    cli_context *cli;
    json_t *tensors; /* with --json */
} listing;

static json_t *shape_of(const jt_quantize_tensor *t)
{
    json_t *shape = json_array();
    for (int d = 0; d < t->n_dims; d++)
        json_array_append_new(shape, json_integer((json_int_t)t->shape[d]));
    return shape;
}

static void list_json(json_t *tensors, const jt_quantize_tensor *t)
{
    json_array_append_new(
        tensors,
        json_pack("{s:o, s:o, s:s, s:s, s:I, s:I, s:b, s:b, s:I, s:I}", "name",
                  cli_json_text(t->name, strlen(t->name)), "shape", shape_of(t), "from",
                  jt_dtype_name(t->from), "to", jt_dtype_name(t->to), "bytes_from",
                  (json_int_t)t->bytes_from, "bytes_to", (json_int_t)t->bytes_to,
                  "fell_back", t->fell_back, "weighted", t->weighted, "unseen",
                  (json_int_t)t->unseen, "seen_less", (json_int_t)t->seen_less));
}

static void list_text(const jt_quantize_tensor *t)
{
    char shape[96] = "";
    for (int d = 0; d < t->n_dims; d++)
        snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%llu",
                 d ? " x " : "", (unsigned long long)t->shape[d]);
    printf("%-36s %-24s %-7s -> %-7s %10s", t->name, shape, jt_dtype_name(t->from),
           jt_dtype_name(t->to), cli_show_bytes((double)t->bytes_to).text);
    if (t->fell_back)
        printf("  instead");
    if (t->weighted)
        printf("  imatrix");
    if (t->unseen)
        printf(" (%zu unseen)", t->unseen);
    printf("\n");
}

static void list_tensor(void *user, const jt_quantize_tensor *t)
{
    const listing *l = user;
    if (l->tensors)
        list_json(l->tensors, t);
    else if (l->args->dry_run)
        list_text(t);
}

static void log_line(void *user, jt_log_level level, const char *line)
{
    listing *l = user;
    cli_progress_clear(l->cli);
    cli_note(l->cli, "%s%s", level == JT_LOG_WARN ? "warning: " : "", line);
}

static int report(const listing *l, const jt_quantize_report *r)
{
    const struct quantize_args *args = l->args;
    double speed = r->seconds > 0 ? (double)r->bytes_from / r->seconds : 0;
    cli_note(l->cli, "%s %zu tensors, %s -> %s, %.2f bits per weight, %.1f s (%s/s)",
             args->dry_run ? "would write" : "wrote", r->tensors,
             cli_show_bytes((double)r->bytes_from).text,
             cli_show_bytes((double)r->bytes_to).text, r->bits, r->seconds,
             cli_show_bytes(speed).text);
    if (!args->json)
        return CLI_DONE;
    json_t *json = json_pack(
        "{s:o, s:o, s:o, s:s, s:b, s:I, s:I, s:f, s:f}", "tensors", l->tensors,
        "source", cli_json_text(args->source, strlen(args->source)), "target",
        args->target ? cli_json_text(args->target, strlen(args->target)) : json_null(),
        "type", args->type, "dry_run", args->dry_run, "bytes_from",
        (json_int_t)r->bytes_from, "bytes_to", (json_int_t)r->bytes_to, "bits", r->bits,
        "seconds", r->seconds);
    return cli_print_json(l->cli, json);
}

static int run(cli_context *cli, const void *raw)
{
    const struct quantize_args *args = raw;
    if (!args->target && !args->dry_run)
        return cli_usage(cli, "DST is missing (or --dry-run)");
    cli_interrupt_catch();
    listing l = {.args = args, .cli = cli, .tensors = args->json ? json_array() : NULL};
    jt_quantize_options o = {.mix = args->type,
                             .rules = args->rules.items,
                             .n_rules = args->rules.count,
                             .importance = args->importance,
                             .nested = args->nested,
                             .layout = args->layout,
                             .threads = args->session.threads,
                             .on_tensor = list_tensor,
                             .user = &l,
                             .progress = cli_progress(cli),
                             .log = {log_line, &l}};
    jt_quantize_report r;
    jt_err err = {0};
    jt_status status = jt_quantize_model(
        args->source, args->dry_run ? NULL : args->target, &o, &r, &err);
    cli_progress_clear(cli);
    if (status == JT_OK)
        return report(&l, &r);
    json_decref(l.tensors);
    return cli_fail(cli, &err);
}

static const cli_group groups[] = {
    {"Flags", options, 0},
    {NULL, cli_threads_options, offsetof(struct quantize_args, session)},
    {NULL, cli_common_options, 0},
    {0}};

static const char *const examples[] = {
    "junto quantize model-f16.gguf model-q4.gguf --type q4_k_m",
    "the usual 4-bit mix; in mixtures attention and shared experts keep 6 bits",
    "junto quantize model-f16.gguf small.gguf --type iq2_xs --imatrix imatrix.gguf",
    "2 bits, with what 'junto imatrix' gathered",
    "junto quantize m.gguf s.gguf --layout experts --rule 'ffn_.*\\.(1|7)\\.=q2_k'",
    "4 bits, but 2 for experts 1 and 7 of each layer",
    "junto quantize model.gguf -n --rule 'ffn_down_exps=q5_k'",
    "the table of what would be written, with a rule of one's own",
    NULL};

const cli_verb cli_verb_quantize = {
    .name = "quantize",
    .section = "Shrink",
    .summary = "write a model with smaller types",
    .details =
        "Scales are searched for, tensor by tensor and on all processors, so that the "
        "squared error (with --imatrix weighted by the inputs) is least. In mixtures "
        "routers and norms stay F32, attention, shared experts and dense layers get "
        "better types than routed experts. Rows that are no whole blocks of a type get "
        "another, and the command says so.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct quantize_args),
    .run = run,
};
