/* Choosing among adapters: what junto/choose.h says. */
#include "learn/choose.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "run/likelihood.h"

/* ---- samples ---- */

jt_status jt_samples_open_source(jt_samples **out, const jt_data_source *source,
                                 const jt_model *model, const jt_data_options *options,
                                 jt_err *err)
{
    jt_model_info info;
    jt_model_describe(model, &info);
    jt_samples *s = jt_calloc(1, sizeof *s);
    if (!s)
        return jt_fail_memory(err, "reading samples");
    s->n_vocab = (size_t)info.n_vocab;
    jt_status status = jt_docs_open(&s->docs, source, jt_model_tokenizer(model),
                                    s->n_vocab, options, err);
    if (status == JT_OK)
        status = jt_docs_hold_out(&s->docs, options->held_out, options->most, err);
    if (status != JT_OK) {
        jt_samples_free(s);
        return status;
    }
    s->n = s->docs.n_train;
    *out = s;
    return JT_OK;
}

jt_status jt_samples_open(jt_samples **out, const char *path, const jt_model *model,
                          size_t n, jt_err *err)
{
    const jt_data_source source = {.path = path};
    const jt_data_options options = {.most = n};
    return jt_samples_open_source(out, &source, model, &options, err);
}

void jt_samples_free(jt_samples *s)
{
    if (!s)
        return;
    jt_docs_free(&s->docs);
    free(s);
}

size_t jt_samples_count(const jt_samples *s)
{
    return s->n;
}

int32_t *jt_sample_ids(const jt_samples *s, size_t i)
{
    jt_doc doc = s->docs.items[i];
    const int32_t *tokens = s->docs.tokens + doc.start;
    int32_t *ids = jt_alloc(doc.count, sizeof *ids);
    for (size_t t = 0; ids && t < doc.count; t++)
        ids[t] = tokens[t] < 0 ? ~tokens[t] : tokens[t];
    return ids;
}

/* ---- scores ---- */

typedef struct scoring {
    const int32_t *tokens; /* of the sample; ~id where it is not scored */
    size_t count, n_vocab, scored;
    double nll;
    bool exact;
} scoring;

static size_t likeliest(const float *row, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = row[i] > row[best] ? i : best;
    return best;
}

/* Row r foresees token first + r + 1. */
static jt_status score_rows(void *user, size_t first, const float *logits, size_t rows,
                            jt_err *err)
{
    scoring *s = user;
    for (size_t r = 0; r < rows && first + r + 1 < s->count; r++) {
        const float *row = logits + r * s->n_vocab;
        int32_t next = s->tokens[first + r + 1];
        if (next < 0)
            continue;
        double nll = jt_log_sum_exp(row, s->n_vocab) - (double)row[next];
        if (!isfinite(nll))
            return jt_fail(err, JT_E_FORMAT,
                           "the model gives logits that are not finite");
        s->nll += nll;
        s->scored++;
        s->exact &= likeliest(row, s->n_vocab) == (size_t)next;
    }
    return JT_OK;
}

static jt_status score_sample(const jt_samples *samples, size_t i, jt_session *session,
                              scoring *s, jt_err *err)
{
    jt_doc doc = samples->docs.items[i];
    jt_eval_options options = {.on_logits = score_rows, .user = s};
    int32_t *ids = jt_sample_ids(samples, i);
    if (!ids)
        return jt_fail_memory(err, "scoring samples");
    s->tokens = samples->docs.tokens + doc.start;
    s->count = doc.count;
    s->exact = true;
    jt_session_truncate(session, 0);
    jt_status status = jt_session_eval(session, ids, doc.count, &options, err);
    jt_session_truncate(session, 0);
    free(ids);
    return status == JT_OK ? JT_OK : jt_fail_within(err, status, "sample %zu", i + 1);
}

jt_status jt_samples_score_session(jt_samples_score *out, const jt_samples *samples,
                                   jt_session *session, jt_err *err)
{
    scoring s = {.n_vocab = samples->n_vocab};
    double exact = 0.0;
    for (size_t i = 0; i < samples->n; i++) {
        JT_TRY(score_sample(samples, i, session, &s, err));
        exact += s.exact;
    }
    double mean = s.scored ? s.nll / (double)s.scored : 0.0;
    *out = (jt_samples_score){.tokens = s.scored,
                              .nll = mean,
                              .perplexity = exp(mean),
                              .exact = exact / (double)samples->n};
    return JT_OK;
}

/* ---- how much alike ---- */

/* Sum of |cosine| over the targets of `a`, and how many of them `b` has. */
static jt_status compare(const jt_adapter *a, const jt_adapter *b, double *sum,
                         size_t *both, size_t *all, jt_err *err)
{
    jt_adapter_info info;
    jt_adapter_describe(a, &info);
    *sum = 0.0;
    *both = 0;
    *all = info.n_targets;
    for (size_t i = 0; i < info.n_targets; i++) {
        jt_adapter_difference d;
        JT_TRY(jt_adapter_compare(a, b, i, &d, err));
        *sum += fabs(d.cosine);
        *both += d.b > 0.0;
    }
    return JT_OK;
}

/* Can its changes be compared at all? */
static bool is_plain(const jt_adapter *a)
{
    jt_adapter_difference d;
    jt_adapter_info info;
    jt_err ignored;
    jt_adapter_describe(a, &info);
    return info.n_targets && jt_adapter_compare(a, a, 0, &d, &ignored) == JT_OK;
}

jt_status jt_adapter_similarity(double *matrix, jt_adapter *const *adapters, size_t n,
                                jt_err *err)
{
    for (size_t i = 0; i < n * n; i++) {
        const jt_adapter *a = adapters[i / n], *b = adapters[i % n];
        jt_adapter_info of_b;
        double sum;
        size_t both, all;
        if (i / n > i % n) {
            matrix[i] = matrix[i % n * n + i / n];
            continue;
        }
        matrix[i] = (double)NAN;
        if (!is_plain(a) || !is_plain(b))
            continue;
        JT_TRY(compare(a, b, &sum, &both, &all, err));
        jt_adapter_describe(b, &of_b);
        matrix[i] = sum / (double)(all + of_b.n_targets - both);
    }
    return JT_OK;
}

/* ---- groups ---- */

/* How many are better. */
static size_t rank_of(const jt_samples_score *s, size_t n, size_t i)
{
    size_t rank = 0;
    for (size_t j = 0; j < n; j++)
        rank += (s[j].exact > s[i].exact) + (s[j].nll < s[i].nll);
    return rank;
}

/* The `short_n` best, in rising order. */
static jt_status make_shortlist(size_t *list, size_t short_n, const jt_samples_score *s,
                                size_t n, jt_err *err)
{
    bool *taken = jt_calloc(n, sizeof *taken);
    size_t k = 0;
    if (!taken)
        return jt_fail_memory(err, "choosing adapters");
    for (size_t i = 0; i < short_n; i++) {
        size_t best = n;
        for (size_t j = 0; j < n; j++) {
            if (!taken[j] && (best == n || rank_of(s, n, j) < rank_of(s, n, best)))
                best = j;
        }
        taken[best] = true;
    }
    for (size_t i = 0; i < n; i++) {
        if (taken[i])
            list[k++] = i;
    }
    free(taken);
    return JT_OK;
}

static void keep_group(jt_adapter_group *groups, size_t *found, size_t most,
                       const jt_adapter_group *g)
{
    size_t at = *found;
    while (at > 0 && groups[at - 1].similarity > g->similarity)
        at--;
    if (at == most)
        return;
    *found += *found < most;
    memmove(&groups[at + 1], &groups[at], (*found - at - 1) * sizeof *groups);
    groups[at] = *g;
}

/* The next choice of k of n in order; false after the last. */
static bool next_choice(size_t *pick, size_t k, size_t n)
{
    for (size_t i = k; i-- > 0;) {
        if (pick[i] < n - k + i) {
            pick[i]++;
            for (size_t j = i + 1; j < k; j++)
                pick[j] = pick[j - 1] + 1;
            return true;
        }
    }
    return false;
}

static bool too_many(size_t n, size_t k)
{
    double count = 1.0;
    for (size_t i = 0; i < k; i++)
        count *= (double)(n - i) / (double)(i + 1);
    return count > 1e7;
}

static void search(jt_adapter_group *groups, size_t *found, const size_t *list,
                   size_t short_n, const double *matrix, size_t n,
                   const jt_group_options *o)
{
    size_t pick[JT_GROUP_MOST];
    for (size_t i = 0; i < o->size; i++)
        pick[i] = i;
    do {
        jt_adapter_group g = {.similarity = 0.0};
        for (size_t i = 0; i < o->size; i++) {
            g.member[i] = list[pick[i]];
            for (size_t j = 0; j < i; j++)
                g.similarity += matrix[g.member[i] * n + g.member[j]];
        }
        if (!isnan(g.similarity))
            keep_group(groups, found, o->most, &g);
    } while (next_choice(pick, o->size, short_n));
}

jt_status jt_adapter_groups(jt_adapter_group *groups, size_t *found,
                            const jt_samples_score *scores, const double *matrix,
                            size_t n, const jt_group_options *o, jt_err *err)
{
    size_t short_n = o->shortlist ? o->shortlist : 2 * o->size;
    short_n = short_n < n ? short_n : n;
    *found = 0;
    if (o->size < 1 || o->size > JT_GROUP_MOST || o->size > short_n || !o->most)
        return jt_fail(err, JT_E_ARG,
                       "groups of %zu out of %zu adapters, expected 1 to %d", o->size,
                       short_n, JT_GROUP_MOST);
    if (too_many(short_n, o->size))
        return jt_fail(err, JT_E_LIMIT,
                       "groups of %zu out of %zu adapters are over ten million",
                       o->size, short_n);
    size_t *list = jt_alloc(short_n, sizeof *list);
    if (!list)
        return jt_fail_memory(err, "choosing adapters");
    jt_status status = make_shortlist(list, short_n, scores, n, err);
    if (status == JT_OK)
        search(groups, found, list, short_n, matrix, n, o);
    free(list);
    return status;
}
