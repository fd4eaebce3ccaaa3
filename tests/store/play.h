/* A session that reads a prompt and goes on token by token, for tests that compare
 * bits.
 */
#ifndef TEST_PLAY_H
#define TEST_PLAY_H

#include <stdlib.h>
#include <string.h>

#include "junto/junto.h"

enum { PROMPT = 40, STEPS = 12 };

static int32_t prompt[PROMPT];

static inline void must(jt_status status, const jt_err *err)
{
    if (status != JT_OK)
        fail_msg("%s", err->msg);
}

/* Logits after a prompt and after each of some tokens, in one array. */
static inline float *play(const jt_model *model, const jt_session_options *options,
                          size_t *count, jt_store_stats *stats)
{
    jt_err err = {0};
    jt_session *s;
    jt_model_info info;
    jt_model_describe(model, &info);
    size_t vocab = (size_t)info.n_vocab;
    for (int i = 0; i < PROMPT; i++)
        prompt[i] = (i * 37 + 11) % info.n_vocab;
    must(jt_session_new(&s, model, options, &err), &err);
    float *logits = malloc((STEPS + 1) * vocab * sizeof *logits);
    must(jt_session_eval(s, prompt, PROMPT, NULL, &err), &err);
    for (int i = 0;; i++) {
        memcpy(logits + (size_t)i * vocab, jt_session_logits(s),
               vocab * sizeof *logits);
        if (i == STEPS)
            break;
        int32_t token = (int32_t)((i * 7919 + 3) % info.n_vocab);
        must(jt_session_eval(s, &token, 1, NULL, &err), &err);
    }
    if (stats)
        assert_true(jt_session_store_stats(s, stats));
    jt_session_free(s);
    *count = (STEPS + 1) * vocab;
    return logits;
}

#endif
