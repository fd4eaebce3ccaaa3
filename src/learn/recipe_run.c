/* Running a recipe: every variant with every seed, then the judgement. */
#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "junto/vocabulary.h"
#include "learn/recipe_impl.h"

enum { MAX_PATH = 4096 };

typedef struct runner {
    const jt_recipe *recipe;
    const jt_recipe_options *options;
    int seeds, first_seed;
    bool *runs;   /* [variants of the recipe] */
    bool *parent; /* [the same] others start from its model */
    int64_t *steps;
    jt_metrics *metrics; /* [variants of the recipe, seeds] */
    char dir[MAX_PATH];  /* of this run of the recipe */
    char data_dir[MAX_PATH + 64];
    jt_corpus corpus;
    jt_recipe_data data;
    int64_t done, total; /* steps of all trainings; `done` before the one at hand */
    char what[80];       /* the training at hand, for progress */
    jt_err *err;
} runner;

/* Seeds count from 0 here. */
static jt_metrics *metrics_of(const runner *r, size_t variant, int seed)
{
    return &r->metrics[variant * (size_t)r->seeds + (size_t)seed];
}

/* ---- folders ---- */

static int remove_entry(const char *path, const struct stat *info, int kind,
                        struct FTW *at)
{
    (void)info, (void)kind, (void)at;
    return remove(path);
}

static void remove_tree(const char *dir)
{
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static jt_status make_folder(const char *dir, jt_err *err)
{
    if (mkdir(dir, 0777) == 0 || errno == EEXIST)
        return JT_OK;
    return jt_fail(err, JT_E_IO, "cannot make the folder '%s': %s", dir,
                   strerror(errno));
}

static jt_status choose_folder(runner *r)
{
    const char *keep = r->options->keep, *tmp = getenv("TMPDIR");
    if (keep) {
        if (strlen(keep) + 64 > MAX_PATH)
            return jt_fail(r->err, JT_E_ARG, "the name of the folder is too long");
        snprintf(r->dir, sizeof r->dir, "%s", keep);
        return make_folder(r->dir, r->err);
    }
    if (!tmp || !*tmp || strlen(tmp) + 64 > MAX_PATH)
        tmp = "/tmp";
    snprintf(r->dir, sizeof r->dir, "%s/junto-recipe-XXXXXX", tmp);
    if (mkdtemp(r->dir))
        return JT_OK;
    jt_status status = jt_fail(r->err, JT_E_IO, "cannot make a folder in '%s': %s", tmp,
                               strerror(errno));
    *r->dir = '\0';
    return status;
}

static void path_of(const runner *r, size_t variant, int seed, const char *file,
                    char path[MAX_PATH + 64])
{
    snprintf(path, MAX_PATH + 64, "%s/%s-%d%s", r->dir,
             r->recipe->variant[variant].name, r->first_seed + seed, file);
}

/* ---- what is learnt ---- */

/* A recipe of synthetic text that is given a corpus would not show what it can do, so
 * it says that it has no use for one. */
static jt_status check_corpus(const runner *r)
{
    const jt_recipe_info *info = &r->recipe->info;
    if (info->corpus && !r->options->corpus)
        return jt_fail(r->err, JT_E_ARG,
                       "'%s' learns from real text: give its folder with --corpus DIR "
                       "('tools/corpus DIR' of Junto's source makes one)",
                       info->name);
    if (!info->corpus && r->options->corpus)
        return jt_fail(r->err, JT_E_ARG, "'%s' learns from synthetic text, no corpus",
                       info->name);
    return JT_OK;
}

static jt_status learn_vocabulary(runner *r)
{
    char path[sizeof r->data_dir + sizeof JT_RECIPE_VOCABULARY];
    jt_vocabulary_options how = {.size = (size_t)r->recipe->vocab};
    JT_TRY(jt_corpus_open(&r->corpus, r->options->corpus, r->err));
    r->data.corpus = &r->corpus;
    snprintf(path, sizeof path, "%s/%s", r->data_dir, JT_RECIPE_VOCABULARY);
    return jt_vocabulary_train((const char *const *)r->corpus.path, r->corpus.count,
                               path, &how, NULL, r->err);
}

static jt_status make_data(runner *r)
{
    snprintf(r->data_dir, sizeof r->data_dir, "%s/data", r->dir);
    JT_TRY(make_folder(r->data_dir, r->err));
    r->data.dir = r->data_dir;
    if (r->recipe->suite.n_tasks)
        return jt_suite_write(r->data_dir, &r->recipe->suite, r->err);
    return r->recipe->info.corpus
               ? learn_vocabulary(r)
               : jt_synthetic_write(r->data_dir, &r->recipe->data, r->err);
}

/* ---- what is to be done ---- */

static bool wanted(const jt_recipe_options *o, const char *name)
{
    for (size_t i = 0; i < o->n_only; i++) {
        if (strcmp(o->only[i], name) == 0)
            return true;
    }
    return o->n_only == 0;
}

static jt_status check_only(const runner *r)
{
    const jt_recipe_info *info = &r->recipe->info;
    for (size_t i = 0; i < r->options->n_only; i++) {
        size_t j = 0;
        while (j < info->n_variants && strcmp(info->variant[j], r->options->only[i]))
            j++;
        if (j == info->n_variants)
            return jt_fail(r->err, JT_E_ARG, "'%s' has no variant '%s'", info->name,
                           r->options->only[i]);
    }
    return JT_OK;
}

static jt_status count_steps(runner *r)
{
    jt_recipe_data data = jt_recipe_data_foreseen(r->recipe);
    for (size_t i = 0; i < r->recipe->info.n_variants; i++) {
        jt_recipe_job job = {.recipe = r->recipe,
                             .variant = &r->recipe->variant[i],
                             .options = r->options,
                             .data = &data,
                             .dir = "."};
        if (!r->runs[i])
            continue;
        JT_TRY(jt_recipe_steps(&job, &r->steps[i], r->err));
        r->total += r->steps[i] * r->seeds;
    }
    return JT_OK;
}

/* Variants that run: those that are wanted and those that they start from. */
static jt_status plan(runner *r)
{
    const jt_recipe *recipe = r->recipe;
    size_t n = recipe->info.n_variants;
    r->seeds = r->options->seeds ? r->options->seeds : recipe->info.seeds;
    r->first_seed = r->options->first_seed ? r->options->first_seed : 1;
    if (r->seeds < 1 || r->first_seed < 1 || r->options->steps < 0)
        return jt_fail(r->err, JT_E_ARG, "a recipe needs at least one seed and step");
    JT_TRY(check_only(r));
    JT_TRY(check_corpus(r));
    r->runs = jt_calloc(n, sizeof *r->runs);
    r->parent = jt_calloc(n, sizeof *r->parent);
    r->steps = jt_calloc(n, sizeof *r->steps);
    r->metrics = jt_calloc(n * (size_t)r->seeds, sizeof *r->metrics);
    if (!r->runs || !r->parent || !r->steps || !r->metrics)
        return jt_fail_memory(r->err, "running a recipe");
    for (size_t i = n; i-- > 0;) {
        size_t from = recipe->variant[i].from;
        r->runs[i] |= wanted(r->options, recipe->variant[i].name);
        if (r->runs[i] && from != i)
            r->runs[from] = r->parent[from] = true;
        size_t begins = recipe->variant[i].begins;
        if (r->runs[i] && begins != i)
            r->runs[begins] = r->parent[begins] = true;
        for (size_t j = 0; r->runs[i] && j < recipe->variant[i].n_adapters; j++) {
            size_t part = recipe->variant[i].adapter[j];
            r->runs[part] = r->parent[part] = true;
        }
    }
    return count_steps(r);
}

/* ---- doing it ---- */

static int on_step(void *user, const char *what, unsigned long long done,
                   unsigned long long total)
{
    const runner *r = user;
    const jt_progress *p = &r->options->progress;
    (void)what, (void)total;
    if (!p->fn)
        return 0;
    return p->fn(p->user, r->what, (unsigned long long)r->done + done,
                 (unsigned long long)r->total);
}

static jt_status run_one(runner *r, size_t variant, int seed)
{
    const jt_recipe_variant *v = &r->recipe->variant[variant];
    char dir[MAX_PATH + 64], init[MAX_PATH + 64], begins[MAX_PATH + 64];
    double start = jt_seconds();
    char(*adapter)[MAX_PATH + 104] = jt_calloc(v->n_adapters, sizeof *adapter);
    if (!adapter)
        return jt_fail_memory(r->err, "running a recipe");
    for (size_t i = 0; i < v->n_adapters; i++)
        path_of(r, v->adapter[i], seed, "/adapter.safetensors", adapter[i]);
    path_of(r, variant, seed, "", dir);
    path_of(r, v->from, seed, "/model.gguf", init);
    path_of(r, v->begins, seed, "/adapter.safetensors", begins);
    jt_recipe_job job = {.recipe = r->recipe,
                         .variant = v,
                         .options = r->options,
                         .seed = r->first_seed + seed,
                         .data = &r->data,
                         .dir = dir,
                         .init = v->from != variant ? init : NULL,
                         .adapter = (const char(*)[MAX_PATH + 104]) adapter,
                         .begins = v->begins != variant ? begins : NULL,
                         .export = r->parent[variant] || r->options->keep,
                         .progress = {on_step, r}};
    snprintf(r->what, sizeof r->what, "%s, seed %d (%d of %d)", v->name, job.seed,
             seed + 1, r->seeds);
    jt_metrics *metrics = metrics_of(r, variant, seed);
    jt_status status = jt_recipe_train(&job, metrics, r->err);
    free(adapter);
    if (status != JT_OK)
        return jt_fail_within(r->err, status, "%s", r->what);
    r->done += r->steps[variant];
    jt_recipe_run_event event = {.variant = v->name,
                                 .seed = job.seed,
                                 .done = seed + 1,
                                 .seeds = r->seeds,
                                 .loss = jt_metrics_get(metrics, "loss", 4),
                                 .seconds = jt_seconds() - start};
    if (r->options->on_run)
        r->options->on_run(r->options->user, &event);
    return JT_OK;
}

static jt_status run_all(runner *r)
{
    JT_TRY(choose_folder(r));
    JT_TRY(make_data(r));
    for (int seed = 0; seed < r->seeds; seed++) {
        for (size_t i = 0; i < r->recipe->info.n_variants; i++) {
            if (r->runs[i])
                JT_TRY(run_one(r, i, seed));
        }
    }
    return JT_OK;
}

/* ---- the result ---- */

typedef struct result {
    jt_recipe_result public;
    jt_arena memory;
} result;

static void *room(result *out, size_t count, size_t size, jt_err *err)
{
    void *p = jt_arena_alloc(&out->memory, count, size);
    if (!p)
        jt_fail_memory(err, "judging a recipe");
    return p;
}

/* Every name that some training measured. */
static jt_status gather_names(const runner *r, result *out)
{
    size_t most = 0, n = r->recipe->info.n_variants * (size_t)r->seeds, count = 0;
    for (size_t i = 0; i < n; i++)
        most += r->metrics[i].count;
    const char **names = room(out, most, sizeof *names, r->err);
    if (!names)
        return JT_E_MEMORY;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < r->metrics[i].count; j++) {
            const char *name = r->metrics[i].list[j].name;
            size_t k = 0;
            while (k < count && strcmp(names[k], name) != 0)
                k++;
            if (k < count)
                continue;
            char *copy = room(out, strlen(name) + 1, 1, r->err);
            if (!copy)
                return JT_E_MEMORY;
            memcpy(copy, name, strlen(name) + 1);
            names[count++] = copy;
        }
    }
    out->public.metric = names;
    out->public.n_metrics = count;
    return JT_OK;
}

static jt_status gather_values(const runner *r, result *out)
{
    jt_recipe_result *p = &out->public;
    const jt_recipe_info *info = &r->recipe->info;
    size_t seeds = (size_t)r->seeds;
    const char **variant = room(out, info->n_variants, sizeof *variant, r->err);
    p->value =
        room(out, info->n_variants * p->n_metrics * seeds, sizeof *p->value, r->err);
    if (!variant || !p->value)
        return JT_E_MEMORY;
    for (size_t i = 0; i < info->n_variants; i++) {
        if (!r->runs[i])
            continue;
        for (size_t m = 0; m < p->n_metrics; m++) {
            double *at = p->value + (p->n_variants * p->n_metrics + m) * seeds;
            for (int s = 0; s < r->seeds; s++)
                at[s] = jt_metrics_get(metrics_of(r, i, s), p->metric[m],
                                       strlen(p->metric[m]));
        }
        variant[p->n_variants++] = info->variant[i];
    }
    p->variant = variant;
    return JT_OK;
}

/* ---- judging ---- */

typedef struct seed_values {
    const runner *r;
    int seed;
} seed_values;

static jt_status look_up(void *user, const char *variant, size_t variant_len,
                         const char *metric, size_t metric_len, double *value,
                         jt_err *err)
{
    const seed_values *s = user;
    const jt_recipe_info *info = &s->r->recipe->info;
    (void)err;
    *value = (double)NAN;
    for (size_t i = 0; i < info->n_variants; i++) {
        if (strlen(info->variant[i]) == variant_len &&
            memcmp(info->variant[i], variant, variant_len) == 0)
            *value = jt_metrics_get(metrics_of(s->r, i, s->seed), metric, metric_len);
    }
    return JT_OK;
}

static jt_status judge(const runner *r, result *out)
{
    const jt_recipe_info *info = &r->recipe->info;
    double *margin = room(out, (size_t)r->seeds, sizeof *margin, r->err);
    out->public.claim = room(out, info->n_claims, sizeof *out->public.claim, r->err);
    if (!margin || !out->public.claim)
        return JT_E_MEMORY;
    for (size_t i = 0; i < info->n_claims; i++) {
        jt_claim_result *c = &out->public.claim[i];
        *c = (jt_claim_result){0};
        for (int s = 0; s < r->seeds; s++) {
            seed_values values = {r, s};
            JT_TRY(jt_claim_margin(info->condition[i], look_up, &values, &margin[s],
                                   r->err));
            c->judged += !isnan(margin[s]);
            c->holds += margin[s] > 0.0;
        }
        jt_spread(margin, (size_t)r->seeds, &c->mean, &c->sd);
        c->verdict = jt_verdict_of(c->mean, c->sd, c->judged);
    }
    out->public.n_claims = info->n_claims;
    return JT_OK;
}

static jt_status make_result(const runner *r, jt_recipe_result **out)
{
    result *made = jt_calloc(1, sizeof *made);
    if (!made)
        return jt_fail_memory(r->err, "judging a recipe");
    made->public.seeds = r->seeds;
    made->public.first_seed = r->first_seed;
    jt_status status = gather_names(r, made);
    if (status == JT_OK)
        status = gather_values(r, made);
    if (status == JT_OK)
        status = judge(r, made);
    if (status == JT_OK)
        *out = &made->public;
    else
        jt_recipe_result_free(&made->public);
    return status;
}

/* ---- from outside ---- */

jt_status jt_recipe_run(jt_recipe_result **out, const jt_recipe *recipe,
                        const jt_recipe_options *options, jt_err *err)
{
    double start = jt_seconds();
    runner r = {.recipe = recipe, .options = options, .err = err};
    jt_status status = plan(&r);
    if (status == JT_OK)
        status = run_all(&r);
    if (status == JT_OK)
        status = make_result(&r, out);
    if (status == JT_OK)
        (*out)->seconds = jt_seconds() - start;
    if (*r.dir && !options->keep)
        remove_tree(r.dir);
    for (size_t i = 0; r.metrics && i < recipe->info.n_variants * (size_t)r.seeds; i++)
        jt_metrics_free(&r.metrics[i]);
    free(r.metrics);
    free(r.runs);
    free(r.parent);
    free(r.steps);
    jt_corpus_free(&r.corpus);
    return status;
}

void jt_recipe_result_free(jt_recipe_result *r)
{
    if (!r)
        return;
    result *made = (result *)r; /* its first member */
    jt_arena_free(&made->memory);
    free(made);
}

const char *jt_verdict_text(jt_verdict verdict)
{
    static const char *const texts[] = {
#define X(name, text) text,
        JT_VERDICT_LIST(X)
#undef X
    };
    return texts[verdict];
}
