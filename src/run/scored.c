#include <math.h>
#include <string.h>

#include "run/likelihood.h"
#include "run/sampler.h"

/* A place in the list of the best, if it is among them. */
static void insert(jt_sampled *s, size_t most, jt_scored token)
{
    size_t at = s->n_top;
    while (at > 0 && s->top[at - 1].logprob < token.logprob)
        at--;
    if (at == most)
        return;
    size_t kept = s->n_top < most ? s->n_top : most - 1;
    memmove(s->top + at + 1, s->top + at, (kept - at) * sizeof *s->top);
    s->top[at] = token;
    s->n_top = kept + 1;
}

void jt_score_token(jt_sampled *out, const float *logits, size_t n, int32_t chosen,
                    size_t n_top)
{
    double all = jt_log_sum_exp(logits, n);
    size_t most = n_top < JT_TOP_TOKENS ? n_top : JT_TOP_TOKENS;
    out->token = (jt_scored){chosen, (float)(logits[chosen] - all)};
    out->n_top = 0;
    for (size_t i = 0; i < n && most; i++) {
        if (out->n_top == most && !(logits[i] - all > out->top[most - 1].logprob))
            continue;
        insert(out, most, (jt_scored){(int32_t)i, (float)(logits[i] - all)});
    }
}
