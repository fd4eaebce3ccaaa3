/* Batches: memory, and tokens from a stream of documents. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "learn/data_impl.h"

jt_status jt_batch_new(jt_batch *out, size_t n_seqs, size_t seq_len, jt_err *err)
{
    enum { ARRAYS = 5 };
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
                      .domains = block + 4 * n};
    return JT_OK;
}

void jt_batch_free(jt_batch *batch)
{
    free(batch->tokens); /* the others are in the same block */
    *batch = (jt_batch){0};
}

/* A fragment of `count` tokens; `more`: its document goes on behind them. */
static void put_fragment(jt_batch *batch, size_t at, const int32_t *tokens,
                         size_t count, bool more)
{
    for (size_t i = 0; i < count; i++) {
        int32_t next = i + 1 < count || more ? tokens[i + 1] : -1;
        batch->tokens[at + i] = tokens[i] < 0 ? ~tokens[i] : tokens[i];
        batch->targets[at + i] = next < 0 ? -1 : next;
        batch->positions[at + i] = (int32_t)i;
        batch->first[at + i] = (int32_t)at;
    }
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
    size_t i = find_document(stream, from);
    size_t skip = (size_t)(from - stream->starts[i]);
    for (; at < end && i < stream->count; i++, skip = 0) {
        jt_doc doc = stream->docs[stream->order ? stream->order[i] : i];
        size_t left = doc.count - skip;
        size_t count = left < end - at ? left : end - at;
        put_fragment(batch, at, stream->tokens + doc.start + skip, count, count < left);
        at += count;
    }
    return at;
}

void jt_batch_pad(jt_batch *batch, size_t at, size_t end)
{
    for (size_t i = at; i < end; i++) {
        batch->tokens[i] = 0;
        batch->targets[i] = -1;
        batch->positions[i] = (int32_t)(i - at);
        batch->first[i] = (int32_t)at;
    }
}

void jt_batch_set_domain(jt_batch *batch, size_t row, size_t source)
{
    for (size_t i = 0; i < batch->seq_len; i++)
        batch->domains[row * batch->seq_len + i] = (int32_t)source;
}
