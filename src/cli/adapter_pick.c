/* `junto adapter pick`: of a pool of texts those that are like a few samples. */
#include <stdio.h>

#include "adapter_score.h"

static jt_status pick(cli_model *m, const adapter_pick_args *args, size_t *picked,
                      jt_err *err)
{
    const jt_session_options options = {.threads = args->threads};
    const jt_pick_options how = {.most = (size_t)args->count,
                                 .apart = (double)args->apart};
    jt_samples *samples;
    jt_session *session;
    JT_TRY(cli_load(m, args->model, true, err));
    JT_TRY(
        jt_samples_open(&samples, args->samples, m->model, (size_t)args->first, err));
    jt_status status = cli_new_session(&session, m, &options, "--model", err);
    if (status == JT_OK) {
        status =
            jt_texts_pick(args->out, args->pool, samples, session, &how, picked, err);
        jt_session_free(session);
    }
    jt_samples_free(samples);
    return status;
}

int adapter_pick(cli_context *cli, const adapter_pick_args *args)
{
    cli_model m = {0};
    jt_err err = {0};
    size_t picked;
    if (!args->model || !args->samples)
        return cli_usage(cli, "pick needs --model and --samples");
    int code = CLI_DONE;
    if (pick(&m, args, &picked, &err) == JT_OK)
        printf("%zu texts\n", picked);
    else
        code = cli_fail(cli, &err);
    cli_unload(&m);
    return code;
}
