#include <limits.h>
#include <math.h>
#include <stdlib.h>

#include "run.h"

/* Sampling that no flag asked for is what the file says, or the usual. */
static void fill_sampling(run_state *run)
{
    jt_sampling *s = &run->args.sampling, usual = jt_sampling_default();
    int from_file = jt_sampling_from_file(&usual, jt_model_file(run->m.model));
    bool takes = isnan(s->temperature) || s->top_k == INT_MIN || isnan(s->top_p) ||
                 isnan(s->min_p) || isnan(s->repeat_penalty);
    if (isnan(s->temperature))
        s->temperature = usual.temperature;
    if (s->top_k == INT_MIN)
        s->top_k = usual.top_k;
    if (isnan(s->top_p))
        s->top_p = usual.top_p;
    if (isnan(s->min_p))
        s->min_p = usual.min_p;
    if (isnan(s->repeat_penalty))
        s->repeat_penalty = usual.repeat_penalty;
    if (from_file && takes)
        cli_note(run->cli,
                 "sampling as the file says: temperature %g, top-k %d, top-p %g, min-p "
                 "%g, repeat penalty %g",
                 s->temperature, s->top_k, s->top_p, s->min_p, s->repeat_penalty);
}

jt_status run_open(run_state *run, const struct run_args *args, bool chat, jt_err *err)
{
    run->args = *args;
    JT_TRY(cli_load_stored(&run->m, args->model, true, &args->session.store, err));
    if (chat)
        JT_TRY(cli_template_open(&run->template, &args->template,
                                 jt_model_file(run->m.model), run->m.tokenizer, err));
    fill_sampling(run);
    run->seed = cli_seed(args->seed);
    double *uses;
    JT_TRY(cli_store_pin(&run->args.session.store, &uses, args->cache_trace, err));
    jt_status status =
        cli_new_session(&run->session, &run->m, &run->args.session, "--ctx-size", err);
    free(uses);
    JT_TRY(status);
    JT_TRY(cli_add_adapters(&run->m, run->session, &args->adapters, err));
    JT_TRY(cli_steer(&run->steering, &args->policies, &run->m, run->session, err));
    JT_TRY(cli_grammar_open(&run->grammar, &args->grammar, run->m.tokenizer, err));
    JT_TRY(cli_speculate_open(&run->speculator, &args->speculate, &run->m,
                              &args->session, run->session, err));
    JT_TRY(cli_trace_begin(&run->trace, &args->trace, &run->m, run->session, err));
    if (!run->m.info.n_moe_layers)
        return JT_OK;
    JT_TRY(jt_usage_new(&run->usage, run->m.model, err));
    jt_watcher watcher = jt_usage_watcher(run->usage);
    return jt_session_add_watcher(run->session, &watcher, err);
}

int run_close(run_state *run, int code)
{
    cli_speculate_close(&run->speculator);
    cli_grammar_close(&run->grammar);
    jt_session_free(run->session);
    jt_steering_free(run->steering);
    code = cli_trace_end(run->cli, run->trace, code);
    jt_usage_free(run->usage);
    cli_template_close(&run->template);
    cli_unload(&run->m);
    free(run->answer.data);
    free(run->thought.data);
    return code;
}
