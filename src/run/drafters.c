/* Those who guess what follows. */
#include <math.h>
#include <string.h>

#include "junto/speculate.h"
#include "run/session.h"

/* ---- what followed before ---- */

/* The end of the last piece before the end of `text` that is its last n tokens; 0:
 * none.
 */
static size_t find_again(const int32_t *text, size_t count, size_t n)
{
    const int32_t *end = text + count - n;
    for (size_t at = count - n; at-- > 0;) {
        if (memcmp(text + at, end, n * sizeof *end) == 0)
            return at + n;
    }
    return 0;
}

static jt_status look_up(void *self, const int32_t *text, size_t count, int32_t *draft,
                         size_t most, size_t *n, jt_err *err)
{
    const jt_lookup *l = self;
    size_t after = 0;
    (void)err;
    *n = 0;
    for (size_t size = l->most; size >= l->least && size && !after; size--) {
        if (size < count)
            after = find_again(text, count, size);
    }
    if (!after)
        return JT_OK;
    *n = count - after < most ? count - after : most;
    memcpy(draft, text + after, *n * sizeof *draft);
    return JT_OK;
}

jt_drafter jt_lookup_drafter(jt_lookup *self)
{
    return (jt_drafter){self, look_up};
}

/* ---- a smaller model ---- */

/* The likeliest token, and its probability. */
static int32_t likeliest(const float *logits, size_t vocab, float *probability)
{
    size_t best = 0;
    float sum = 0.0f;
    for (size_t i = 1; i < vocab; i++)
        best = logits[i] > logits[best] ? i : best;
    for (size_t i = 0; i < vocab; i++)
        sum += expf(logits[i] - logits[best]);
    *probability = 1.0f / sum;
    return (int32_t)best;
}

static jt_status ask_model(void *self, const int32_t *text, size_t count,
                           int32_t *draft, size_t most, size_t *n, jt_err *err)
{
    const jt_draft_model *d = self;
    jt_session *s = d->session;
    size_t vocab = (size_t)s->model->params.n_vocab;
    *n = 0;
    if (count > (size_t)s->capacity)
        return JT_OK; /* its context is shorter: it has nothing to say here */
    size_t kept = jt_session_reuse(s, text, count), room = (size_t)s->capacity - count;
    JT_TRY(jt_session_eval(s, text + kept, count - kept, NULL, err));
    while (*n < most) {
        float probability;
        draft[*n] = likeliest(jt_session_logits(s), vocab, &probability);
        if (!(probability >= d->min_p))
            break;
        ++*n;
        if (*n == most || *n > room)
            break;
        JT_TRY(jt_session_eval(s, &draft[*n - 1], 1, NULL, err));
    }
    return JT_OK;
}

jt_drafter jt_model_drafter(jt_draft_model *self)
{
    return (jt_drafter){self, ask_model};
}

jt_status jt_check_draft_vocabulary(const jt_model *model, const jt_model *draft,
                                    jt_err *err)
{
    const jt_tokenizer *a = jt_model_tokenizer(model), *b = jt_model_tokenizer(draft);
    int size = model->params.n_vocab, other = draft->params.n_vocab;
    if (!a || !b)
        return jt_fail(err, JT_E_ARG, "a model without a vocabulary");
    if (size != other)
        return jt_fail(err, JT_E_ARG,
                       "the draft model has another vocabulary: %d tokens, not %d",
                       other, size);
    for (int32_t id = 0; id < size; id++) {
        jt_str x = jt_token_piece(a, id), y = jt_token_piece(b, id);
        if (x.len != y.len || memcmp(x.data, y.data, x.len) != 0)
            return jt_fail(
                err, JT_E_ARG,
                "the draft model has another vocabulary: token %d is '%.*s', "
                "not '%.*s'",
                (int)id, (int)y.len, y.data, (int)x.len, x.data);
    }
    return JT_OK;
}
