/* Policies on how many experts work for a token: after selection, experts are left out;
 * or selection is asked for another number. */
#include "steer/trim.h"

static float score_of(const jt_route *route, size_t t, int32_t expert)
{
    return route->scores ? route->scores[t * (size_t)route->n_rows + (size_t)expert]
                         : 0.0f;
}

/* The slots of token t as `stays` is to see them; one that does not stay is emptied.
 * Gives the sum of the weights that are left. */
static float trim_token(jt_route *route, size_t t, float whole, float scores,
                        bool (*stays)(const void *, const jt_slot *), const void *self)
{
    size_t k = (size_t)route->k;
    int32_t *expert = route->expert + t * k;
    float *weight = route->weight + t * k, kept = 0.0f;
    jt_slot slot = {.token = t};
    for (size_t j = 0; j < k; j++) {
        if (expert[j] >= 0 && weight[j] > slot.best * whole)
            slot.best = weight[j] / whole;
    }
    for (size_t j = 0; j < k; j++) {
        if (expert[j] < 0)
            continue;
        slot.share = weight[j] / whole;
        slot.mass = score_of(route, t, expert[j]) / scores;
        bool keeps = stays(self, &slot);
        slot.before += slot.mass;
        slot.rank++;
        if (keeps) {
            kept += weight[j];
        } else {
            expert[j] = -1;
            weight[j] = 0.0f;
        }
    }
    return kept;
}

void jt_trim(jt_route *route, bool (*stays)(const void *self, const jt_slot *slot),
             const void *self, bool rescale)
{
    size_t k = (size_t)route->k, rows = (size_t)route->n_rows;
    for (size_t t = 0; t < (size_t)route->n_tokens; t++) {
        float *weight = route->weight + t * k, whole = 0.0f, scores = 0.0f;
        for (size_t j = 0; j < k; j++)
            whole += weight[j];
        for (size_t e = 0; route->scores && e < rows; e++)
            scores += route->scores[t * rows + e];
        if (!(whole > 0.0f)) /* no expert, or none that counts: nothing to share */
            continue;
        float kept =
            trim_token(route, t, whole, scores > 0.0f ? scores : 1.0f, stays, self);
        for (size_t j = 0; rescale && kept > 0.0f && kept != whole && j < k; j++)
            weight[j] *= whole / kept;
    }
}

bool jt_trim_rescales(int key, const jt_model *model, int layer)
{
    const jt_router *r = jt_scope_router(model, layer);
    return key == JT_RESCALE_YES ||
           (key == JT_RESCALE_AS_ROUTER && (r->renormalise || r->gate_after));
}

/* What all of them have. */
typedef struct trim {
    float x;
    int least; /* experts that stay in any case */
    int renormalise;
    jt_ids ranks;
    const jt_model *model;
} trim;

static jt_status open_trim(void *self, const jt_scope *scope, jt_err *err)
{
    (void)err;
    ((trim *)self)->model = scope->model;
    return JT_OK;
}

#define LEAST_KEY(initial)                                                  \
    {                                                                       \
        "least", JT_KEY_INT, "N", initial, 0, 65535, offsetof(trim, least), \
            "experts that stay in any case"                                 \
    }
#define RENORMALISE_KEY                                                            \
    {                                                                              \
        "renormalise", JT_KEY_WORD, "no|yes|auto", "auto", 0, 0,                   \
            offsetof(trim, renormalise),                                           \
            "the weights of those that stay take over what the others had; auto: " \
            "where the router makes weights sum to 1"                              \
    }

static void trim_route(void *self, const jt_route_site *site, jt_route *route,
                       bool (*stays)(const void *, const jt_slot *))
{
    const trim *s = self;
    jt_trim(route, stays, s, jt_trim_rescales(s->renormalise, s->model, site->layer));
}

/* ---- topk ---- */

static int topk_slots(void *self, const jt_route_site *site, int k)
{
    (void)site, (void)k;
    return *(const int *)self;
}

static const jt_key topk_keys[] = {
    {"k", JT_KEY_INT, "K", NULL, 1, 65535, 0,
     "experts per token: fewer or more than the model was made for"},
    {0}};

const jt_policy_kind jt_policy_topk = {
    .name = "topk",
    .summary = "use another number of experts for every token",
    .keys = topk_keys,
    .size = sizeof(int),
    .by_layer = true,
    .hooks = {.on_k = topk_slots},
};

/* ---- top_p ---- */

static bool top_p_stays(const void *self, const jt_slot *slot)
{
    const trim *s = self;
    return slot->rank < s->least || slot->before < s->x;
}

static void top_p_route(void *self, const jt_route_site *site, jt_route *route)
{
    trim_route(self, site, route, top_p_stays);
}

static const jt_key top_p_keys[] = {
    {"p", JT_KEY_NUMBER, "P", NULL, 0, 1, offsetof(trim, x),
     "the share of the router's scores that a token's experts have to reach"},
    LEAST_KEY("1"),
    RENORMALISE_KEY,
    {0}};

const jt_policy_kind jt_policy_top_p = {
    .name = "top_p",
    .summary = "as many experts as it takes to reach a share of the router's scores",
    .source = "Huang et al. 2024, Harder Tasks Need More Experts",
    .keys = top_p_keys,
    .size = sizeof(trim),
    .by_layer = true,
    .hooks = {.on_route = top_p_route},
    .open = open_trim,
};

/* ---- min_weight ---- */

static bool min_weight_stays(const void *self, const jt_slot *slot)
{
    const trim *s = self;
    return slot->rank < s->least || slot->share >= s->x;
}

static void min_weight_route(void *self, const jt_route_site *site, jt_route *route)
{
    trim_route(self, site, route, min_weight_stays);
}

static const jt_key min_weight_keys[] = {
    {"w", JT_KEY_NUMBER, "W", NULL, 0, 1, offsetof(trim, x),
     "the share of the token's weights below which an expert is left out"},
    LEAST_KEY("1"),
    RENORMALISE_KEY,
    {0}};

const jt_policy_kind jt_policy_min_weight = {
    .name = "min_weight",
    .summary = "leave out experts of little weight",
    .keys = min_weight_keys,
    .size = sizeof(trim),
    .by_layer = true,
    .hooks = {.on_route = min_weight_route},
    .open = open_trim,
};

/* ---- ser ---- */

static bool ser_stays(const void *self, const jt_slot *slot)
{
    const trim *s = self;
    return slot->rank < s->least || slot->share > s->x * slot->best;
}

static void ser_route(void *self, const jt_route_site *site, jt_route *route)
{
    trim_route(self, site, route, ser_stays);
}

static const jt_key ser_keys[] = {
    {"least", JT_KEY_INT, "K", NULL, 1, 65535, offsetof(trim, least),
     "experts that stay in any case"},
    {"t", JT_KEY_NUMBER, "T", NULL, 0, 1, offsetof(trim, x),
     "others stay with more than this share of the best one's weight"},
    RENORMALISE_KEY,
    {0}};

const jt_policy_kind jt_policy_ser = {
    .name = "ser",
    .summary = "smart expert reduction: leave out experts far behind the best one",
    .source = "ik_llama.cpp, pull request 239",
    .keys = ser_keys,
    .size = sizeof(trim),
    .by_layer = true,
    .hooks = {.on_route = ser_route},
    .open = open_trim,
};

/* ---- ranks ---- */

int jt_ranks_slots(const jt_ids *ranks)
{
    int most = 0;
    for (size_t i = 0; i < ranks->count; i++) {
        if (ranks->list[i] >= most)
            most = ranks->list[i] + 1;
    }
    return most;
}

static bool is_ranked(const void *self, const jt_slot *slot)
{
    return jt_ids_hold(self, slot->rank);
}

void jt_ranks_trim(const jt_ids *ranks, jt_route *route, bool rescale)
{
    jt_trim(route, is_ranked, ranks, rescale);
}

static int ranks_slots(void *self, const jt_route_site *site, int k)
{
    (void)site, (void)k;
    return jt_ranks_slots(&((const trim *)self)->ranks);
}

static void ranks_route(void *self, const jt_route_site *site, jt_route *route)
{
    const trim *s = self;
    jt_ranks_trim(&s->ranks, route,
                  jt_trim_rescales(s->renormalise, s->model, site->layer));
}

static const jt_key ranks_keys[] = {
    {"take", JT_KEY_IDS, "IDS", NULL, 0, 65535, offsetof(trim, ranks),
     "places in the router's order, the best expert's is 0"},
    RENORMALISE_KEY,
    {0}};

const jt_policy_kind jt_policy_ranks = {
    .name = "ranks",
    .summary = "use the experts of certain ranks, such as those that are never chosen",
    .source = "Shi et al. 2024, Unchosen Experts Can Contribute Too",
    .keys = ranks_keys,
    .size = sizeof(trim),
    .by_layer = true,
    .hooks = {.on_k = ranks_slots, .on_route = ranks_route},
    .open = open_trim,
};
