#include "templates.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const cli_option cli_template_options[] = {
    {.flags = "--chat-template --chat-format --chat-template-file",
     .kind = CLI_PATH,
     .value = "NAME|FILE",
     .offset = offsetof(cli_template_args, given),
     .help = "chatml, llama3, zephyr, plain, a file with a Jinja template, or its text "
             "(default: what the model's file carries, otherwise plain)"},
    {.flags = "--think --enable-thinking",
     .kind = CLI_CHOICE,
     .value = "auto|on|off",
     .initial = "auto",
     .offset = offsetof(cli_template_args, think),
     .help = "thinking before the answer; auto: as the template has it"},
    {.flags = "--tools",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = offsetof(cli_template_args, tools),
     .help = "JSON list of functions that the template tells the model about"},
    {.flags = "--set --chat-template-kwarg",
     .kind = CLI_LIST,
     .value = "NAME=VALUE",
     .offset = offsetof(cli_template_args, variables),
     .help = "a variable of the template, as reasoning_effort=low; the value is JSON, "
             "or else text; may be given several times"},
    {0}};

/* The template's text in a fresh buffer. */
static jt_status read_given(const char *given, char **text, size_t *len, jt_err *err)
{
    const char *known = jt_chat_builtin(given);
    bool is_text = strstr(given, "{%") || strstr(given, "{{");
    if (!known && !is_text) {
        if (access(given, F_OK) == 0)
            return cli_read_text(text, len, given, err);
        return jt_fail(err, JT_E_ARG,
                       "--chat-template: '%s' is not a known template (chatml, llama3, "
                       "zephyr, plain), and no file",
                       given);
    }
    *text = strdup(known ? known : given);
    if (!*text)
        return jt_fail(err, JT_E_MEMORY, "out of memory for the template");
    *len = strlen(*text);
    return JT_OK;
}

static jt_status open_chat(cli_template *out, const char *given, const jt_gguf *file,
                           const jt_tokenizer *tok, jt_err *err)
{
    if (!given)
        return jt_chat_new(&out->chat, file, tok, NULL, 0, err);
    char *text;
    size_t len;
    JT_TRY(read_given(given, &text, &len, err));
    jt_status status = jt_chat_new(&out->chat, NULL, tok, text, len, err);
    free(text);
    if (status != JT_OK)
        jt_fail_within(err, status, "--chat-template");
    return status;
}

/* name=value into `object`. */
static jt_status add_variable(json_t *object, const char *text, jt_err *err)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text)
        return jt_fail(err, JT_E_ARG, "--set: '%s' is not NAME=VALUE", text);
    json_t *value = json_loads(equals + 1, JSON_DECODE_ANY, NULL);
    if (!value)
        value = cli_json_text(equals + 1, strlen(equals + 1));
    json_t *name = cli_json_text(text, (size_t)(equals - text));
    int failed = !name || json_object_set_new(object, json_string_value(name), value);
    json_decref(name);
    return failed ? jt_fail(err, JT_E_MEMORY, "out of memory for --set") : JT_OK;
}

static jt_status read_variables(cli_template *out, const cli_list *list, jt_err *err)
{
    if (!list->count)
        return JT_OK;
    json_t *object = json_object();
    jt_status status = JT_OK;
    for (size_t i = 0; i < list->count && status == JT_OK; i++)
        status = add_variable(object, list->items[i], err);
    if (status == JT_OK) {
        out->variables = json_dumps(object, JSON_COMPACT);
        if (!out->variables)
            status = jt_fail(err, JT_E_MEMORY, "out of memory for --set");
        else
            out->variables_len = strlen(out->variables);
    }
    json_decref(object);
    return status;
}

jt_status cli_template_read_tools(cli_template *t, const char *path, jt_err *err)
{
    char *text = NULL;
    size_t len = 0;
    if (path) {
        JT_TRY(cli_read_text(&text, &len, path, err));
        json_error_t where;
        json_t *json = json_loadb(text, len, 0, &where);
        bool is_list = json_is_array(json);
        json_decref(json);
        if (!is_list) {
            free(text);
            return jt_fail(err, JT_E_FORMAT, "tools of '%s': %s", path,
                           json ? "not a JSON list" : where.text);
        }
    }
    free(t->tools);
    t->tools = text;
    t->tools_len = len;
    return JT_OK;
}

jt_status cli_template_open(cli_template *out, const cli_template_args *args,
                            const jt_gguf *file, const jt_tokenizer *tok, jt_err *err)
{
    JT_TRY(read_variables(out, &args->variables, err));
    JT_TRY(cli_template_read_tools(out, args->tools, err));
    return open_chat(out, args->given, file, tok, err);
}

void cli_template_close(cli_template *t)
{
    jt_chat_free(t->chat);
    free(t->tools);
    free(t->variables);
    *t = (cli_template){0};
}

jt_status cli_template_render(const cli_template *t, const json_t *messages,
                              jt_think think, bool ask, char **text, size_t *len,
                              jt_err *err)
{
    char *json = json_dumps(messages, JSON_COMPACT);
    if (!json)
        return jt_fail(err, JT_E_MEMORY, "out of memory for the messages");
    jt_chat_options options = {.tools = t->tools,
                               .tools_len = t->tools_len,
                               .add_generation_prompt = ask,
                               .think = think,
                               .variables = t->variables,
                               .variables_len = t->variables_len};
    jt_status status =
        jt_chat_render(t->chat, json, strlen(json), &options, text, len, err);
    free(json);
    return status;
}

json_t *cli_message(const char *role, const char *text, size_t len)
{
    return json_pack("{s:s, s:o}", "role", role, "content", cli_json_text(text, len));
}

jt_think cli_think(const char *word)
{
    return !strcmp(word, "on")    ? JT_THINK_ON
           : !strcmp(word, "off") ? JT_THINK_OFF
                                  : JT_THINK_AUTO;
}
