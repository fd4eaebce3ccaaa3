#include "recipe.h"

#include <string.h>

#include "verbs.h"

struct recipe_args {
    cli_common common;
    const char *recipe, *keep, *corpus;
    bool list, json;
    int seeds, first_seed, steps, threads;
    cli_list only, settings;
};

static const cli_option operands[] = {
    {.flags = "RECIPE",
     .kind = CLI_PATH,
     .offset = offsetof(struct recipe_args, recipe),
     .help = "its name, or a file (./my.toml); without it the recipes are listed"},
    {0}};

static const cli_option options[] = {
    {.flags = "--list",
     .kind = CLI_FLAG,
     .offset = offsetof(struct recipe_args, list),
     .help = "list the recipes, or what RECIPE would run, and do nothing"},
    {.flags = "--corpus",
     .kind = CLI_PATH,
     .value = "DIR",
     .offset = offsetof(struct recipe_args, corpus),
     .help = "folder of texts, one for each domain, for a recipe that learns from real "
             "text: what tools/corpus DIR of Junto's source makes"},
    {.flags = "--seeds",
     .kind = CLI_INT,
     .value = "N",
     .initial = "0",
     .offset = offsetof(struct recipe_args, seeds),
     .max = 1000,
     .help = "repeat with so many seeds; 0: as many as the recipe says"},
    {.flags = "--first-seed",
     .kind = CLI_INT,
     .value = "N",
     .initial = "1",
     .offset = offsetof(struct recipe_args, first_seed),
     .min = 1,
     .max = 1e9,
     .help = "the first of them, so that settings can be tried with other seeds than "
             "those that judge"},
    {.flags = "--steps",
     .kind = CLI_INT,
     .value = "N",
     .initial = "0",
     .offset = offsetof(struct recipe_args, steps),
     .max = 1e9,
     .help =
         "length of the trainings, to try something quickly; 0: as the recipe says"},
    {.flags = "--only",
     .kind = CLI_LIST,
     .value = "VARIANT",
     .offset = offsetof(struct recipe_args, only),
     .help = "run this variant (may be given several times) and what it starts from"},
    {.flags = "--set",
     .kind = CLI_LIST,
     .value = "KEY=VALUE",
     .offset = offsetof(struct recipe_args, settings),
     .help = "change a key of every training (docs/training.md lists them)"},
    {.flags = "-o --output",
     .kind = CLI_PATH,
     .value = "DIR",
     .offset = offsetof(struct recipe_args, keep),
     .help = "keep data, models and logs in this folder"},
    {.flags = "-t --threads",
     .kind = CLI_INT,
     .value = "N",
     .initial = "0",
     .offset = offsetof(struct recipe_args, threads),
     .max = 4096,
     .help = "0 takes all processors; results do not depend on it"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct recipe_args, json),
     .help = "one JSON object instead of text"},
    {0}};

/* ---- lists ---- */

static int list_all(cli_context *cli, const struct recipe_args *args)
{
    json_t *list = json_array();
    const char *name;
    jt_err err = {0};
    for (size_t i = 0; (name = jt_recipe_name(i)); i++) {
        jt_recipe *recipe;
        jt_recipe_info info;
        if (jt_recipe_open(&recipe, name, &err) != JT_OK) {
            json_decref(list);
            return cli_fail(cli, &err);
        }
        jt_recipe_describe(recipe, &info);
        if (args->json)
            json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:b}", "name", name,
                                                  "title", info.title, "paper",
                                                  info.paper, "corpus", info.corpus));
        else
            printf("%-14s %s\n", name, info.title);
        jt_recipe_free(recipe);
    }
    if (args->json)
        return cli_print_json(cli, json_pack("{s:o}", "recipes", list));
    json_decref(list);
    cli_note(cli,
             "'junto recipe NAME' runs one; 'junto recipe NAME --list' tells more");
    return CLI_DONE;
}

static json_t *plan_json(const jt_recipe_info *info)
{
    json_t *variants = json_object(), *claims = json_array();
    for (size_t i = 0; i < info->n_variants; i++)
        json_object_set_new(variants, info->variant[i],
                            info->variant_text[i] ? json_string(info->variant_text[i])
                                                  : json_null());
    for (size_t i = 0; i < info->n_claims; i++)
        json_array_append_new(claims, json_pack("{s:s, s:s}", "text", info->claim[i],
                                                "condition", info->condition[i]));
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:i, s:I, s:o, s:o}", "name",
                     info->name, "title", info->title, "paper", info->paper, "text",
                     info->text, "corpus", info->corpus, "seeds", info->seeds, "steps",
                     (json_int_t)info->steps, "variants", variants, "claims", claims);
}

static int list_one(cli_context *cli, const struct recipe_args *args,
                    const jt_recipe_info *info)
{
    if (args->json)
        return cli_print_json(cli, plan_json(info));
    printf("%s\n%s\n\n%s\n\n", info->title, info->paper, info->text);
    for (size_t i = 0; i < info->n_variants; i++)
        printf("%-16s %s\n", info->variant[i],
               info->variant_text[i] ? info->variant_text[i] : "");
    printf("\n%d seeds, %lld steps%s\n", info->seeds, (long long)info->steps,
           info->corpus ? ", real text (--corpus DIR)" : "");
    for (size_t i = 0; i < info->n_claims; i++)
        printf("\n%s\n    %s\n", info->claim[i], info->condition[i]);
    return CLI_DONE;
}

/* ---- running ---- */

static void on_run(void *user, const jt_recipe_run_event *event)
{
    cli_progress_clear(user);
    cli_note(user, "%s, seed %d (%d of %d): loss %.4f, %.0f s", event->variant,
             event->seed, event->done, event->seeds, event->loss, event->seconds);
}

static int run_recipe(cli_context *cli, const struct recipe_args *args,
                      const jt_recipe *recipe, const jt_recipe_info *info)
{
    jt_err err = {0};
    jt_recipe_result *result;
    jt_recipe_options run = {.seeds = args->seeds,
                             .first_seed = args->first_seed,
                             .corpus = args->corpus,
                             .steps = args->steps,
                             .only = args->only.items,
                             .n_only = args->only.count,
                             .settings = args->settings.items,
                             .n_settings = args->settings.count,
                             .threads = args->threads,
                             .keep = args->keep,
                             .on_run = on_run,
                             .user = cli,
                             .progress = cli_progress(cli)};
    jt_status status = jt_recipe_run(&result, recipe, &run, &err);
    cli_progress_clear(cli);
    if (status != JT_OK)
        return cli_fail(cli, &err);
    int code = CLI_DONE;
    if (args->json)
        code = recipe_print_json(cli, info, result);
    else
        recipe_print(info, result);
    cli_note(cli, "%.0f s", result->seconds);
    jt_recipe_result_free(result);
    return code;
}

static int run(cli_context *cli, const void *raw)
{
    const struct recipe_args *args = raw;
    jt_err err = {0};
    jt_recipe *recipe;
    jt_recipe_info info;
    if (!args->recipe)
        return list_all(cli, args);
    cli_interrupt_catch();
    if (jt_recipe_open(&recipe, args->recipe, &err) != JT_OK)
        return cli_fail(cli, &err);
    jt_recipe_describe(recipe, &info);
    int code =
        args->list ? list_one(cli, args, &info) : run_recipe(cli, args, recipe, &info);
    jt_recipe_free(recipe);
    return code;
}

static const cli_group groups[] = {
    {"Flags", options, 0}, {NULL, cli_common_options, 0}, {0}};

static const char *const examples[] = {
    "junto recipe",
    "list the recipes",
    "junto recipe bip",
    "train the variants of one recipe with three seeds and judge its claims",
    "junto recipe demons --corpus texts/",
    "a recipe that learns from real text; tools/corpus texts/ of the source makes it",
    "junto recipe bip --seeds 1 --steps 100 --only bip",
    "a quick look at one variant",
    NULL};

const cli_verb cli_verb_recipe = {
    .name = "recipe",
    .section = "Measure",
    .summary = "run the smallest experiment that shows a paper's claim",
    .details =
        "A recipe trains a few small models on synthetic or real text, a baseline and "
        "what the paper proposes side by side, each with several seeds. The table has "
        "the mean "
        "over seeds and its standard deviation. A claim is shown when its margin is "
        "above zero by a t-test over the seeds (5%), reversed when it is as far below, "
        "and otherwise not shown.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct recipe_args),
    .run = run,
};
