/* `junto adapter score`: which of many adapters suit a task, by a few samples of it. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "adapter_score.h"
#include "junto/choose.h"

enum { GROUPS = 3 };

/* ---- which adapters ---- */

static bool exists(const char *folder, const char *name)
{
    char path[4096];
    struct stat st;
    return snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path &&
           stat(path, &st) == 0;
}

static bool ends_with(const char *name, const char *tail)
{
    size_t len = strlen(name), n = strlen(tail);
    return len > n && strcmp(name + len - n, tail) == 0;
}

/* What in a folder of adapters is one: a file, a PEFT folder, or that of a tuning. The
 * caller frees; NULL for anything else. */
static char *adapter_in(const char *folder, const char *name)
{
    char *path;
    struct stat st;
    if (*name == '.' || asprintf(&path, "%s/%s", folder, name) < 0)
        return NULL;
    bool is_folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    if (is_folder && !exists(path, "adapter_config.json")) {
        char *inside = NULL;
        if (exists(path, "adapter.safetensors") &&
            asprintf(&inside, "%s/adapter.safetensors", path) < 0)
            inside = NULL;
        free(path);
        return inside;
    }
    if (is_folder || ends_with(name, ".safetensors") || ends_with(name, ".gguf"))
        return path;
    free(path);
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

typedef struct names {
    char **list;
    size_t count;
} names;

static bool add_name(names *n, char *name)
{
    char **more = name ? realloc(n->list, (n->count + 1) * sizeof *more) : NULL;
    if (!more) {
        free(name);
        return false;
    }
    n->list = more;
    n->list[n->count++] = name;
    return true;
}

static void free_names(names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->list[i]);
    free(n->list);
}

/* All adapters of a folder, in the order of their names. */
static jt_status list_folder(names *out, const char *folder, jt_err *err)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return jt_fail(err, JT_E_IO, "cannot read the folder '%s'", folder);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir))
        add_name(out, adapter_in(folder, e->d_name));
    closedir(dir);
    if (!out->count)
        return jt_fail(err, JT_E_ARG, "'%s' has no adapters in it", folder);
    qsort(out->list, out->count, sizeof *out->list, by_name);
    return JT_OK;
}

static jt_status list_all(names *out, const cli_list *files, jt_err *err)
{
    struct stat st;
    const char *first = files->items[0];
    if (files->count == 1 && stat(first, &st) == 0 && S_ISDIR(st.st_mode) &&
        !exists(first, "adapter_config.json"))
        return list_folder(out, first, err);
    for (size_t i = 0; i < files->count; i++) {
        if (!add_name(out, strdup(files->items[i])))
            return jt_fail(err, JT_E_MEMORY, "out of memory");
    }
    return JT_OK;
}

/* ---- scoring ---- */

typedef struct scored {
    cli_model m;
    names names;
    jt_samples *samples;
    jt_samples_score
        *score; /* [names.count + 1]: the last is that of the model alone */
    double *matrix;
    jt_adapter_group group[GROUPS];
    size_t n_groups;
} scored;

static jt_status score_one(scored *s, const jt_adapter *a, float scale,
                           jt_samples_score *out, int threads, jt_err *err)
{
    jt_session *session;
    const jt_session_options options = {.threads = threads};
    JT_TRY(cli_new_session(&session, &s->m, &options, "--model", err));
    jt_status status = a ? jt_session_add_adapter(session, a, scale, err) : JT_OK;
    if (status == JT_OK)
        status = jt_samples_score_session(out, s->samples, session, err);
    jt_session_free(session);
    return status;
}

static jt_status score_all(scored *s, const adapter_score_args *args, jt_err *err)
{
    size_t n = s->names.count;
    s->score = calloc(n + 1, sizeof *s->score);
    s->matrix = calloc(n * n, sizeof *s->matrix);
    if (!s->score || !s->matrix)
        return jt_fail(err, JT_E_MEMORY, "out of memory");
    JT_TRY(score_one(s, NULL, 1.0f, &s->score[n], args->threads, err));
    for (size_t i = 0; i < n; i++) {
        jt_adapter *a;
        float scale;
        JT_TRY(cli_open_adapter(&s->m, s->names.list[i], &a, &scale, err));
        JT_TRY(score_one(s, a, scale, &s->score[i], args->threads, err));
    }
    return jt_adapter_similarity(s->matrix, s->m.adapters, n, err);
}

static jt_status choose(scored *s, const adapter_score_args *args, jt_err *err)
{
    const jt_group_options o = {.size = (size_t)args->choose,
                                .shortlist = (size_t)args->shortlist,
                                .most = GROUPS};
    return args->choose ? jt_adapter_groups(s->group, &s->n_groups, s->score, s->matrix,
                                            s->names.count, &o, err)
                        : JT_OK;
}

static jt_status go(scored *s, const adapter_score_args *args, jt_err *err)
{
    JT_TRY(list_all(&s->names, args->files, err));
    JT_TRY(cli_load(&s->m, args->model, true, err));
    JT_TRY(jt_samples_open(&s->samples, args->samples, s->m.model, (size_t)args->first,
                           err));
    JT_TRY(score_all(s, args, err));
    return choose(s, args, err);
}

/* ---- the result ---- */

static json_t *score_json(const char *name, const jt_samples_score *s)
{
    return json_pack("{s:o, s:I, s:f, s:f, s:f}", "adapter",
                     name ? cli_json_text(name, strlen(name)) : json_null(), "tokens",
                     (json_int_t)s->tokens, "nll", s->nll, "perplexity", s->perplexity,
                     "exact", s->exact);
}

static json_t *group_json(const scored *s, const jt_adapter_group *g, size_t size)
{
    json_t *members = json_array();
    for (size_t i = 0; i < size; i++) {
        const char *name = s->names.list[g->member[i]];
        json_array_append_new(members, cli_json_text(name, strlen(name)));
    }
    return json_pack("{s:o, s:f}", "members", members, "similarity", g->similarity);
}

static int print_json(cli_context *cli, const scored *s, size_t size)
{
    size_t n = s->names.count;
    json_t *scores = json_array(), *matrix = json_array(), *groups = json_array();
    for (size_t i = 0; i <= n; i++)
        json_array_append_new(
            scores, score_json(i < n ? s->names.list[i] : NULL, &s->score[i]));
    for (size_t i = 0; i < n; i++) {
        json_t *row = json_array();
        for (size_t j = 0; j < n; j++)
            json_array_append_new(row, cli_json_number(s->matrix[i * n + j]));
        json_array_append_new(matrix, row);
    }
    for (size_t i = 0; i < s->n_groups; i++)
        json_array_append_new(groups, group_json(s, &s->group[i], size));
    return cli_print_json(cli,
                          json_pack("{s:I, s:o, s:o, s:o}", "samples",
                                    (json_int_t)jt_samples_count(s->samples), "scores",
                                    scores, "similarity", matrix, "groups", groups));
}

static int print_text(const scored *s, size_t size)
{
    size_t n = s->names.count;
    printf("%zu samples, %zu tokens of answers\n\n%4s %8s %12s  %s\n",
           jt_samples_count(s->samples), s->score[n].tokens, "", "exact", "perplexity",
           "adapter");
    for (size_t i = 0; i <= n; i++) {
        char number[24] = "";
        if (i < n)
            snprintf(number, sizeof number, "%zu", i + 1);
        printf("%4s %7.1f%% %12.4g  %s\n", number, 100.0 * s->score[i].exact,
               s->score[i].perplexity, i < n ? s->names.list[i] : "(none)");
    }
    printf("\nhow much alike\n%4s", "");
    for (size_t i = 0; i < n; i++)
        printf(" %6zu", i + 1);
    for (size_t i = 0; i < n; i++) {
        printf("\n%4zu", i + 1);
        for (size_t j = 0; j < n; j++)
            printf(" %6.3f", s->matrix[i * n + j]);
    }
    printf("\n");
    for (size_t i = 0; i < s->n_groups; i++) {
        printf(i ? "%zu." : "\ngood and different\n%zu.", i + 1);
        for (size_t j = 0; j < size; j++)
            printf(" %zu", s->group[i].member[j] + 1);
        printf("  (%.3f)\n", s->group[i].similarity);
    }
    return CLI_DONE;
}

int adapter_score(cli_context *cli, const adapter_score_args *args)
{
    scored s = {0};
    jt_err err = {0};
    int code;
    if (!args->model || !args->samples)
        return cli_usage(cli, "score needs --model and --samples");
    if (go(&s, args, &err) != JT_OK)
        code = cli_fail(cli, &err);
    else if (args->json)
        code = print_json(cli, &s, (size_t)args->choose);
    else
        code = print_text(&s, (size_t)args->choose);
    jt_samples_free(s.samples);
    cli_unload(&s.m);
    free_names(&s.names);
    free(s.score);
    free(s.matrix);
    return code;
}
