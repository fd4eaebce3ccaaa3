#include <stdlib.h>
#include <string.h>

#include "run.h"

static double rate(size_t tokens, double seconds)
{
    return seconds > 0 ? (double)tokens / seconds : 0;
}

void run_print_figures(run_state *run, const jt_generate_result *result)
{
    char thoughts[96] = "";
    if (result->thought_tokens || result->forced_tokens)
        snprintf(thoughts, sizeof thoughts, " (%zu of them thoughts%s)",
                 result->thought_tokens,
                 result->forced_tokens ? ", ended by the budget" : "");
    char guesses[96] = "";
    if (result->drafted)
        snprintf(guesses, sizeof guesses, " in %zu passes (%zu of %zu guesses right)",
                 result->passes, result->accepted, result->drafted);
    cli_note(
        run->cli,
        "prompt %zu tokens, %.1f tokens/s; generated %zu tokens%s%s, %.1f tokens/s; "
        "finish: %s; seed %llu",
        result->prompt_tokens, rate(result->prompt_tokens, result->prompt_seconds),
        result->tokens, thoughts, guesses, rate(result->tokens, result->seconds),
        jt_finish_name(result->finish), (unsigned long long)run->seed);
    cli_store_note(run->cli, run->session);
}

void run_print_experts(run_state *run)
{
    const cli_context *cli = run->cli;
    int wish = run->args.experts;
    bool automatic = cli->terminal && !cli->quiet && !run->args.json;
    if (!run->usage || !(wish < 0 ? automatic : wish))
        return;
    char *picture;
    if (jt_usage_draw(run->usage, cli_columns(), cli->color, &picture, NULL) != JT_OK)
        return; /* no memory for a picture: the text is what counts */
    fflush(stdout);
    fputs(picture, stderr);
    free(picture);
}

static json_t *layers_json(const jt_usage *usage)
{
    json_t *layers = json_array();
    for (size_t i = 0; i < jt_usage_layers(usage); i++) {
        jt_layer_usage layer;
        jt_usage_layer(usage, i, &layer);
        json_t *counts = json_array(), *weights = json_array();
        for (int e = 0; e < layer.n_experts; e++) {
            json_array_append_new(counts, json_integer((json_int_t)layer.counts[e]));
            json_array_append_new(weights, cli_json_number(layer.weights[e]));
        }
        json_array_append_new(
            layers, json_pack("{s:i, s:I, s:f, s:o, s:o}", "layer", layer.layer,
                              "tokens", (json_int_t)layer.tokens, "entropy",
                              layer.entropy, "counts", counts, "weights", weights));
    }
    return layers;
}

int run_print_json(run_state *run, const jt_generate_result *result)
{
    json_t *json = json_pack(
        "{s:o, s:s, s:o, s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:i, s:s}", "model",
        cli_json_text(run->args.model, strlen(run->args.model)), "family",
        run->m.info.family, "text", cli_json_text(run->answer.data, run->answer.len),
        "finish", jt_finish_name(result->finish), "seed", (json_int_t)run->seed,
        "prompt_tokens", (json_int_t)result->prompt_tokens, "tokens",
        (json_int_t)result->tokens, "load_seconds", run->m.seconds, "prompt_seconds",
        result->prompt_seconds, "seconds", result->seconds, "threads",
        jt_session_threads(run->session), "cpu", jt_session_cpu(run->session));
    if (json && run->speculator.on)
        json_object_set_new(json, "speculation",
                            json_pack("{s:I, s:I, s:I}", "passes",
                                      (json_int_t)result->passes, "drafted",
                                      (json_int_t)result->drafted, "accepted",
                                      (json_int_t)result->accepted));
    if (json && run->thought.len) {
        json_object_set_new(json, "thought",
                            cli_json_text(run->thought.data, run->thought.len));
        json_object_set_new(json, "thought_tokens",
                            json_integer((json_int_t)result->thought_tokens));
    }
    json_t *store = cli_store_json(run->session);
    if (json && store)
        json_object_set_new(json, "store", store);
    if (json && run->usage)
        json_object_set_new(json, "layers", layers_json(run->usage));
    return cli_print_json(run->cli, json);
}
