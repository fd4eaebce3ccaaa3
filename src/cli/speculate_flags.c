#include "speculate.h"

#define FIELD(name) offsetof(cli_speculate_args, name)

const cli_option cli_speculate_options[] = {
    {.flags = "--lookup",
     .kind = CLI_FLAG,
     .offset = FIELD(lookup),
     .help =
         "guess that what followed these words before follows again; the text stays "
         "the same, and comes sooner where it repeats itself"},
    {.flags = "-md --model-draft",
     .kind = CLI_PATH,
     .is_model = true,
     .value = "FILE",
     .offset = FIELD(model),
     .help = "let this smaller model, of the same vocabulary, guess"},
    {.flags = "--draft --draft-max --draft-n",
     .kind = CLI_INT,
     .value = "N",
     .initial = "8",
     .offset = FIELD(most),
     .min = 1,
     .max = 256,
     .help = "tokens that are guessed at once; after wrong ones fewer"},
    {.flags = "--draft-p-min",
     .kind = CLI_FLOAT,
     .value = "P",
     .initial = "0.6",
     .offset = FIELD(min_p),
     .max = 1,
     .help = "stop guessing where the draft model is less sure than this"},
    {0}};

static jt_status open_model(cli_speculator *s, const cli_speculate_args *args,
                            const cli_model *model, const jt_session_options *session,
                            jt_session *beside, jt_err *err)
{
    jt_session_options options = *session;
    if (options.store.ram)
        return jt_fail(err, JT_E_ARG, "a second model does not go with --ram");
    JT_TRY(cli_load(&s->m, args->model, true, err));
    JT_TRY(jt_check_draft_vocabulary(model->model, s->m.model, err));
    options.n_ctx = jt_session_capacity(beside);
    if (options.n_ctx > s->m.info.n_ctx_train)
        options.n_ctx = s->m.info.n_ctx_train;
    options.beside = beside;
    s->draft.min_p = args->min_p;
    return cli_new_session(&s->draft.session, &s->m, &options, "--model-draft", err);
}

jt_status cli_speculate_open(cli_speculator *s, const cli_speculate_args *args,
                             const cli_model *model, const jt_session_options *session,
                             jt_session *beside, jt_err *err)
{
    enum { LONGEST = 4 };
    if (args->lookup && args->model)
        return jt_fail(err, JT_E_ARG, "give only one of --lookup and --model-draft");
    s->speculation.most = args->most;
    if (args->model) {
        jt_status status = open_model(s, args, model, session, beside, err);
        if (status != JT_OK)
            return jt_fail_within(err, status, "--model-draft");
        s->speculation.drafter = jt_model_drafter(&s->draft);
    }
    if (args->lookup) {
        s->lookup = (jt_lookup){.least = 1, .most = LONGEST};
        s->speculation.drafter = jt_lookup_drafter(&s->lookup);
    }
    s->on = args->lookup || args->model;
    return JT_OK;
}

void cli_speculate_close(cli_speculator *s)
{
    jt_session_free(s->draft.session);
    cli_unload(&s->m);
}
