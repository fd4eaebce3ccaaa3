/* Inside recipes: what a file says, and what is measured. */
#ifndef JT_RECIPE_IMPL_H
#define JT_RECIPE_IMPL_H

#include <jansson.h>

#include "base/memory.h"
#include "junto/recipe.h"
#include "learn/config.h"
#include "learn/corpus.h"
#include "learn/suite.h"
#include "learn/synthetic.h"

typedef struct jt_recipe_variant {
    const char *name, *text;
    size_t from; /* an earlier variant whose model this one goes on from; its own index:
                    a fresh model */
    const char **setting; /* "model.experts=8" */
    size_t n_settings;
    const char **probe; /* "k:2,4" */
    size_t n_probes;
    bool mixed;          /* learns from documents of all domains in one file */
    bool goes_on;        /* `from` is another one */
    const char **source; /* names of the tasks that it learns from; none: all */
    size_t n_sources;
    size_t *adapter; /* earlier variants whose adapters it mixes */
    size_t n_adapters;
    size_t begins; /* earlier variant whose adapter this one goes on from; its own
                      index: none */
} jt_recipe_variant;

struct jt_recipe {
    jt_recipe_info info;
    jt_synthetic_options data; /* without a corpus or tasks */
    jt_suite_options suite;    /* n_tasks 0: none */
    int vocab;                 /* tokens of the vocabulary learnt from a corpus */
    json_t *base;              /* configuration; of `root` */
    int *checkpoint; /* in percent of a run: where it is measured on the way */
    size_t n_checkpoints;
    jt_recipe_variant *variant; /* [info.n_variants] */
    json_t *root;               /* holds the texts */
    jt_arena memory;
};

/* What the trainings of a run learn from. */
typedef struct jt_recipe_data {
    const char *dir;         /* of the token files, or of the corpus's vocabulary */
    const jt_corpus *corpus; /* NULL: synthetic text */
} jt_recipe_data;

/* The vocabulary of a corpus, in the folder of the data. */
#define JT_RECIPE_VOCABULARY JT_SUITE_VOCABULARY

/* What a recipe learns from, before there is any: enough to check configurations. */
jt_recipe_data jt_recipe_data_foreseen(const jt_recipe *recipe);

/* The configuration of a variant with these data and `more` settings on top. */
jt_status jt_recipe_config(jt_config *out, const jt_recipe *recipe,
                           const jt_recipe_variant *variant, const jt_recipe_data *data,
                           const char *const *more, size_t n_more, jt_err *err);

/* The recipes that lie in the library; ends with {0}. Written by the build. */
typedef struct jt_recipe_file {
    const char *name, *text;
} jt_recipe_file;
extern const jt_recipe_file jt_recipe_files[];

/* ---- what is measured ---- */

typedef struct jt_metric {
    char name[48];
    double value;
} jt_metric;

/* Of one training, in the order in which they came. */
typedef struct jt_metrics {
    jt_metric *list;
    size_t count, capacity;
} jt_metrics;

/* Note a value under a printed name (one that is there is written over). JT_E_MEMORY.
 */
jt_status jt_metrics_set(jt_metrics *metrics, jt_err *err, double value,
                         const char *name, ...) JT_PRINTF(4, 5);
/* NaN when there is none. */
double jt_metrics_get(const jt_metrics *metrics, const char *name, size_t len);

/* The verdict on a claim whose margin has this mean and standard deviation over n
 * seeds. */
jt_verdict jt_verdict_of(double mean, double sd, int n);
void jt_metrics_free(jt_metrics *metrics); /* {0} is fine */

/* ---- claims ---- */

/* The value behind "VARIANT.METRIC". JT_E_ARG when there is no such variant. */
typedef jt_status jt_claim_lookup(void *user, const char *variant, size_t variant_len,
                                  const char *metric, size_t metric_len, double *value,
                                  jt_err *err);

/* How far a condition holds: "fine.loss < 0.98 * coarse.loss", a chain of sums that are
 * compared by < and >. Words are separated by spaces. NaN when a value is. JT_E_ARG
 * (what is not understood). */
jt_status jt_claim_margin(const char *condition, jt_claim_lookup *lookup, void *user,
                          double *margin, jt_err *err);

/* ---- one training ---- */

typedef struct jt_recipe_job {
    const jt_recipe *recipe;
    const jt_recipe_variant *variant;
    const jt_recipe_options *options;
    int seed;
    const jt_recipe_data *data;
    const char *dir;             /* folder of this training */
    const char *init;            /* model to go on from, or NULL */
    const char (*adapter)[4200]; /* [variant->n_adapters] files that it mixes */
    const char *begins;          /* file of the adapter to go on from, or NULL */
    bool export;                 /* write DIR/model.gguf */
    jt_progress progress;        /* called before each step with the steps done */
} jt_recipe_job;

/* Steps that a job takes. */
jt_status jt_recipe_steps(const jt_recipe_job *job, int64_t *steps, jt_err *err);
/* Train, measure, probe. */
jt_status jt_recipe_train(const jt_recipe_job *job, jt_metrics *metrics, jt_err *err);

#endif
