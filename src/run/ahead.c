#include "run/ahead.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Where guesses are wrong, they cost more than they give: after a pass of which nothing
 * was right, ever more tokens go without. */
enum { MOST = 256, LONGEST_PAUSE = 32 };

jt_status jt_ahead_init(jt_ahead *a, jt_session *session, const jt_speculation *how,
                        jt_err *err)
{
    *a = (jt_ahead){.session = session, .how = how};
    if (!how)
        return JT_OK;
    if (how->most < 1 || how->most > MOST)
        return jt_fail(err, JT_E_ARG, "%d guesses at once (1 to %d can be)", how->most,
                       MOST);
    if (session->cache.has_state)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "speculation: the state of %s cannot go back behind a wrong "
                       "guess",
                       session->model->family->arch);
    if (session->attendant.before)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "speculation: a policy learns from the text as it comes, and "
                       "must not learn from guesses");
    size_t most = (size_t)how->most, vocab = (size_t)session->model->params.n_vocab;
    a->most = most;
    a->draft = jt_alloc(most, sizeof *a->draft);
    a->rows = jt_alloc(most + 1, vocab * sizeof *a->rows);
    return a->draft && a->rows ? JT_OK : jt_fail_memory(err, "speculation");
}

void jt_ahead_free(jt_ahead *a)
{
    free(a->draft);
    free(a->rows);
    a->draft = NULL;
    a->rows = NULL;
}

const float *jt_ahead_logits(const jt_ahead *a)
{
    size_t vocab = (size_t)a->session->model->params.n_vocab;
    return a->guessed ? a->rows + a->right * vocab : jt_session_logits(a->session);
}

int jt_ahead_length(const jt_ahead *a)
{
    return jt_session_length(a->session) - (int)(a->guessed - a->right);
}

void jt_ahead_settle(jt_ahead *a)
{
    jt_session_truncate(a->session, jt_ahead_length(a));
    a->guessed = a->right = 0;
}

/* How much to guess, after what became of the last guesses. */
static void learn(jt_ahead *a)
{
    if (a->guessed == 0)
        return;
    size_t top = (size_t)a->how->most;
    if (a->right == a->guessed)
        a->most = 2 * a->most < top ? 2 * a->most : top;
    else
        a->most = a->right + 1;
    if (a->right == 0)
        a->pause = 2 * a->pause + 1 < LONGEST_PAUSE ? 2 * a->pause + 1 : LONGEST_PAUSE;
    else
        a->pause = 0;
    a->rest = a->pause;
}

static jt_status keep_row(void *user, size_t first, const float *logits, size_t rows,
                          jt_err *err)
{
    jt_ahead *a = user;
    size_t vocab = (size_t)a->session->model->params.n_vocab;
    (void)err;
    memcpy(a->rows + first * vocab, logits, rows * vocab * sizeof *logits);
    return JT_OK;
}

/* What may follow `token`, which follows the text: *n tokens in a->draft. */
static jt_status guess(jt_ahead *a, int32_t token, size_t room, size_t *n, jt_err *err)
{
    jt_session *s = a->session;
    size_t length = (size_t)s->length;
    size_t free_places = (size_t)s->capacity - length - 1;
    size_t most = a->most < room ? a->most : room;
    *n = 0;
    if (a->rest) {
        a->rest--;
        return JT_OK;
    }
    s->ids[length] = token; /* so that the whole text lies in one piece */
    return a->how->drafter.propose(a->how->drafter.self, s->ids, length + 1, a->draft,
                                   most < free_places ? most : free_places, n, err);
}

jt_status jt_ahead_push(jt_ahead *a, int32_t token, size_t room, jt_err *err)
{
    int32_t tokens[MOST + 1] = {token};
    size_t n = 0;
    if (a->right < a->guessed && a->draft[a->right] == token) {
        a->right++;
        a->accepted++;
        return JT_OK;
    }
    if (a->how) {
        learn(a);
        jt_ahead_settle(a);
        JT_TRY(guess(a, token, room, &n, err));
        memcpy(tokens + 1, a->draft, n * sizeof *tokens);
    }
    a->passes++;
    jt_eval_options o = {.on_logits = n ? keep_row : NULL, .user = a};
    JT_TRY(jt_session_eval(a->session, tokens, n + 1, &o, err));
    a->guessed = n;
    a->drafted += n;
    return JT_OK;
}
