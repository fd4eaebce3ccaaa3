/* Batches: memory, and tokens from a stream of documents. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "learn/data_impl.h"

jt_status jt_batch_new(jt_batch *out, size_t n_seqs, size_t seq_len, jt_err *err)
{
    enum { ARRAYS = 6 };
    size_t n;
    if (!n_seqs || !seq_len || !jt_mul(n_seqs, seq_len, &n) || n > INT32_MAX)
        return jt_fail(err, JT_E_ARG, "no batch can have %zu sequences of %zu tokens",
                       n_seqs, seq_len);
    int32_t *block = jt_calloc(n, ARRAYS * sizeof *block);
    if (!block)
        return jt_fail_memory(err, "making a batch");
    *out = (jt_batch){.n_seqs = n_seqs,
                      .seq_len = seq_len,
                      .tokens = block,
                      .targets = block + n,
                      .positions = block + 2 * n,
                      .first = block + 3 * n,
                      .domains = block + 4 * n,
                      .front = block + 5 * n};
    return JT_OK;
}

void jt_batch_free(jt_batch *batch)
{
    free(batch->tokens); /* the others are in the same block */
    *batch = (jt_batch){0};
}

/* The tokens of a document from number `skip` on, behind virtual ones. Returns the
 * place that comes next. */
static size_t put_fragment(jt_batch *batch, size_t at, size_t end,
                           const jt_stream *stream, const jt_doc *doc, size_t skip)
{
    size_t first = at, front = stream->front;
    for (size_t i = 0; i < front && at < end; i++, at++) {
        batch->tokens[at] = 0;
        batch->targets[at] = -1;
        batch->front[at] = (int32_t)i;
    }
    for (size_t i = skip; i < doc->count && at < end; i++, at++) {
        const int32_t *token = stream->tokens + doc->start + i;
        int32_t next = i + 1 < doc->count ? token[1] : -1;
        batch->tokens[at] = *token < 0 ? ~*token : *token;
        batch->targets[at] = next < 0 ? -1 : next;
        batch->front[at] = -1;
    }
    for (size_t i = first; i < at; i++) {
        batch->positions[i] = (int32_t)(i - first);
        batch->first[i] = (int32_t)first;
    }
    return at;
}

/* The document at place `from` of the stream. */
static size_t find_document(const jt_stream *stream, uint64_t from)
{
    size_t low = 0, high = stream->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (stream->starts[middle] <= from)
            low = middle;
        else
            high = middle;
    }
    return low;
}

size_t jt_batch_copy(jt_batch *batch, size_t at, size_t end, const jt_stream *stream,
                     uint64_t from)
{
    size_t i = find_document(stream, from), front = stream->front;
    size_t skip = (size_t)(from - stream->starts[i]);
    if (at % batch->seq_len == 0 && skip < front) {
        /* its virtual tokens come as a whole, and so those that are left of them twice
         */
        jt_batch_pad(batch, at, at + front - skip);
        at += front - skip;
    }
    skip = skip > front ? skip - front : 0;
    for (; at < end && i < stream->count; i++, skip = 0)
        at = put_fragment(batch, at, end, stream,
                          &stream->docs[stream->order ? stream->order[i] : i], skip);
    return at;
}

void jt_batch_pad(jt_batch *batch, size_t at, size_t end)
{
    for (size_t i = at; i < end; i++) {
        batch->tokens[i] = 0;
        batch->targets[i] = -1;
        batch->positions[i] = (int32_t)(i - at);
        batch->first[i] = (int32_t)at;
        batch->front[i] = -1;
    }
}

void jt_batch_set_domain(jt_batch *batch, size_t row, size_t source)
{
    for (size_t i = 0; i < batch->seq_len; i++)
        batch->domains[row * batch->seq_len + i] = (int32_t)source;
}
