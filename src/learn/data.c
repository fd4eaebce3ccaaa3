/* Opening training data, and what is asked of it. */
#include "learn/data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "learn/data_impl.h"
#include "text/jsonl.h"

typedef struct corpus {
    char *domain;
    jt_docs docs;
    jt_order *order;       /* of training */
    uint64_t *held_starts; /* [held-out documents + 1] in their stream */
} corpus;

struct jt_data {
    size_t seq_len, n_sources;
    corpus *sources;
    double *shares;
    uint64_t *splits; /* for jt_mix_pick */
    bool alone;       /* a batch has one source */
};

static jt_status check_options(const jt_data_source *sources, size_t n_sources,
                               const jt_tokenizer *tok, size_t n_vocab,
                               const jt_data_options *options, jt_err *err)
{
    enum { SOURCES_MOST = 1 << 15 };
    if (n_sources < 1 || n_sources > SOURCES_MOST)
        return jt_fail(err, JT_E_ARG, "training data has 1 to %d sources, not %zu",
                       SOURCES_MOST, n_sources);
    if (options->seq_len < 2 || options->seq_len > INT32_MAX)
        return jt_fail(err, JT_E_ARG, "a sequence cannot have %zu tokens",
                       options->seq_len);
    if (options->front > (options->seq_len - 2) / 2)
        return jt_fail(
            err, JT_E_ARG,
            "sequences of %zu tokens have no room for %zu virtual ones: they "
            "must have %zu",
            options->seq_len, options->front, 2 * options->front + 2);
    if (!(options->held_out >= 0 && options->held_out <= 0.5))
        return jt_fail(err, JT_E_ARG,
                       "the held-out share is %g, and must be from 0 to 0.5",
                       options->held_out);
    if (tok && jt_vocab_size(tok) > n_vocab)
        return jt_fail(err, JT_E_ARG,
                       "the tokenizer has %zu tokens, the model only %zu",
                       jt_vocab_size(tok), n_vocab);
    if (n_vocab < 1 || n_vocab > INT32_MAX)
        return jt_fail(err, JT_E_ARG, "a vocabulary cannot have %zu tokens", n_vocab);
    for (size_t i = 0; i < n_sources; i++) {
        double weight = sources[i].weight;
        if (!(weight >= 0 && weight <= 1e100))
            return jt_fail(err, JT_E_ARG, "'%s' cannot have the weight %g",
                           sources[i].path, weight);
        if ((weight > 0) != (sources[0].weight > 0))
            return jt_fail(
                err, JT_E_ARG,
                "'%s' has a weight and '%s' has none; give it to all or none",
                sources[weight > 0 ? i : 0].path, sources[weight > 0 ? 0 : i].path);
    }
    return JT_OK;
}

typedef jt_status read_fn(jt_reader *r, jt_err *err);

static read_fn *find_reader(const char *path)
{
    static const struct {
        const char *suffix;
        read_fn *read;
    } kinds[] = {
        {".npy", jt_data_read_tokens},
        {".bin", jt_data_read_tokens},
    };
    size_t len = strlen(path);
    if (jt_is_jsonl(path))
        return jt_data_read_jsonl;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t n = strlen(kinds[i].suffix);
        if (len > n && strcasecmp(path + len - n, kinds[i].suffix) == 0)
            return kinds[i].read;
    }
    return jt_data_read_text;
}

/* Which special tokens documents get: those that jt_encode adds to a text, and eos. */
static jt_status find_ends(jt_reader *r, jt_err *err)
{
    r->bos = r->eos = -1;
    if (!r->tok)
        return JT_OK;
    JT_TRY(jt_encode(r->tok, "", 0, JT_ENCODE_ADD_SPECIAL, &r->scratch, err));
    if (r->scratch.count > 0 && r->scratch.ids[0] == jt_token_bos(r->tok))
        r->bos = r->scratch.ids[0];
    r->eos = jt_token_eos(r->tok);
    return JT_OK;
}

/* Errors of it do not name the file. */
static jt_status read_documents(jt_reader *r, read_fn *read, jt_err *err)
{
    jt_docs *docs = r->docs;
    if (docs->map.bytes == 0)
        return jt_fail(err, JT_E_FORMAT, "the file is empty");
    JT_TRY(find_ends(r, err));
    JT_TRY(jt_reader_report(r, 0, err));
    JT_TRY(read(r, err));
    JT_TRY(jt_reader_report(r, docs->map.bytes, err));
    if (docs->count == 0)
        return jt_fail(err, JT_E_FORMAT,
                       "no document with something to learn (%zu skipped)",
                       docs->skipped);
    if (read != jt_data_read_tokens)
        jt_map_close(&docs->map);
    return JT_OK;
}

static jt_status sum_held_out(corpus *s, jt_err *err)
{
    const jt_docs *docs = &s->docs;
    size_t n = docs->count - docs->n_train;
    s->held_starts = jt_alloc(n + 1, sizeof *s->held_starts);
    if (!s->held_starts)
        return jt_fail_memory(err, "indexing documents");
    s->held_starts[0] = 0;
    for (size_t i = 0; i < n; i++)
        s->held_starts[i + 1] =
            s->held_starts[i] + docs->front + docs->items[docs->n_train + i].count;
    return JT_OK;
}

static jt_status index_source(corpus *s, size_t index, const jt_data_options *options,
                              jt_err *err)
{
    s->docs.front = options->front;
    JT_TRY(jt_docs_hold_out(&s->docs, options->held_out, options->most, err));
    JT_TRY(sum_held_out(s, err));
    return jt_order_new(&s->order, &s->docs, options->seq_len, options->seed, index,
                        err);
}

static const char *domain_of(const jt_data_source *from)
{
    const char *slash = strrchr(from->path, '/');
    return from->domain ? from->domain : slash ? slash + 1 : from->path;
}

jt_status jt_docs_open(jt_docs *out, const jt_data_source *from,
                       const jt_tokenizer *tok, size_t n_vocab,
                       const jt_data_options *options, jt_err *err)
{
    read_fn *read = find_reader(from->path);
    if (!tok && read != jt_data_read_tokens)
        return jt_fail(err, JT_E_ARG, "'%s' is text, for which a tokenizer is needed",
                       from->path);
    JT_TRY(jt_map_open(&out->map, from->path, err));
    const jt_chat_format *chat = options->chat;
    jt_reader reader = {
        .source = from,
        .tok = tok,
        .n_vocab = n_vocab,
        .chat = chat ? chat : jt_chat_format_named("chatml"),
        .progress = &options->progress,
        .domain = domain_of(from),
        .docs = out,
    };
    jt_status status = read_documents(&reader, read, err);
    free(reader.scratch.ids);
    return status == JT_OK ? JT_OK : jt_fail_within(err, status, "'%s'", from->path);
}

static jt_status open_source(corpus *s, size_t index, const jt_data_source *from,
                             const jt_tokenizer *tok, size_t n_vocab,
                             const jt_data_options *options, jt_err *err)
{
    const char *domain = domain_of(from);
    s->domain = jt_strndup(domain, strlen(domain));
    if (!s->domain)
        return jt_fail_memory(err, "opening training data");
    JT_TRY(jt_docs_open(&s->docs, from, tok, n_vocab, options, err));
    jt_status status = index_source(s, index, options, err);
    return status == JT_OK ? JT_OK : jt_fail_within(err, status, "'%s'", from->path);
}

static jt_status mix_sources(jt_data *data, const jt_data_source *from, jt_err *err)
{
    size_t n = data->n_sources;
    data->shares = jt_alloc(n, sizeof *data->shares);
    data->splits = jt_alloc(n, sizeof *data->splits);
    if (!data->shares || !data->splits)
        return jt_fail_memory(err, "opening training data");
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double weight = from[i].weight;
        data->shares[i] =
            weight > 0 ? weight : (double)data->sources[i].docs.train_tokens;
        sum += data->shares[i];
    }
    for (size_t i = 0; i < n; i++)
        data->shares[i] /= sum;
    jt_mix_new(data->splits, data->shares, n);
    return JT_OK;
}

jt_status jt_data_open(jt_data **out, const jt_data_source *sources, size_t n_sources,
                       const jt_tokenizer *tok, size_t n_vocab,
                       const jt_data_options *options, jt_err *err)
{
    if (tok && n_vocab == 0)
        n_vocab = jt_vocab_size(tok);
    JT_TRY(check_options(sources, n_sources, tok, n_vocab, options, err));
    jt_data *data = jt_calloc(1, sizeof *data);
    if (!data)
        return jt_fail_memory(err, "opening training data");
    data->seq_len = options->seq_len;
    data->alone = options->alone;
    data->sources = jt_calloc(n_sources, sizeof *data->sources);
    jt_status status =
        data->sources ? JT_OK : jt_fail_memory(err, "opening training data");
    for (size_t i = 0; i < n_sources && status == JT_OK; i++) {
        data->n_sources = i + 1;
        status =
            open_source(&data->sources[i], i, &sources[i], tok, n_vocab, options, err);
    }
    if (status == JT_OK)
        status = mix_sources(data, sources, err);
    if (status == JT_OK)
        *out = data;
    else
        jt_data_free(data);
    return status;
}

void jt_data_free(jt_data *data)
{
    if (!data)
        return;
    for (size_t i = 0; i < data->n_sources; i++) {
        corpus *s = &data->sources[i];
        free(s->domain);
        free(s->held_starts);
        jt_order_free(s->order);
        jt_docs_free(&s->docs);
    }
    free(data->sources);
    free(data->shares);
    free(data->splits);
    free(data);
}

static jt_status check_batch(const jt_data *data, const jt_batch *batch, jt_err *err)
{
    if (batch->seq_len != data->seq_len)
        return jt_fail(err, JT_E_ARG,
                       "the batch has sequences of %zu tokens, the data of %zu",
                       batch->seq_len, data->seq_len);
    return JT_OK;
}

jt_status jt_data_train_batch(const jt_data *data, uint64_t index, jt_batch *batch,
                              jt_err *err)
{
    JT_TRY(check_batch(data, batch, err));
    /* Places in the stream of all epochs are 64 bits, with room for two epochs. */
    if (index >= (UINT64_C(1) << 62) / (batch->n_seqs * batch->seq_len))
        return jt_fail(err, JT_E_LIMIT, "there is no training step %llu",
                       (unsigned long long)index);
    for (size_t row = 0; row < batch->n_seqs; row++) {
        uint64_t sequence = data->alone ? index : index * batch->n_seqs + row;
        size_t source = jt_mix_pick(data->splits, data->n_sources, &sequence);
        if (data->alone)
            sequence = sequence * batch->n_seqs + row;
        jt_order_fill(data->sources[source].order, sequence, batch, row);
    }
    return JT_OK;
}

size_t jt_data_eval_count(const jt_data *data, size_t source)
{
    const corpus *s = &data->sources[source];
    uint64_t places = s->held_starts[s->docs.count - s->docs.n_train];
    uint64_t step = data->seq_len - s->docs.front;
    return (size_t)(places / step + (places % step != 0));
}

jt_status jt_data_eval_batch(const jt_data *data, size_t source, size_t first,
                             jt_batch *batch, size_t *filled, jt_err *err)
{
    JT_TRY(check_batch(data, batch, err));
    if (source >= data->n_sources)
        return jt_fail(err, JT_E_ARG, "there is no source %zu", source);
    const corpus *s = &data->sources[source];
    const jt_docs *docs = &s->docs;
    jt_stream stream = {.tokens = docs->tokens,
                        .front = docs->front,
                        .docs = docs->items + docs->n_train,
                        .starts = s->held_starts,
                        .count = docs->count - docs->n_train};
    size_t count = jt_data_eval_count(data, source), seq_len = data->seq_len;
    size_t left = first < count ? count - first : 0;
    *filled = left < batch->n_seqs ? left : batch->n_seqs;
    for (size_t row = 0; row < batch->n_seqs; row++) {
        size_t at = row * seq_len, end = at + seq_len;
        if (row < *filled)
            at = jt_batch_copy(batch, at, end, &stream,
                               (first + row) * (seq_len - docs->front));
        jt_batch_pad(batch, at, end);
        jt_batch_set_domain(batch, row, source);
    }
    return JT_OK;
}

size_t jt_data_sources(const jt_data *data)
{
    return data->n_sources;
}

const char *jt_data_domain(const jt_data *data, size_t source)
{
    return data->sources[source].domain;
}

double jt_data_share(const jt_data *data, size_t source)
{
    return data->shares[source];
}

void jt_data_tokens(const jt_data *data, size_t source, uint64_t *train,
                    uint64_t *held_out)
{
    *train = data->sources[source].docs.train_tokens;
    *held_out = data->sources[source].docs.held_tokens;
}

void jt_data_documents(const jt_data *data, size_t source, size_t *train,
                       size_t *held_out, size_t *skipped)
{
    const jt_docs *docs = &data->sources[source].docs;
    *train = docs->n_train;
    *held_out = docs->count - docs->n_train;
    *skipped = docs->skipped;
}

uint64_t jt_data_bytes(const jt_data *data)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < data->n_sources; i++) {
        const jt_docs *docs = &data->sources[i].docs;
        bytes +=
            docs->own.count * sizeof *docs->own.ids + docs->count * sizeof *docs->items;
    }
    return bytes;
}

uint64_t jt_data_epoch_tokens(const jt_data *data)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < data->n_sources; i++)
        sum += data->sources[i].docs.train_tokens;
    return sum;
}
