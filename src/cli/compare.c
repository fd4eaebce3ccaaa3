#include <stdlib.h>
#include <string.h>

#include "pair.h"
#include "verbs.h"

struct compare_args {
    cli_common common;
    const char *a, *b, *file;
    int n_ctx, top;
    bool json;
    jt_session_options session;
};

static const cli_option operands[] = {
    {.flags = "A",
     .kind = CLI_PATH,
     .is_model = true,
     .required = true,
     .offset = offsetof(struct compare_args, a),
     .help = "the model to compare with: GGUF file or Hugging Face folder"},
    {.flags = "B",
     .kind = CLI_PATH,
     .is_model = true,
     .required = true,
     .offset = offsetof(struct compare_args, b),
     .help = "the model that differs from it, with the same vocabulary"},
    {0}};

static const cli_option options[] = {
    {.flags = "-f --file",
     .kind = CLI_PATH,
     .value = "FILE",
     .required = true,
     .offset = offsetof(struct compare_args, file),
     .help = "the text that both read; - is standard input"},
    {.flags = "-c --ctx --ctx-size",
     .kind = CLI_INT,
     .value = "N",
     .initial = "512",
     .offset = offsetof(struct compare_args, n_ctx),
     .min = 2,
     .max = 1 << 24,
     .help = "tokens per window; windows do not overlap"},
    {.flags = "--top",
     .kind = CLI_INT,
     .value = "N",
     .initial = "10",
     .offset = offsetof(struct compare_args, top),
     .min = 0,
     .max = 10000,
     .help = "how many tokens to show on which the routers disagree most"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct compare_args, json),
     .help = "one JSON object instead of text"},
    {0}};

/* ---- text of tokens ---- */

enum { AROUND = 6 }; /* tokens shown on each side */

/* Tokens first .. end of the text, in a fresh buffer; NULL when that fails. */
static char *text_of(const cli_pair *pair, size_t first, size_t end)
{
    char *text = NULL;
    size_t len;
    jt_status status = jt_decode(pair->a.tokenizer, pair->tokens.ids + first,
                                 end - first, true, &text, &len, NULL);
    return status == JT_OK ? text : NULL;
}

/* On one line, whatever it holds: line ends as spaces, other control characters as '?'.
 */
static void print_piece(const char *text)
{
    for (; text && *text; text++) {
        char c = *text;
        bool space = c == '\n' || c == '\t' || c == '\r';
        putchar(space ? ' ' : (unsigned char)c < ' ' || c == 0x7f ? '?' : c);
    }
}

static void print_context(const cli_pair *pair, size_t at)
{
    size_t n = pair->tokens.count, first = at > AROUND ? at - AROUND : 0;
    char *before = text_of(pair, first, at), *token = text_of(pair, at, at + 1);
    char *after = text_of(pair, at + 1, at + 1 + AROUND < n ? at + 1 + AROUND : n);
    print_piece(before);
    printf("[");
    print_piece(token);
    printf("]");
    print_piece(after);
    printf("\n");
    free(before);
    free(token);
    free(after);
}

/* ---- for people ---- */

static void print_layers(const jt_comparison *r)
{
    printf("\n%-6s %9s %9s %9s %12s\n", "layer", "same set", "overlap", "same 1st",
           "KL, nats");
    for (size_t i = 0; i < r->n_layers; i++) {
        const jt_compare_layer *l = &r->layers[i];
        double tokens = (double)l->tokens;
        printf("%-6d %8.2f%% %9.4f %8.2f%% %12.6f\n", l->layer,
               100.0 * (double)l->same / tokens, l->jaccard,
               100.0 * (double)l->top1 / tokens, l->kl);
    }
}

static void print_bins(const jt_comparison *r)
{
    printf("\n%-14s %8s %9s %9s %9s\n", "overlap", "tokens", "loss A", "loss B",
           "B - A");
    for (int i = JT_COMPARE_BINS - 1; i >= 0; i--) {
        const jt_compare_bin *b = &r->bins[i];
        char range[32] = "1 (all)";
        if (i < JT_COMPARE_BINS - 1)
            snprintf(range, sizeof range, "%.2f to %.2f", jt_compare_edge[i],
                     jt_compare_edge[i + 1]);
        if (b->tokens)
            printf("%-14s %8zu %9.4f %9.4f %+9.4f\n", range, b->tokens, b->nll_a,
                   b->nll_b, b->nll_b - b->nll_a);
    }
    printf("correlation of disagreement and change of the loss: %.3f\n",
           r->correlation);
}

static void print_flips(const jt_comparison *r, const cli_pair *pair)
{
    if (r->n_flips)
        printf("\n%8s %8s %7s %17s  %s\n", "token", "overlap", "layers", "loss A > B",
               "text");
    for (size_t i = 0; i < r->n_flips; i++) {
        const jt_compare_token *t = &r->flips[i];
        printf("%8zu %8.3f %7d %8.3f >%7.3f  ", t->index, t->agreement, t->flipped,
               t->nll_a, t->nll_b);
        print_context(pair, t->index);
    }
}

static void print(const jt_comparison *r, const cli_pair *pair)
{
    printf("perplexity     A %.4f  B %.4f (%+.2f%%)\n", r->perplexity_a,
           r->perplexity_b, 100.0 * (r->perplexity_b / r->perplexity_a - 1.0));
    printf("KL divergence  mean %.6f  median %.6f  99%% %.6f  largest %.6f nats\n",
           r->mean, r->median, r->p99, r->most);
    printf("same top token %.3f%% of %zu\n", 100.0 * r->top1, r->scored);
    if (!r->n_layers) {
        printf("no layer has as many experts in both models: no routes to compare\n");
        return;
    }
    print_layers(r);
    print_bins(r);
    print_flips(r, pair);
}

/* ---- JSON ---- */

static json_t *text_json(const cli_pair *pair, size_t first, size_t end)
{
    char *text = text_of(pair, first, end);
    json_t *json = cli_json_text(text ? text : "", text ? strlen(text) : 0);
    free(text);
    return json;
}

static json_t *layers_json(const jt_comparison *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->n_layers; i++) {
        const jt_compare_layer *l = &r->layers[i];
        json_array_append_new(
            list, json_pack("{s:i, s:i, s:I, s:I, s:I, s:f, s:o}", "layer", l->layer,
                            "experts", l->n_experts, "tokens", (json_int_t)l->tokens,
                            "same", (json_int_t)l->same, "top1", (json_int_t)l->top1,
                            "jaccard", l->jaccard, "kl", cli_json_number(l->kl)));
    }
    return list;
}

static json_t *bins_json(const jt_comparison *r)
{
    json_t *list = json_array();
    for (int i = 0; i < JT_COMPARE_BINS && r->n_layers; i++)
        json_array_append_new(
            list, json_pack("{s:f, s:I, s:f, s:f}", "from", jt_compare_edge[i],
                            "tokens", (json_int_t)r->bins[i].tokens, "nll_a",
                            r->bins[i].nll_a, "nll_b", r->bins[i].nll_b));
    return list;
}

static json_t *flips_json(const jt_comparison *r, const cli_pair *pair)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->n_flips; i++) {
        const jt_compare_token *t = &r->flips[i];
        size_t first = t->index > AROUND ? t->index - AROUND : 0;
        json_array_append_new(
            list, json_pack("{s:I, s:f, s:i, s:f, s:f, s:o, s:o}", "index",
                            (json_int_t)t->index, "agreement", t->agreement, "layers",
                            t->flipped, "nll_a", t->nll_a, "nll_b", t->nll_b, "before",
                            text_json(pair, first, t->index), "text",
                            text_json(pair, t->index, t->index + 1)));
    }
    return list;
}

static json_t *json(const struct compare_args *args, const jt_comparison *r,
                    const cli_pair *pair)
{
    return json_pack(
        "{s:o, s:o, s:I, s:o, s:o, s:{s:o, s:o, s:o, s:o}, s:f, s:o, s:o, s:o, s:o}",
        "a", cli_json_text(args->a, strlen(args->a)), "b",
        cli_json_text(args->b, strlen(args->b)), "scored", (json_int_t)r->scored,
        "perplexity_a", cli_json_number(r->perplexity_a), "perplexity_b",
        cli_json_number(r->perplexity_b), "kl", "mean", cli_json_number(r->mean),
        "median", cli_json_number(r->median), "p99", cli_json_number(r->p99), "largest",
        cli_json_number(r->most), "top1", r->top1, "layers", layers_json(r),
        "agreement", bins_json(r), "correlation", cli_json_number(r->correlation),
        "flips", flips_json(r, pair));
}

/* ---- the verb ---- */

static int run(cli_context *cli, const void *raw)
{
    const struct compare_args *args = raw;
    cli_interrupt_catch();
    jt_err err = {0};
    cli_pair pair;
    jt_comparison result = {0};
    jt_status status = cli_pair_open(&pair, args->a, args->b, args->file, &err);
    if (status == JT_OK)
        status = cli_pair_compare(cli, &pair, &args->session, args->n_ctx,
                                  (size_t)args->top, &result, &err);
    int code = CLI_DONE;
    if (status != JT_OK)
        code = cli_fail(cli, &err);
    else if (args->json)
        code = cli_print_json(cli, json(args, &result, &pair));
    else
        print(&result, &pair);
    jt_comparison_free(&result);
    cli_pair_close(&pair);
    return code;
}

static const cli_group groups[] = {
    {"Flags", options, 0},
    {NULL, cli_threads_options, offsetof(struct compare_args, session)},
    {NULL, cli_kernel_options, offsetof(struct compare_args, session)},
    {NULL, cli_common_options, 0},
    {0}};

static const char *const examples[] = {
    "junto compare model-f16.gguf model-q4.gguf -f text.txt",
    "what a quantisation did to the routes, and the routes to the loss", NULL};

const cli_verb cli_verb_compare = {
    .name = "compare",
    .section = "Look",
    .summary = "compare the routes of two models on one text",
    .details =
        "For each layer: how often both choose the same experts, how much of their "
        "sets overlaps (shared by either), how often the first one is the same, and "
        "the KL divergence of B's scores from A's. Then the loss of the token that "
        "follows, by how far the layers agree, and the tokens on which they agree "
        "least. junto diff compares the weights; docs/report.md explains the figures.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct compare_args),
    .run = run,
};
