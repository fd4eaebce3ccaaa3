#include <string.h>

#include "common.h"
#include "verbs.h"

struct families_args {
    cli_common common;
    bool json, markdown;
};

static const cli_option options[] = {
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct families_args, json),
     .help = "one JSON object instead of text"},
    {.flags = "--markdown",
     .kind = CLI_FLAG,
     .offset = offsetof(struct families_args, markdown),
     .help = "a table for a document (docs/families.md)"},
    {0}};

static const char *kind_of(const jt_family_info *f)
{
    return !f->dense ? "mixture" : f->mixture ? "either" : "dense";
}

/* "run, train, start, convert": what Junto does with the models of a family. */
static const char *deeds_of(const jt_family_info *f, char text[40])
{
    snprintf(text, 40, "run%s%s%s", f->trains ? ", train" : "",
             f->starts ? ", start" : "", f->converts ? ", convert" : "");
    return text;
}

static void print_text(void)
{
    jt_family_info f;
    char deeds[40];
    for (size_t i = 0; jt_family_describe(i, &f); i++) {
        printf("%-14s %-8s %s\n", f.name, kind_of(&f), deeds_of(&f, deeds));
        if (strcmp(f.name, f.models) != 0)
            printf("    models     %s\n", f.models);
        printf("    attention  %s\n    layer      %s\n", f.attention, f.layer);
        if (f.mixture)
            printf("    router     %s\n", f.router);
    }
}

static void print_markdown(void)
{
    jt_family_info f;
    char deeds[40];
    printf("| family | models | kind | attention | layer | router | Junto can |\n"
           "| --- | --- | --- | --- | --- | --- | --- |\n");
    for (size_t i = 0; jt_family_describe(i, &f); i++)
        printf("| %s | %s | %s | %s | %s | %s | %s |\n", f.name, f.models, kind_of(&f),
               f.attention, f.layer, f.router, deeds_of(&f, deeds));
}

static json_t *families_json(void)
{
    jt_family_info f;
    json_t *list = json_array();
    for (size_t i = 0; jt_family_describe(i, &f); i++)
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:b, s:b, s:s, s:s, s:s, s:b, s:b, s:b, s:b}",
                            "name", f.name, "models", f.models, "dense", f.dense,
                            "mixture", f.mixture, "attention", f.attention, "layer",
                            f.layer, "router", f.router, "run", 1, "train", f.trains,
                            "start", f.starts, "convert", f.converts));
    return json_pack("{s:o}", "families", list);
}

static int run(cli_context *cli, const void *raw)
{
    const struct families_args *args = raw;
    if (args->json && args->markdown)
        return cli_usage(cli, "--json and --markdown do not go together");
    if (args->json)
        return cli_print_json(cli, families_json());
    if (args->markdown)
        print_markdown();
    else
        print_text();
    return CLI_DONE;
}

static const cli_group groups[] = {
    {"Flags", options, 0}, {NULL, cli_common_options, 0}, {0}};

static const char *const examples[] = {
    "junto families", "what models Junto knows, and what it does with them",
    "junto families --json | jq -r '.families[] | select(.mixture) | .name'",
    "the names of all mixtures", NULL};

const cli_verb cli_verb_families = {
    .name = "families",
    .section = "Look",
    .summary = "list the families of models that Junto knows",
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct families_args),
    .run = run,
};
