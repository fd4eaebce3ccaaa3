#include <stdlib.h>
#include <string.h>

#include "text/bpe.h"

/* Keep the bytes of a word. Words are short: many share a block. */
static const char *keep(jt_words *words, jt_str text)
{
    enum { BLOCK = 1 << 16 };
    if (text.len > words->room_left) {
        size_t bytes = text.len > BLOCK ? text.len : BLOCK;
        char *block = jt_arena_alloc(&words->arena, bytes, 1);
        if (!block)
            return NULL;
        words->room = block;
        words->room_left = bytes;
    }
    char *kept = words->room;
    memcpy(kept, text.data, text.len);
    words->room += text.len;
    words->room_left -= text.len;
    return kept;
}

static jt_status add_new(jt_words *words, jt_str text, jt_err *err)
{
    if (words->count == UINT32_MAX || text.len > UINT32_MAX)
        return jt_fail(err, JT_E_LIMIT, "more than %zu different pieces of text",
                       words->count);
    text.data = keep(words, text);
    if (!text.data ||
        !jt_grow((void **)&words->items, &words->capacity, words->count + 1,
                 sizeof *words->items) ||
        !jt_names_add(&words->index, text, words->count))
        return jt_fail_memory(err, "counting words");
    words->items[words->count++] = (jt_word){text, 1};
    return JT_OK;
}

jt_status jt_words_add(jt_words *words, jt_str text, jt_err *err)
{
    size_t at = jt_names_find(&words->index, text);
    if (at == JT_NAMES_NONE)
        JT_TRY(add_new(words, text, err));
    else
        words->items[at].count++;
    words->bytes += text.len;
    words->pieces++;
    return JT_OK;
}

void jt_words_free(jt_words *words)
{
    free(words->items);
    jt_names_free(&words->index);
    jt_arena_free(&words->arena);
    *words = (jt_words){0};
}
