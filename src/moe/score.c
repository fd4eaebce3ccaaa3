#include <string.h>

#include "moe/router.h"

/* logits = W x + b */
static void score_linear(jt_context *ctx, const jt_router *router,
                         const jt_route_site *site, jt_input *x, jt_tensor *logits)
{
    (void)site;
    *logits = jt_linear(ctx, x, &router->weight, &router->bias);
}

static const jt_scorer scorers[] = {
    {"linear", score_linear},
};

const jt_scorer *jt_scorer_find(const char *name)
{
    for (size_t i = 0; i < sizeof scorers / sizeof *scorers; i++) {
        if (strcmp(scorers[i].name, name) == 0)
            return &scorers[i];
    }
    return NULL;
}
