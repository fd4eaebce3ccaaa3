#include "text/unigram.h"

#include <math.h>

#include "base/memory.h"
#include "base/utf8.h"

static void offer(jt_unigram_place *place, double score, size_t from, int32_t id)
{
    if (score > place->score)
        *place = (jt_unigram_place){score, from, id};
}

/* Offer all tokens that begin at `at` to the places where they end. A character for
 * which there is no token is offered as unknown. */
static void offer_tokens(const jt_unigram *unigram, jt_unigram_place *places,
                         jt_str text, size_t at, size_t char_len)
{
    double score = places[at].score;
    bool single = false;
    uint32_t node = 0;
    for (size_t end = at; end < text.len;) {
        const jt_trie_edge *edge =
            jt_trie_step(&unigram->trie, node, (unsigned char)text.data[end++]);
        if (!edge)
            break;
        node = edge->to;
        if (edge->value < 0)
            continue;
        offer(&places[end], score + (double)unigram->scores[edge->value], at,
              edge->value);
        single |= end - at == char_len;
    }
    if (!single)
        offer(&places[at + char_len], score + unigram->unknown, at, -1);
}

/* Turn the way that ends at the last place around: from[] then leads forward. */
static void turn_around(jt_unigram_place *places, size_t end)
{
    size_t next = end;
    int32_t id = -1;
    for (size_t at = end;;) {
        jt_unigram_place here = places[at];
        places[at].from = next;
        places[at].id = id;
        if (at == 0)
            return;
        next = at;
        id = here.id;
        at = here.from;
    }
}

jt_status jt_unigram_run(const jt_unigram *unigram, jt_unigram_work *work, jt_str text,
                         jt_unigram_fn *fn, void *user, jt_err *err)
{
    if (!jt_grow((void **)&work->places, &work->capacity, text.len + 1,
                 sizeof *work->places))
        return jt_fail_memory(err, "encoding text");
    jt_unigram_place *places = work->places;
    for (size_t i = 1; i <= text.len; i++)
        places[i] = (jt_unigram_place){-INFINITY, 0, -1};
    places[0] = (jt_unigram_place){0, 0, -1};
    for (size_t at = 0, len; at < text.len; at += len) {
        len = jt_utf8_char(text.data + at, text.len - at);
        len = len ? len : 1;
        offer_tokens(unigram, places, text, at, len);
    }
    turn_around(places, text.len);
    for (size_t at = 0; at < text.len; at = places[at].from) {
        jt_str bytes = {text.data + at, places[at].from - at};
        JT_TRY(fn(user, places[at].id, bytes));
    }
    return JT_OK;
}
