/* Which experts the tokens of a reply had, and with what weights. */
#ifndef JT_PICKS_H
#define JT_PICKS_H

#include <jansson.h>

#include "junto/moe.h"
#include "junto/tokenizer.h"

/* An expert of a token. */
typedef struct jt_pick {
    int32_t token, position;
    int32_t layer, expert; /* expert -1: none worked in this layer */
    float weight;
} jt_pick;

/* All zero is empty; freed with free(list). */
typedef struct jt_picks {
    jt_pick *list;
    size_t count, capacity;
} jt_picks;

/* What a watcher notes: tokens from `first` on, of the pass that is being run. */
typedef struct jt_pick_recorder {
    jt_picks fresh;
    int32_t first; /* position */
    bool lost;     /* there was no memory */
} jt_pick_recorder;

/* Lives as long as `recorder`. A pass that is run again, as the one before has failed,
 * takes its place. */
jt_watcher jt_picks_watcher(jt_pick_recorder *recorder);

/* Move what was noted to the end of `to`: token after token, of each its layers in
 * order. False: no memory, now or when it was noted. */
bool jt_picks_move(jt_picks *to, jt_pick_recorder *from);

/* A list of {"id", "position", "text", "experts", "weights"}: a token that was run, and
 * for each layer with experts those that it had. A token that is no whole text has
 * "bytes" in place of "text". NULL: no memory. */
json_t *jt_picks_json(const jt_picks *picks, const jt_tokenizer *tokenizer);

#endif
