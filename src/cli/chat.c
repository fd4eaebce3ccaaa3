#include "chat.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "verbs.h"

/* ---- replies ---- */

static size_t trimmed(const run_text *text)
{
    size_t len = text->len;
    while (len && strchr(" \t\r\n", text->data[len - 1]))
        len--;
    return len;
}

/* The reply joins the messages, its thoughts beside it: the template knows whether it
 * shows them to the model again. */
static jt_status remember(chat_state *chat, jt_err *err)
{
    const run_text *answer = &chat->run.answer, *thought = &chat->run.thought;
    json_t *message = cli_message("assistant", answer->data, answer->len);
    if (message && thought->len &&
        json_object_set_new(message, "reasoning_content",
                            cli_json_text(thought->data, trimmed(thought)))) {
        json_decref(message);
        message = NULL;
    }
    return chat_add(chat->messages, message, err);
}

/* A turn that cannot be answered is taken back, and the chat goes on. */
static void take_back(chat_state *chat, const jt_err *err)
{
    cli_fail(chat->run.cli, err);
    json_decref(chat_drop_turn(chat->messages));
    if (err->code == JT_E_LIMIT)
        cli_note(chat->run.cli, "/reset starts a new conversation");
}

static jt_status finish_reply(chat_state *chat, jt_err *err)
{
    const jt_generate_result *result = &chat->last;
    chat->sampled += result->tokens;
    chat->thoughts += result->thought_tokens;
    JT_TRY(remember(chat, err));
    JT_TRY(cli_write("\n", 1, err));
    if (result->finish == JT_FINISH_CONTEXT)
        cli_note(chat->run.cli,
                 "(the context is full; /reset starts a new conversation)");
    else if (result->finish == JT_FINISH_INTERRUPTED)
        cli_note(chat->run.cli, "(interrupted; Ctrl-C again leaves)");
    cli_interrupt_clear();
    return JT_OK;
}

/* Answer the messages. What the template or the context refuses is told and survived;
 * other failures end the chat. */
static jt_status answer(chat_state *chat, jt_err *err)
{
    run_prompt prompt;
    jt_status status = run_prompt_chat(&chat->run, chat->messages, &prompt, err);
    bool rendered = status == JT_OK;
    if (rendered)
        status = run_reply(&chat->run, &prompt, &chat->last, err);
    run_prompt_free(&prompt);
    if (status == JT_OK)
        return finish_reply(chat, err);
    bool survives = status == JT_E_LIMIT || (!rendered && status != JT_E_MEMORY);
    if (!survives)
        return status;
    take_back(chat, err);
    return JT_OK;
}

/* ---- the conversation ---- */

/* A line from the user: a command or a turn. */
static jt_status obey(chat_state *chat, const char *line, jt_err *err)
{
    chat->answer_now = false;
    if (line[0] == '/' && line[1] != '/') {
        jt_err told = {0};
        if (chat_obey(chat, line, &told) != JT_OK)
            cli_fail(chat->run.cli, &told);
    } else if (*line) {
        line += line[0] == '/';
        JT_TRY(chat_add(chat->messages, cli_message("user", line, strlen(line)), err));
        chat->answer_now = true;
    }
    return chat->answer_now ? answer(chat, err) : JT_OK;
}

static chat_event converse(chat_state *chat, jt_status *status, jt_err *err)
{
    chat_event event = CHAT_TURN;
    while (*status == JT_OK && !chat->leave) {
        char *line;
        event = chat_lines_read(chat->lines, &line, err);
        if (event != CHAT_TURN)
            break;
        *status = obey(chat, line, err);
        free(line);
    }
    return event;
}

static jt_status open_chat(chat_state *chat, const struct run_args *args, jt_err *err)
{
    chat->messages = json_array();
    JT_TRY(run_open(&chat->run, args, true, err));
    if (args->load) {
        chat->path = strdup(args->load);
        JT_TRY(chat_load(chat, args->load, err));
    }
    if (args->system)
        JT_TRY(chat_set_system(chat->messages, args->system, err));
    return chat_lines_open(&chat->lines, chat->run.cli, err);
}

static int close_chat(chat_state *chat, int code)
{
    chat_lines_close(chat->lines);
    json_decref(chat->messages);
    free(chat->path);
    return run_close(&chat->run, code);
}

int chat_run(cli_context *cli, const struct run_args *args, const char *first)
{
    jt_err err = {0};
    chat_state chat = {.run.cli = cli};
    chat_event event = CHAT_TURN;
    cli_interrupt_catch();
    jt_status status = open_chat(&chat, args, &err);
    if (status == JT_OK && first)
        status = obey(&chat, first, &err);
    if (status == JT_OK)
        event = converse(&chat, &status, &err);
    int code = event == CHAT_INTERRUPTED ? CLI_INTERRUPTED : CLI_DONE;
    if (status != JT_OK || event == CHAT_FAILED) {
        code = cli_fail(cli, &err);
    } else {
        if (event != CHAT_TURN && isatty(STDIN_FILENO))
            cli_note(cli, "%s", "");
        run_print_experts(&chat.run);
    }
    return close_chat(&chat, code);
}

static int run(cli_context *cli, const void *raw)
{
    const struct run_args *args = raw;
    return chat_run(cli, args, args->prompt);
}

static const char *const examples[] = {
    "junto chat model.gguf -sys 'You answer in one sentence.'",
    "talk with a model",
    "junto chat model.gguf --thinking-budget 500 -q",
    "let it think for at most 500 tokens, and see only answers",
    "junto chat model.gguf --load talk.json",
    "go on where /save left off",
    NULL};

const cli_verb cli_verb_chat = {
    .name = "chat",
    .section = "Run",
    .summary = "talk with a model",
    .details =
        "A line is a turn; a backslash at its end goes on in the next line, as do "
        "lines between \"\"\" and \"\"\". Lines that begin with a slash are "
        "commands: /help lists them. The first Ctrl-C ends the reply, the second "
        "leaves. Answers go to standard output, thoughts and the rest to standard "
        "error.",
    .operands = run_operands,
    .groups = run_chat_groups,
    .examples = examples,
    .args_size = sizeof(struct run_args),
    .run = run,
};
