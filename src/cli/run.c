#include "run.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "verbs.h"

static const char *const examples[] = {
    "junto run model.gguf -p 'The capital of France is' -n 16",
    "go on from a text",
    "junto run model.gguf --chat -p 'Why is the sky blue?' --temp 0",
    "ask one question; always the same answer",
    "junto run model.gguf -i -sys 'You answer in one sentence.'",
    "chat",
    "junto run model.gguf -f prompt.txt --seed 7 --json > reply.json",
    "a text that can be repeated, with figures and the work of each expert",
    NULL};

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Replace escapes in place; unknown ones stay as they are. Returns the new length. */
static size_t unescape(char *text, size_t len)
{
    static const char from[] = "ntr\\\"'", to[] = "\n\t\r\\\"'";
    size_t out = 0;
    for (size_t i = 0; i < len; i++) {
        const char *known = text[i] == '\\' && i + 1 < len && text[i + 1]
                                ? strchr(from, text[i + 1])
                                : NULL;
        bool hex = text[i] == '\\' && i + 3 < len && text[i + 1] == 'x' &&
                   hex_digit(text[i + 2]) >= 0 && hex_digit(text[i + 3]) >= 0;
        if (known) {
            text[out++] = to[known - from];
            i++;
        } else if (hex) {
            text[out++] = (char)(hex_digit(text[i + 2]) * 16 + hex_digit(text[i + 3]));
            i += 3;
        } else {
            text[out++] = text[i];
        }
    }
    text[out] = '\0';
    return out;
}

/* The prompt of -p or -f in a fresh buffer. JT_E_ARG: it is empty. */
static jt_status read_prompt(const struct run_args *args, char **text, size_t *len,
                             jt_err *err)
{
    if (args->file) {
        JT_TRY(cli_read_text(text, len, args->file, err));
    } else {
        *text = strdup(args->prompt);
        if (!*text)
            return jt_fail(err, JT_E_MEMORY, "out of memory for the prompt");
        *len = strlen(*text);
    }
    if (args->escape)
        *len = unescape(*text, *len);
    if (*len)
        return JT_OK;
    free(*text);
    *text = NULL;
    if (args->file)
        return jt_fail(err, JT_E_FORMAT, "the prompt in '%s' is empty", args->file);
    return jt_fail(err, JT_E_ARG, "--prompt: the prompt is empty");
}

static jt_status open_run(run_state *run, jt_err *err)
{
    const struct run_args *args = run->args;
    JT_TRY(cli_load(&run->m, args->model, true, err));
    bool chat = args->chat || args->interactive || args->system || args->chat_format;
    if (chat && args->chat_format) {
        run->format = jt_chat_format_named(args->chat_format);
        if (!run->format)
            return jt_fail(err, JT_E_ARG, "--chat-format: '%s' is not a known format",
                           args->chat_format);
    } else if (chat) {
        run->format = jt_chat_format_of(run->m.model);
    }
    run->sampling = args->sampling;
    run->sampling.seed = cli_seed(args->seed);
    JT_TRY(run_new_sampler(run, err));
    JT_TRY(cli_new_session(&run->session, &run->m, &args->session, "--ctx-size", err));
    if (!run->m.info.n_moe_layers)
        return JT_OK;
    JT_TRY(jt_usage_new(&run->usage, run->m.model, err));
    jt_watcher watcher = jt_usage_watcher(run->usage);
    return jt_session_add_watcher(run->session, &watcher, err);
}

static void close_run(run_state *run)
{
    jt_session_free(run->session);
    jt_sampler_free(run->sampler);
    jt_usage_free(run->usage);
    cli_unload(&run->m);
    free(run->text);
}

/* One prompt, one reply. */
static int run_once(run_state *run, const char *prompt, size_t len)
{
    jt_err err = {0};
    char *turn = NULL;
    if (run->format) {
        if (run_wrap_turn(run, prompt, true, &turn, &err) != JT_OK)
            return cli_fail(run->cli, &err);
        prompt = turn;
        len = strlen(turn);
    }
    jt_generate_result result;
    jt_status status = JT_OK;
    if (run->args->display_prompt && !run->args->json)
        status = cli_write(prompt, len, &err);
    if (status == JT_OK)
        status = run_reply(run, prompt, len, true, &result, &err);
    free(turn);
    if (status != JT_OK)
        return cli_fail(run->cli, &err);
    int code = CLI_DONE;
    if (run->args->json)
        code = run_print_json(run, &result);
    else if (isatty(STDOUT_FILENO) && run->last && run->last != '\n')
        cli_write("\n", 1, NULL);
    run_print_figures(run, &result);
    run_print_experts(run);
    return code == CLI_DONE && result.finish == JT_FINISH_INTERRUPTED ? CLI_INTERRUPTED
                                                                      : code;
}

static int run(cli_context *cli, const void *raw)
{
    const struct run_args *args = raw;
    if (args->prompt && args->file)
        return cli_usage(cli, "give only one of --prompt and --file");
    if (!args->prompt && !args->file && !args->interactive)
        return cli_usage(cli, "give a prompt with --prompt or --file, or chat with "
                              "--interactive");
    if (args->interactive && (args->json || args->file))
        return cli_usage(cli, "--interactive does not go with %s",
                         args->json ? "--json" : "--file");
    jt_err err = {0};
    char *prompt = NULL;
    size_t len = 0;
    if ((args->prompt || args->file) && read_prompt(args, &prompt, &len, &err) != JT_OK)
        return cli_fail(cli, &err);
    cli_interrupt_catch();
    run_state state = {.cli = cli, .args = args};
    jt_status status = open_run(&state, &err);
    int code;
    if (status == JT_OK)
        code = args->interactive ? run_chat(&state, prompt)
                                 : run_once(&state, prompt, len);
    else
        code = cli_fail(cli, &err);
    close_run(&state);
    free(prompt);
    return code;
}

const cli_verb cli_verb_run = {
    .name = "run",
    .section = "Run",
    .summary = "generate text from a prompt, or chat",
    .details = "The text goes to standard output as it comes. Ctrl-C ends it: what was "
               "written stays, the figures are printed and the exit code is 130. In a "
               "chat the first Ctrl-C ends the reply, the second leaves.",
    .operands = run_operands,
    .groups = run_groups,
    .examples = examples,
    .args_size = sizeof(struct run_args),
    .run = run,
};
