#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "learn/optim_rules.h"

/* A parameter with its rule and state. */
typedef struct slot {
    jt_param param;
    size_t n;
    jt_optim_group group;      /* with its defaults filled in */
    const jt_optim_rule *rule; /* NULL: frozen */
    float *state[JT_OPTIM_STATES];
    char *state_names[JT_OPTIM_STATES];
} slot;

struct jt_optim {
    const jt_kernels *kernels;
    slot *slots;
    size_t n_slots;
    int64_t steps;
    float *scratch; /* the most that a rule asks for */
    double *parts;  /* the most sums that a loop over a parameter makes */
};

static const char *const kind_names[] = {
    [JT_ADAMW] = "adamw",
    [JT_ADAFACTOR] = "adafactor",
    [JT_SGD] = "sgd",
    [JT_MUON] = "muon",
};
enum { KINDS = sizeof kind_names / sizeof *kind_names };

bool jt_optim_kind_named(const char *name, jt_optim_kind *kind)
{
    for (size_t i = 0; i < KINDS; i++) {
        if (strcmp(kind_names[i], name) == 0) {
            *kind = (jt_optim_kind)i;
            return true;
        }
    }
    return false;
}

/* ---- groups -------------------------------------------------------------------------
 */

static jt_status check_number(const jt_optim_group *group, const char *name,
                              float value, bool below_one, jt_err *err)
{
    if (isfinite(value) && value >= 0.0f && (value < 1.0f || !below_one))
        return JT_OK;
    return jt_fail(err, JT_E_ARG, "group '%s': %s is %g, expected 0 or more%s",
                   group->pattern, name, value, below_one ? " and less than 1" : "");
}

static jt_status check_group(const jt_optim_group *group, jt_err *err)
{
    if ((size_t)group->kind >= KINDS)
        return jt_fail(err, JT_E_ARG, "group '%s': unknown optimiser %d",
                       group->pattern, (int)group->kind);
    JT_TRY(check_number(group, "lr scale", group->lr_scale, false, err));
    JT_TRY(check_number(group, "weight decay", group->weight_decay, false, err));
    JT_TRY(check_number(group, "beta1", group->beta1, true, err));
    JT_TRY(check_number(group, "beta2", group->beta2, true, err));
    JT_TRY(check_number(group, "eps", group->eps, false, err));
    JT_TRY(check_number(group, "momentum", group->momentum, true, err));
    if (group->kind == JT_SGD && group->nesterov && group->momentum == 0.0f)
        return jt_fail(err, JT_E_ARG, "group '%s': nesterov needs a momentum",
                       group->pattern);
    return JT_OK;
}

static float or_default(float value, float otherwise)
{
    return value == 0.0f ? otherwise : value;
}

static jt_optim_group with_defaults(jt_optim_group group)
{
    group.lr_scale = or_default(group.lr_scale, 1.0f);
    group.beta1 = or_default(group.beta1, 0.9f);
    group.beta2 = or_default(group.beta2, 0.95f);
    group.eps = or_default(group.eps, group.kind == JT_ADAFACTOR ? 1e-30f : 1e-8f);
    if (group.kind == JT_MUON)
        group.momentum = or_default(group.momentum, 0.95f);
    return group;
}

static const jt_optim_rule *choose_rule(const jt_optim_group *group,
                                        const jt_param *param)
{
    bool matrix = param->rows > 1 && param->cols > 1;
    switch (group->kind) {
    case JT_SGD:
        return group->momentum > 0.0f ? &jt_optim_sgd_momentum : &jt_optim_sgd;
    case JT_ADAFACTOR:
        return matrix ? &jt_optim_adafactor_matrix : &jt_optim_adafactor_vector;
    case JT_MUON:
        return matrix ? &jt_optim_muon : &jt_optim_adamw;
    default:
        return &jt_optim_adamw;
    }
}

static const jt_optim_group *find_group(const jt_optim_group *groups, size_t n_groups,
                                        const char *name)
{
    for (size_t i = 0; i < n_groups; i++) {
        if (fnmatch(groups[i].pattern, name, 0) == 0)
            return &groups[i];
    }
    return NULL;
}

/* ---- making -------------------------------------------------------------------------
 */

static jt_status fill_slot(slot *s, const jt_param *param, const jt_optim_group *groups,
                           size_t n_groups, jt_err *err)
{
    const jt_optim_group *group = find_group(groups, n_groups, param->name);
    size_t matrix;
    if (!group)
        return jt_fail(err, JT_E_ARG, "no group matches parameter '%s'", param->name);
    if (!jt_mul(param->rows, param->cols, &matrix) ||
        !jt_mul(matrix, param->count, &s->n))
        return jt_fail(err, JT_E_ARG, "parameter '%s' is too large", param->name);
    s->param = *param;
    s->group = with_defaults(*group);
    if (group->frozen)
        return JT_OK;
    if (!param->grad && s->n > 0)
        return jt_fail(err, JT_E_ARG, "parameter '%s' has no gradient", param->name);
    s->rule = choose_rule(&s->group, param);
    return JT_OK;
}

/* State `i` of a slot; 0 when the rule has no such array. */
static size_t state_length(const slot *s, size_t i)
{
    if (!s->rule || !s->rule->states[i].name)
        return 0;
    switch (s->rule->states[i].extent) {
    case JT_OPTIM_PER_ROW:
        return s->param.count * s->param.rows;
    case JT_OPTIM_PER_COL:
        return s->param.count * s->param.cols;
    default:
        return s->n;
    }
}

/* Zeros, in huge pages when there are many: a step goes through all of them. */
static float *new_state(size_t n)
{
    enum { MANY = 1 << 19 };
    if (n < MANY)
        return jt_calloc(n, sizeof(float));
    float *state =
        n <= SIZE_MAX / sizeof *state ? jt_alloc_large(n * sizeof *state) : NULL;
    if (state)
        memset(state, 0, n * sizeof *state);
    return state;
}

static bool make_state(slot *s)
{
    for (size_t i = 0; i < JT_OPTIM_STATES; i++) {
        size_t n = state_length(s, i);
        if (n == 0)
            continue;
        const char *kind = s->rule->states[i].name;
        size_t room = strlen(kind) + strlen(s->param.name) + 2;
        s->state[i] = new_state(n);
        s->state_names[i] = jt_alloc(room, 1);
        if (!s->state[i] || !s->state_names[i])
            return false;
        snprintf(s->state_names[i], room, "%s/%s", kind, s->param.name);
    }
    return true;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Lengths of optim->scratch and optim->parts. */
static void room_lengths(const jt_optim *optim, size_t *scratch, size_t *parts)
{
    *scratch = *parts = 0;
    for (size_t i = 0; i < optim->n_slots; i++) {
        const slot *s = &optim->slots[i];
        if (!s->rule)
            continue;
        if (s->rule->scratch)
            *scratch = larger(*scratch, s->rule->scratch(&s->param));
        *parts = larger(
            *parts, larger(s->param.count * s->param.rows, s->n / JT_OPTIM_CHUNK + 1));
    }
}

static bool make_room(jt_optim *optim)
{
    size_t scratch, parts;
    room_lengths(optim, &scratch, &parts);
    optim->scratch = jt_alloc(scratch, sizeof(float));
    optim->parts = jt_alloc(parts, sizeof(double));
    return optim->scratch && optim->parts;
}

/* Parameters with their rules, without state. */
static jt_status fill_slots(jt_optim *optim, const jt_param *params, size_t n_params,
                            const jt_optim_group *groups, size_t n_groups, jt_err *err)
{
    for (size_t i = 0; i < n_groups; i++)
        JT_TRY(check_group(&groups[i], err));
    optim->slots = jt_calloc(n_params, sizeof *optim->slots);
    if (!optim->slots)
        return jt_fail_memory(err, "making an optimiser");
    optim->n_slots = n_params;
    for (size_t i = 0; i < n_params; i++)
        JT_TRY(fill_slot(&optim->slots[i], &params[i], groups, n_groups, err));
    return JT_OK;
}

static jt_status fill(jt_optim *optim, const jt_param *params, size_t n_params,
                      const jt_optim_group *groups, size_t n_groups, jt_err *err)
{
    JT_TRY(fill_slots(optim, params, n_params, groups, n_groups, err));
    for (size_t i = 0; i < n_params; i++) {
        if (!make_state(&optim->slots[i]))
            return jt_fail(err, JT_E_MEMORY,
                           "out of memory for the optimiser's state of '%s'",
                           params[i].name);
    }
    return make_room(optim) ? JT_OK : jt_fail_memory(err, "making an optimiser");
}

jt_status jt_optim_new(jt_optim **out, const jt_kernels *kernels,
                       const jt_param *params, size_t n_params,
                       const jt_optim_group *groups, size_t n_groups, jt_err *err)
{
    jt_optim *optim = jt_calloc(1, sizeof *optim);
    if (!optim)
        return jt_fail_memory(err, "making an optimiser");
    optim->kernels = kernels;
    jt_status status = fill(optim, params, n_params, groups, n_groups, err);
    if (status != JT_OK) {
        jt_optim_free(optim);
        return status;
    }
    *out = optim;
    return JT_OK;
}

void jt_optim_free(jt_optim *optim)
{
    if (!optim)
        return;
    for (size_t i = 0; i < optim->n_slots; i++) {
        for (size_t j = 0; j < JT_OPTIM_STATES; j++) {
            free(optim->slots[i].state[j]);
            free(optim->slots[i].state_names[j]);
        }
    }
    free(optim->slots);
    free(optim->scratch);
    free(optim->parts);
    free(optim);
}

/* ---- training -----------------------------------------------------------------------
 */

typedef struct squares {
    const float *x;
    double *parts;
} squares;

static void squares_of_piece(void *arg, size_t piece, size_t first, size_t count)
{
    const squares *s = arg;
    s->parts[piece] = jt_optim_squares(s->x + first, count);
}

double jt_optim_grad_norm(jt_optim *optim, jt_pool *pool, const char **culprit)
{
    double total = 0.0;
    const char *bad = NULL;
    for (size_t i = 0; i < optim->n_slots; i++) {
        const slot *s = &optim->slots[i];
        if (!s->rule)
            continue;
        squares job = {s->param.grad, optim->parts};
        size_t pieces =
            jt_optim_for(pool, s->n, JT_OPTIM_CHUNK, squares_of_piece, &job);
        double sum = jt_optim_total(optim->parts, pieces);
        if (!isfinite(sum) && !bad)
            bad = s->param.name;
        total += sum;
    }
    if (culprit)
        *culprit = bad;
    return sqrt(total);
}

void jt_optim_step(jt_optim *optim, jt_pool *pool, float lr, float grad_scale)
{
    optim->steps++;
    for (size_t i = 0; i < optim->n_slots; i++) {
        const slot *s = &optim->slots[i];
        if (!s->rule || s->n == 0)
            continue;
        jt_optim_task task = {
            .param = &s->param,
            .n = s->n,
            .group = &s->group,
            .state = s->state,
            .step = optim->steps,
            .lr = lr * s->group.lr_scale,
            .grad_scale = grad_scale,
            .kernels = optim->kernels,
            .pool = pool,
            .scratch = optim->scratch,
            .parts = optim->parts,
        };
        s->rule->step(&task);
    }
}

/* ---- state --------------------------------------------------------------------------
 */

bool jt_optim_state_at(jt_optim *optim, size_t i, jt_optim_state *state)
{
    for (size_t k = 0; k < optim->n_slots * JT_OPTIM_STATES; k++) {
        slot *s = &optim->slots[k / JT_OPTIM_STATES];
        size_t j = k % JT_OPTIM_STATES;
        if (!s->state[j] || i-- > 0)
            continue;
        *state = (jt_optim_state){s->state_names[j], s->state[j], state_length(s, j)};
        return true;
    }
    return false;
}

int64_t jt_optim_steps(const jt_optim *optim)
{
    return optim->steps;
}

void jt_optim_set_steps(jt_optim *optim, int64_t steps)
{
    optim->steps = steps;
}

jt_status jt_optim_measure(const jt_param *params, size_t n_params,
                           const jt_optim_group *groups, size_t n_groups,
                           jt_optim_size *out, jt_err *err)
{
    jt_optim optim = {0};
    size_t scratch, parts;
    jt_status status = fill_slots(&optim, params, n_params, groups, n_groups, err);
    *out = (jt_optim_size){0};
    for (size_t i = 0; i < optim.n_slots && status == JT_OK; i++) {
        const slot *s = &optim.slots[i];
        out->trained += s->rule ? s->n : 0;
        for (size_t j = 0; j < JT_OPTIM_STATES; j++)
            out->bytes += state_length(s, j) * sizeof(float);
    }
    room_lengths(&optim, &scratch, &parts);
    out->bytes += scratch * sizeof(float) + parts * sizeof(double);
    free(optim.slots);
    return status;
}
