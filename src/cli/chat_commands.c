#include <stdlib.h>
#include <string.h>

#include "chat.h"
#include "value.h"

/* Room for what a reply left behind is kept; only the messages go. */
static jt_status clear(chat_state *chat, const char *rest, jt_err *err)
{
    (void)rest;
    (void)err;
    size_t first = 0;
    const json_t *role = json_object_get(json_array_get(chat->messages, 0), "role");
    if (role && !strcmp(json_string_value(role), "system"))
        first = 1;
    while (json_array_size(chat->messages) > first)
        json_array_remove(chat->messages, first);
    cli_note(chat->run.cli, "(a new conversation)");
    return JT_OK;
}

static jt_status set_system(chat_state *chat, const char *rest, jt_err *err)
{
    JT_TRY(chat_set_system(chat->messages, *rest ? rest : NULL, err));
    cli_note(chat->run.cli,
             *rest ? "(the system prompt is set)" : "(no system prompt)");
    return JT_OK;
}

static jt_status regenerate(chat_state *chat, const char *rest, jt_err *err)
{
    (void)rest;
    if (!chat_drop_reply(chat->messages))
        return jt_fail(err, JT_E_ARG, "/regen: there is no turn yet");
    chat->answer_now = true;
    return JT_OK;
}

static jt_status undo(chat_state *chat, const char *rest, jt_err *err)
{
    (void)rest;
    json_t *turn = chat_drop_turn(chat->messages);
    if (!turn)
        return jt_fail(err, JT_E_ARG, "/undo: there is no turn yet");
    json_decref(turn);
    cli_note(chat->run.cli, "(the last turn is taken back)");
    return JT_OK;
}

/* The last turn again: replaced by the words that follow, or changed in the line. */
static jt_status edit(chat_state *chat, const char *rest, jt_err *err)
{
    json_t *turn = chat_drop_turn(chat->messages);
    if (!turn)
        return jt_fail(err, JT_E_ARG, "/edit: there is no turn yet");
    const char *old = json_string_value(json_object_get(turn, "content"));
    jt_status status = JT_OK;
    if (*rest) {
        status = chat_add(chat->messages, cli_message("user", rest, strlen(rest)), err);
        chat->answer_now = status == JT_OK;
    } else if (!chat_lines_propose(chat->lines, old ? old : "")) {
        cli_note(chat->run.cli, "(the next line takes the place of: %s)",
                 old ? old : "");
    }
    json_decref(turn);
    return status;
}

/* The name that was given, or the last one. */
static jt_status choose_path(chat_state *chat, const char *rest, const char *command,
                             jt_err *err)
{
    if (!*rest && chat->path)
        return JT_OK;
    if (!*rest)
        return jt_fail(err, JT_E_ARG, "%s needs the name of a file", command);
    char *path = strdup(rest);
    if (!path)
        return jt_fail(err, JT_E_MEMORY, "out of memory for the name");
    free(chat->path);
    chat->path = path;
    return JT_OK;
}

static jt_status save(chat_state *chat, const char *rest, jt_err *err)
{
    JT_TRY(choose_path(chat, rest, "/save", err));
    JT_TRY(chat_save(chat, chat->path, err));
    cli_note(chat->run.cli, "(saved in '%s')", chat->path);
    return JT_OK;
}

static jt_status load(chat_state *chat, const char *rest, jt_err *err)
{
    JT_TRY(choose_path(chat, rest, "/load", err));
    JT_TRY(chat_load(chat, chat->path, err));
    cli_note(chat->run.cli, "(%zu messages from '%s')", json_array_size(chat->messages),
             chat->path);
    return JT_OK;
}

static jt_status list_settings(const chat_state *chat, jt_err *err)
{
    json_t *settings = chat_settings(&chat->run.args);
    char *text = settings ? json_dumps(settings, JSON_REAL_PRECISION(7)) : NULL;
    json_decref(settings);
    if (!text)
        return jt_fail(err, JT_E_MEMORY, "out of memory for the settings");
    cli_note(chat->run.cli, "%s", text);
    free(text);
    return JT_OK;
}

static jt_status set(chat_state *chat, const char *rest, jt_err *err)
{
    char name[32];
    if (!*rest)
        return list_settings(chat, err);
    size_t len = strcspn(rest, "= ");
    const char *value = rest + len + strspn(rest + len, " =");
    if (len >= sizeof name || !*value)
        return jt_fail(err, JT_E_ARG, "/set: '%s' is not NAME=VALUE", rest);
    snprintf(name, sizeof name, "%.*s", (int)len, rest);
    JT_TRY(chat_set(&chat->run.args, name, value, err));
    if (!strcmp(name, "seed")) {
        chat->run.seed = cli_seed(chat->run.args.seed);
        chat->run.replies = 0;
    }
    cli_note(chat->run.cli, "(%s is %s)", name, value);
    return JT_OK;
}

static jt_status think(chat_state *chat, const char *rest, jt_err *err)
{
    static const char *const words[] = {"auto", "on", "off"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!strcmp(rest, words[i])) {
            chat->run.args.template.think = words[i];
            cli_note(chat->run.cli, "(thinking: %s)", rest);
            return JT_OK;
        }
    }
    return jt_fail(err, JT_E_ARG, "/think: '%s' is not on, off or auto", rest);
}

static jt_status budget(chat_state *chat, const char *rest, jt_err *err)
{
    static const cli_option number = {.kind = CLI_INT, .min = -1, .max = 1 << 24};
    JT_TRY(cli_store(&number, &chat->run.args.budget, "/budget", rest, err));
    cli_note(chat->run.cli, "(thinking budget: %d tokens)", chat->run.args.budget);
    return JT_OK;
}

static jt_status show(chat_state *chat, const char *rest, jt_err *err)
{
    bool on = !strcmp(rest, "on");
    if (!on && strcmp(rest, "off"))
        return jt_fail(err, JT_E_ARG, "/show: '%s' is not on or off", rest);
    chat->run.args.show_thinking = on;
    cli_note(chat->run.cli, "(thoughts are %s)", on ? "shown" : "hidden");
    return JT_OK;
}

static jt_status tools(chat_state *chat, const char *rest, jt_err *err)
{
    JT_TRY(cli_template_read_tools(&chat->run.template, *rest ? rest : NULL, err));
    cli_note(chat->run.cli, *rest ? "(tools from '%s')" : "(no tools)", rest);
    return JT_OK;
}

static jt_status stats(chat_state *chat, const char *rest, jt_err *err)
{
    (void)rest;
    (void)err;
    run_state *run = &chat->run;
    cli_note(run->cli,
             "%zu messages, context %d of %d tokens; generated %zu tokens in %llu "
             "replies, %zu of them thoughts",
             json_array_size(chat->messages), jt_session_length(run->session),
             jt_session_capacity(run->session), chat->sampled,
             (unsigned long long)run->replies, chat->thoughts);
    if (run->replies)
        run_print_figures(run, &chat->last);
    return JT_OK;
}

static jt_status leave(chat_state *chat, const char *rest, jt_err *err)
{
    (void)rest;
    (void)err;
    chat->leave = true;
    return JT_OK;
}

static jt_status help(chat_state *chat, const char *rest, jt_err *err);

static const struct {
    const char *name, *value, *help; /* no help: another name of the one before */
    jt_status (*run)(chat_state *chat, const char *rest, jt_err *err);
} commands[] = {
    {"/help", "", "this list", help},
    {"/system", "[TEXT]", "what the model is told before the chat", set_system},
    {"/clear", "", "forget the conversation (also /reset)", clear},
    {"/reset", NULL, NULL, clear},
    {"/regen", "", "another reply to the last turn", regenerate},
    {"/edit", "[TEXT]", "change the last turn, or replace it by TEXT", edit},
    {"/undo", "", "take the last turn and its reply back", undo},
    {"/save", "[FILE]", "write messages and settings", save},
    {"/load", "[FILE]", "read them", load},
    {"/set", "[NAME=VALUE]", "sampling: temperature, top-k, top-p, min-p, seed, ..",
     set},
    {"/think", "on|off|auto", "thinking before the answer", think},
    {"/budget", "N", "tokens of thought at most; -1: no end", budget},
    {"/show", "on|off", "thoughts on the screen", show},
    {"/tools", "[FILE]", "functions that the model is told about", tools},
    {"/stats", "", "tokens and times", stats},
    {"/exit", "", "leave (also /quit, Ctrl-D)", leave},
    {"/quit", NULL, NULL, leave},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static jt_status help(chat_state *chat, const char *rest, jt_err *err)
{
    (void)rest;
    (void)err;
    cli_note(chat->run.cli, "a line is a turn; a backslash at its end goes on in the "
                            "next line, as do lines between \"\"\" and \"\"\"");
    for (size_t i = 0; i < COMMANDS; i++) {
        if (commands[i].help)
            cli_note(chat->run.cli, "%-8s %-13s %s", commands[i].name,
                     commands[i].value, commands[i].help);
    }
    cli_note(chat->run.cli, "%-8s %-13s %s", "Ctrl-C", "",
             "end the reply; at the prompt: leave");
    return JT_OK;
}

jt_status chat_obey(chat_state *chat, const char *line, jt_err *err)
{
    size_t len = strcspn(line, " \t\n");
    const char *rest = line + len + strspn(line + len, " \t\n");
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strlen(commands[i].name) == len && !memcmp(commands[i].name, line, len))
            return commands[i].run(chat, rest, err);
    }
    return jt_fail(err, JT_E_ARG,
                   "%.*s is no command (/help lists them; // begins a "
                   "turn with a slash)",
                   (int)len, line);
}
