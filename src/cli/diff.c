#include <stdlib.h>
#include <string.h>

#include "pair.h"
#include "junto/shrink.h"
#include "verbs.h"

struct diff_args {
    cli_common common;
    const char *a, *b, *file;
    int n_ctx, top;
    bool json, no_tensors;
    jt_session_options session;
};

static const cli_option operands[] = {
    {.flags = "A",
     .kind = CLI_PATH,
     .is_model = true,
     .required = true,
     .offset = offsetof(struct diff_args, a),
     .help = "the model to compare with: GGUF file or Hugging Face folder"},
    {.flags = "B",
     .kind = CLI_PATH,
     .is_model = true,
     .required = true,
     .offset = offsetof(struct diff_args, b),
     .help = "the model that differs from it"},
    {0}};

static const cli_option options[] = {
    {.flags = "-f --file",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = offsetof(struct diff_args, file),
     .help = "a text to run through both: how far their logits and routes differ"},
    {.flags = "-c --ctx --ctx-size",
     .kind = CLI_INT,
     .value = "N",
     .initial = "512",
     .offset = offsetof(struct diff_args, n_ctx),
     .min = 2,
     .max = 1 << 24,
     .help = "tokens per window; windows do not overlap"},
    {.flags = "--top",
     .kind = CLI_INT,
     .value = "N",
     .initial = "20",
     .offset = offsetof(struct diff_args, top),
     .min = 0,
     .max = 1 << 20,
     .help = "how many tensors the table shows, the worst first; 0: all"},
    {.flags = "--no-tensors",
     .kind = CLI_FLAG,
     .offset = offsetof(struct diff_args, no_tensors),
     .help = "compare only what comes out, not the tensors"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct diff_args, json),
     .help = "one JSON object instead of text"},
    {0}};

/* ---- tensors ---- */

typedef struct row {
    char *name;
    jt_tensor_diff diff;
} row;

typedef struct rows {
    row *items;
    size_t count;
    json_t *others; /* [{name, what}] */
    bool failed;
} rows;

static void add_row(void *user, const jt_tensor_diff *diff)
{
    rows *r = user;
    row *more = r->failed ? NULL : realloc(r->items, (r->count + 1) * sizeof *more);
    char *name = more ? strdup(diff->name) : NULL;
    r->items = more ? more : r->items;
    r->failed |= !name;
    if (name)
        r->items[r->count++] = (row){name, *diff};
}

static void add_other(void *user, const char *name, const char *what)
{
    rows *r = user;
    json_array_append_new(r->others,
                          json_pack("{s:o, s:s}", "name",
                                    cli_json_text(name, strlen(name)), "what", what));
}

static void free_rows(rows *r)
{
    for (size_t i = 0; i < r->count; i++)
        free(r->items[i].name);
    free(r->items);
    json_decref(r->others);
}

static int worst_first(const void *a, const void *b)
{
    double x = ((const row *)a)->diff.error, y = ((const row *)b)->diff.error;
    return (x < y) - (x > y);
}

static void print_rows(const rows *r, int top)
{
    size_t shown = top && (size_t)top < r->count ? (size_t)top : r->count;
    printf("%-36s %-7s    %-7s %10s %12s\n", "tensor", "A", "B", "error", "largest");
    for (size_t i = 0; i < shown; i++) {
        const jt_tensor_diff *d = &r->items[i].diff;
        printf("%-36s %-7s -> %-7s %10.6f %12.6g\n", r->items[i].name,
               jt_dtype_name(d->a), jt_dtype_name(d->b), d->error, d->worst);
    }
    if (shown < r->count)
        printf("and %zu more (--top 0)\n", r->count - shown);
    size_t i;
    json_t *other;
    json_array_foreach(r->others, i, other)
        printf("%-36s %s\n", json_string_value(json_object_get(other, "name")),
               json_string_value(json_object_get(other, "what")));
}

static json_t *rows_json(const rows *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->count; i++) {
        const jt_tensor_diff *d = &r->items[i].diff;
        json_array_append_new(
            list,
            json_pack("{s:o, s:s, s:s, s:I, s:o, s:o}", "name",
                      cli_json_text(r->items[i].name, strlen(r->items[i].name)), "a",
                      jt_dtype_name(d->a), "b", jt_dtype_name(d->b), "values",
                      (json_int_t)d->values, "error", cli_json_number(d->error),
                      "largest", cli_json_number(d->worst)));
    }
    return list;
}

static jt_status compare_tensors(cli_context *cli, const struct diff_args *args,
                                 rows *r, jt_err *err)
{
    jt_diff_options o = {.on_tensor = add_row,
                         .on_other = add_other,
                         .user = r,
                         .threads = args->session.threads,
                         .progress = cli_progress(cli)};
    jt_status status = jt_diff_tensors(args->a, args->b, &o, err);
    cli_progress_clear(cli);
    if (status == JT_OK && r->failed)
        status = jt_fail(err, JT_E_MEMORY, "out of memory while listing tensors");
    if (status == JT_OK && r->count)
        qsort(r->items, r->count, sizeof *r->items, worst_first);
    return status;
}

/* ---- the text ---- */

static void print_text(const jt_comparison *t)
{
    printf("KL divergence  mean %.6f  median %.6f  99%% %.6f  largest %.6f nats\n",
           t->mean, t->median, t->p99, t->most);
    printf("same top token %.3f%% of %zu\n", 100 * t->top1, t->scored);
    printf("perplexity     A %.4f  B %.4f\n", t->perplexity_a, t->perplexity_b);
    for (size_t i = 0; i < t->n_layers; i++) {
        const jt_compare_layer *l = &t->layers[i];
        printf("layer %-3d      same experts %.2f%%  jaccard %.4f\n", l->layer,
               100 * (double)l->same / (double)l->tokens, l->jaccard);
    }
}

static json_t *text_json(const jt_comparison *t)
{
    json_t *layers = json_array();
    for (size_t i = 0; i < t->n_layers; i++) {
        const jt_compare_layer *l = &t->layers[i];
        json_array_append_new(layers,
                              json_pack("{s:i, s:I, s:I, s:f}", "layer", l->layer,
                                        "tokens", (json_int_t)l->tokens, "same",
                                        (json_int_t)l->same, "jaccard", l->jaccard));
    }
    return json_pack("{s:I, s:{s:o, s:o, s:o, s:o}, s:f, s:o, s:o, s:o}", "scored",
                     (json_int_t)t->scored, "kl", "mean", cli_json_number(t->mean),
                     "median", cli_json_number(t->median), "p99",
                     cli_json_number(t->p99), "largest", cli_json_number(t->most),
                     "top1", t->top1, "perplexity_a", cli_json_number(t->perplexity_a),
                     "perplexity_b", cli_json_number(t->perplexity_b), "layers",
                     layers);
}

static jt_status compare_text(cli_context *cli, const struct diff_args *args,
                              jt_comparison *out, jt_err *err)
{
    cli_pair pair;
    jt_status status = cli_pair_open(&pair, args->a, args->b, args->file, err);
    if (status == JT_OK)
        status = cli_pair_compare(cli, &pair, &args->session, args->n_ctx, 0, out, err);
    cli_pair_close(&pair);
    return status;
}

/* ---- the whole ---- */

static int report(cli_context *cli, const struct diff_args *args, const rows *r,
                  const jt_comparison *text)
{
    if (args->json)
        return cli_print_json(
            cli, json_pack("{s:o, s:o, s:o, s:O, s:o}", "a",
                           cli_json_text(args->a, strlen(args->a)), "b",
                           cli_json_text(args->b, strlen(args->b)), "tensors",
                           rows_json(r), "others", r->others, "text",
                           args->file ? text_json(text) : json_null()));
    if (!args->no_tensors)
        print_rows(r, args->top);
    if (args->file)
        print_text(text);
    return CLI_DONE;
}

static int run(cli_context *cli, const void *raw)
{
    const struct diff_args *args = raw;
    cli_interrupt_catch();
    jt_err err = {0};
    rows r = {.others = json_array()};
    jt_comparison text = {0};
    jt_status status = JT_OK;
    if (!args->no_tensors)
        status = compare_tensors(cli, args, &r, &err);
    if (status == JT_OK && args->file)
        status = compare_text(cli, args, &text, &err);
    int code = status == JT_OK ? report(cli, args, &r, &text) : cli_fail(cli, &err);
    jt_comparison_free(&text);
    free_rows(&r);
    return code;
}

static const cli_group groups[] = {
    {"Flags", options, 0},
    {NULL, cli_threads_options, offsetof(struct diff_args, session)},
    {NULL, cli_kernel_options, offsetof(struct diff_args, session)},
    {NULL, cli_common_options, 0},
    {0}};

static const char *const examples[] = {
    "junto diff model-f16.gguf model-q4.gguf", "which tensors changed most",
    "junto diff model-f16.gguf model-q4.gguf -f text.txt --no-tensors",
    "what quantisation did to the logits and to the routing", NULL};

const cli_verb cli_verb_diff = {
    .name = "diff",
    .section = "Shrink",
    .summary = "compare two models: tensors, logits, routing",
    .details =
        "The error of a tensor is the root of sum (a - b)^2 / sum a^2. With a text "
        "both "
        "models run over it: the KL divergence of what B foresees from what A does, "
        "how "
        "often the likeliest token is the same, both perplexities, and, for each layer "
        "of a mixture, how often the set of chosen experts is the same and its Jaccard "
        "index (shared by either); junto compare says more.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct diff_args),
    .run = run,
};
