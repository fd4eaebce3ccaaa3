#include "serve/picks.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/utf8.h"

/* ---- noting ---- */

/* Only a pass that failed leaves tokens that come again. */
static void forget_from(jt_picks *fresh, int32_t position)
{
    while (fresh->count && fresh->list[fresh->count - 1].position >= position)
        fresh->count--;
}

static bool starts_pass(const jt_picks *fresh, int layer)
{
    return fresh->count && layer <= fresh->list[0].layer;
}

static void note_token(jt_pick_recorder *r, const jt_route_site *site,
                       const jt_route *route, int t)
{
    size_t k = (size_t)route->k, at = (size_t)t * k;
    jt_picks *fresh = &r->fresh;
    if (!jt_grow((void **)&fresh->list, &fresh->capacity, fresh->count + k + 1,
                 sizeof *fresh->list)) {
        r->lost = true;
        return;
    }
    jt_pick pick = {site->token_ids[t], site->positions[t], site->layer, -1, 0.0f};
    size_t before = fresh->count;
    for (size_t j = at; j < at + k; j++) {
        pick.expert = route->expert[j];
        pick.weight = route->weight[j];
        if (pick.expert >= 0)
            fresh->list[fresh->count++] = pick;
    }
    if (fresh->count == before)
        fresh->list[fresh->count++] = pick;
}

static void on_route(void *self, const jt_route_site *site, const jt_route *route)
{
    jt_pick_recorder *r = self;
    if (starts_pass(&r->fresh, site->layer))
        forget_from(&r->fresh, site->positions[0]);
    for (int t = 0; t < route->n_tokens; t++) {
        if (site->positions[t] >= r->first)
            note_token(r, site, route, t);
    }
}

jt_watcher jt_picks_watcher(jt_pick_recorder *recorder)
{
    return (jt_watcher){.name = "picks", .self = recorder, .on_route = on_route};
}

bool jt_picks_move(jt_picks *to, jt_pick_recorder *from)
{
    jt_picks *fresh = &from->fresh;
    size_t n = fresh->count;
    if (n == 0 || from->lost)
        return !from->lost;
    if (!jt_grow((void **)&to->list, &to->capacity, to->count + n, sizeof *to->list))
        return false;
    int32_t first = fresh->list[0].position, last = first;
    for (size_t i = 0; i < n; i++) {
        int32_t position = fresh->list[i].position;
        first = position < first ? position : first;
        last = position > last ? position : last;
    }
    for (int32_t p = first; p <= last; p++) {
        for (size_t i = 0; i < n; i++) {
            if (fresh->list[i].position == p)
                to->list[to->count++] = fresh->list[i];
        }
    }
    fresh->count = 0;
    return true;
}

/* ---- telling ---- */

static bool add(json_t *list, json_t *item)
{
    return json_array_append_new(list, item) == 0;
}

/* The text of a token; or its bytes, as it begins or ends within a character. */
static bool set_text(json_t *token, const jt_tokenizer *tokenizer, int32_t id)
{
    jt_str piece = jt_token_piece(tokenizer, id);
    if (jt_utf8_valid(piece.data, piece.len) == piece.len)
        return json_object_set_new(
                   token, "text",
                   json_stringn(piece.len ? piece.data : "", piece.len)) == 0;
    json_t *bytes = json_array();
    bool fits = json_object_set_new(token, "bytes", bytes) == 0;
    for (size_t i = 0; i < piece.len && fits; i++)
        fits = add(bytes, json_integer((unsigned char)piece.data[i]));
    return fits;
}

static double rounded(float weight)
{
    enum { STEPS = 10000 };
    return isfinite(weight) ? round((double)weight * STEPS) / STEPS : 0.0;
}

/* The layers of the token of picks [n]. */
static bool set_layers(json_t *token, const jt_pick *picks, size_t n)
{
    json_t *experts = json_array(), *weights = json_array();
    bool fits = json_object_set_new(token, "experts", experts) == 0;
    fits = json_object_set_new(token, "weights", weights) == 0 && fits;
    for (size_t i = 0; i < n && fits;) {
        json_t *which = json_array(), *weight = json_array();
        int32_t layer = picks[i].layer;
        fits = add(experts, which);
        fits = add(weights, weight) && fits;
        for (; i < n && picks[i].layer == layer && fits; i++) {
            if (picks[i].expert >= 0)
                fits = add(which, json_integer(picks[i].expert)) &&
                       add(weight, json_real(rounded(picks[i].weight)));
        }
    }
    return fits;
}

static json_t *token_json(const jt_pick *picks, size_t n, const jt_tokenizer *tokenizer)
{
    json_t *token =
        json_pack("{si si}", "id", picks->token, "position", picks->position);
    if (token && set_text(token, tokenizer, picks->token) &&
        set_layers(token, picks, n))
        return token;
    json_decref(token);
    return NULL;
}

json_t *jt_picks_json(const jt_picks *picks, const jt_tokenizer *tokenizer)
{
    json_t *tokens = json_array();
    bool fits = tokens;
    for (size_t at = 0, n; at < picks->count && fits; at += n) {
        const jt_pick *p = picks->list + at;
        for (n = 1; at + n < picks->count && p[n].position == p->position;)
            n++;
        fits = add(tokens, token_json(p, n, tokenizer));
    }
    if (fits)
        return tokens;
    json_decref(tokens);
    return NULL;
}
