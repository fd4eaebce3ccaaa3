/* --trace, for all verbs that run a model. */
#include "common.h"

const cli_option cli_trace_options[] = {
    {.flags = "--trace",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = offsetof(cli_trace_flags, path),
     .help = "write which experts each token got; 'junto trace' reads it"},
    {.flags = "--trace-scores",
     .kind = CLI_FLAG,
     .offset = offsetof(cli_trace_flags, scores),
     .help = "with --trace: and the scores of all experts"},
    {.flags = "--trace-norms",
     .kind = CLI_FLAG,
     .offset = offsetof(cli_trace_flags, norms),
     .help = "with --trace: and the norms of what the experts gave"},
    {0}};

jt_status cli_trace_begin(jt_trace_writer **out, const cli_trace_flags *flags,
                          const cli_model *model, jt_session *session, jt_err *err)
{
    *out = NULL;
    if (!flags->path) {
        if (flags->scores || flags->norms)
            return jt_fail(err, JT_E_ARG, "--trace-%s does nothing without --trace",
                           flags->scores ? "scores" : "norms");
        return JT_OK;
    }
    jt_trace_options options = {.scores = flags->scores, .norms = flags->norms};
    jt_trace_writer *writer;
    jt_status status =
        jt_trace_writer_new(&writer, flags->path, model->model, &options, err);
    if (status != JT_OK)
        return jt_fail_within(err, status, "--trace");
    jt_watcher watcher = jt_trace_watcher(writer);
    status = jt_session_add_watcher(session, &watcher, err);
    if (status == JT_OK)
        *out = writer;
    else
        jt_trace_finish(writer, NULL);
    return status;
}

int cli_trace_end(cli_context *cli, jt_trace_writer *writer, int code)
{
    jt_err err = {0};
    if (jt_trace_finish(writer, &err) == JT_OK)
        return code;
    int failed = cli_fail(cli, &err);
    return code == CLI_DONE ? failed : code;
}
