#include "text/draft.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/vocab.h"

#define KEY(name) "tokenizer.ggml." name

/* The library's strings as arguments of "%.*s"; messages are short. */
#define SHOW(str) (int)((str).len < 80 ? (str).len : 80), (str).data

void jt_draft_new(jt_draft *draft, jt_err *err)
{
    *draft = (jt_draft){.prefix = -1,
                        .shrink = -1,
                        .lower = -1,
                        .strip = -1,
                        .add_bos = -1,
                        .add_eos = -1,
                        .err = err};
    for (int i = 0; i < JT_ROLES; i++)
        draft->roles[i] = -1;
}

void jt_draft_free(jt_draft *draft)
{
    free(draft->tokens);
    free(draft->merges);
    free(draft->begin.items);
    free(draft->end.items);
    free(draft->ends.items);
    jt_names_free(&draft->by_text);
    jt_arena_free(&draft->arena);
}

static jt_status no_memory(const jt_draft *d)
{
    return jt_fail_memory(d->err, "reading a tokenizer");
}

/* Make room for `count` tokens. */
static jt_status make_room(jt_draft *d, size_t count)
{
    if (!jt_grow((void **)&d->tokens, &d->capacity, count, sizeof *d->tokens))
        return no_memory(d);
    if (count > d->count)
        memset(d->tokens + d->count, 0, (count - d->count) * sizeof *d->tokens);
    d->count = count > d->count ? count : d->count;
    return JT_OK;
}

jt_status jt_draft_set(jt_draft *d, int64_t id, jt_str text, unsigned char type)
{
    if (id < 0 || id >= JT_DRAFT_MOST)
        return jt_fail(d->err, JT_E_FORMAT,
                       "token '%.*s' has id %" PRId64 "; expected 0 to %d", SHOW(text),
                       id, JT_DRAFT_MOST - 1);
    JT_TRY(make_room(d, (size_t)id + 1));
    jt_draft_token *token = &d->tokens[id];
    size_t twin = (size_t)id, named = d->by_text.used;
    text = text.len ? text : (jt_str){"", 0};
    if (!jt_names_claim(&d->by_text, text, &twin))
        return no_memory(d);
    if (twin != (size_t)id)
        return jt_fail(d->err, JT_E_FORMAT,
                       "token '%.*s' has two ids, %zu and %" PRId64, SHOW(text), twin,
                       id);
    bool fresh = d->by_text.used > named;
    if (token->text.data && fresh)
        return jt_fail(d->err, JT_E_FORMAT,
                       "id %" PRId64 " has two tokens, '%.*s' and '%.*s'", id,
                       SHOW(token->text), SHOW(text));
    if (fresh)
        token->text = text;
    token->type = type;
    return JT_OK;
}

jt_draft_added jt_draft_read_added(jt_json *j)
{
    jt_draft_added a = {.id = -1};
    jt_json_enter(j, JT_JSON_OBJECT);
    while (jt_json_next(j)) {
        if (jt_json_key_is(j, "id"))
            a.id = jt_json_int(j);
        else if (jt_json_key_is(j, "content"))
            a.text = jt_json_str(j);
        else if (jt_json_key_is(j, "special"))
            a.special = jt_json_bool(j);
        else if (jt_json_key_is(j, "lstrip"))
            a.strip_left = jt_json_bool(j);
        else if (jt_json_key_is(j, "rstrip"))
            a.strip_right = jt_json_bool(j);
        else if (jt_json_key_is(j, "single_word"))
            a.single_word = jt_json_bool(j);
    }
    return a;
}

int32_t jt_draft_find(const jt_draft *d, jt_str text)
{
    size_t at = jt_names_find(&d->by_text, text);
    return at == JT_NAMES_NONE ? -1 : (int32_t)at;
}

jt_status jt_draft_add_merge(jt_draft *d, jt_str left, jt_str right)
{
    char *text = jt_arena_alloc(&d->arena, left.len + 1 + right.len, 1);
    if (!text || !jt_grow((void **)&d->merges, &d->merges_capacity, d->n_merges + 1,
                          sizeof *d->merges))
        return no_memory(d);
    memcpy(text, left.data, left.len);
    text[left.len] = ' ';
    memcpy(text + left.len + 1, right.data, right.len);
    d->merges[d->n_merges++] = (jt_str){text, left.len + 1 + right.len};
    return JT_OK;
}

jt_status jt_draft_add_id(jt_draft *d, jt_ids *ids, int64_t id)
{
    if (id < 0 || id >= JT_DRAFT_MOST)
        return jt_fail(d->err, JT_E_FORMAT, "%" PRId64 " is not the id of a token", id);
    if (!jt_grow((void **)&ids->items, &ids->capacity, ids->count + 1,
                 sizeof *ids->items))
        return no_memory(d);
    ids->items[ids->count++] = (int32_t)id;
    return JT_OK;
}

jt_str jt_draft_copy(jt_draft *d, jt_str text)
{
    char *copy = jt_arena_alloc(&d->arena, text.len + 1, 1);
    if (!copy)
        return (jt_str){0};
    if (text.len)
        memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    return (jt_str){copy, text.len};
}
