/* Recipes: the smallest honest experiment that shows what a paper claims.
 * docs/recipes.md describes the files.
 *
 * A recipe is data: a text (synthetic, or real), a training configuration, variants of
 * it, and claims that compare what the variants measured. It is run with several seeds,
 * and a claim is called shown only when its margin exceeds the spread over them.
 *
 *     jt_recipe *recipe;
 *     jt_recipe_result *result;
 *     if (jt_recipe_open(&recipe, "bip", &err) == JT_OK &&
 *         jt_recipe_run(&result, recipe, &options, &err) == JT_OK)
 *         printf("%s\n", jt_verdict_text(result->claim[0].verdict));
 */
#ifndef JUNTO_RECIPE_H
#define JUNTO_RECIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- recipes ---- */

typedef struct jt_recipe jt_recipe;

/* The i-th recipe that lies in the library; NULL past the last. */
JT_API const char *jt_recipe_name(size_t i);

/* Open one of those by name, or a file (a name with a '/' or a '.'). Errors:
 * JT_E_ARG (an unknown name; the file and what in it has no sense), JT_E_IO,
 * JT_E_FORMAT (with the line), JT_E_MEMORY. */
JT_API jt_status jt_recipe_open(jt_recipe **out, const char *name, jt_err *err);
JT_API void jt_recipe_free(jt_recipe *recipe); /* NULL is fine */

typedef struct jt_recipe_info {
    const char *name, *title, *paper, *text;
    int seeds;
    bool corpus;   /* it needs real text */
    int64_t steps; /* of the base configuration */
    size_t n_variants, n_claims;
    const char *const *variant, *const *variant_text; /* texts may be NULL */
    const char *const *claim, *const *condition; /* in words, and as it is computed */
    const char *const *table; /* metrics worth showing; NULL after the last */
} jt_recipe_info;

/* Everything is borrowed from the recipe. */
JT_API void jt_recipe_describe(const jt_recipe *recipe, jt_recipe_info *out);

/* ---- running one ---- */

/* One training is finished. */
typedef struct jt_recipe_run_event {
    const char *variant;
    int seed, done, seeds; /* the `done`-th of so many, from 1 */
    double loss, seconds;
} jt_recipe_run_event;

typedef struct jt_recipe_options {
    int seeds;          /* 0: as many as the recipe says */
    int first_seed;     /* 0: 1 */
    const char *corpus; /* folder of texts, a file NAME.txt for each domain, for a
                           recipe that needs one; else NULL */
    int64_t steps; /* of the base; variants with steps of their own change by the same
                      factor. 0: as the recipe says */
    const char *const *only;     /* variants; those that they start from are run too */
    size_t n_only;               /* 0: all */
    const char *const *settings; /* "key=value" on top of every configuration */
    size_t n_settings;
    int threads;      /* 0: all processors */
    const char *keep; /* folder for data, models and logs: DIR/VARIANT-SEED; NULL: a
                         temporary one, removed at the end */
    void (*on_run)(void *user, const jt_recipe_run_event *event); /* may be NULL */
    void *user;
    jt_progress progress; /* steps of all trainings together */
} jt_recipe_options;

/* X(name, text) */
#define JT_VERDICT_LIST(X)               \
    X(JT_VERDICT_SHOWN, "shown")         \
    X(JT_VERDICT_NOT_SHOWN, "not shown") \
    X(JT_VERDICT_REVERSED, "reversed")   \
    X(JT_VERDICT_OPEN, "not judged")

/* The margin of a claim is how far its condition holds: b - a for "a < b", the least of
 * them for "a < b < c", for each seed by itself. */
typedef enum jt_verdict {
#define X(name, text) name,
    JT_VERDICT_LIST(X)
#undef X
} jt_verdict;
/* SHOWN: the mean margin of the seeds is so far above zero that chance alone would do
 * as much once in twenty times (one-sided t-test of paired differences). REVERSED: the
 * same below zero. NOT_SHOWN: neither. OPEN: a single seed, or something was not
 * measured. */
JT_API const char *jt_verdict_text(jt_verdict verdict);

typedef struct jt_claim_result {
    jt_verdict verdict;
    int holds, judged; /* seeds in which the condition holds, of how many */
    double mean, sd;   /* of the margin; NaN where unknown */
} jt_claim_result;

typedef struct jt_recipe_result {
    int seeds, first_seed;
    size_t n_variants, n_metrics, n_claims;
    const char *const *variant; /* those that ran */
    const char *const *metric;  /* in the order in which they came */
    double *value;              /* [variants, metrics, seeds]; NaN: not measured */
    jt_claim_result *claim;     /* as in the recipe */
    double seconds;
} jt_recipe_result;

/* Train every variant with every seed and judge the claims. Errors: JT_E_ARG (an
 * unknown variant, options, no corpus or one without text, a configuration without
 * sense), those of training,
 * JT_E_INTERRUPTED. The result borrows the recipe. */
JT_API jt_status jt_recipe_run(jt_recipe_result **out, const jt_recipe *recipe,
                               const jt_recipe_options *options, jt_err *err);
JT_API void jt_recipe_result_free(jt_recipe_result *result); /* NULL is fine */

/* Mean and standard deviation (of n - 1) of the values that are no NaN; NaN without
 * enough of them. */
JT_API void jt_spread(const double *value, size_t n, double *mean, double *sd);

#ifdef __cplusplus
}
#endif
#endif
