/* junto list: the models on the shelf. */
#include <string.h>
#include <time.h>

#include "common.h"
#include "verbs.h"

struct list_args {
    cli_common common;
    bool json;
};

static const cli_option options[] = {{.flags = "--json",
                                      .kind = CLI_FLAG,
                                      .offset = offsetof(struct list_args, json),
                                      .help = "one JSON object instead of text"},
                                     {0}};

static void print_text(const jt_shelf_model *models, size_t n)
{
    int width = 4;
    for (size_t i = 0; i < n; i++) {
        int len = (int)strlen(models[i].name);
        width = len > width ? len : width;
    }
    for (size_t i = 0; i < n; i++) {
        char day[16];
        time_t changed = (time_t)models[i].changed;
        struct tm when;
        strftime(day, sizeof day, "%Y-%m-%d", localtime_r(&changed, &when));
        printf("%-*s  %9s  %s\n", width, models[i].name,
               cli_show_bytes((double)models[i].bytes).text, day);
    }
}

static json_t *models_json(const jt_shelf_model *models, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(
            list,
            json_pack("{s:o, s:o, s:I, s:I}", "name",
                      cli_json_text(models[i].name, strlen(models[i].name)), "path",
                      cli_json_text(models[i].path, strlen(models[i].path)), "bytes",
                      (json_int_t)models[i].bytes, "changed",
                      (json_int_t)models[i].changed));
    return json_pack("{s:o}", "models", list);
}

static int run(cli_context *cli, const void *raw)
{
    const struct list_args *args = raw;
    jt_shelf_model *models;
    size_t n;
    jt_err err = {0};
    int code = CLI_DONE;
    if (jt_shelf_list(&models, &n, &err) != JT_OK)
        return cli_fail(cli, &err);
    if (args->json)
        code = cli_print_json(cli, models_json(models, n));
    else
        print_text(models, n);
    if (n == 0)
        cli_note(cli, "the shelf is empty: see 'junto help pull'");
    jt_shelf_free(models, n);
    return code;
}

static const cli_group groups[] = {
    {"Flags", options, 0}, {NULL, cli_common_options, 0}, {0}};

static const char *const examples[] = {"junto list", "names that can be used for MODEL",
                                       NULL};

const cli_verb cli_verb_list = {
    .name = "list",
    .section = "Shelf",
    .summary = "list the models on the shelf",
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct list_args),
    .run = run,
};
