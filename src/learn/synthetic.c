#include "learn/synthetic.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"

enum { FOLLOWERS = 4, ROUNDS = 4 };

/* What the streams of a domain are used for; what is common is a domain without text,
 * whose stream says which contexts are. */
enum { STREAM_ORDER, STREAM_FOLLOWERS, STREAM_TEXT, STREAM_MIXED, STREAMS };
enum { STREAM_COMMON = STREAM_TEXT };

typedef struct domain domain;
struct domain {
    uint64_t seed;
    uint64_t stream; /* the first of its STREAMS */
    int n_vocab, n_classes;
    int32_t *order; /* [vocab] tokens, the most frequent first */
    double *below;  /* [vocab] Zipf: share of the ranks up to each */
    double odds[FOLLOWERS];
    const domain *common;
    double common_share;
};

/* ---- grammars ---- */

static void shuffle(int32_t *list, int n, jt_rng *rng)
{
    for (int i = 0; i < n; i++)
        list[i] = i;
    for (int i = n - 1; i > 0; i--) {
        uint32_t j = jt_rng_below(rng, (uint32_t)i + 1);
        int32_t kept = list[i];
        list[i] = list[j];
        list[j] = kept;
    }
}

static void fill_falling(double *below, int n)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++)
        below[i] = sum += 1.0 / (i + 1);
    for (int i = 0; i < n; i++)
        below[i] /= sum;
}

static int draw(const double *below, int n, double at)
{
    int low = 0, high = n - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (below[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static jt_status domain_init(domain *d, const jt_synthetic_options *o, int index,
                             jt_err *err)
{
    *d = (domain){.seed = o->seed,
                  .stream = (uint64_t)index * STREAMS,
                  .n_vocab = o->n_vocab,
                  .n_classes = o->n_classes,
                  .common_share = o->common,
                  .order = jt_alloc((size_t)o->n_vocab, sizeof *d->order),
                  .below = jt_alloc((size_t)o->n_vocab, sizeof *d->below)};
    if (!d->order || !d->below)
        return jt_fail_memory(err, "writing synthetic text");
    jt_rng rng = {d->seed, d->stream + STREAM_ORDER, 0};
    shuffle(d->order, d->n_vocab, &rng);
    fill_falling(d->below, d->n_vocab);
    fill_falling(d->odds, FOLLOWERS);
    return JT_OK;
}

static void domain_free(domain *d)
{
    free(d->order);
    free(d->below);
}

/* The `which`-th follower of a context. */
static int32_t follower(const domain *d, int32_t before, int32_t last, int which)
{
    uint64_t context =
        (uint64_t)(before % d->n_classes) * (uint64_t)d->n_vocab + (uint64_t)last;
    jt_rng coin = {d->seed, d->common->stream + STREAM_COMMON, context * ROUNDS};
    if (jt_rng_double(&coin) < d->common_share)
        d = d->common;
    jt_rng rng = {d->seed, d->stream + STREAM_FOLLOWERS,
                  (context * FOLLOWERS + (uint64_t)which) * ROUNDS};
    return d->order[draw(d->below, d->n_vocab, jt_rng_double(&rng))];
}

static void write_document(const domain *d, jt_rng *rng, int32_t *out, int length)
{
    for (int i = 0; i < length; i++) {
        if (i < 2)
            out[i] = d->order[draw(d->below, d->n_vocab, jt_rng_double(rng))];
        else
            out[i] = follower(d, out[i - 2], out[i - 1],
                              draw(d->odds, FOLLOWERS, jt_rng_double(rng)));
    }
}

/* ---- files ---- */

void jt_synthetic_name(char name[JT_SYNTHETIC_NAME], int index)
{
    snprintf(name, JT_SYNTHETIC_NAME, "domain%d.npy", index);
}

/* The header of an int32 matrix: magic, version 1.0, length, a dictionary padded so
 * that the data begin at a multiple of 64. */
static jt_status write_header(jt_output *out, int rows, int columns, jt_err *err)
{
    enum { BYTES = 128, FIXED = 10 };
    char header[BYTES + 1] = "\x93NUMPY\x01";
    header[8] = BYTES - FIXED;
    snprintf(header + FIXED, BYTES - FIXED + 1, "%-*s\n", BYTES - FIXED - 1, "");
    char dictionary[BYTES];
    int len = snprintf(dictionary, sizeof dictionary,
                       "{'descr': '<i4', 'fortran_order': False, 'shape': (%d, %d), }",
                       rows, columns);
    memcpy(header + FIXED, dictionary, (size_t)len);
    return jt_output_write(out, header, BYTES, err);
}

/* `rows` documents, one of each domain of the list in turn. */
static jt_status write_rows(jt_output *out, const domain *list, int n, int rows,
                            int length, bool mixed, jt_err *err)
{
    int32_t *document = jt_alloc((size_t)length, sizeof *document);
    if (!document)
        return jt_fail_memory(err, "writing synthetic text");
    jt_rng rng = {list->seed, list->stream + (mixed ? STREAM_MIXED : STREAM_TEXT), 0};
    jt_status status = write_header(out, rows, length, err);
    for (int i = 0; i < rows && status == JT_OK; i++) {
        write_document(&list[i % n], &rng, document, length);
        status = jt_output_write(out, document, (size_t)length * sizeof *document, err);
    }
    free(document);
    return status;
}

static jt_status write_file(const char *dir, const char *name, const domain *list,
                            int n, const jt_synthetic_options *o, bool mixed,
                            jt_err *err)
{
    jt_output out = {0};
    size_t room = strlen(dir) + strlen(name) + 2;
    char *path = jt_alloc(room, 1);
    if (!path)
        return jt_fail_memory(err, "writing synthetic text");
    snprintf(path, room, "%s/%s", dir, name);
    jt_status status = jt_output_open(&out, path, err);
    free(path);
    if (status != JT_OK)
        return status;
    status = write_rows(&out, list, n, o->documents * n, o->length, mixed, err);
    if (status == JT_OK)
        return jt_output_commit(&out, err);
    jt_output_abort(&out);
    return status;
}

static jt_status write_all(const char *dir, const domain *list,
                           const jt_synthetic_options *o, jt_err *err)
{
    char name[JT_SYNTHETIC_NAME];
    for (int i = 0; i < o->n_domains; i++) {
        jt_synthetic_name(name, i);
        JT_TRY(write_file(dir, name, &list[i], 1, o, false, err));
    }
    return write_file(dir, JT_SYNTHETIC_MIXED, list, o->n_domains, o, true, err);
}

jt_status jt_synthetic_write(const char *dir, const jt_synthetic_options *o,
                             jt_err *err)
{
    jt_status status = JT_OK;
    int n = o->n_domains + 1; /* what is common comes last */
    domain *list = jt_calloc((size_t)n, sizeof *list);
    if (!list)
        return jt_fail_memory(err, "writing synthetic text");
    for (int i = 0; i < n && status == JT_OK; i++) {
        status = domain_init(&list[i], o, i, err);
        list[i].common = &list[n - 1];
    }
    if (status == JT_OK)
        status = write_all(dir, list, o, err);
    for (int i = 0; i < n; i++)
        domain_free(&list[i]);
    free(list);
    return status;
}
