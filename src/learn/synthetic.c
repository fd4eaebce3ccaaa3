#include "learn/synthetic.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"

enum {
    END = 0,
    DOMAINS_MOST = 256,
    VOCAB_MOST = 1 << 16,
    CLASSES_MOST = 64,
    BRANCHES_MOST = 64
};

/* One domain: successors[(class of a) * n_vocab + b] is a row of `branches` tokens. */
typedef struct grammar {
    const jt_synthetic_options *o;
    uint64_t stream; /* of random numbers; streams + 1, + 2 ... are documents */
    const double *cumulative; /* [branches]: chance of one of the first r + 1 */
    unsigned char *classes;   /* [n_vocab] */
    int32_t *by_rank;         /* [n_vocab - 1]: tokens, the most frequent first */
    int32_t *successors;
} grammar;

typedef struct tally {
    uint64_t tokens, copied;
    double choices; /* nats that it costs to say what is copied */
} tally;

jt_synthetic_options jt_synthetic_defaults(void)
{
    return (jt_synthetic_options){
        .n_domains = 8,
        .n_vocab = 512,
        .n_documents = 1000,
        .document_tokens = 256,
        .branches = 8,
        .classes = 4,
        .copy = 0.02,
        .copy_least = 8,
        .copy_most = 24,
    };
}

static jt_status check(const jt_synthetic_options *o, jt_err *err)
{
    if (o->n_domains < 1 || o->n_domains > DOMAINS_MOST)
        return jt_fail(err, JT_E_ARG, "%zu domains: not from 1 to %d", o->n_domains,
                       DOMAINS_MOST);
    if (o->n_vocab < 3 || o->n_vocab > VOCAB_MOST)
        return jt_fail(err, JT_E_ARG, "%zu tokens: not from 3 to %d", o->n_vocab,
                       VOCAB_MOST);
    if (o->branches < 1 || o->branches > o->n_vocab / 2 || o->branches > BRANCHES_MOST)
        return jt_fail(err, JT_E_ARG, "%zu branches, of %zu tokens", o->branches,
                       o->n_vocab);
    if (o->classes < 1 || o->classes > CLASSES_MOST)
        return jt_fail(err, JT_E_ARG, "%zu classes: not from 1 to %d", o->classes,
                       CLASSES_MOST);
    if (o->n_documents < 1 || o->n_documents > INT32_MAX || o->document_tokens < 4 ||
        o->document_tokens > INT32_MAX)
        return jt_fail(err, JT_E_ARG, "%zu documents of %zu tokens", o->n_documents,
                       o->document_tokens);
    bool lengths = o->copy_least >= 1 && o->copy_least <= o->copy_most &&
                   o->copy_most <= INT32_MAX;
    if (!(o->copy >= 0 && o->copy <= 0.5) || (o->copy > 0 && !lengths))
        return jt_fail(err, JT_E_ARG, "copies of %zu to %zu tokens with a chance of %g",
                       o->copy_least, o->copy_most, o->copy);
    return JT_OK;
}

/* A rank below n with a probability of about 1 / rank: a power of two, then a place up
 * to the next. Whole numbers only, so that it is the same on every machine. */
static size_t draw_rank(jt_rng *rng, size_t n)
{
    uint32_t powers = 1;
    while ((size_t)1 << powers <= n)
        powers++;
    for (;;) {
        uint32_t size = 1u << jt_rng_below(rng, powers);
        size_t rank = size - 1 + jt_rng_below(rng, size);
        if (rank < n)
            return rank;
    }
}

static void draw_row(const grammar *g, jt_rng *rng, int32_t *row)
{
    for (size_t r = 0; r < g->o->branches; r++) {
        bool taken = true;
        while (taken) {
            row[r] = g->by_rank[draw_rank(rng, g->o->n_vocab - 1)];
            taken = false;
            for (size_t before = 0; before < r; before++)
                taken |= row[before] == row[r];
        }
    }
}

static void free_grammar(grammar *g)
{
    free(g->classes);
    free(g->by_rank);
    free(g->successors);
}

static jt_status draw_grammar(grammar *g, jt_err *err)
{
    const jt_synthetic_options *o = g->o;
    size_t rows = o->n_vocab * o->classes; /* times branches: at most 2^28 */
    g->classes = jt_alloc(o->n_vocab, sizeof *g->classes);
    g->by_rank = jt_alloc(o->n_vocab - 1, sizeof *g->by_rank);
    g->successors = jt_alloc(rows * o->branches, sizeof *g->successors);
    if (!g->classes || !g->by_rank || !g->successors)
        return jt_fail_memory(err, "drawing a grammar");
    jt_rng rng = {o->seed, g->stream, 0};
    for (size_t i = 0; i < o->n_vocab; i++)
        g->classes[i] = (unsigned char)jt_rng_below(&rng, (uint32_t)o->classes);
    for (size_t i = 0; i + 1 < o->n_vocab; i++) { /* a shuffle, filled as it goes */
        size_t at = jt_rng_below(&rng, (uint32_t)i + 1);
        g->by_rank[i] = g->by_rank[at];
        g->by_rank[at] = (int32_t)i + 1;
    }
    for (size_t i = 0; i < rows; i++)
        draw_row(g, &rng, g->successors + i * o->branches);
    return JT_OK;
}

/* What comes after tokens a, b. */
static int32_t draw_token(const grammar *g, jt_rng *rng, int32_t a, int32_t b)
{
    const jt_synthetic_options *o = g->o;
    size_t row = g->classes[a] * o->n_vocab + (size_t)b, r = 0;
    double x = jt_rng_double(rng);
    while (r + 1 < o->branches && x >= g->cumulative[r])
        r++;
    return g->successors[row * o->branches + r];
}

/* Copy a stretch of what is there to its end; gives the tokens. */
static size_t draw_copy(const grammar *g, jt_rng *rng, int32_t *text, size_t len,
                        size_t most, tally *t)
{
    const jt_synthetic_options *o = g->o;
    uint32_t lengths = (uint32_t)(o->copy_most - o->copy_least + 1);
    size_t count = o->copy_least + jt_rng_below(rng, lengths);
    uint32_t starts = (uint32_t)(len - o->copy_most + 1);
    size_t start = jt_rng_below(rng, starts);
    count = count < most ? count : most;
    memcpy(text + len, text + start, count * sizeof *text);
    t->copied += count;
    t->choices += log(starts) + log(lengths);
    return count;
}

static void draw_document(const grammar *g, size_t number, int32_t *text, tally *t)
{
    const jt_synthetic_options *o = g->o;
    jt_rng rng = {o->seed, g->stream + 1 + number, 0};
    size_t total = o->document_tokens - 1, len = 0;
    while (len < total) {
        if (o->copy > 0 && len >= o->copy_most) {
            bool copies = jt_rng_double(&rng) < o->copy;
            t->choices -= copies ? log(o->copy) : log1p(-o->copy);
            if (copies) {
                len += draw_copy(g, &rng, text, len, total - len, t);
                continue;
            }
        }
        int32_t a = len > 1 ? text[len - 2] : END, b = len > 0 ? text[len - 1] : END;
        text[len++] = draw_token(g, &rng, a, b);
    }
    text[total] = END;
    t->tokens += o->document_tokens;
}

static jt_status write_documents(const grammar *g, size_t domain, jt_output *out,
                                 tally *t, jt_err *err)
{
    const jt_synthetic_options *o = g->o;
    int32_t *text = jt_alloc(o->document_tokens, sizeof *text);
    if (!text)
        return jt_fail_memory(err, "drawing documents");
    jt_status status = JT_OK;
    unsigned long long before = domain * (unsigned long long)o->n_documents;
    unsigned long long all = o->n_domains * (unsigned long long)o->n_documents;
    for (size_t i = 0; i < o->n_documents && status == JT_OK; i++) {
        if (i % 256 == 0)
            status = jt_progress_report(&o->progress, "drawing", before + i, all, err);
        draw_document(g, i, text, t);
        if (status == JT_OK)
            status = jt_output_write(out, text, o->document_tokens * sizeof *text, err);
    }
    free(text);
    return status;
}

static jt_status write_domain(const char *dir, size_t domain, const double *cumulative,
                              const jt_synthetic_options *o, tally *t, jt_err *err)
{
    char path[4096];
    int len = snprintf(path, sizeof path, "%s/domain-%zu.bin", dir, domain);
    if (len < 0 || (size_t)len >= sizeof path)
        return jt_fail(err, JT_E_ARG, "the name of a folder is too long");
    grammar g = {.o = o, .stream = (uint64_t)domain << 32, .cumulative = cumulative};
    jt_output out = {0};
    jt_status status = draw_grammar(&g, err);
    if (status == JT_OK)
        status = jt_output_open(&out, path, err);
    if (status == JT_OK)
        status = write_documents(&g, domain, &out, t, err);
    free_grammar(&g);
    if (status == JT_OK)
        return jt_output_commit(&out, err);
    jt_output_abort(&out);
    return status;
}

/* The chances of the successors; gives their entropy. */
static double fill_cumulative(double *cumulative, size_t branches)
{
    double sum = 0, before = 0, nats = 0;
    for (size_t r = 0; r < branches; r++)
        sum += 1.0 / (double)(r + 1);
    for (size_t r = 0; r < branches; r++) {
        double p = 1.0 / (double)(r + 1) / sum;
        nats -= p * log(p);
        cumulative[r] = before += p;
    }
    return nats;
}

static jt_synthetic_report judge(const tally *t, double grammar_nats, size_t documents)
{
    double tokens = (double)t->tokens;
    double drawn = (double)(t->tokens - t->copied - documents); /* from the grammar */
    double least = drawn * grammar_nats / tokens;
    return (jt_synthetic_report){
        .copied = (double)t->copied / tokens,
        .grammar_nats = grammar_nats,
        .least_nats = least,
        .most_nats = least + t->choices / tokens,
    };
}

jt_status jt_synthetic_write(const char *dir, const jt_synthetic_options *options,
                             jt_synthetic_report *reports, jt_err *err)
{
    const jt_synthetic_options *o = options;
    JT_TRY(check(o, err));
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return jt_fail(err, JT_E_IO, "cannot make folder '%s': %s", dir,
                       strerror(errno));
    double *cumulative = jt_alloc(o->branches, sizeof *cumulative);
    if (!cumulative)
        return jt_fail_memory(err, "drawing a grammar");
    double nats = fill_cumulative(cumulative, o->branches);
    jt_status status = JT_OK;
    for (size_t i = 0; i < o->n_domains && status == JT_OK; i++) {
        tally t = {0};
        status = write_domain(dir, i, cumulative, o, &t, err);
        if (status == JT_OK && reports)
            reports[i] = judge(&t, nats, o->n_documents);
    }
    free(cumulative);
    unsigned long long all = o->n_domains * (unsigned long long)o->n_documents;
    return status == JT_OK ? jt_progress_report(&o->progress, "drawing", all, all, err)
                           : status;
}
