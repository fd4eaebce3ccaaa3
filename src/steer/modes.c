/* The policy "modes". */
#include "steer/modes.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "junto/trace.h"
#include "steer/trim.h"

/* ---- the rule ---- */

const float jt_modes_powers[JT_MODES_POWERS] = {1.0f, 0.5f, 0.25f, 0.0f};

void jt_modes_raise(jt_modes_rule *rule, const jt_modes *m, float power)
{
    for (int i = 0; i < m->n_classes * m->n_layers; i++)
        rule->alpha[i] = powf(m->alpha[i], power);
}

typedef struct asking {
    const jt_modes_rule *rule;
    const jt_route_site *site;
    uint64_t slots, stay;
} asking;

static bool stays(const void *self, const jt_slot *slot)
{
    const asking *a = self;
    const jt_modes_rule *r = a->rule;
    int class = jt_modes_class(r, a->site->token_ids[slot->token]);
    float alpha = r->alpha[class * r->n_layers + a->site->layer];
    return !(alpha * slot->share < r->tau[class]);
}

static uint64_t used_slots(const jt_route *route)
{
    uint64_t used = 0;
    for (int s = 0; s < route->n_tokens * route->k; s++)
        used += route->expert[s] >= 0;
    return used;
}

void jt_modes_skip(void *rule, const jt_route_site *site, jt_route *route)
{
    jt_modes_rule *r = rule;
    asking a = {.rule = r, .site = site};
    uint64_t before = used_slots(route);
    jt_trim(route, stays, &a, false);
    r->slots += before;
    r->skipped += before - used_slots(route);
}

/* ---- thresholds of a share ---- */

/* The point next above (or at) `skip`, of one power or (below 0) the cheapest of all;
 * NULL: none. */
static const jt_modes_point *above(const jt_modes *m, float power, double skip)
{
    const jt_modes_point *best = NULL;
    for (size_t i = 0; i < m->n_points; i++) {
        const jt_modes_point *p = &m->point[i];
        if ((power >= 0.0f && p->power != power) || p->target < skip - 1e-6)
            continue;
        if (!best || p->target < best->target ||
            (p->target == best->target && p->kl < best->kl))
            best = p;
    }
    return best;
}

/* The one next below (or at) it. */
static const jt_modes_point *below(const jt_modes *m, float power, double skip)
{
    const jt_modes_point *best = NULL;
    for (size_t i = 0; i < m->n_points; i++) {
        const jt_modes_point *p = &m->point[i];
        if (p->power == power && p->target <= skip + 1e-6 &&
            (!best || p->target > best->target))
            best = p;
    }
    return best;
}

jt_status jt_modes_thresholds(const jt_modes *m, float *power, double skip,
                              float tau[JT_MODES_CLASSES], jt_err *err)
{
    static const jt_modes_point nothing;
    const jt_modes_point *high = above(m, *power, skip), *low;
    if (!high)
        return jt_fail(err, JT_E_ARG,
                       "the file has no thresholds for so large a share as %g "
                       "(calibrate again, with --skip)",
                       skip);
    *power = high->power;
    low = below(m, *power, skip);
    low = low ? low : &nothing;
    double width = high->target - low->target;
    double at = width > 1e-6 ? (skip - low->target) / width : 1.0;
    for (int i = 0; i < JT_MODES_CLASSES; i++)
        tau[i] = (float)((1.0 - at) * low->tau[i] + at * high->tau[i]);
    return JT_OK;
}

/* ---- the policy ---- */

typedef struct settings {
    char *file;
    float skip;
    int power; /* 0: the cheapest, otherwise the place in jt_modes_powers, from 1 */
    jt_modes *modes;
    jt_modes_rule rule;
} settings;

static jt_status open_modes(void *self, const jt_scope *scope, jt_err *err)
{
    settings *s = self;
    const jt_model *model = scope->model;
    JT_TRY(jt_modes_open(&s->modes, s->file, err));
    if (s->modes->n_layers != model->params.n_layers ||
        s->modes->model != jt_model_fingerprint(model))
        return jt_fail(err, JT_E_ARG, "'%s' was made for another model", s->file);
    size_t n = (size_t)s->modes->n_classes * (size_t)s->modes->n_layers;
    float power = s->power ? jt_modes_powers[s->power - 1] : -1.0f;
    s->rule = (jt_modes_rule){.n_layers = s->modes->n_layers,
                              .alpha = jt_alloc(n, sizeof *s->rule.alpha),
                              .second = &s->modes->second};
    if (!s->rule.alpha)
        return jt_fail_memory(err, "reading a policy");
    JT_TRY(jt_modes_thresholds(s->modes, &power, (double)s->skip, s->rule.tau, err));
    jt_modes_raise(&s->rule, s->modes, power);
    return JT_OK;
}

static void close_modes(void *self)
{
    settings *s = self;
    free(s->rule.alpha);
    jt_modes_free(s->modes);
}

static void skip_route(void *self, const jt_route_site *site, jt_route *route)
{
    jt_modes_skip(&((settings *)self)->rule, site, route);
}

static const jt_key keys[] = {
    {"file", JT_KEY_TEXT, "FILE", NULL, 0, 0, offsetof(settings, file),
     "what 'junto modes' has found for this model"},
    {"skip", JT_KEY_NUMBER, "SHARE", NULL, 0, 1, offsetof(settings, skip),
     "the share of the chosen experts that are skipped"},
    {"power", JT_KEY_WORD, "best|1|0.5|0.25|0", "best", 0, 0, offsetof(settings, power),
     "of the importance of layers: 1 as in the paper, 0 for the gate alone, best for "
     "the "
     "one that changed the text of the calibration least"},
    {0}};

const jt_policy_kind jt_policy_modes = {
    .name = "modes",
    .summary = "skip experts that matter little, by the importance of their layer",
    .source = "MoDES",
    .keys = keys,
    .size = sizeof(settings),
    .by_layer = true,
    .hooks = {.on_route = skip_route},
    .open = open_modes,
    .close = close_modes,
};
