#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "templates.h"
#include "verbs.h"

struct template_args {
    cli_common common;
    const char *model, *messages, *prompt, *system;
    cli_template_args template;
    int ask;
    bool tokens, source;
};

#define FIELD(name) offsetof(struct template_args, name)

static const cli_option operands[] = {
    {.flags = "MODEL",
     .kind = CLI_PATH,
     .is_model = true,
     .required = true,
     .offset = FIELD(model),
     .help = "GGUF file, Hugging Face folder, or a file with a Jinja template"},
    {0}};

static const cli_option options[] = {
    {.flags = "-m --messages",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = FIELD(messages),
     .help =
         "JSON list of messages, or an object with \"messages\" as /save writes it; "
         "- is standard input"},
    {.flags = "-p --prompt",
     .kind = CLI_STRING,
     .value = "TEXT",
     .initial = "Hello",
     .offset = FIELD(prompt),
     .help = "without --messages: what the user says"},
    {.flags = "--system-prompt -sys --system",
     .kind = CLI_STRING,
     .value = "TEXT",
     .offset = FIELD(system),
     .help = "without --messages: what the model is told before"},
    {.flags = "--generation-prompt",
     .kind = CLI_SWITCH,
     .initial = "1",
     .offset = FIELD(ask),
     .help = "end where the reply begins (default), or after the last message"},
    {.flags = "--tokens",
     .kind = CLI_FLAG,
     .offset = FIELD(tokens),
     .help = "print the ids that the model gets, separated by commas"},
    {.flags = "--source",
     .kind = CLI_FLAG,
     .offset = FIELD(source),
     .help = "print the template itself"},
    {0}};

static const cli_group groups[] = {{"Messages", options, 0},
                                   {"Template", cli_template_options, FIELD(template)},
                                   {NULL, cli_common_options, 0},
                                   {0}};

/* What MODEL gives: a file with its vocabulary, or the text of a template. */
typedef struct origin {
    jt_gguf *file;
    jt_tokenizer *tok;
    char *text;
    size_t len;
} origin;

static bool is_model(const char *path)
{
    struct stat info;
    char magic[4] = "";
    if (stat(path, &info) != 0 || S_ISDIR(info.st_mode))
        return true; /* let loading say what is wrong */
    FILE *in = fopen(path, "rb");
    size_t got = in ? fread(magic, 1, sizeof magic, in) : 0;
    if (in)
        fclose(in);
    return got == sizeof magic && !memcmp(magic, "GGUF", sizeof magic);
}

static jt_status open_origin(origin *out, const char *path, jt_err *err)
{
    if (!is_model(path))
        return cli_read_text(&out->text, &out->len, path, err);
    JT_TRY(jt_model_open_file(&out->file, path, err));
    if (!jt_gguf_kv_find(out->file, "tokenizer.ggml.model"))
        return JT_OK;
    jt_status status = jt_tokenizer_new(&out->tok, out->file, err);
    return status == JT_OK ? JT_OK : jt_fail_within(err, status, "%s", path);
}

static void close_origin(origin *o)
{
    jt_tokenizer_free(o->tok);
    if (o->file)
        jt_gguf_close(o->file);
    free(o->text);
}

static jt_status read_messages(json_t **out, const char *path, jt_err *err)
{
    char *text;
    size_t len;
    JT_TRY(cli_read_text(&text, &len, path, err));
    json_error_t where;
    json_t *json = json_loadb(text, len, JSON_ALLOW_NUL, &where);
    free(text);
    if (!json)
        return jt_fail(err, JT_E_FORMAT, "%s: line %d: %s", path, where.line,
                       where.text);
    *out = json_incref(json_is_array(json) ? json : json_object_get(json, "messages"));
    json_decref(json);
    return *out ? JT_OK
                : jt_fail(err, JT_E_FORMAT, "%s: there is no list of messages", path);
}

static jt_status make_messages(json_t **out, const struct template_args *args,
                               jt_err *err)
{
    if (args->messages)
        return read_messages(out, args->messages, err);
    *out = json_array();
    int failed = 0;
    if (args->system)
        failed |= json_array_append_new(
            *out, cli_message("system", args->system, strlen(args->system)));
    failed |= json_array_append_new(
        *out, cli_message("user", args->prompt, strlen(args->prompt)));
    return failed ? jt_fail(err, JT_E_MEMORY, "out of memory for the messages") : JT_OK;
}

static jt_status print_tokens(const jt_chat *chat, const char *text, size_t len,
                              jt_err *err)
{
    jt_tokens tokens = {0};
    JT_TRY(jt_chat_encode(chat, text, len, &tokens, err));
    for (size_t i = 0; i < tokens.count; i++)
        printf("%s%d", i ? "," : "", (int)tokens.ids[i]);
    putchar('\n');
    free(tokens.ids);
    return JT_OK;
}

static jt_status print_rendered(const struct template_args *args, const cli_template *t,
                                jt_err *err)
{
    json_t *messages = NULL;
    char *text = NULL;
    size_t len;
    jt_status status = make_messages(&messages, args, err);
    if (status == JT_OK)
        status = cli_template_render(t, messages, cli_think(args->template.think),
                                     args->ask, &text, &len, err);
    if (status == JT_OK)
        status = args->tokens ? print_tokens(t->chat, text, len, err)
                              : cli_write(text, len, err);
    free(text);
    json_decref(messages);
    return status;
}

static int run(cli_context *cli, const void *raw)
{
    struct template_args args = *(const struct template_args *)raw;
    jt_err err = {0};
    origin from = {0};
    cli_template t = {0};
    jt_status status = open_origin(&from, args.model, &err);
    if (from.text && !args.template.given)
        args.template.given = from.text;
    if (status == JT_OK)
        status = cli_template_open(&t, &args.template, from.file, from.tok, &err);
    if (status == JT_OK && args.source) {
        jt_str source = jt_chat_source(t.chat);
        status = cli_write(source.data, source.len, &err);
    } else if (status == JT_OK) {
        status = print_rendered(&args, &t, &err);
    }
    cli_template_close(&t);
    close_origin(&from);
    return status == JT_OK ? CLI_DONE : cli_fail(cli, &err);
}

static const char *const examples[] = {
    "junto template model.gguf -p 'Hi' --think off",
    "what the model gets to read",
    "junto template model.gguf --messages chat.json --tools tools.json --tokens",
    "the same as token ids, with tools",
    "junto template chat_template.jinja --set bos_token='<s>'",
    "try a template without a model",
    NULL};

const cli_verb cli_verb_template = {
    .name = "template",
    .section = "Look",
    .summary = "render messages with a model's chat template",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct template_args),
    .run = run,
};
