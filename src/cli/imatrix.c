#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "junto/shrink.h"
#include "verbs.h"

struct imatrix_args {
    cli_common common;
    const char *model, *file, *out, *in;
    int n_ctx, from;
    bool json;
    jt_session_options session;
};

static const cli_option operands[] = {CLI_MODEL_OPERAND(struct imatrix_args), {0}};

static const cli_option options[] = {
    {.flags = "-f --file",
     .kind = CLI_PATH,
     .value = "FILE",
     .required = true,
     .offset = offsetof(struct imatrix_args, file),
     .help = "the text to run; - is standard input"},
    {.flags = "-o --output --output-file",
     .kind = CLI_PATH,
     .value = "FILE",
     .initial = "imatrix.gguf",
     .offset = offsetof(struct imatrix_args, out),
     .help = "where the importance goes"},
    {.flags = "--in --in-file",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = offsetof(struct imatrix_args, in),
     .help = "add to what this file holds"},
    {.flags = "-c --ctx --ctx-size",
     .kind = CLI_INT,
     .value = "N",
     .initial = "512",
     .offset = offsetof(struct imatrix_args, n_ctx),
     .min = 1,
     .max = 1 << 24,
     .help = "tokens per window; windows do not overlap"},
    {.flags = "--from-chunk --chunk",
     .kind = CLI_INT,
     .value = "N",
     .initial = "0",
     .offset = offsetof(struct imatrix_args, from),
     .min = 0,
     .max = 1 << 30,
     .help = "leave out the first N windows, to go on where a run was stopped"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct imatrix_args, json),
     .help = "one JSON object with the tokens that each expert saw"},
    {0}};

/* ---- what was seen ---- */

static json_t *entries_json(const jt_importance *m)
{
    json_t *list = json_array();
    for (size_t i = 0; i < jt_importance_count(m); i++) {
        jt_importance_entry e;
        jt_importance_at(m, i, &e);
        json_t *counts = json_array();
        for (size_t k = 0; k < e.n_matrices; k++)
            json_array_append_new(counts, json_integer((json_int_t)e.counts[k]));
        json_array_append_new(list, json_pack("{s:o, s:I, s:o}", "name",
                                              cli_json_text(e.name, strlen(e.name)),
                                              "columns", (json_int_t)e.n_columns,
                                              "counts", counts));
    }
    return list;
}

/* A line for each stack whose experts did not all see a fair number of tokens. Gate, up
 * and down of a layer see the same ones: down speaks for all. */
static void print_entry(const jt_importance_entry *e)
{
    enum { FEW = 64 };
    size_t unseen = 0, few = 0;
    for (size_t k = 0; k < e->n_matrices; k++) {
        unseen += e->counts[k] == 0;
        few += e->counts[k] > 0 && e->counts[k] < FEW;
    }
    if (e->n_matrices == 1 || !strstr(e->name, "down") || unseen + few == 0)
        return;
    printf("%s: of %zu experts %zu saw no token", e->name, e->n_matrices, unseen);
    for (size_t k = 0, shown = 0; k < e->n_matrices && shown < 16; k++)
        if (e->counts[k] == 0)
            printf("%s%zu", shown++ ? " " : " (", k);
    printf("%s, %zu fewer than %d\n",
           unseen > 16 ? " ..)"
           : unseen    ? ")"
                       : "",
           few, FEW);
}

static int report(cli_context *cli, const struct imatrix_args *args,
                  const jt_importance *m)
{
    cli_note(cli, "wrote %s: %llu windows of %d tokens", args->out,
             (unsigned long long)jt_importance_chunks(m), args->n_ctx);
    if (args->json)
        return cli_print_json(
            cli,
            json_pack("{s:o, s:o, s:I, s:o}", "model",
                      cli_json_text(args->model, strlen(args->model)), "output",
                      cli_json_text(args->out, strlen(args->out)), "chunks",
                      (json_int_t)jt_importance_chunks(m), "entries", entries_json(m)));
    for (size_t i = 0; i < jt_importance_count(m); i++) {
        jt_importance_entry e;
        jt_importance_at(m, i, &e);
        print_entry(&e);
    }
    return CLI_DONE;
}

/* ---- gathering ---- */

static jt_status gather_text(cli_context *cli, const struct imatrix_args *args,
                             const cli_model *model, jt_importance *m, const char *text,
                             size_t len, jt_err *err)
{
    jt_tokens tokens = {0};
    jt_session *session = NULL;
    jt_session_options wanted = args->session;
    wanted.n_ctx = args->n_ctx;
    jt_status status =
        jt_encode(model->tokenizer, text, len, JT_ENCODE_ADD_SPECIAL, &tokens, err);
    if (status == JT_OK)
        status = cli_new_session(&session, model, &wanted, "--ctx", err);
    if (status == JT_OK)
        status = jt_importance_gather(m, session, tokens.ids, tokens.count, args->n_ctx,
                                      (size_t)args->from, args->file, cli_progress(cli),
                                      err);
    jt_session_free(session);
    free(tokens.ids);
    return status;
}

/* What was gathered before Ctrl-C is kept. */
static jt_status gather(cli_context *cli, const struct imatrix_args *args,
                        jt_importance *m, jt_err *err)
{
    cli_model model;
    char *text = NULL;
    size_t len;
    JT_TRY(cli_load(&model, args->model, true, err));
    uint64_t before = jt_importance_chunks(m);
    jt_status status = cli_read_text(&text, &len, args->file, err);
    if (status == JT_OK)
        status = gather_text(cli, args, &model, m, text, len, err);
    free(text);
    cli_unload(&model);
    cli_progress_clear(cli);
    uint64_t done = jt_importance_chunks(m) - before;
    if (status == JT_E_INTERRUPTED && done > 0) {
        JT_TRY(jt_importance_save(m, args->out, err));
        unsigned long long next = done + (uint64_t)args->from;
        cli_note(cli, "%llu windows are in %s; go on with --in %s --from-chunk %llu",
                 (unsigned long long)done, args->out, args->out, next);
        return jt_fail(err, JT_E_INTERRUPTED, "interrupted");
    }
    return status == JT_OK ? jt_importance_save(m, args->out, err) : status;
}

static int run(cli_context *cli, const void *raw)
{
    const struct imatrix_args *args = raw;
    cli_interrupt_catch();
    jt_err err = {0};
    jt_importance *m = NULL;
    jt_status status =
        args->in ? jt_importance_load(&m, args->in, &err) : jt_importance_new(&m, &err);
    if (status == JT_OK)
        status = gather(cli, args, m, &err);
    int code = status == JT_OK ? report(cli, args, m) : cli_fail(cli, &err);
    jt_importance_free(m);
    return code;
}

static const cli_group groups[] = {
    {"Flags", options, 0},
    {NULL, cli_threads_options, offsetof(struct imatrix_args, session)},
    {NULL, cli_kernel_options, offsetof(struct imatrix_args, session)},
    {NULL, cli_common_options, 0},
    {0}};

static const char *const examples[] = {
    "junto imatrix model-f16.gguf -f text.txt -o imatrix.gguf",
    "gather which inputs matter, for 'junto quantize --imatrix'",
    "junto imatrix model-f16.gguf -f more.txt --in imatrix.gguf -o imatrix.gguf",
    "add another text", NULL};

const cli_verb cli_verb_imatrix = {
    .name = "imatrix",
    .section = "Shrink",
    .summary = "gather which inputs of each matrix matter",
    .details =
        "Runs a text and sums the squares of what reaches each column of each matrix, "
        "of routed experts for each by itself. Prints the layers in which experts saw "
        "no or few tokens: more or other text helps those. The file is llama.cpp's "
        "imatrix GGUF; each reads the other's.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct imatrix_args),
    .run = run,
};
