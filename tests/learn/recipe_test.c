/* Recipes: what a condition means, what is refused, and a small one run to its end. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "learn/recipe_impl.h"
#include "scratch.h"

/* ---- conditions ---- */

static jt_status look_up(void *user, const char *variant, size_t variant_len,
                         const char *metric, size_t metric_len, double *value,
                         jt_err *err)
{
    (void)user;
    if (variant_len != 1)
        return jt_fail(err, JT_E_ARG, "no '%.*s'", (int)variant_len, variant);
    if (metric_len == 6 && memcmp(metric, "absent", 6) == 0)
        *value = (double)NAN;
    else
        *value = (*variant == 'a' ? 2.0 : 3.0) + (double)metric_len / 100.0;
    return JT_OK;
}

static void margins(void **state)
{
    static const struct {
        const char *condition;
        double margin;
    } cases[] = {
        {"a.loss < b.loss", 1.0},
        {"a.loss > b.loss", -1.0},
        {"a.x < 2 * b.x - 1", 2.0 * 3.01 - 1.0 - 2.01},
        {"  ( a.x + 1 ) * 2 > 6 ", 3.01 * 2.0 - 6.0},
        {"a.x / b.x < 1", 1.0 - 2.01 / 3.01},
        {"10 - 3 - 2 > 4", 1.0},
        {"a.loss@k=2 < b.loss@mask_top=0.125", 3.19 - 2.08},
        {"1 < 2 < 4 < 7", 1.0},
        {"1 < 4 > 3.5", 0.5},
        {"3 < 2 < 9", -1.0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double margin;
        jt_err err = {0};
        if (jt_claim_margin(cases[i].condition, look_up, NULL, &margin, &err) != JT_OK)
            fail_msg("%s", err.msg);
        assert_float_equal(margin, cases[i].margin, 1e-12);
    }
}

static void what_was_not_measured(void **state)
{
    static const char *const cases[] = {"a.absent < 1", "1 < a.absent < 5",
                                        "a.absent < 1 < 2", "1 < 2 < a.absent"};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double margin;
        assert_int_equal(jt_claim_margin(cases[i], look_up, NULL, &margin, NULL),
                         JT_OK);
        assert_true(isnan(margin));
    }
}

static void conditions_without_sense(void **state)
{
    static const char *const cases[][2] = {
        {"", "a number"},
        {"a.x", "< or >"},
        {"a.x <", "ends where"},
        {"a.x < b.x b.x", "the end"},
        {"( a.x < 1", "')'"},
        {"a.x < 1z", "a number"},
        {".x < 1", "VARIANT"},
        {"a. < 1", "VARIANT"},
        {"other.x < 1", "no 'other'"},
        {"a.x = 1", "< or >"},
    };
    char deep[200];
    jt_err err;
    double margin;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err = (jt_err){0};
        assert_int_equal(jt_claim_margin(cases[i][0], look_up, NULL, &margin, &err),
                         JT_E_ARG);
        if (!strstr(err.msg, cases[i][1]))
            fail_msg("%s", err.msg);
    }
    memset(deep, '(', sizeof deep);
    deep[sizeof deep - 1] = '\0';
    assert_int_equal(jt_claim_margin(deep, look_up, NULL, &margin, &err), JT_E_ARG);
}

static void spread(void **state)
{
    double values[] = {1.0, (double)NAN, 3.0}, mean, sd;
    (void)state;
    jt_spread(values, 3, &mean, &sd);
    assert_float_equal(mean, 2.0, 1e-15);
    assert_float_equal(sd, sqrt(2.0), 1e-15);
    jt_spread(values, 1, &mean, &sd);
    assert_float_equal(mean, 1.0, 1e-15);
    assert_true(isnan(sd));
    jt_spread(values + 1, 1, &mean, &sd);
    assert_true(isnan(mean));
}

/* Bounds are quantiles of Student's t in any table: 2.920, 2.132, 1.812, 1.729 for 2,
 * 4, 10, 19 degrees of freedom. */
static void verdicts(void **state)
{
    static const struct {
        int n;
        double t;
    } bound[] = {{3, 2.920}, {5, 2.132}, {11, 1.812}, {20, 1.729}};
    (void)state;
    for (size_t i = 0; i < sizeof bound / sizeof *bound; i++) {
        double sd = sqrt(bound[i].n), t = bound[i].t; /* the standard error is 1 */
        assert_int_equal(jt_verdict_of(t + 0.002, sd, bound[i].n), JT_VERDICT_SHOWN);
        assert_int_equal(jt_verdict_of(t - 0.002, sd, bound[i].n),
                         JT_VERDICT_NOT_SHOWN);
        assert_int_equal(jt_verdict_of(-t - 0.002, sd, bound[i].n),
                         JT_VERDICT_REVERSED);
    }
    assert_int_equal(jt_verdict_of(1.0, (double)NAN, 1), JT_VERDICT_OPEN);
    assert_int_equal(jt_verdict_of(0.5, 0.0, 3), JT_VERDICT_SHOWN);
    assert_int_equal(jt_verdict_of(0.0, 0.0, 3), JT_VERDICT_NOT_SHOWN);
}

/* ---- files ---- */

#define HEAD "title = 'T'\npaper = 'P'\ntext = 'X'\n"
#define BASE                                                                      \
    "[data]\ndomains = 2\nvocab = 32\nclasses = 2\ndocuments = 40\nlength = 24\n" \
    "[base.model]\nlayers = 1\nwidth = 16\nheads = 2\nexperts = 4\n"              \
    "expert_width = 8\nshared_width = 8\nvocab = 32\n"                            \
    "[base.data]\nseq_len = 24\nheld_out = 0.2\n"                                 \
    "[base.optim]\nlr = 0.02\n[base.train]\nsteps = 30\nbatch = 4\n"
#define PLAIN "[[variant]]\nname = 'plain'\n"
#define TASKS "[tasks]\nlist = ['copy']\n"

typedef struct world {
    char dir[64], path[96];
} world;

static jt_status open_text(const world *w, const char *text, jt_recipe **recipe,
                           jt_err *err)
{
    FILE *f = fopen(w->path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    return jt_recipe_open(recipe, w->path, err);
}

static void files_without_sense(void **state)
{
    static const char *const cases[][2] = {
        {"title = 'T'\n" BASE PLAIN, "'paper' is missing"},
        {HEAD "colour = 1\n" BASE PLAIN, "unknown key 'colour'"},
        {HEAD "seeds = 0\n" BASE PLAIN, "'seeds'"},
        {HEAD "checkpoints = [101]\n" BASE PLAIN, "percents"},
        {HEAD PLAIN, "[base] is missing"},
        {HEAD BASE, "[[variant]]"},
        {HEAD BASE "[[variant]]\nname = 'Plain'\n", "small"},
        {HEAD BASE PLAIN PLAIN, "twice"},
        {HEAD BASE PLAIN "from = 'plain'\n", "before it"},
        {HEAD BASE PLAIN "set = {'model.widht' = 3}\n", "model.width"},
        {HEAD BASE PLAIN "set = {'model.heads' = 3}\n", "variant 'plain'"},
        {HEAD BASE PLAIN "probe = ['k']\n", "needs arguments"},
        {HEAD BASE PLAIN "probe = ['k:x']\n", "no positive number"},
        {HEAD BASE PLAIN "probe = ['no_shared:1']\n", "takes no arguments"},
        {HEAD BASE PLAIN "probe = ['ask']\n", "unknown probe"},
        {HEAD BASE PLAIN "[[claim]]\ntext = 'T'\n", "'holds' is missing"},
        {HEAD BASE PLAIN "[[claim]]\ntext = 'T'\nholds = 'a.loss < 1'\n",
         "no variant 'a'"},
        {HEAD BASE "[base.router]\nselect = 'any'\n" PLAIN, "router.select"},
        {HEAD "[data", "line 4"},
        {HEAD BASE PLAIN "[corpus]\n", "give one"},
        {HEAD "[corpus]\nvocab = 3\n[base.model]\n" PLAIN, "'vocab'"},
        {HEAD "[corpus]\nwords = 3\n[base.model]\n" PLAIN, "unknown key 'words'"},
        {HEAD "[corpus]\n[base.model]\n" PLAIN "mixed = true\n", "synthetic"},
        {HEAD TASKS "mixed = 3\n[base.model]\n" PLAIN, "no table"},
        {HEAD TASKS "[tasks.mixed]\nAny = ['copy']\n[base.model]\n" PLAIN, "'Any'"},
        {HEAD TASKS "[base.model]\n" PLAIN "sources = ['any']\n", "no task 'any'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        jt_recipe *recipe;
        jt_err err = {0};
        jt_status status = open_text(*state, cases[i][0], &recipe, &err);
        assert_true(status == JT_E_ARG || status == JT_E_FORMAT);
        if (!strstr(err.msg, cases[i][1]))
            fail_msg("%zu: %s", i, err.msg);
    }
}

static void those_of_the_library(void **state)
{
    size_t n = 0;
    const char *name;
    jt_err err = {0};
    jt_recipe *recipe;
    (void)state;
    for (; (name = jt_recipe_name(n)); n++) {
        jt_recipe_info info;
        if (jt_recipe_open(&recipe, name, &err) != JT_OK)
            fail_msg("%s", err.msg);
        jt_recipe_describe(recipe, &info);
        assert_string_equal(info.name, name);
        assert_true(info.seeds >= 3);
        assert_true(info.n_claims > 0);
        assert_non_null(info.table[0]);
        jt_recipe_free(recipe);
    }
    assert_true(n >= 7);
    assert_int_equal(jt_recipe_open(&recipe, "nothing", &err), JT_E_ARG);
    assert_int_equal(jt_recipe_open(&recipe, "./nothing.toml", &err), JT_E_IO);
}

static const char small[] =
    HEAD "seeds = 2\ntable = ['loss']\ncheckpoints = [50]\n" BASE
         "[[variant]]\nname = 'still'\nset = {'optim.lr' = 1e-9}\n"
         "[[variant]]\nname = 'moving'\nprobe = ['k:1,2', 'mask_top:0.25', 'mask_pick',"
         " 'no_shared', 'groups:2', 'experts_per_token', 'locality:4',"
         " 'caches:0.5', 'hybrid:0.5', 'ring:2', 'paths']\n"
         "[[variant]]\nname = 'further'\nfrom = 'moving'\nset = {'train.steps' = 10}\n"
         "[[variant]]\nname = 'blend'\nmixed = true\n"
         "[[variant]]\nname = 'narrow'\nprobe = ['nested:3', 'widths:0.5']\n"
         "set = {'model.expert_width' = 16}\n"
         "[[claim]]\ntext = 'training helps'\nholds = 'moving.loss < still.loss'\n"
         "[[claim]]\ntext = 'it does not'\nholds = 'still.loss < moving.loss'\n"
         "[[claim]]\ntext = 'unknown'\nholds = 'moving.absent < 1'\n"
         "[[claim]]\ntext = 'more helps'\nholds = 'further.loss < moving.loss'\n";

static jt_recipe *open_small(const world *w)
{
    jt_recipe *recipe;
    jt_err err = {0};
    if (open_text(w, small, &recipe, &err) != JT_OK)
        fail_msg("%s", err.msg);
    return recipe;
}

/* The small recipe on real text: two domains of a few words each. */
static const char real[] =
    HEAD "seeds = 2\n[corpus]\nvocab = 300\n"
         "[base.model]\nlayers = 1\nwidth = 16\nheads = 2\nexperts = 4\n"
         "expert_width = 8\n[base.data]\nseq_len = 16\nheld_out = 0.2\n"
         "[base.optim]\nlr = 0.02\n[base.train]\nsteps = 20\nbatch = 4\n"
         "[[variant]]\nname = 'still'\nset = {'optim.lr' = 1e-9}\n"
         "[[variant]]\nname = 'moving'\n"
         "[[variant]]\nname = 'further'\nfrom = 'moving'\n"
         "[[claim]]\ntext = 'training helps'\nholds = 'moving.loss < still.loss'\n";

static void write_text(const char *dir, const char *name, const char *words)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < 40; i++)
        assert_true(
            fprintf(f, "%s %d %s\n" JT_CORPUS_SEPARATOR "\n", words, i % 7, words) > 0);
    assert_int_equal(fclose(f), 0);
}

static void memory_runs_out(void **state)
{
    const world *w = *state;
    jt_status status = JT_E_MEMORY;
    jt_recipe *recipe = open_small(w);
    jt_err err;
    long n = 0;
    for (; status != JT_OK; n++) {
        jt_recipe_free(recipe);
        recipe = NULL;
        jt_fault_after(n);
        status = jt_recipe_open(&recipe, w->path, &err);
        jt_fault_after(-1);
        assert_true(status == JT_OK || status == JT_E_MEMORY);
    }
    assert_true(n > 20);
    jt_recipe_free(recipe);
}

/* ---- runs ---- */

static jt_recipe_result *run(const jt_recipe *recipe, const jt_recipe_options *options)
{
    jt_recipe_result *result;
    jt_err err = {0};
    if (jt_recipe_run(&result, recipe, options, &err) != JT_OK)
        fail_msg("%s", err.msg);
    return result;
}

static double value_of(const jt_recipe_result *r, const char *variant,
                       const char *metric, int seed)
{
    for (size_t v = 0; v < r->n_variants; v++) {
        for (size_t m = 0; m < r->n_metrics; m++) {
            if (strcmp(r->variant[v], variant) == 0 &&
                strcmp(r->metric[m], metric) == 0)
                return r
                    ->value[(v * r->n_metrics + m) * (size_t)r->seeds + (size_t)seed];
        }
    }
    return (double)NAN;
}

static void a_whole_recipe(void **state)
{
    jt_recipe *recipe = open_small(*state);
    jt_recipe_options options = {.threads = 1};
    jt_recipe_result *r = run(recipe, &options);
    assert_int_equal(r->seeds, 2);
    assert_int_equal(r->n_variants, 5);
    assert_int_equal(r->n_claims, 4);
    assert_int_equal(r->claim[0].verdict, JT_VERDICT_SHOWN);
    assert_int_equal(r->claim[0].holds, 2);
    assert_int_equal(r->claim[1].verdict, JT_VERDICT_REVERSED);
    assert_int_equal(r->claim[1].holds, 0);
    assert_true(r->claim[1].mean == -r->claim[0].mean);
    assert_int_equal(r->claim[2].verdict, JT_VERDICT_OPEN);
    assert_int_equal(r->claim[2].judged, 0);
    assert_int_equal(r->claim[3].verdict, JT_VERDICT_SHOWN);
    /* probes that change nothing or a lot */
    assert_true(value_of(r, "moving", "loss@k=2", 0) ==
                value_of(r, "moving", "loss", 0));
    assert_true(value_of(r, "moving", "experts_used", 1) == 2.0);
    assert_true(value_of(r, "moving", "experts_sd", 1) == 0.0);
    static const char *const worse[] = {"loss@k=1", "loss@mask_top=0.25",
                                        "loss@mask_pick", "loss@no_shared"};
    for (size_t i = 0; i < sizeof worse / sizeof *worse; i++)
        assert_true(value_of(r, "moving", worse[i], 0) !=
                    value_of(r, "moving", "loss", 0));
    assert_true(value_of(r, "moving", "peak@groups=2", 0) >= 1.0);
    double srp = value_of(r, "moving", "srp@locality=4", 0);
    double lru = value_of(r, "moving", "lru@locality=4", 0);
    double belady = value_of(r, "moving", "belady@locality=4", 0);
    double sch = value_of(r, "moving", "sch@locality=4", 0);
    assert_true(srp > 0.5 && srp <= 1.0 && lru > 0.0);
    assert_true(lru <= belady && sch <= belady && belady <= 1.0);
    assert_true(value_of(r, "moving", "sch_k@locality=4", 0) <= sch);
    assert_true(value_of(r, "moving", "shuffled@locality=4", 0) != srp);
    double score = value_of(r, "moving", "score@caches=0.5", 0);
    belady = value_of(r, "moving", "belady@caches=0.5", 0);
    assert_true(score > 0.3 && score <= belady && belady < 1.0);
    double loss = value_of(r, "narrow", "loss", 0);
    assert_true(value_of(r, "narrow", "loss@nested=2", 0) != loss);
    assert_true(fabs(value_of(r, "narrow", "loss@wide=0.5", 0) - loss) < 0.05);
    assert_true(value_of(r, "narrow", "bits@mixed=0.5", 0) <= 4.5);
    assert_true(value_of(r, "narrow", "hottest_first@nested=3", 0) >= 1.0);
    double hss = value_of(r, "moving", "hss@hybrid=0.5", 0);
    assert_true(hss > 0.0 && hss <= value_of(r, "moving", "apart@hybrid=0.5", 0));
    assert_true(value_of(r, "moving", "over_best@hybrid=0.5", 0) >= 1.0);
    assert_true(value_of(r, "moving", "beside@ring=2", 0) >= 1.0);
    assert_true(value_of(r, "moving", "foretold@paths", 0) > 0.4);
    assert_true(value_of(r, "moving", "late@paths", 0) <= 1.0);
    assert_true(value_of(r, "moving", "loss@50%", 0) >
                value_of(r, "moving", "loss", 0));
    assert_true(isfinite(value_of(r, "blend", "loss", 1)));
    jt_recipe_result_free(r);
    jt_recipe_free(recipe);
}

/* The same again, one variant and what it comes from, kept. */
static void the_same_again(void **state)
{
    static const char *const only[] = {"further"};
    const world *w = *state;
    char keep[96], path[160];
    jt_recipe *recipe = open_small(w);
    jt_recipe_options options = {.threads = 2, .seeds = 1};
    jt_recipe_result *whole = run(recipe, &options);
    snprintf(keep, sizeof keep, "%s/kept", w->dir);
    options = (jt_recipe_options){
        .threads = 1, .seeds = 1, .only = only, .n_only = 1, .keep = keep};
    jt_recipe_result *part = run(recipe, &options);
    assert_int_equal(part->n_variants, 2);
    assert_true(value_of(part, "further", "loss", 0) ==
                value_of(whole, "further", "loss", 0));
    assert_int_equal(part->claim[0].judged, 0);
    static const char *const files[] = {"moving-1/model.gguf", "further-1/log.jsonl",
                                        "further-1/checkpoint.gguf",
                                        "data/domain1.npy"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", keep, files[i]);
        assert_int_equal(access(path, R_OK), 0);
    }
    jt_recipe_result_free(whole);
    jt_recipe_result_free(part);
    jt_recipe_free(recipe);
}

static void corpus_without_memory(const char *dir)
{
    jt_corpus corpus = {0};
    jt_status status = JT_E_MEMORY;
    for (long n = 0; status != JT_OK; n++) {
        jt_fault_after(n);
        status = jt_corpus_open(&corpus, dir, NULL);
        jt_fault_after(-1);
        assert_true(status == JT_OK || status == JT_E_MEMORY);
        assert_true(n > 2 || status != JT_OK);
    }
    assert_int_equal(corpus.count, 2);
    assert_non_null(strstr(corpus.path[0], "/one.txt"));
    jt_corpus_free(&corpus);
}

static void on_real_text(void **state)
{
    const world *w = *state;
    char dir[96];
    jt_recipe *recipe;
    jt_recipe_info info;
    jt_err err = {0};
    snprintf(dir, sizeof dir, "%s/corpus", w->dir);
    assert_int_equal(mkdir(dir, 0777), 0);
    if (open_text(w, real, &recipe, &err) != JT_OK)
        fail_msg("%s", err.msg);
    jt_recipe_describe(recipe, &info);
    assert_true(info.corpus);
    /* without a folder, with one that is not there, with one that has no text */
    static const char *const asked[] = {NULL, "/nowhere", ""};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        jt_recipe_result *none;
        jt_recipe_options options = {.corpus = asked[i] && !*asked[i] ? dir : asked[i]};
        assert_int_equal(jt_recipe_run(&none, recipe, &options, &err),
                         i == 1 ? JT_E_IO : JT_E_ARG);
        assert_non_null(strstr(err.msg, "tools/corpus DIR"));
    }
    write_text(dir, "one.txt", "the cat sat on the mat");
    write_text(dir, "two.txt", "in der Stube sitzt ein Kater");
    write_text(dir, "notes.md", "no text of the corpus");
    corpus_without_memory(dir);
    jt_recipe_options options = {.threads = 1, .corpus = dir, .first_seed = 7};
    jt_recipe_result *r = run(recipe, &options);
    assert_int_equal(r->first_seed, 7);
    assert_int_equal(r->claim[0].verdict, JT_VERDICT_SHOWN);
    assert_true(value_of(r, "further", "loss", 0) < value_of(r, "moving", "loss", 0));
    /* the second of two seeds is the first of those from there on */
    options.first_seed = 8;
    options.seeds = 1;
    jt_recipe_result *second = run(recipe, &options);
    assert_true(value_of(second, "moving", "loss", 0) ==
                value_of(r, "moving", "loss", 1));
    assert_true(value_of(r, "moving", "loss", 0) != value_of(r, "moving", "loss", 1));
    jt_recipe_result_free(second);
    jt_recipe_result_free(r);
    jt_recipe_free(recipe);
}

static int stop_later(void *user, const char *what, unsigned long long done,
                      unsigned long long total)
{
    int *calls = user;
    assert_non_null(what);
    assert_true(done < total);
    return ++*calls == 7;
}

static void stops_when_asked(void **state)
{
    int calls = 0;
    jt_err err = {0};
    jt_recipe_result *result;
    jt_recipe *recipe = open_small(*state);
    jt_recipe_options options = {.threads = 1, .progress = {stop_later, &calls}};
    assert_int_equal(jt_recipe_run(&result, recipe, &options, &err), JT_E_INTERRUPTED);
    assert_int_equal(calls, 7);
    jt_recipe_free(recipe);
}

static void options_without_sense(void **state)
{
    static const char *const only[] = {"moving", "nobody"}, *const settings[] = {"a=b"};
    jt_err err = {0};
    jt_recipe_result *result;
    jt_recipe *recipe = open_small(*state);
    const jt_recipe_options cases[] = {{.only = only, .n_only = 2},
                                       {.settings = settings, .n_settings = 1},
                                       {.seeds = -1},
                                       {.first_seed = -1},
                                       {.corpus = "."},
                                       {.steps = -1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(jt_recipe_run(&result, recipe, &cases[i], &err), JT_E_ARG);
    jt_recipe_free(recipe);
}

static int set_up(void **state)
{
    static world w;
    snprintf(w.dir, sizeof w.dir, "%.63s", scratch_new().dir);
    snprintf(w.path, sizeof w.path, "%s/recipe.toml", w.dir);
    *state = &w;
    return 0;
}

static int tear_down(void **state)
{
    const world *w = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", w->dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(margins),
        cmocka_unit_test(what_was_not_measured),
        cmocka_unit_test(conditions_without_sense),
        cmocka_unit_test(spread),
        cmocka_unit_test(verdicts),
        cmocka_unit_test(files_without_sense),
        cmocka_unit_test(those_of_the_library),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(a_whole_recipe),
        cmocka_unit_test(the_same_again),
        cmocka_unit_test(on_real_text),
        cmocka_unit_test(stops_when_asked),
        cmocka_unit_test(options_without_sense),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
