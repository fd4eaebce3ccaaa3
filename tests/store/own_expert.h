/* For models that were loaded apart: how few slots will do, and an expert that one text
 * needs and another does not. */
#ifndef TEST_OWN_EXPERT_H
#define TEST_OWN_EXPERT_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/reader.h"
#include "junto/junto.h"
#include "model/apart.h"

static inline int fewest_slots(const jt_model *model)
{
    jt_err err = {0};
    jt_session *s;
    jt_session_options options = {.threads = 1, .n_ctx = 64, .store = {.slots = 1}};
    assert_int_equal(jt_session_new(&s, model, &options, &err), JT_E_ARG);
    const char *fewest = strstr(err.msg, "the fewest are ");
    assert_non_null(fewest);
    return atoi(fewest + strlen("the fewest are "));
}

typedef struct test_uses {
    bool used[64][64]; /* [layer, expert] */
} test_uses;

static inline void note_uses(void *self, const jt_route_site *site,
                             const jt_route *route)
{
    test_uses *u = self;
    for (int i = 0; i < route->n_tokens * route->k; i++) {
        if (route->expert[i] >= 0)
            u->used[site->layer][route->expert[i]] = true;
    }
}

static inline test_uses uses_of(const jt_model *model, const int32_t *text,
                                size_t count)
{
    test_uses u = {0};
    jt_session_options options = {.threads = 1, .n_ctx = 64};
    jt_watcher watcher = {.self = &u, .on_route = note_uses};
    jt_session *s;
    assert_int_equal(jt_session_new(&s, model, &options, NULL), JT_OK);
    assert_int_equal(jt_session_add_watcher(s, &watcher, NULL), JT_OK);
    assert_int_equal(jt_session_eval(s, text, count, NULL, NULL), JT_OK);
    jt_session_free(s);
    return u;
}

/* An expert that `text` [count] uses and `other` does not, and a disk that cannot read
 * it. */
static inline void find_own(int *layer, int *expert, jt_read_fault *fault,
                            const jt_model *model, const int32_t *text,
                            const int32_t *other, size_t count)
{
    const test_uses own = uses_of(model, text, count),
                    others = uses_of(model, other, count);
    const jt_stored *stored = &model->apart->stored;
    for (int i = 0; i < stored->n_layers; i++) {
        const jt_stored_layer *l = &stored->layers[i];
        for (int e = 0; e < l->bank->n_experts; e++) {
            if (!own.used[l->bank->layer][e] || others.used[l->bank->layer][e])
                continue;
            uint64_t place = l->extent[e * JT_PARTS + JT_PART_DOWN].offset;
            *layer = l->bank->layer;
            *expert = e;
            *fault = (jt_read_fault){
                .all = true, .error = EIO, .from = place, .to = place + 1};
            return;
        }
    }
    fail_msg("both texts use the same experts");
}

#endif
