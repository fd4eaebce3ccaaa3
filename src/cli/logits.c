#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "verbs.h"

struct logits_args {
    cli_common common;
    const char *model, *prompt, *out;
    cli_ints tokens;
    int special;
    jt_session_options session;
    cli_list adapters;
    cli_policies policies;
};

static const cli_option operands[] = {CLI_MODEL_OPERAND(struct logits_args), {0}};

static const cli_option options[] = {
    {.flags = "--tokens",
     .kind = CLI_INTS,
     .value = "IDS",
     .offset = offsetof(struct logits_args, tokens),
     .min = 0,
     .max = INT32_MAX,
     .help = "the tokens to evaluate, as 1,2,3; nothing is added to them"},
    {.flags = "-p --prompt",
     .kind = CLI_STRING,
     .value = "TEXT",
     .offset = offsetof(struct logits_args, prompt),
     .help = "a text to evaluate instead"},
    {.flags = "--special",
     .kind = CLI_SWITCH,
     .initial = "1",
     .offset = offsetof(struct logits_args, special),
     .help = "names of special tokens in the text stand for those tokens (default)"},
    {.flags = "-o --output",
     .kind = CLI_PATH,
     .value = "FILE.npy",
     .required = true,
     .offset = offsetof(struct logits_args, out),
     .help = "where to write the logits, float32 [tokens, vocabulary]"},
    {0}};

static jt_status write_rows(void *user, size_t first, const float *logits, size_t rows,
                            jt_err *err)
{
    (void)first;
    return jt_npy_writer_append(user, logits, rows, err);
}

static jt_status evaluate(cli_context *cli, const struct logits_args *args,
                          cli_model *m, const int32_t *ids, size_t count, jt_err *err)
{
    const char *flag = args->prompt ? "--prompt" : "--tokens";
    jt_session *session = NULL;
    jt_steering *steering = NULL;
    jt_npy_writer *out = NULL;
    const uint64_t shape[] = {count, (uint64_t)m->info.n_vocab};
    jt_status status = cli_new_session_for(&session, m, count, &args->session, flag,
                                           &args->adapters, err);
    if (status == JT_OK)
        status = cli_steer(&steering, &args->policies, m, session, err);
    if (status == JT_OK)
        status = jt_npy_writer_new(&out, args->out, JT_NPY_F32, shape, 2, err);
    if (status == JT_OK) {
        jt_eval_options eval = {write_rows, out, cli_progress(cli)};
        status = jt_session_eval(session, ids, count, &eval, err);
        if (status == JT_OK)
            status = jt_npy_writer_finish(out, err);
        else
            jt_npy_writer_abort(out);
    }
    jt_session_free(session);
    jt_steering_free(steering);
    return status;
}

static jt_status gather_tokens(const struct logits_args *args, cli_model *m,
                               jt_tokens *tokens, jt_err *err)
{
    if (args->prompt) {
        unsigned flags =
            JT_ENCODE_ADD_SPECIAL | (args->special ? JT_ENCODE_PARSE_SPECIAL : 0u);
        JT_TRY(jt_encode(m->tokenizer, args->prompt, strlen(args->prompt), flags,
                         tokens, err));
    }
    if (args->prompt && !tokens->count)
        return jt_fail(err, JT_E_ARG, "--prompt: the text is empty");
    size_t count = args->prompt ? tokens->count : args->tokens.count;
    if (count > 1 << 24)
        return jt_fail(err, JT_E_LIMIT, "%zu tokens are too many for one pass", count);
    for (size_t i = 0; i < args->tokens.count; i++) {
        if (args->tokens.items[i] >= m->info.n_vocab)
            return jt_fail(err, JT_E_ARG,
                           "--tokens: %d is outside the vocabulary (0 to %d)",
                           (int)args->tokens.items[i], m->info.n_vocab - 1);
    }
    return JT_OK;
}

static int run(cli_context *cli, const void *raw)
{
    const struct logits_args *args = raw;
    if (!args->prompt == !args->tokens.count)
        return cli_usage(cli, "give either --tokens or --prompt");
    cli_interrupt_catch();
    jt_err err = {0};
    cli_model m;
    if (cli_load(&m, args->model, args->prompt != NULL, &err) != JT_OK)
        return cli_fail(cli, &err);
    jt_tokens tokens = {0};
    jt_status status = gather_tokens(args, &m, &tokens, &err);
    if (status == JT_OK)
        status = evaluate(cli, args, &m, args->prompt ? tokens.ids : args->tokens.items,
                          args->prompt ? tokens.count : args->tokens.count, &err);
    free(tokens.ids);
    cli_unload(&m);
    return status == JT_OK ? CLI_DONE : cli_fail(cli, &err);
}

static const cli_group groups[] = {
    {"Flags", options, 0},
    {NULL, cli_policy_options, offsetof(struct logits_args, policies)},
    {NULL, cli_threads_options, offsetof(struct logits_args, session)},
    {NULL, cli_kernel_options, offsetof(struct logits_args, session)},
    {NULL, cli_adapter_options, offsetof(struct logits_args, adapters)},
    {NULL, cli_adapter_type_options, offsetof(struct logits_args, session)},
    {NULL, cli_common_options, 0},
    {0}};

static const char *const examples[] = {
    "junto logits model.gguf --tokens 1,2,3 -o logits.npy",
    "the logits after each of three tokens, a NumPy file of shape [3, vocabulary]",
    NULL};

const cli_verb cli_verb_logits = {
    .name = "logits",
    .section = "Look",
    .summary = "write the logits at every position to a NumPy file",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct logits_args),
    .run = run,
};
