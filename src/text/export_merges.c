#include "text/export_merges.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "format/names.h"
#include "text/vocab.h"

typedef struct pair {
    float score; /* of what they make */
    size_t made, left, right;
} pair;

typedef struct pairs {
    const jt_gguf_kv *tokens;
    jt_names names;
    pair *list;
    size_t count, room;
    jt_err *err;
} pairs;

static jt_str token_at(const pairs *p, size_t i)
{
    jt_str text = {"", 0};
    jt_gguf_item_str(p->tokens, i, &text);
    return text;
}

static jt_status index_tokens(pairs *p)
{
    for (size_t i = 0; i < p->tokens->count; i++) {
        jt_str text = token_at(p, i);
        if (text.len == 0 || jt_names_find(&p->names, text) != JT_NAMES_NONE)
            continue;
        if (!jt_names_add(&p->names, text, i))
            return jt_fail_memory(p->err, "making merges");
    }
    return JT_OK;
}

/* All cuts of token `made` into two tokens. */
static jt_status add_pairs(pairs *p, size_t made, float score)
{
    jt_str text = token_at(p, made);
    for (size_t cut = 1; cut < text.len; cut++) {
        if (((unsigned char)text.data[cut] & 0xc0) == 0x80) /* inside a character */
            continue;
        size_t left = jt_names_find(&p->names, (jt_str){text.data, cut});
        size_t right =
            jt_names_find(&p->names, (jt_str){text.data + cut, text.len - cut});
        if (left == JT_NAMES_NONE || right == JT_NAMES_NONE)
            continue;
        if (!jt_grow((void **)&p->list, &p->room, p->count + 1, sizeof *p->list))
            return jt_fail_memory(p->err, "making merges");
        p->list[p->count++] = (pair){score, made, left, right};
    }
    return JT_OK;
}

static int by_score(const void *a, const void *b)
{
    const pair *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->made != y->made)
        return x->made < y->made ? -1 : 1;
    if (x->left != y->left)
        return x->left < y->left ? -1 : 1;
    return (x->right > y->right) - (x->right < y->right);
}

static jt_status collect(pairs *p, const jt_gguf *file)
{
    const jt_gguf_kv *scores = jt_gguf_kv_find(file, "tokenizer.ggml.scores");
    const jt_gguf_kv *types = jt_gguf_kv_find(file, "tokenizer.ggml.token_type");
    JT_TRY(index_tokens(p));
    for (size_t i = 0; i < p->tokens->count; i++) {
        int64_t type = JT_TOKEN_NORMAL;
        float score = 0.0f;
        if (types)
            jt_gguf_item_i64(types, i, &type);
        if (scores)
            jt_gguf_item_f32(scores, i, &score);
        if (type == JT_TOKEN_NORMAL)
            JT_TRY(add_pairs(p, i, score));
    }
    if (p->count)
        qsort(p->list, p->count, sizeof *p->list, by_score);
    return JT_OK;
}

jt_status jt_export_merges(json_t **out, const jt_gguf *file, jt_err *err)
{
    pairs p = {.tokens = jt_gguf_kv_find(file, "tokenizer.ggml.tokens"), .err = err};
    json_t *merges = json_array();
    int failed = !merges;
    jt_status status = collect(&p, file);
    for (size_t i = 0; i < p.count && status == JT_OK && !failed; i++) {
        jt_str left = token_at(&p, p.list[i].left),
               right = token_at(&p, p.list[i].right);
        failed |= json_array_append_new(
            merges, json_pack("[s%, s%]", left.data, left.len, right.data, right.len));
    }
    if (status == JT_OK && failed)
        status = jt_fail_memory(err, "making merges");
    if (status == JT_OK)
        *out = merges;
    else
        json_decref(merges);
    jt_names_free(&p.names);
    free(p.list);
    return status;
}
