#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "verbs.h"

struct eval_args {
    cli_common common;
    const char *model, *answers;
    cli_list tasks;
    int n_ctx, limit, parallel;
    bool json;
    jt_session_options session;
    cli_policies policies;
};

static const cli_option operands[] = {
    CLI_MODEL_OPERAND(struct eval_args),
    {.flags = "TASK",
     .kind = CLI_LIST,
     .required = true,
     .offset = offsetof(struct eval_args, tasks),
     .help = "questions in JSON lines: choices, replies or texts"},
    {0}};

static const cli_option options[] = {
    {.flags = "-o --answers",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = offsetof(struct eval_args, answers),
     .help =
         "keep each answer in this file of JSON lines, and go on where it ends if it "
         "is there: a run that was stopped is not lost"},
    {.flags = "-n --limit",
     .kind = CLI_INT,
     .value = "N",
     .offset = offsetof(struct eval_args, limit),
     .min = 1,
     .max = 1 << 30,
     .help = "only the first N questions of each task"},
    {.flags = "--parallel",
     .kind = CLI_INT,
     .value = "N",
     .initial = "8",
     .offset = offsetof(struct eval_args, parallel),
     .min = 1,
     .max = 256,
     .help = "replies that are written at once; under a policy one after the other"},
    {.flags = "-c --ctx --ctx-size",
     .kind = CLI_INT,
     .value = "N",
     .offset = offsetof(struct eval_args, n_ctx),
     .min = 2,
     .max = 1 << 24,
     .help = "tokens of context: longer questions lose their beginning, texts are read "
             "in windows of it (default: 1024, or the model's if that is less)"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct eval_args, json),
     .help = "one JSON object instead of text"},
    {0}};

/* ---- what came out ---- */

/* "66.67% +- 9.83"; of a single question there is no error. */
static void print_share(const char *before, double share, double error)
{
    printf("%s%6.2f%%", before, 100 * share);
    if (!isnan(error))
        printf(" +- %.2f", 100 * error);
}

static void print_score(const jt_task_score *s, const char *name, jt_task_kind kind)
{
    printf("%-24.24s %9zu", name, s->questions);
    if (kind == JT_TASK_TEXT)
        printf("  perplexity %.4f +- %.4f  %.4f bits per byte", s->perplexity,
               s->perplexity_error, s->bits_per_byte);
    else
        print_share("  ", s->accuracy, s->error);
    if (kind == JT_TASK_CHOICE) {
        print_share("  per character ", s->accuracy_norm, s->error_norm);
        printf("  chance %.2f%%", 100 * s->chance);
    }
    if (s->cut)
        printf("  (%zu cut)", s->cut);
    printf("\n");
}

static void print_result(const jt_task *task, const jt_task_result *r)
{
    jt_task_info info;
    char name[64];
    jt_task_describe(task, &info);
    print_score(&r->all, info.name, info.kind);
    for (size_t i = 0; i < r->n_domains; i++) {
        snprintf(name, sizeof name, "  %s", r->domains[i].name);
        print_score(&r->domains[i], name, info.kind);
    }
}

static json_t *score_json(const jt_task_score *s)
{
    return json_pack(
        "{s:o, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:o, s:o, s:o, s:o}",
        "name", s->name ? cli_json_text(s->name, strlen(s->name)) : json_null(),
        "questions", (json_int_t)s->questions, "cut", (json_int_t)s->cut, "accuracy",
        cli_json_number(s->accuracy), "error", cli_json_number(s->error),
        "accuracy_norm", cli_json_number(s->accuracy_norm), "error_norm",
        cli_json_number(s->error_norm), "chance", cli_json_number(s->chance), "tokens",
        (json_int_t)s->tokens, "bytes", (json_int_t)s->bytes, "nll",
        cli_json_number(s->nll), "perplexity", cli_json_number(s->perplexity),
        "perplexity_error", cli_json_number(s->perplexity_error), "bits_per_byte",
        cli_json_number(s->bits_per_byte));
}

static json_t *result_json(const jt_task *task, const jt_task_result *r)
{
    jt_task_info info;
    json_t *domains = json_array();
    jt_task_describe(task, &info);
    for (size_t i = 0; i < r->n_domains; i++)
        json_array_append_new(domains, score_json(&r->domains[i]));
    return json_pack("{s:o, s:s, s:o, s:o}", "task",
                     cli_json_text(info.name, strlen(info.name)), "kind",
                     jt_task_kind_name(info.kind), "all", score_json(&r->all),
                     "domains", domains);
}

/* ---- answering ---- */

typedef struct evaluation {
    const struct eval_args *args;
    cli_model m;
    int n_ctx;
    jt_task **tasks; /* [args->tasks.count] */
    jt_answers *answers;
    jt_steering *steering;
    jt_session **sessions; /* [args->parallel], of which n are there */
    size_t n;
    json_t *results;
    size_t asked, known; /* questions; those that had an answer before */
} evaluation;

/* What answers depend on beside the model, in words. */
static char *settings_of(const struct eval_args *args, int n_ctx)
{
    const jt_session_options *s = &args->session;
    const char *kv = s->kv_type ? s->kv_type : "f16";
    size_t room = 128;
    for (size_t i = 0; i < args->policies.list.count; i++)
        room += strlen(args->policies.list.items[i]) + 16;
    char *text = malloc(room);
    if (!text)
        return NULL;
    int at = snprintf(text, room, "ctx %d, keys %s, values %s", n_ctx,
                      s->k_type ? s->k_type : kv, s->v_type ? s->v_type : kv);
    for (size_t i = 0; i < args->policies.list.count; i++)
        at += snprintf(text + at, room - (size_t)at, ", policy %s",
                       args->policies.list.items[i]);
    return text;
}

static jt_status open_sessions(evaluation *e, jt_err *err)
{
    jt_session_options how = e->args->session;
    size_t wanted = e->args->policies.list.count ? 1 : (size_t)e->args->parallel;
    how.n_ctx = e->n_ctx;
    e->sessions = calloc(wanted, sizeof *e->sessions);
    if (!e->sessions)
        return jt_fail(err, JT_E_MEMORY, "out of memory while opening sessions");
    for (; e->n < wanted; e->n++) {
        JT_TRY(cli_new_session(&e->sessions[e->n], &e->m, &how, "--ctx", err));
        how.beside = e->sessions[0];
    }
    return cli_steer(&e->steering, &e->args->policies, &e->m, e->sessions[0], err);
}

/* All tasks are read before anything is asked. */
static jt_status open_all(evaluation *e, jt_err *err)
{
    const struct eval_args *args = e->args;
    JT_TRY(cli_load(&e->m, args->model, true, err));
    int usual = e->m.info.n_ctx_train < 1024 ? e->m.info.n_ctx_train : 1024;
    e->n_ctx = args->n_ctx ? args->n_ctx : usual;
    e->tasks = calloc(args->tasks.count, sizeof *e->tasks);
    e->results = json_array();
    char *settings = settings_of(args, e->n_ctx);
    jt_status status = JT_OK;
    if (!e->tasks || !e->results || !settings)
        status = jt_fail(err, JT_E_MEMORY, "out of memory while reading tasks");
    for (size_t i = 0; i < args->tasks.count && status == JT_OK; i++) {
        status = jt_task_open(&e->tasks[i], args->tasks.items[i], err);
        if (status == JT_OK)
            jt_task_limit(e->tasks[i], (size_t)args->limit);
    }
    if (status == JT_OK)
        status = open_sessions(e, err);
    if (status == JT_OK)
        status = jt_answers_open(&e->answers, args->answers, e->m.model, settings, err);
    free(settings);
    return status;
}

static jt_status run_task(cli_context *cli, evaluation *e, const jt_task *task,
                          jt_err *err)
{
    jt_task_info info;
    jt_task_result result;
    jt_task_describe(task, &info);
    e->asked += info.questions;
    e->known += jt_answers_count(e->answers, task);
    JT_TRY(jt_task_run(task, e->sessions, e->n, e->answers, cli_progress(cli), err));
    JT_TRY(jt_task_score_answers(task, e->answers, &result, err));
    if (e->args->json) {
        json_array_append_new(e->results, result_json(task, &result));
    } else {
        cli_progress_clear(cli);
        print_result(task, &result);
    }
    jt_task_result_free(&result);
    return JT_OK;
}

static int report(cli_context *cli, evaluation *e, double seconds)
{
    if (e->args->json)
        return cli_print_json(
            cli, json_pack("{s:o, s:O, s:I, s:I, s:f}", "model",
                           cli_json_text(e->args->model, strlen(e->args->model)),
                           "tasks", e->results, "questions", (json_int_t)e->asked,
                           "known", (json_int_t)e->known, "seconds", seconds));
    cli_note(cli, "%zu questions, %zu of them answered before, %.1f s", e->asked,
             e->known, seconds);
    return CLI_DONE;
}

static void close_all(evaluation *e)
{
    for (size_t i = e->n; i-- > 0;)
        jt_session_free(e->sessions[i]);
    for (size_t i = 0; e->tasks && i < e->args->tasks.count; i++)
        jt_task_free(e->tasks[i]);
    jt_steering_free(e->steering);
    free(e->sessions);
    free(e->tasks);
    json_decref(e->results);
    cli_unload(&e->m);
}

static int run(cli_context *cli, const void *raw)
{
    evaluation e = {.args = raw};
    jt_err err = {0};
    cli_interrupt_catch();
    jt_status status = open_all(&e, &err);
    double start = cli_seconds();
    for (size_t i = 0; i < e.args->tasks.count && status == JT_OK; i++)
        status = run_task(cli, &e, e.tasks[i], &err);
    jt_status closed = jt_answers_close(e.answers, status == JT_OK ? &err : NULL);
    status = status == JT_OK ? closed : status;
    int code =
        status == JT_OK ? report(cli, &e, cli_seconds() - start) : cli_fail(cli, &err);
    if (status == JT_E_INTERRUPTED && e.args->answers)
        cli_note(cli, "the answers so far are in '%s': run it again to go on",
                 e.args->answers);
    close_all(&e);
    return code;
}

static const cli_group groups[] = {
    {"Flags", options, 0},
    {NULL, cli_policy_options, offsetof(struct eval_args, policies)},
    {NULL, cli_threads_options, offsetof(struct eval_args, session)},
    {NULL, cli_kernel_options, offsetof(struct eval_args, session)},
    {NULL, cli_common_options, 0},
    {0}};

static const char *const examples[] = {
    "junto eval model.gguf tasks/kinds.jsonl tasks/copy.jsonl -o answers.jsonl",
    "two tasks; run it again after Ctrl-C to go on",
    "junto eval model.gguf tasks/kinds.jsonl --policy topk:k=2",
    "the same questions with two experts for each token", NULL};

const cli_verb cli_verb_eval = {
    .name = "eval",
    .section = "Measure",
    .summary = "ask a model questions and count the right answers",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct eval_args),
    .run = run,
};
