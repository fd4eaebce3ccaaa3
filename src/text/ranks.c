/* Where merges come from: the list of a byte-level vocabulary, or the scores of a
 * SentencePiece one. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/vocab.h"

#define MERGES "tokenizer.ggml.merges"
#define SCORES "tokenizer.ggml.scores"

/* Longer tokens cannot be merged from their halves; no vocabulary has them. It keeps
 * the search for halves, which is quadratic, short. */
enum { TOKEN_BYTES_MOST = 1024 };

/* Find the tokens of merge `i`, "left right", and what they become. `joined` has room
 * for both. */
static jt_status find_merge(const jt_tokenizer *tok, jt_str merge, char *joined,
                            int32_t ids[3])
{
    const char *space =
        merge.len > 1 ? memchr(merge.data + 1, ' ', merge.len - 1) : NULL;
    if (!space)
        return JT_E_FORMAT;
    size_t left = (size_t)(space - merge.data), right = merge.len - left - 1;
    memcpy(joined, merge.data, left);
    memcpy(joined + left, space + 1, right);
    ids[0] = jt_vocab_find(tok, (jt_str){merge.data, left});
    ids[1] = jt_vocab_find(tok, (jt_str){space + 1, right});
    ids[2] = jt_vocab_find(tok, (jt_str){joined, left + right});
    return ids[0] >= 0 && ids[1] >= 0 && ids[2] >= 0 ? JT_OK : JT_E_FORMAT;
}

static jt_status read_merge(jt_tokenizer *tok, const jt_gguf_kv *kv, uint64_t i,
                            char **joined, size_t *capacity, jt_err *err)
{
    jt_str merge;
    int32_t ids[3];
    if (!jt_gguf_item_str(kv, i, &merge))
        return jt_fail(err, JT_E_FORMAT, MERGES " is not a list of strings");
    if (!jt_grow((void **)joined, capacity, merge.len, 1))
        return jt_fail_memory(err, "reading a vocabulary");
    int shown = (int)(merge.len < 80 ? merge.len : 80);
    if (find_merge(tok, merge, *joined, ids) != JT_OK)
        return jt_fail(err, JT_E_FORMAT,
                       MERGES " item %" PRIu64 ", '%.*s', is not two tokens that make"
                              " a third",
                       i, shown, merge.data);
    if (!jt_merges_add(&tok->merges, ids[0], ids[1], (uint32_t)i, ids[2]))
        return jt_fail(err, JT_E_FORMAT, MERGES " has '%.*s' twice", shown, merge.data);
    return JT_OK;
}

jt_status jt_vocab_read_merges(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
{
    const jt_gguf_kv *kv = NULL;
    JT_TRY(jt_vocab_array(&kv, file, MERGES, 0, err));
    if (kv->count > UINT32_MAX)
        return jt_fail(err, JT_E_FORMAT, MERGES " has %" PRIu64 " items", kv->count);
    if (!jt_merges_new(&tok->merges, (size_t)kv->count))
        return jt_fail_memory(err, "reading a vocabulary");
    char *joined = NULL;
    size_t capacity = 0;
    jt_status status = JT_OK;
    for (uint64_t i = 0; i < kv->count && status == JT_OK; i++)
        status = read_merge(tok, kv, i, &joined, &capacity, err);
    free(joined);
    return status;
}

typedef struct scored {
    float score;
    int32_t id;
    uint32_t rank;
} scored;

static int best_first(const void *a, const void *b)
{
    float x = ((const scored *)a)->score, y = ((const scored *)b)->score;
    return (x < y) - (x > y);
}

static int by_id(const void *a, const void *b)
{
    int32_t x = ((const scored *)a)->id, y = ((const scored *)b)->id;
    return (x > y) - (x < y);
}

/* Read scores into list[count] and rank them: best first, equal scores equal ranks. */
static jt_status rank_scores(scored *list, size_t count, const jt_gguf_kv *kv,
                             jt_err *err)
{
    for (size_t i = 0; i < count; i++) {
        list[i].id = (int32_t)i;
        if (!jt_gguf_item_f32(kv, i, &list[i].score) || isnan(list[i].score))
            return jt_fail(err, JT_E_FORMAT, SCORES " of token %zu is not a number", i);
    }
    qsort(list, count, sizeof *list, best_first);
    list[0].rank = 0;
    for (size_t i = 1; i < count; i++)
        list[i].rank = list[i - 1].rank + (list[i].score != list[i - 1].score);
    qsort(list, count, sizeof *list, by_id);
    return JT_OK;
}

static bool is_normal(const jt_tokenizer *tok, int32_t id)
{
    return id >= 0 && tok->tokens[id].type == JT_TOKEN_NORMAL;
}

/* Call `fn` for each way to make token `id` from two others. */
typedef void halves_fn(void *user, int32_t left, int32_t right, int32_t id);
static void each_halves(const jt_tokenizer *tok, int32_t id, halves_fn *fn, void *user)
{
    jt_str text = tok->tokens[id].text;
    if (!is_normal(tok, id) || text.len > TOKEN_BYTES_MOST)
        return;
    for (size_t at = jt_utf8_char(text.data, text.len), n; at > 0 && at < text.len;
         at = n ? at + n : text.len) {
        n = jt_utf8_char(text.data + at, text.len - at);
        int32_t left = jt_vocab_find(tok, (jt_str){text.data, at});
        if (!is_normal(tok, left))
            continue;
        int32_t right = jt_vocab_find(tok, (jt_str){text.data + at, text.len - at});
        if (is_normal(tok, right))
            fn(user, left, right, id);
    }
}

static void count_halves(void *user, int32_t left, int32_t right, int32_t id)
{
    (void)left, (void)right, (void)id;
    ++*(size_t *)user;
}

typedef struct ranked {
    jt_merges *merges;
    const scored *list;
} ranked;

static void add_halves(void *user, int32_t left, int32_t right, int32_t id)
{
    const ranked *r = user;
    /* Texts are unique, so a pair makes one token and is added once. */
    (void)jt_merges_add(r->merges, left, right, r->list[id].rank, id);
}

/* SentencePiece merges two neighbours when their text together is a token, the token
 * with the best score first. Which pairs can ever be merged is known beforehand. */
jt_status jt_vocab_read_scores(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
{
    const jt_gguf_kv *kv = NULL;
    JT_TRY(jt_vocab_array(&kv, file, SCORES, tok->count, err));
    scored *list = jt_alloc(tok->count, sizeof *list);
    if (!list)
        return jt_fail_memory(err, "reading a vocabulary");
    jt_status status = rank_scores(list, tok->count, kv, err);
    size_t most = 0;
    for (size_t i = 0; i < tok->count && status == JT_OK; i++)
        each_halves(tok, (int32_t)i, count_halves, &most);
    if (status == JT_OK && !jt_merges_new(&tok->merges, most))
        status = jt_fail_memory(err, "reading a vocabulary");
    ranked r = {&tok->merges, list};
    for (size_t i = 0; i < tok->count && status == JT_OK; i++)
        each_halves(tok, (int32_t)i, add_halves, &r);
    free(list);
    return status;
}

jt_status jt_vocab_read_unigram(jt_tokenizer *tok, const jt_gguf *file, jt_err *err)
{
    enum { UNKNOWN_PENALTY = 10 };
    const jt_gguf_kv *kv = NULL;
    jt_unigram *unigram = &tok->unigram;
    JT_TRY(jt_vocab_array(&kv, file, SCORES, tok->count, err));
    unigram->scores = jt_arena_alloc(&tok->arena, tok->count, sizeof *unigram->scores);
    if (!unigram->scores)
        return jt_fail_memory(err, "reading a vocabulary");
    double least = 0;
    for (size_t i = 0; i < tok->count; i++) {
        float *score = &unigram->scores[i];
        if (!jt_gguf_item_f32(kv, i, score) || !isfinite(*score))
            return jt_fail(err, JT_E_FORMAT, SCORES " of token %zu is not a number", i);
        if (!is_normal(tok, (int32_t)i) || !tok->tokens[i].text.len)
            continue;
        least = (double)*score < least ? (double)*score : least;
        if (!jt_trie_add(&unigram->trie, tok->tokens[i].text, (int32_t)i))
            return jt_fail_memory(err, "reading a vocabulary");
    }
    unigram->unknown = least - UNKNOWN_PENALTY;
    return JT_OK;
}

jt_status jt_vocab_read_words(jt_tokenizer *tok, jt_err *err)
{
    size_t mark = strlen(JT_SPACE_MARK);
    for (size_t i = 0; i < tok->count; i++) {
        jt_str text = tok->tokens[i].text;
        bool begins = text.len > mark && memcmp(text.data, JT_SPACE_MARK, mark) == 0;
        if (!is_normal(tok, (int32_t)i) || !text.len)
            continue;
        if (begins)
            text = (jt_str){text.data + mark, text.len - mark};
        if (!jt_trie_add(begins ? &tok->words : &tok->parts, text, (int32_t)i))
            return jt_fail_memory(err, "reading a vocabulary");
    }
    return JT_OK;
}
