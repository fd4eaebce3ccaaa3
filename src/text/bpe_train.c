#include <stdlib.h>
#include <string.h>

#include "text/alphabet.h"
#include "text/bpe.h"
#include "text/bpe_pairs.h"

/* A word in its present tokens. */
typedef struct run {
    int32_t *ids;
    uint32_t len;
    uint64_t count;
} run;

typedef struct trainer {
    jt_bpe *out;
    run *runs; /* one for each word */
    size_t n_runs;
    int32_t *ids; /* those of all runs */
    jt_pairs pairs;
    jt_err *err;
} trainer;

static jt_status no_memory(const trainer *t)
{
    return jt_fail_memory(t->err, "learning a vocabulary");
}

static jt_status add_token(trainer *t, jt_str bytes)
{
    jt_bpe *out = t->out;
    if (!jt_grow((void **)&out->tokens, &out->tokens_capacity, out->n_tokens + 1,
                 sizeof *out->tokens) ||
        !jt_names_add(&out->by_bytes, bytes, out->n_tokens))
        return no_memory(t);
    out->tokens[out->n_tokens++] = bytes;
    return JT_OK;
}

static jt_status add_bytes(trainer *t, int32_t ids[256])
{
    unsigned char order[256];
    jt_alphabet_order(order);
    char *bytes = jt_arena_alloc(&t->out->arena, 256, 1);
    if (!bytes)
        return no_memory(t);
    for (int i = 0; i < 256; i++) {
        ids[order[i]] = i;
        bytes[i] = (char)order[i];
        JT_TRY(add_token(t, (jt_str){&bytes[i], 1}));
    }
    return JT_OK;
}

/* Every word as its bytes, in one array. */
static jt_status spell(trainer *t, const jt_words *words)
{
    int32_t ids[256];
    JT_TRY(add_bytes(t, ids));
    size_t total = 0;
    for (size_t i = 0; i < words->count; i++)
        total += words->items[i].text.len; /* they are in memory: no overflow */
    t->ids = jt_alloc(total, sizeof *t->ids);
    t->runs = jt_alloc(words->count, sizeof *t->runs);
    if (!t->ids || !t->runs)
        return no_memory(t);
    int32_t *at = t->ids;
    for (size_t i = 0; i < words->count; i++) {
        const jt_word *word = &words->items[i];
        t->runs[i] = (run){at, (uint32_t)word->text.len, word->count};
        for (size_t j = 0; j < word->text.len; j++)
            *at++ = ids[(unsigned char)word->text.data[j]];
    }
    t->n_runs = words->count;
    return JT_OK;
}

static jt_status add_pair(trainer *t, int32_t left, int32_t right, uint32_t word)
{
    bool ok = jt_pairs_add(&t->pairs, left, right, t->runs[word].count, word);
    return ok ? JT_OK : no_memory(t);
}

static jt_status count_pairs(trainer *t)
{
    for (size_t word = 0; word < t->n_runs; word++) {
        const run *r = &t->runs[word];
        for (uint32_t i = 0; i + 1 < r->len; i++)
            JT_TRY(add_pair(t, r->ids[i], r->ids[i + 1], (uint32_t)word));
    }
    return jt_pairs_update(&t->pairs) ? JT_OK : no_memory(t);
}

/* Merge a pair in one word, from left to right. Its neighbours form new pairs; `len`
 * tokens are done, and those from `i` on are as they were. */
static jt_status merge_word(trainer *t, const jt_bpe_merge *m, uint32_t word)
{
    run *r = &t->runs[word];
    uint32_t len = 0;
    for (uint32_t i = 0; i < r->len; i++, len++) {
        bool found =
            i + 1 < r->len && r->ids[i] == m->left && r->ids[i + 1] == m->right;
        if (!found) {
            r->ids[len] = r->ids[i];
            continue;
        }
        jt_pairs_remove(&t->pairs, m->left, m->right, r->count);
        if (len > 0) {
            jt_pairs_remove(&t->pairs, r->ids[len - 1], m->left, r->count);
            JT_TRY(add_pair(t, r->ids[len - 1], m->id, word));
        }
        if (i + 2 < r->len) {
            jt_pairs_remove(&t->pairs, m->right, r->ids[i + 2], r->count);
            JT_TRY(add_pair(t, m->id, r->ids[i + 2], word));
        }
        r->ids[len] = m->id;
        i++;
    }
    r->len = len;
    return JT_OK;
}

/* The token that a pair becomes: a new one, or one with the same bytes. */
static jt_status find_token(trainer *t, const jt_pair *pair, int32_t *id)
{
    jt_str left = t->out->tokens[pair->left], right = t->out->tokens[pair->right];
    size_t len = left.len + right.len;
    char *bytes = jt_arena_alloc(&t->out->arena, len, 1);
    if (!bytes)
        return no_memory(t);
    memcpy(bytes, left.data, left.len);
    memcpy(bytes + left.len, right.data, right.len);
    jt_str joined = {bytes, len};
    size_t known = jt_names_find(&t->out->by_bytes, joined);
    *id = known != JT_NAMES_NONE ? (int32_t)known : (int32_t)t->out->n_tokens;
    return known == JT_NAMES_NONE ? add_token(t, joined) : JT_OK;
}

static jt_status record(trainer *t, const jt_bpe_merge *merge)
{
    jt_bpe *out = t->out;
    if (!jt_grow((void **)&out->merges, &out->merges_capacity, out->n_merges + 1,
                 sizeof *out->merges))
        return no_memory(t);
    out->merges[out->n_merges++] = *merge;
    return JT_OK;
}

static jt_status merge_pair(trainer *t, jt_pair *pair)
{
    jt_bpe_merge merge = {pair->left, pair->right, -1};
    JT_TRY(find_token(t, pair, &merge.id));
    /* Where two merges make the same bytes, a pair can come up again. */
    if (!pair->merged)
        JT_TRY(record(t, &merge));
    pair->merged = true;
    uint32_t *words = pair->words; /* `pair` may move */
    size_t n_words = pair->n_words;
    pair->words = NULL;
    pair->n_words = pair->words_capacity = 0;
    jt_status status = JT_OK;
    for (size_t i = 0; i < n_words && status == JT_OK; i++)
        status = merge_word(t, &merge, words[i]);
    free(words);
    if (status == JT_OK && !jt_pairs_update(&t->pairs))
        status = no_memory(t);
    return status;
}

static jt_status train(trainer *t, const jt_words *words, size_t size,
                       uint64_t min_count, const jt_progress *progress)
{
    JT_TRY(spell(t, words));
    JT_TRY(count_pairs(t));
    size_t first = t->out->n_tokens, wanted = size - first;
    while (t->out->n_tokens < size) {
        size_t done = t->out->n_tokens - first;
        JT_TRY(jt_progress_report(progress, "merging", done, wanted, t->err));
        jt_pair *pair = jt_pairs_take(&t->pairs, min_count);
        if (!pair)
            break;
        JT_TRY(merge_pair(t, pair));
    }
    for (size_t i = 0; i < t->n_runs; i++)
        t->out->text_tokens += t->runs[i].len * t->runs[i].count;
    return jt_progress_report(progress, "merging", wanted, wanted, t->err);
}

jt_status jt_bpe_train(jt_bpe *out, const jt_words *words, size_t size,
                       uint64_t min_count, const jt_progress *progress, jt_err *err)
{
    *out = (jt_bpe){0};
    trainer t = {.out = out, .err = err};
    jt_status status = train(&t, words, size, min_count, progress);
    jt_pairs_free(&t.pairs);
    free(t.runs);
    free(t.ids);
    return status;
}

void jt_bpe_free(jt_bpe *bpe)
{
    free(bpe->tokens);
    free(bpe->merges);
    jt_names_free(&bpe->by_bytes);
    jt_arena_free(&bpe->arena);
    *bpe = (jt_bpe){0};
}
