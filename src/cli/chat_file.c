#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chat.h"

static const char *const switches[] = {"auto", "on", "off"};

/* ---- writing ---- */

static json_t *as_json(const chat_state *chat)
{
    const struct run_args *args = &chat->run.args;
    return json_pack("{s:i, s:o, s:o, s:s, s:i, s:O}", "junto_chat", 1, "model",
                     cli_json_text(args->model, strlen(args->model)), "settings",
                     chat_settings(args), "think", args->template.think,
                     "thinking_budget", args->budget, "messages", chat->messages);
}

static jt_status write_beside(const char *beside, int fd, const json_t *json,
                              const char *path, jt_err *err)
{
    FILE *out = fdopen(fd, "w");
    bool good = out && fchmod(fd, 0600) == 0 &&
                json_dumpf(json, out, JSON_INDENT(1) | JSON_REAL_PRECISION(7)) == 0 &&
                fputc('\n', out) != EOF && fflush(out) == 0 && fsync(fd) == 0;
    int reason = errno;
    if (out)
        fclose(out);
    else
        close(fd);
    if (good && rename(beside, path) == 0)
        return JT_OK;
    reason = good ? errno : reason;
    unlink(beside);
    return jt_fail(err, JT_E_IO, "cannot write '%s': %s", path, strerror(reason));
}

jt_status chat_save(const chat_state *chat, const char *path, jt_err *err)
{
    char beside[4096];
    if (snprintf(beside, sizeof beside, "%s.XXXXXX", path) >= (int)sizeof beside)
        return jt_fail(err, JT_E_ARG, "the name of the file is too long");
    json_t *json = as_json(chat);
    if (!json)
        return jt_fail(err, JT_E_MEMORY, "out of memory for the chat");
    int fd = mkstemp(beside);
    jt_status status =
        fd < 0 ? jt_fail(err, JT_E_IO, "cannot write '%s': %s", path, strerror(errno))
               : write_beside(beside, fd, json, path, err);
    json_decref(json);
    return status;
}

/* ---- reading ---- */

/* Each message is an object with a role; the rest is the template's affair. */
static jt_status check_messages(const json_t *messages, jt_err *err)
{
    size_t i;
    json_t *message;
    if (!json_is_array(messages))
        return jt_fail(err, JT_E_FORMAT, "there is no list of messages");
    json_array_foreach(messages, i, message)
    {
        if (!json_is_string(json_object_get(message, "role")))
            return jt_fail(err, JT_E_FORMAT, "message %zu has no role", i + 1);
    }
    return JT_OK;
}

static jt_status read_setting(struct run_args *args, const char *name,
                              const json_t *value, jt_err *err)
{
    char text[32];
    if (json_is_integer(value))
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        snprintf(text, sizeof text, "%.9g", json_real_value(value));
    else
        return jt_fail(err, JT_E_FORMAT, "%s is not a number", name);
    return chat_set(args, name, text, err);
}

static jt_status read_settings(struct run_args *args, json_t *file, jt_err *err)
{
    const char *name;
    json_t *value, *settings = json_object_get(file, "settings");
    json_object_foreach(settings, name, value)
        JT_TRY(read_setting(args, name, value, err));
    const char *think = json_string_value(json_object_get(file, "think"));
    for (size_t i = 0; think && i < sizeof switches / sizeof *switches; i++) {
        if (!strcmp(think, switches[i]))
            args->template.think = switches[i]; /* outlives the file */
    }
    json_t *budget = json_object_get(file, "thinking_budget");
    json_int_t tokens = json_integer_value(budget);
    if (budget && (!json_is_integer(budget) || tokens < -1 || tokens > 1 << 24))
        return jt_fail(err, JT_E_FORMAT, "the thinking_budget is not a budget");
    if (budget)
        args->budget = (int)tokens;
    return JT_OK;
}

static jt_status take(chat_state *chat, json_t *file, jt_err *err)
{
    struct run_args args = chat->run.args;
    json_t *messages = json_is_array(file) ? file : json_object_get(file, "messages");
    JT_TRY(check_messages(messages, err));
    JT_TRY(read_settings(&args, file, err));
    if (args.seed != chat->run.args.seed)
        chat->run.seed = cli_seed(args.seed);
    chat->run.args = args;
    json_decref(chat->messages);
    chat->messages = json_incref(messages);
    return JT_OK;
}

jt_status chat_load(chat_state *chat, const char *path, jt_err *err)
{
    char *text;
    size_t len;
    JT_TRY(cli_read_text(&text, &len, path, err));
    json_error_t where;
    json_t *file = json_loadb(text, len, JSON_ALLOW_NUL, &where);
    free(text);
    jt_status status =
        file ? take(chat, file, err)
             : jt_fail(err, JT_E_FORMAT, "line %d: %s", where.line, where.text);
    json_decref(file);
    if (status == JT_OK)
        return JT_OK;
    if (err->code == JT_E_ARG)
        err->code = JT_E_FORMAT; /* a wrong file, not wrong usage */
    return jt_fail_within(err, err->code, "%s", path);
}
