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

const cli_option cli_residency_options[] = {
    {.flags = "--trace-residency",
     .kind = CLI_FLAG,
     .offset = offsetof(cli_trace_flags, residency),
     .help = "with --trace and --ram: and whether each chosen expert was in memory"},
    {0}};

jt_status cli_trace_check(const cli_trace_flags *flags, jt_err *err)
{
    const char *more = flags->scores      ? "scores"
                       : flags->norms     ? "norms"
                       : flags->residency ? "residency"
                                          : NULL;
    return flags->path || !more
               ? JT_OK
               : jt_fail(err, JT_E_ARG, "--trace-%s does nothing without --trace",
                         more);
}

jt_status cli_trace_open(jt_trace_writer **out, const cli_trace_flags *flags,
                         const cli_model *model, const jt_session *session, jt_err *err)
{
    jt_store_stats store;
    *out = NULL;
    JT_TRY(cli_trace_check(flags, err));
    if (!flags->path)
        return JT_OK;
    if (flags->residency && !(session && jt_session_store_stats(session, &store)))
        return jt_fail(err, JT_E_ARG,
                       "--trace-residency tells nothing without --ram: all experts are "
                       "mapped");
    jt_trace_options options = {.scores = flags->scores,
                                .norms = flags->norms,
                                .residency_of = flags->residency ? session : NULL,
                                .steered = session};
    jt_status status =
        jt_trace_writer_new(out, flags->path, model->model, &options, err);
    return status == JT_OK ? JT_OK : jt_fail_within(err, status, "--trace");
}

jt_status cli_trace_begin(jt_trace_writer **out, const cli_trace_flags *flags,
                          const cli_model *model, jt_session *session, jt_err *err)
{
    JT_TRY(cli_trace_open(out, flags, model, session, err));
    if (!*out)
        return JT_OK;
    jt_watcher watcher = jt_trace_watcher(*out);
    jt_status status = jt_session_add_watcher(session, &watcher, err);
    if (status != JT_OK) {
        jt_trace_finish(*out, NULL);
        *out = NULL;
    }
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
