#include "run.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chat.h"
#include "verbs.h"

static const char *const examples[] = {
    "junto run model.gguf -p 'The capital of France is' -n 16",
    "go on from a text",
    "junto run model.gguf --chat -p 'Why is the sky blue?' --temp 0",
    "ask one question; always the same answer",
    "junto run model.gguf --chat -p 'What is 17 * 23?' --thinking-budget 200",
    "think, but not for long",
    "junto run model.gguf -f code.txt --lookup",
    "a text that repeats itself, sooner",
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

/* The prompt as one turn of a chat, after the system prompt. */
static jt_status wrap(const run_state *run, const char *text, size_t len,
                      run_prompt *prompt, jt_err *err)
{
    const char *system = run->args.system;
    json_t *messages = json_array();
    int failed = system && json_array_append_new(
                               messages, cli_message("system", system, strlen(system)));
    failed |= json_array_append_new(messages, cli_message("user", text, len));
    jt_status status = failed
                           ? jt_fail(err, JT_E_MEMORY, "out of memory for the prompt")
                           : run_prompt_chat(run, messages, prompt, err);
    json_decref(messages);
    return status;
}

/* One prompt, one reply. */
static int run_once(run_state *run, const char *text, size_t len)
{
    jt_err err = {0};
    run_prompt prompt = {0};
    jt_generate_result result;
    jt_status status = run->template.chat
                           ? wrap(run, text, len, &prompt, &err)
                           : run_prompt_plain(run, text, len, &prompt, &err);
    if (status == JT_OK && run->args.display_prompt && !run->args.json)
        status = cli_write(prompt.text, prompt.len, &err);
    if (status == JT_OK)
        status = run_reply(run, &prompt, &result, &err);
    run_prompt_free(&prompt);
    if (status != JT_OK)
        return cli_fail(run->cli, &err);
    int code = CLI_DONE;
    const run_text *answer = &run->answer;
    if (run->args.json)
        code = run_print_json(run, &result);
    else if (isatty(STDOUT_FILENO) && answer->len &&
             answer->data[answer->len - 1] != '\n')
        cli_write("\n", 1, NULL);
    run_print_figures(run, &result);
    run_print_experts(run);
    return code == CLI_DONE && result.finish == JT_FINISH_INTERRUPTED ? CLI_INTERRUPTED
                                                                      : code;
}

static bool wants_chat(const struct run_args *args)
{
    const cli_template_args *t = &args->template;
    return args->chat || args->system || t->given || strcmp(t->think, "auto") ||
           t->tools || t->variables.count || args->budget >= 0;
}

static int run_prompt_once(cli_context *cli, const struct run_args *args,
                           const char *prompt, size_t len)
{
    jt_err err = {0};
    cli_interrupt_catch();
    run_state state = {.cli = cli};
    int code = run_open(&state, args, wants_chat(args), &err) == JT_OK
                   ? run_once(&state, prompt, len)
                   : cli_fail(cli, &err);
    return run_close(&state, code);
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
    int code = args->interactive ? chat_run(cli, args, prompt)
                                 : run_prompt_once(cli, args, prompt, len);
    free(prompt);
    return code;
}

const cli_verb cli_verb_run = {
    .name = "run",
    .section = "Run",
    .summary = "generate text from a prompt",
    .details = "The text goes to standard output as it comes. Ctrl-C ends it: what was "
               "written stays, the figures are printed and the exit code is 130.",
    .operands = run_operands,
    .groups = run_groups,
    .examples = examples,
    .args_size = sizeof(struct run_args),
    .run = run,
};
