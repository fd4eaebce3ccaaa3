/* junto ps: what a server runs. */
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "verbs.h"

struct ps_args {
    cli_common common;
    const char *url, *key_file;
    bool json;
};

static const cli_option options[] = {
    {.flags = "--url",
     .kind = CLI_STRING,
     .value = "URL",
     .initial = "http://127.0.0.1:8080",
     .offset = offsetof(struct ps_args, url),
     .help = "the server to ask"},
    {.flags = "--api-key-file",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = offsetof(struct ps_args, key_file),
     .help = "file whose first line is its key (default: $JUNTO_API_KEY)"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct ps_args, json),
     .help = "one JSON object instead of text"},
    {0}};

static void print_model(const json_t *model)
{
    const json_t *own = json_object_get(model, "junto");
    const char *name = json_string_value(json_object_get(model, "id"));
    const char *state = json_string_value(json_object_get(own, "state"));
    long long running = json_integer_value(json_object_get(own, "running"));
    long long idle = json_integer_value(json_object_get(own, "idle_seconds"));
    printf("%-32s  %-8s  running %lld", name ? name : "?", state ? state : "?",
           running);
    printf(idle ? "  idle %llds\n" : "\n", idle);
}

static int print(cli_context *cli, const struct ps_args *args, const char *text)
{
    json_t *root = json_loads(text, 0, NULL);
    const json_t *models = json_object_get(root, "data");
    jt_err err = {0};
    int code = CLI_DONE;
    if (!json_is_array(models)) {
        jt_fail(&err, JT_E_FORMAT, "'%s' is no server of models", args->url);
        code = cli_fail(cli, &err);
    } else if (args->json) {
        return cli_print_json(cli, root);
    }
    for (size_t i = 0; i < json_array_size(models); i++)
        print_model(json_array_get(models, i));
    json_decref(root);
    return code;
}

static int run(cli_context *cli, const void *raw)
{
    const struct ps_args *args = raw;
    jt_err err = {0};
    char *text = NULL, *key = NULL;
    jt_status status = cli_read_key(&key, args->key_file, &err);
    if (status == JT_OK)
        status = jt_server_look(&text, args->url, key, &err);
    free(key);
    int code = status == JT_OK ? print(cli, args, text) : cli_fail(cli, &err);
    free(text);
    return code;
}

static const cli_group groups[] = {
    {"Flags", options, 0}, {NULL, cli_common_options, 0}, {0}};

static const char *const examples[] = {
    "junto ps", "which models the server of this machine has in memory", NULL};

const cli_verb cli_verb_ps = {
    .name = "ps",
    .section = "Shelf",
    .summary = "tell which models a server has in memory",
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct ps_args),
    .run = run,
};
