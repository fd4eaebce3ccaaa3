/* Which tokens the n-th training sequence of a source has. */
#include <pthread.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/random.h"
#include "learn/data_impl.h"

void jt_shuffle(uint32_t *items, size_t n, uint64_t seed, uint64_t stream)
{
    jt_rng rng = {seed, stream, 0};
    for (size_t i = 0; i < n; i++) { /* Fisher and Yates, inside out */
        uint32_t j = jt_rng_below(&rng, (uint32_t)i + 1);
        items[i] = items[j];
        items[j] = (uint32_t)i;
    }
}

#define NO_EPOCH UINT64_MAX

struct jt_order {
    const jt_docs *docs;
    uint64_t seed, source;
    uint64_t step, places; /* of the stream: in a sequence, in an epoch */

    pthread_mutex_t lock; /* of what follows: tables and the epochs that they are of */
    uint64_t doc_epoch, seq_epoch;
    uint32_t *doc_order; /* [n_train] */
    uint64_t *starts;    /* [n_train + 1] of documents in the epoch, in that order */
    uint32_t *seq_order; /* [sequences that begin in the epoch] */
};

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

static jt_status make_tables(jt_order *order, const jt_docs *docs, jt_err *err)
{
    uint64_t most = order->places / order->step + 1; /* sequences that may begin */
    if (most > UINT32_MAX)
        return jt_fail(err, JT_E_LIMIT, "%llu sequences are too many",
                       (unsigned long long)most);
    order->doc_order = jt_alloc(docs->n_train, sizeof *order->doc_order);
    order->starts = jt_alloc(docs->n_train + 1, sizeof *order->starts);
    order->seq_order = jt_alloc((size_t)most, sizeof *order->seq_order);
    if (!order->doc_order || !order->starts || !order->seq_order)
        return jt_fail_memory(err, "ordering documents");
    return JT_OK;
}

jt_status jt_order_new(jt_order **out, const jt_docs *docs, size_t seq_len,
                       uint64_t seed, size_t source, jt_err *err)
{
    jt_order *order = jt_alloc(1, sizeof *order);
    if (!order)
        return jt_fail_memory(err, "ordering documents");
    *order =
        (jt_order){.docs = docs,
                   .seed = seed,
                   .source = source,
                   .step = seq_len - docs->front,
                   .places = docs->train_tokens + (uint64_t)docs->n_train * docs->front,
                   .lock = PTHREAD_MUTEX_INITIALIZER,
                   .doc_epoch = NO_EPOCH,
                   .seq_epoch = NO_EPOCH};
    jt_status status = make_tables(order, docs, err);
    if (status == JT_OK)
        *out = order;
    else
        jt_order_free(order);
    return status;
}

void jt_order_free(jt_order *order)
{
    if (!order)
        return;
    pthread_mutex_destroy(&order->lock);
    free(order->doc_order);
    free(order->starts);
    free(order->seq_order);
    free(order);
}

/* A stream of random numbers for each source, epoch and purpose. Epochs repeat after
 * 2^32; the top bits keep away from the streams that others use with the same seed. */
static uint64_t rng_stream(const jt_order *order, uint64_t epoch, uint64_t purpose)
{
    return UINT64_C(0xda7a) << 48 | order->source << 33 | purpose << 32 |
           (epoch & UINT32_MAX);
}

static void shuffle_documents(jt_order *order, uint64_t epoch)
{
    if (order->doc_epoch == epoch)
        return;
    const jt_docs *docs = order->docs;
    jt_shuffle(order->doc_order, docs->n_train, order->seed,
               rng_stream(order, epoch, 0));
    uint64_t start = 0;
    for (size_t i = 0; i < docs->n_train; i++) {
        order->starts[i] = start;
        start += docs->front + docs->items[order->doc_order[i]].count;
    }
    order->starts[docs->n_train] = start;
    order->doc_epoch = epoch;
}

/* The stream of all epochs is cut into sequences. Those that begin in an epoch change
 * places, so that a long document is not read in one go. Returns the place in the
 * stream where sequence `index` begins. */
static uint64_t shuffled_place(jt_order *order, uint64_t index)
{
    uint64_t epoch = index * order->step / order->places;
    uint64_t first = divide_up(epoch * order->places, order->step);
    uint64_t end = divide_up((epoch + 1) * order->places, order->step);
    if (order->seq_epoch != epoch) {
        jt_shuffle(order->seq_order, (size_t)(end - first), order->seed,
                   rng_stream(order, epoch, 1));
        order->seq_epoch = epoch;
    }
    return (first + order->seq_order[index - first]) * order->step;
}

void jt_order_fill(jt_order *order, uint64_t index, jt_batch *batch, size_t row)
{
    const jt_docs *docs = order->docs;
    jt_stream stream = {docs->tokens,     docs->front,   docs->items,
                        order->doc_order, order->starts, docs->n_train};
    size_t begin = row * batch->seq_len, end = begin + batch->seq_len;
    size_t more = docs->front; /* than the stream gives, at the beginning */
    pthread_mutex_lock(&order->lock);
    uint64_t place = shuffled_place(order, index);
    for (size_t at = begin, next; at < end; at = next, more = 0) {
        shuffle_documents(order, place / order->places);
        next = jt_batch_copy(batch, at, end, &stream, place % order->places);
        place += next - at - more;
    }
    pthread_mutex_unlock(&order->lock);
    jt_batch_set_domain(batch, row, order->source);
}
