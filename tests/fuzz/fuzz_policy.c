/* Any text as a policy for a small model, then the same bytes as a file of thresholds:
 * refused with a message, or taken, and then a route goes through it. A text may name
 * files, which are not there: it has no '/'. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../steer/mixtures.h"
#include "steer/modes.h"
#include "steer/policy.h"
#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a router does with a token under the hooks, without its weights. */
static void route(jt_hooks *hooks, const test_mixtures *m)
{
    enum { ROWS = 6 };
    const jt_router *r = &m->layer[1].mixture.router;
    int32_t id = 3, position = 0, expert[MIX_EXPERTS];
    float logits[ROWS] = {1, -2, 0.5f, 0, 3, -1}, weight[MIX_EXPERTS];
    jt_route_site site = {.layer = 1, .token_ids = &id, .positions = &position};
    int k = r->k;
    for (int i = 0; i < hooks->n_policies; i++) {
        const jt_policy *p = &hooks->policy[i];
        if (p->on_k)
            k = p->on_k(p->self, &site, k);
        if (p->on_logits)
            p->on_logits(p->self, &site, logits, 1, ROWS);
    }
    WALK_CHECK(k >= 1 && k <= ROWS);
    for (int j = 0; j < k; j++) {
        expert[j] = j;
        weight[j] = 1.0f / (float)(j + 1);
    }
    jt_route out = {.n_tokens = 1,
                    .n_experts = ROWS,
                    .k = k,
                    .expert = expert,
                    .weight = weight,
                    .n_rows = ROWS,
                    .scores = logits};
    for (int e = 0; e < ROWS; e++)
        logits[e] = 0.1f;
    for (int i = 0; i < hooks->n_policies; i++) {
        const jt_policy *p = &hooks->policy[i];
        if (p->on_route)
            p->on_route(p->self, &site, &out);
    }
    for (int j = 0; j < k; j++)
        WALK_CHECK(expert[j] >= -1 && expert[j] < ROWS && isfinite(weight[j]));
}

static void try_policy(const char *text)
{
    static test_mixtures m;
    jt_rng rng = {.seed = 1};
    jt_steering *s = NULL;
    jt_hooks hooks = {0};
    jt_err err = {0};
    if (!m.model.layers)
        mix_init(&m, &rng, 6, 2, JT_GATE_SOFTMAX, true);
    WALK_CHECK(jt_steering_new(&s, &m.model, &err) == JT_OK);
    jt_status status = jt_steering_add(s, text, &err);
    if (status != JT_OK) {
        WALK_CHECK(err.code == status && err.msg[0]);
    } else {
        WALK_CHECK(jt_steering_hooks(s, &hooks, &err) == JT_OK);
        route(&hooks, &m);
    }
    jt_steering_free(s);
}

static void try_file(const char *text, size_t size)
{
    jt_modes *modes = NULL;
    jt_modes_info info;
    jt_err err = {0};
    jt_status status = jt_modes_parse(&modes, text, size, &err);
    if (status != JT_OK) {
        WALK_CHECK(!modes && err.code == status && err.msg[0]);
        return;
    }
    jt_modes_describe(modes, &info);
    float sum = 0.0f, tau[JT_MODES_CLASSES], power = -1.0f;
    for (int i = 0; i < info.n_classes * info.n_layers; i++)
        sum += info.importance[i];
    WALK_CHECK(sum >= 0.0f && info.n_layers > 0);
    if (jt_modes_thresholds(modes, &power, 0.3, tau, &err) == JT_OK)
        WALK_CHECK(tau[0] >= 0.0f && tau[1] >= 0.0f);
    jt_modes_free(modes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = calloc(size + 1, 1);
    WALK_CHECK(text);
    if (size)
        memcpy(text, data, size);
    if (!strchr(text, '/'))
        try_policy(text);
    try_file(text, size);
    free(text);
    return 0;
}
