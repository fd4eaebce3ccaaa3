#include "serve/pace.h"

/* Of a step: with what a piece of work that is under way still takes, less than one. */
static const double SHARE = 0.7;
/* Where nothing was measured. */
static const double USUAL_STEP = 0.02, USUAL_TOKEN = 0.002;
/* What is new counts for more where it is less: a pass may take longer for reasons of
 * its own, as the first ones do, which bring weights into memory. */
static const double LESS = 0.5, MORE = 0.1;

static double mean(double known, double fresh)
{
    double share = fresh < known ? LESS : MORE;
    return known > 0.0 ? (1.0 - share) * known + share * fresh : fresh;
}

void jt_pace_step(jt_pace *p, double seconds)
{
    p->step = mean(p->step, seconds);
}

void jt_pace_prompt(jt_pace *p, size_t tokens, double seconds)
{
    enum { MANY = 64 }; /* fewer say more of the weights than of the tokens */
    if (tokens >= MANY)
        p->token = mean(p->token, seconds / (double)tokens);
}

double jt_pace_slice(const jt_pace *p)
{
    return SHARE * (p->step > 0.0 ? p->step : USUAL_STEP);
}

size_t jt_pace_tokens(const jt_pace *p, double seconds)
{
    return (size_t)(seconds / (p->token > 0.0 ? p->token : USUAL_TOKEN));
}
