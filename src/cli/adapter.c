/* `junto adapter`: look at adapters, join them, make one of two models, change formats.
 */
#include <stdlib.h>
#include <string.h>

#include "adapter_score.h"
#include "common.h"
#include "verbs.h"

struct adapter_args {
    cli_common common;
    const char *action, *out, *model, *how, *format, *targets;
    cli_list files;
    int rank;
    float density;
    int64_t seed;
    const char *samples;
    int first, choose, shortlist, threads, count;
    float apart;
    bool json;
};

static const cli_option operands[] = {
    {.flags = "ACTION",
     .kind = CLI_CHOICE,
     .value = "info|add|cat|extract|diff|convert|score|pick",
     .required = true,
     .offset = offsetof(struct adapter_args, action),
     .help =
         "info shows what is in an adapter; add and cat make one of several; extract "
         "makes one of two models; diff compares two; convert changes the format; "
         "score says which suit a task, pick which texts do"},
    {.flags = "FILE",
     .kind = CLI_LIST,
     .required = true,
     .offset = offsetof(struct adapter_args, files),
     .help = "adapters, for add and cat with a scale if wanted (FILE:0.5); for extract "
             "the model before and the model after tuning; for score also a folder "
             "with all of them; for pick texts to choose from (JSON lines)"},
    {0}};

static const cli_option options[] = {
    {.flags = "-o --output",
     .kind = CLI_PATH,
     .value = "PATH",
     .offset = offsetof(struct adapter_args, out),
     .help = "add, cat, extract, convert, pick: what to write"},
    {.flags = "-m --model",
     .kind = CLI_PATH,
     .is_model = true,
     .value = "MODEL",
     .offset = offsetof(struct adapter_args, model),
     .help = "the model that they are for; PEFT folders need it, others are checked"},
    {.flags = "--format",
     .kind = CLI_CHOICE,
     .value = "junto|peft|gguf",
     .initial = "junto",
     .offset = offsetof(struct adapter_args, format),
     .help = "what is written: a file of Junto, a PEFT folder, a file for llama.cpp"},
    {.flags = "--how",
     .kind = CLI_CHOICE,
     .value = "linear|svd|ties|dare",
     .initial = "svd",
     .offset = offsetof(struct adapter_args, how),
     .help =
         "add: sum the factors; the best of a rank for the sum; or for what TIES or "
         "DARE make of it"},
    {.flags = "-r --rank",
     .kind = CLI_INT,
     .value = "N",
     .initial = "0",
     .offset = offsetof(struct adapter_args, rank),
     .max = 65536,
     .help = "rank of what is written; 0: the largest of those that are added, 16 for "
             "extract"},
    {.flags = "--density",
     .kind = CLI_FLOAT,
     .value = "D",
     .initial = "0.5",
     .offset = offsetof(struct adapter_args, density),
     .max = 1,
     .help = "ties, dare: share of the values that is kept"},
    {.flags = "--target",
     .kind = CLI_STRING,
     .value = "REGEX",
     .offset = offsetof(struct adapter_args, targets),
     .help = "extract: which tensors, by name; without: all"},
    {.flags = "-s --seed",
     .kind = CLI_SEED,
     .value = "N",
     .initial = "1",
     .offset = offsetof(struct adapter_args, seed),
     .help = "of what dare drops"},
    {.flags = "--samples",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = offsetof(struct adapter_args, samples),
     .help = "score, pick: what the task is like, in the forms that tune takes; what "
             "the model is to say is scored"},
    {.flags = "--first",
     .kind = CLI_INT,
     .value = "K",
     .initial = "0",
     .offset = offsetof(struct adapter_args, first),
     .max = 1000000000,
     .help = "score, pick: only the first K samples; 0: all"},
    {.flags = "--choose",
     .kind = CLI_INT,
     .value = "N",
     .initial = "0",
     .offset = offsetof(struct adapter_args, choose),
     .max = 16,
     .help = "score: also find groups of N that are good and differ; 0: none"},
    {.flags = "--shortlist",
     .kind = CLI_INT,
     .value = "M",
     .initial = "0",
     .offset = offsetof(struct adapter_args, shortlist),
     .max = 1000000,
     .help = "score: groups are of the best M; 0: twice N"},
    {.flags = "--count",
     .kind = CLI_INT,
     .value = "N",
     .initial = "1000",
     .offset = offsetof(struct adapter_args, count),
     .min = 1,
     .max = 1000000000,
     .help = "pick: of the N texts that are most like the samples"},
    {.flags = "--apart",
     .kind = CLI_FLOAT,
     .value = "D",
     .initial = "0.1",
     .offset = offsetof(struct adapter_args, apart),
     .max = 2,
     .help =
         "pick: those that are not nearer than D to each other (1 less the cosine)"},
    {.flags = "-t --threads",
     .kind = CLI_INT,
     .value = "N",
     .initial = "0",
     .offset = offsetof(struct adapter_args, threads),
     .max = 4096,
     .help = "score, pick: 0: all processors"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct adapter_args, json),
     .help = "info, diff, score: one JSON object instead of text"},
    {0}};

/* The model, if one is named, and the adapters, which it owns. */
typedef struct opened {
    cli_model m;
    float *scales;
} opened;

static jt_status open_all(opened *o, const struct adapter_args *args, jt_err *err)
{
    o->scales = calloc(args->files.count, sizeof *o->scales);
    if (!o->scales)
        return jt_fail(err, JT_E_MEMORY, "out of memory");
    if (args->model)
        JT_TRY(cli_load(&o->m, args->model, false, err));
    for (size_t i = 0; i < args->files.count; i++) {
        jt_adapter *adapter;
        JT_TRY(cli_open_adapter(&o->m, args->files.items[i], &adapter, &o->scales[i],
                                err));
    }
    return JT_OK;
}

static void close_all(opened *o)
{
    cli_unload(&o->m);
    free(o->scales);
}

static jt_status save(cli_context *cli, const struct adapter_args *args,
                      const jt_adapter *a, const jt_model *model, jt_err *err)
{
    jt_adapter_format format = !strcmp(args->format, "peft")   ? JT_ADAPTER_PEFT
                               : !strcmp(args->format, "gguf") ? JT_ADAPTER_GGUF
                                                               : JT_ADAPTER_JUNTO;
    jt_adapter_info info;
    jt_adapter_describe(a, &info);
    JT_TRY(jt_adapter_save(a, args->out, format, model, err));
    cli_note(cli, "wrote %s: %s, %zu targets, %s values", args->out, info.kind,
             info.n_targets, cli_show_count((double)info.n_params).text);
    return JT_OK;
}

/* ---- info ---- */

static json_t *target_json(const jt_adapter_target_info *t)
{
    return json_pack("{s:s, s:[I,I,I], s:I, s:f, s:f, s:I, s:o}", "name", t->name,
                     "shape", (json_int_t)t->count, (json_int_t)t->rows,
                     (json_int_t)t->cols, "rank", (json_int_t)t->rank, "alpha",
                     (double)t->alpha, "scale", (double)t->scale, "params",
                     (json_int_t)t->n_params, "norm", cli_json_number(t->norm));
}

static int info_json(cli_context *cli, const jt_adapter *a, const jt_adapter_info *info)
{
    char fingerprint[20];
    snprintf(fingerprint, sizeof fingerprint, "%016llx",
             (unsigned long long)info->fingerprint);
    json_t *targets = json_array();
    for (size_t i = 0; i < info->n_targets; i++) {
        jt_adapter_target_info t;
        jt_adapter_target_at(a, i, &t);
        json_array_append_new(targets, target_json(&t));
    }
    return cli_print_json(
        cli,
        json_pack("{s:o, s:s, s:s*, s:I, s:i, s:s, s:s, s:I, s:I, s:I, s:o}", "path",
                  cli_json_text(info->path, strlen(info->path)), "kind", info->kind,
                  "method", info->method, "mixed", (json_int_t)info->n_mixed, "top_k",
                  info->top_k, "family", info->family, "model", fingerprint, "params",
                  (json_int_t)info->n_params, "tasks", (json_int_t)info->n_tasks,
                  "virtual", (json_int_t)info->n_virtual, "targets", targets));
}

static int info(cli_context *cli, const struct adapter_args *args, const opened *o)
{
    jt_adapter_info info;
    const jt_adapter *a = o->m.adapters[0];
    jt_adapter_describe(a, &info);
    if (args->json)
        return info_json(cli, a, &info);
    if (info.method)
        printf("method   %s, %d of %zu for a token\n", info.method, info.top_k,
               info.n_mixed);
    if (info.n_virtual)
        printf("virtual  %zu tokens before a text\n", info.n_virtual);
    printf("kind     %s\nfamily   %s\nmodel    %016llx\ntargets  %zu, %s values\n",
           info.kind, *info.family ? info.family : "(not said)",
           (unsigned long long)info.fingerprint, info.n_targets,
           cli_show_count((double)info.n_params).text);
    printf(info.n_tasks ? "tasks    %zu\n\n" : "%.0zu\n", info.n_tasks);
    printf("%-32s %-20s %5s %8s %9s\n", "target", "shape", "rank", "scale", "norm");
    for (size_t i = 0; i < info.n_targets; i++) {
        jt_adapter_target_info t;
        char shape[64];
        jt_adapter_target_at(a, i, &t);
        snprintf(shape, sizeof shape,
                 t.count > 1 ? "%zu x %zu x %zu" : "%.0zu%zu x %zu",
                 t.count > 1 ? t.count : 0, t.rows, t.cols);
        printf("%-32s %-20s %5zu %8.4g %9.4g\n", t.name, shape, t.rank, (double)t.scale,
               t.norm);
    }
    return CLI_DONE;
}

/* ---- diff ---- */

static int diff(cli_context *cli, const struct adapter_args *args, const opened *o)
{
    const jt_adapter *a = o->m.adapters[0], *b = o->m.adapters[1];
    jt_adapter_info info;
    jt_err err = {0};
    jt_adapter_describe(a, &info);
    json_t *targets = json_array();
    if (!args->json)
        printf("%-32s %9s %9s %9s %7s\n", "target", "first", "second", "apart",
               "cosine");
    for (size_t i = 0; i < info.n_targets; i++) {
        jt_adapter_difference d;
        if (jt_adapter_compare(a, b, i, &d, &err) != JT_OK) {
            json_decref(targets);
            return cli_fail(cli, &err);
        }
        if (args->json)
            json_array_append_new(targets,
                                  json_pack("{s:s, s:f, s:f, s:f, s:f}", "name", d.name,
                                            "first", d.a, "second", d.b, "apart",
                                            d.difference, "cosine", d.cosine));
        else
            printf("%-32s %9.4g %9.4g %9.4g %7.3f\n", d.name, d.a, d.b, d.difference,
                   d.cosine);
    }
    if (args->json)
        return cli_print_json(cli, json_pack("{s:o}", "targets", targets));
    json_decref(targets);
    return CLI_DONE;
}

/* ---- what writes ---- */

static jt_status join(cli_context *cli, const struct adapter_args *args,
                      const opened *o, jt_err *err)
{
    static const char *const names[] = {"cat", "linear", "svd", "ties", "dare"};
    const char *how = strcmp(args->action, "cat") ? args->how : "cat";
    jt_adapter_mix mix = {o->m.adapters, o->scales, o->m.n_adapters};
    jt_join_options join = {.rank = (size_t)args->rank,
                            .density = args->density,
                            .seed = cli_seed(args->seed)};
    jt_adapter *a;
    for (int i = 0; i < 5; i++)
        join.how = strcmp(names[i], how) ? join.how : (jt_adapter_joining)i;
    JT_TRY(jt_adapter_join(&a, &mix, &join, err));
    jt_status status = save(cli, args, a, o->m.model, err);
    jt_adapter_free(a);
    return status;
}

static jt_status extract(cli_context *cli, const struct adapter_args *args, jt_err *err)
{
    cli_model base = {0}, tuned = {0};
    jt_adapter *a = NULL;
    double lost;
    jt_progress progress = cli_progress(cli);
    jt_status status = cli_load(&base, args->files.items[0], false, err);
    if (status == JT_OK)
        status = cli_load(&tuned, args->files.items[1], false, err);
    if (status == JT_OK)
        status = jt_adapter_extract(&a, base.model, tuned.model, args->targets,
                                    args->rank ? (size_t)args->rank : 16, &lost,
                                    &progress, err);
    cli_progress_clear(cli);
    if (status == JT_OK)
        status = save(cli, args, a, base.model, err);
    if (status == JT_OK)
        cli_note(cli, "%.2f %% of the difference (squared) is lost", 100.0 * lost);
    jt_adapter_free(a);
    cli_unload(&base);
    cli_unload(&tuned);
    return status;
}

/* ---- the verb ---- */

static int run_opened(cli_context *cli, const struct adapter_args *args,
                      const opened *o)
{
    jt_err err = {0};
    jt_status status;
    if (!strcmp(args->action, "info"))
        return info(cli, args, o);
    if (!strcmp(args->action, "diff"))
        return diff(cli, args, o);
    if (!strcmp(args->action, "convert"))
        status = save(cli, args, o->m.adapters[0], o->m.model, &err);
    else
        status = join(cli, args, o, &err);
    return status == JT_OK ? CLI_DONE : cli_fail(cli, &err);
}

static int score(cli_context *cli, const struct adapter_args *args)
{
    const adapter_score_args how = {.files = &args->files,
                                    .model = args->model,
                                    .samples = args->samples,
                                    .first = args->first,
                                    .choose = args->choose,
                                    .shortlist = args->shortlist,
                                    .threads = args->threads,
                                    .json = args->json};
    return adapter_score(cli, &how);
}

static int pick(cli_context *cli, const struct adapter_args *args)
{
    const adapter_pick_args how = {.pool = args->files.items[0],
                                   .out = args->out,
                                   .model = args->model,
                                   .samples = args->samples,
                                   .first = args->first,
                                   .count = args->count,
                                   .apart = args->apart,
                                   .threads = args->threads};
    return adapter_pick(cli, &how);
}

/* How many files an action takes; 0: any number. */
static size_t files_of(const char *action)
{
    bool one = !strcmp(action, "info") || !strcmp(action, "convert") ||
               !strcmp(action, "pick");
    bool two = !strcmp(action, "extract") || !strcmp(action, "diff");
    return one ? 1 : two ? 2 : 0;
}

static int run(cli_context *cli, const void *raw)
{
    const struct adapter_args *args = raw;
    size_t files = files_of(args->action);
    bool scores = !strcmp(args->action, "score");
    bool writes =
        !scores && strcmp(args->action, "info") && strcmp(args->action, "diff");
    opened o = {0};
    jt_err err = {0};
    int code;
    if (files && args->files.count != files)
        return cli_usage(cli, "%s takes %zu file%s", args->action, files,
                         files > 1 ? "s" : "");
    if (writes != (args->out != NULL))
        return cli_usage(cli, writes ? "%s needs -o" : "%s writes no file: no -o",
                         args->action);
    cli_interrupt_catch();
    if (scores)
        return score(cli, args);
    if (!strcmp(args->action, "pick"))
        return pick(cli, args);
    if (!strcmp(args->action, "extract"))
        return extract(cli, args, &err) == JT_OK ? CLI_DONE : cli_fail(cli, &err);
    if (open_all(&o, args, &err) == JT_OK)
        code = run_opened(cli, args, &o);
    else
        code = cli_fail(cli, &err);
    close_all(&o);
    return code;
}

static const cli_group groups[] = {
    {"Flags", options, 0}, {NULL, cli_common_options, 0}, {0}};

static const char *const examples[] = {
    "junto adapter info poet.safetensors",
    "targets, ranks and sizes of the changes",
    "junto adapter add poet.safetensors:0.7 coder.safetensors --how ties -o both",
    "one file of two adapters; where they disagree TIES decides",
    "junto adapter convert my-peft-folder -m model.gguf -o mine.safetensors",
    "read what PEFT wrote",
    "junto adapter extract base.gguf tuned.gguf -r 32 -o tuned.safetensors",
    "the difference of two models as a LoRA of rank 32",
    "junto adapter score adapters/ -m model.gguf --samples five.jsonl --choose 4",
    "which of the adapters in a folder suit a task, and four that are good and differ",
    "junto adapter pick pool.jsonl -m model.gguf --samples five.jsonl -o more.jsonl",
    "up to 1000 texts of a pool that are like five samples, and not like each other",
    NULL};

const cli_verb cli_verb_adapter = {
    .name = "adapter",
    .section = "Make",
    .summary = "look at adapters, join, extract, compare, convert and choose them",
    .details =
        "An adapter is a small addition to the weights of a model: LoRA, "
        "rank-stabilised LoRA, DoRA or SHiRA. run, chat, perplexity and logits use "
        "it with --adapter, merge-adapter puts it into the weights.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct adapter_args),
    .run = run,
};
