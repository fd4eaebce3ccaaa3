/* Documents of a source: put together token by token, and set apart for evaluation. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "learn/data_impl.h"

/* Something to learn: a token that is to be predicted from one before it. */
static bool is_lesson(const jt_docs *docs, size_t start, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        if (docs->tokens[start + i] >= 0)
            return true;
    }
    return false;
}

jt_status jt_docs_add(jt_docs *docs, size_t start, size_t count, jt_err *err)
{
    if (!is_lesson(docs, start, count)) {
        docs->skipped++;
        return JT_OK;
    }
    if (docs->count == UINT32_MAX)
        return jt_fail(err, JT_E_LIMIT, "more than %zu documents", docs->count);
    if (!jt_grow((void **)&docs->items, &docs->capacity, docs->count + 1,
                 sizeof *docs->items))
        return jt_fail_memory(err, "indexing documents");
    size_t record = docs->count + docs->skipped;
    docs->items[docs->count++] = (jt_doc){start, count, record};
    return JT_OK;
}

void jt_docs_free(jt_docs *docs)
{
    free(docs->own.ids);
    jt_map_close(&docs->map);
    free(docs->items);
    *docs = (jt_docs){0};
}

static uint64_t sum_tokens(const jt_doc *docs, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += docs[i].count;
    return sum;
}

/* Move `held` documents to the end; both parts stay in the order of the file. Which
 * ones is the same for every seed, so that runs can be compared. */
static jt_status hold_documents(jt_docs *docs, size_t held, jt_err *err)
{
    size_t n = docs->count, train = 0, other = n - held;
    uint32_t *order = jt_alloc(n, sizeof *order);
    jt_doc *sorted = jt_alloc(n, sizeof *sorted);
    bool *chosen = jt_calloc(n, sizeof *chosen);
    bool ok = order && sorted && chosen;
    if (ok) {
        jt_shuffle(order, n, 0, 0);
        for (size_t i = 0; i < held; i++)
            chosen[order[i]] = true;
        for (size_t i = 0; i < n; i++)
            sorted[chosen[i] ? other++ : train++] = docs->items[i];
        free(docs->items);
        docs->items = sorted;
        docs->capacity = n;
    } else {
        free(sorted);
    }
    free(order);
    free(chosen);
    return ok ? JT_OK : jt_fail_memory(err, "setting documents apart");
}

/* Cut the end off the longest document, at least two tokens, at most all but two. */
static jt_status hold_tail(jt_docs *docs, double share, jt_err *err)
{
    size_t longest = 0;
    for (size_t i = 1; i < docs->count; i++) {
        if (docs->items[i].count > docs->items[longest].count)
            longest = i;
    }
    jt_doc *doc = &docs->items[longest];
    if (doc->count < 4)
        return JT_OK;
    double wanted = share * (double)sum_tokens(docs->items, docs->count);
    double tail = fmin(fmax(floor(wanted), 2), (double)(doc->count - 2));
    doc->count -= (size_t)tail;
    jt_doc rest = {doc->start + doc->count, (size_t)tail, doc->record};
    if (!jt_grow((void **)&docs->items, &docs->capacity, docs->count + 1,
                 sizeof *docs->items))
        return jt_fail_memory(err, "setting documents apart");
    docs->items[docs->count] = rest;
    docs->n_train = docs->count++;
    return JT_OK;
}

/* Forget all but the first `most` training documents. */
static void keep_few(jt_docs *docs, size_t most)
{
    size_t held = docs->count - docs->n_train;
    memmove(docs->items + most, docs->items + docs->n_train,
            held * sizeof *docs->items);
    docs->n_train = most;
    docs->count = most + held;
}

jt_status jt_docs_hold_out(jt_docs *docs, double share, size_t most, jt_err *err)
{
    /* A hair more than the product: a tenth of ten documents is one. */
    size_t held = (size_t)(share * (double)docs->count * (1 + 1e-12));
    docs->n_train = docs->count - held;
    if (held > 0)
        JT_TRY(hold_documents(docs, held, err));
    else if (share > 0)
        JT_TRY(hold_tail(docs, share, err));
    if (most && most < docs->n_train)
        keep_few(docs, most);
    docs->train_tokens = sum_tokens(docs->items, docs->n_train);
    docs->held_tokens =
        sum_tokens(docs->items + docs->n_train, docs->count - docs->n_train);
    return JT_OK;
}

jt_status jt_reader_report(jt_reader *r, size_t done, jt_err *err)
{
    enum { STEP = 1 << 19 };
    size_t total = r->docs->map.bytes;
    if (done != 0 && done != total && done - r->reported < STEP)
        return JT_OK;
    char what[80];
    snprintf(what, sizeof what, "reading %s", r->domain);
    r->reported = done;
    return jt_progress_report(r->progress, what, done, total, err);
}

static jt_status push(jt_reader *r, int32_t id, jt_err *err)
{
    jt_tokens *own = &r->docs->own;
    if (!jt_grow((void **)&own->ids, &own->capacity, own->count + 1, sizeof *own->ids))
        return jt_fail_memory(err, "keeping tokens");
    own->ids[own->count++] = id;
    return JT_OK;
}

jt_status jt_reader_begin(jt_reader *r, jt_err *err)
{
    r->start = r->docs->own.count;
    return r->bos >= 0 ? push(r, r->bos, err) : JT_OK;
}

jt_status jt_reader_text(jt_reader *r, jt_str text, unsigned flags, jt_err *err)
{
    return jt_encode(r->tok, text.data, text.len, flags, &r->docs->own, err);
}

jt_status jt_reader_reply(jt_reader *r, jt_str text, size_t prompt, unsigned flags,
                          jt_err *err)
{
    r->scratch.count = 0;
    JT_TRY(jt_encode(r->tok, text.data, prompt, flags, &r->scratch, err));
    size_t from = r->docs->own.count;
    JT_TRY(jt_reader_text(r, text, flags, err));
    int32_t *ids = r->docs->own.ids + from;
    size_t count = r->docs->own.count - from;
    for (size_t i = 0; i < count && i < r->scratch.count && ids[i] == r->scratch.ids[i];
         i++)
        ids[i] = ~ids[i];
    return JT_OK;
}

/* Learnt is the suffix up to its end token. Where it has none the model would never
 * learn to stop, so eos goes before it. */
jt_status jt_reader_close_reply(jt_reader *r, jt_err *err)
{
    const char *suffix = r->chat->reply_suffix;
    jt_tokens *closing = &r->scratch;
    closing->count = 0;
    JT_TRY(jt_encode(r->tok, suffix, strlen(suffix), JT_ENCODE_PARSE_SPECIAL, closing,
                     err));
    size_t learnt = 0;
    while (learnt < closing->count && !jt_token_is_end(r->tok, closing->ids[learnt]))
        learnt++;
    if (learnt < closing->count) {
        learnt++;
    } else if (r->eos >= 0) {
        learnt = 0;
        JT_TRY(push(r, r->eos, err));
    }
    for (size_t i = 0; i < closing->count; i++)
        JT_TRY(push(r, i < learnt ? closing->ids[i] : ~closing->ids[i], err));
    return JT_OK;
}

jt_status jt_reader_end(jt_reader *r, bool eos, jt_err *err)
{
    jt_docs *docs = r->docs;
    size_t begun = r->start + (r->bos >= 0), kept = docs->count;
    bool empty = docs->own.count == begun;
    if (eos && r->eos >= 0)
        JT_TRY(push(r, r->eos, err));
    docs->tokens = docs->own.ids;
    JT_TRY(jt_docs_add(docs, r->start, empty ? 0 : docs->own.count - r->start, err));
    if (docs->count == kept) /* skipped */
        docs->own.count = r->start;
    return JT_OK;
}
