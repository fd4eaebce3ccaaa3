/* Poly and MHR (Ponti et al. 2022, "Combining modular skills in multitask learning";
 * Caccia et al. 2023, "Multi-head adapter routing for cross-task generalization"): a
 * matrix has A and B of several skills, each cut into heads along the inputs and the
 * outputs. Task t takes of head q
 *
 *   sum_s w[q, s] A[q, s],   w[q, s] = a[q, s] / sum_s' a[q, s'],   a = sigmoid(Z[t])
 *
 * heads joined to one A and one B of a LoRA. One head: Poly. In training a may be drawn
 * from the relaxed Bernoulli distribution of temperature 1, a = sigmoid(Z + logit(u)).
 * Without a task all skills have 1 / skills (MHR-mu). Experts of a stack have skills
 * apart and weights in common. Where rows of the weight are in another order than where
 * heads were cut, ROWS says which row of the weight each joined row is. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/made.h"
#include "base/memory.h"
#include "base/random.h"

enum { SKILLS_A, SKILLS_B, LOGITS, WEIGHTS, ROWS };

/* Of WEIGHTS, [3, heads, skills], which no file has. */
enum { ACTIVE, MIXED, GRADIENT, PLANES };

static const char skills_a[] = "poly_a", skills_b[] = "poly_b",
                  logits[] = "poly_logits";
static const char rows_name[] = "poly_rows";
static const float tiny = 1e-12f; /* beside the sum, as in the authors' code */

static float *plane(const jt_adapter *a, const jt_adapter_slot *s, int which)
{
    const jt_tensor *t = jt_slot_source(a, s, WEIGHTS);
    return (float *)t->data + (size_t)which * t->shape[1] * t->shape[2];
}

/* ---- the weights of the task at hand ---- */

/* Row of the logits; the number of tasks for none. */
static size_t task_of(const jt_adapter *a, const jt_adapter_slot *s)
{
    size_t tasks = jt_slot_source(a, s, LOGITS)->shape[0];
    return a->task < tasks ? a->task : tasks;
}

static float logit_noise(jt_rng *rng)
{
    float u = fminf(fmaxf(jt_rng_float(rng), 1e-6f), 1.0f - 1e-6f);
    return logf(u) - log1pf(-u);
}

static void weigh(const jt_adapter *a, const jt_adapter_slot *s)
{
    const jt_tensor *z = jt_slot_source(a, s, LOGITS);
    size_t heads = z->shape[1], skills = z->shape[2], task = task_of(a, s);
    float *active = plane(a, s, ACTIVE), *mixed = plane(a, s, MIXED);
    jt_rng rng = {a->draw, s->source[LOGITS], 0};
    for (size_t q = 0; q < heads; q++, active += skills, mixed += skills) {
        float sum = 0.0f;
        for (size_t k = 0; k < skills; k++) {
            float noise = a->draw ? logit_noise(&rng) : 0.0f;
            active[k] = 1.0f;
            if (task < z->shape[0])
                active[k] =
                    1.0f / (1.0f + expf(-jt_row(z, task * heads + q)[k] - noise));
            sum += active[k];
        }
        for (size_t k = 0; k < skills; k++)
            mixed[k] = active[k] / (sum + tiny);
    }
}

/* da = (dw - sum dw w) / sum a;  dZ = da a (1 - a) */
static void weigh_back(const jt_adapter *a, const jt_adapter_slot *s)
{
    const jt_tensor *z = jt_slot_source(a, s, LOGITS);
    size_t heads = z->shape[1], skills = z->shape[2], task = task_of(a, s);
    const float *active = plane(a, s, ACTIVE), *mixed = plane(a, s, MIXED);
    const float *dw = plane(a, s, GRADIENT);
    for (size_t q = 0; q < heads && task < z->shape[0] && z->grad; q++) {
        float *dz = jt_grad_row(z, task * heads + q), sum = tiny, mean = 0.0f;
        for (size_t k = 0; k < skills; k++) {
            sum += active[q * skills + k];
            mean += dw[q * skills + k] * mixed[q * skills + k];
        }
        for (size_t k = 0; k < skills; k++) {
            float x = active[q * skills + k];
            dz[k] += (dw[q * skills + k] - mean) / sum * x * (1.0f - x);
        }
    }
}

/* ---- parts ---- */

/* One row of a part and the row of a skill that goes into it: `n` values at `to`. */
typedef struct piece {
    const jt_tensor *skills;
    size_t to, row, n, weight;
} piece;

/* Call `fn` for each piece of A (which 0) or B (1). Skills lie [count heads skills,
 * rank, cols / heads] and [count heads skills, rows / heads, rank]. */
static void each_piece(const jt_adapter *a, const jt_adapter_slot *s, int which,
                       void (*fn)(const jt_adapter *, const jt_adapter_slot *, int,
                                  const piece *))
{
    const jt_tensor *z = jt_slot_source(a, s, LOGITS);
    const jt_tensor *t = jt_slot_source(a, s, which);
    const int32_t *place = jt_slot_source(a, s, ROWS)->data;
    size_t heads = z->shape[1], skills = z->shape[2], rows = t->shape[1];
    for (size_t i = 0; i < t->shape[0] * rows; i++) {
        size_t block = i / rows, r = i % rows, e = block / (heads * skills);
        size_t q = block / skills % heads;
        size_t to = which ? (e * s->rows + (size_t)place[q * rows + r]) * s->rank
                          : (e * s->rank + r) * s->cols + q * jt_cols(t);
        fn(a, s, which, &(piece){t, to, i, jt_cols(t), block % (heads * skills)});
    }
}

static void add_piece(const jt_adapter *a, const jt_adapter_slot *s, int which,
                      const piece *p)
{
    float *to = (float *)s->part[which].data + p->to;
    const float *from = jt_row(p->skills, p->row);
    float weight = plane(a, s, MIXED)[p->weight];
    for (size_t i = 0; i < p->n; i++)
        to[i] += weight * from[i];
}

static void spread_piece(const jt_adapter *a, const jt_adapter_slot *s, int which,
                         const piece *p)
{
    const float *dy = s->part[which].grad + p->to, *from = jt_row(p->skills, p->row);
    float *dx = jt_grad_row(p->skills, p->row), sum = 0.0f;
    float weight = plane(a, s, MIXED)[p->weight];
    for (size_t i = 0; i < p->n; i++) {
        sum += dy[i] * from[i];
        if (dx)
            dx[i] += weight * dy[i];
    }
    plane(a, s, GRADIENT)[p->weight] += sum;
}

static void make(const jt_adapter *a)
{
    for (size_t i = 0; i < a->count; i++) {
        const jt_adapter_slot *s = &a->slot[i];
        weigh(a, s);
        for (int k = 0; k < 2; k++) {
            const jt_tensor *t = &s->part[k];
            memset(t->data, 0, jt_rows(t) * jt_cols(t) * sizeof(float));
            each_piece(a, s, k, add_piece);
        }
    }
}

static void spread(const jt_adapter *a)
{
    for (size_t i = 0; i < a->count; i++) {
        const jt_adapter_slot *s = &a->slot[i];
        const jt_tensor *t = jt_slot_source(a, s, WEIGHTS);
        memset(plane(a, s, GRADIENT), 0, t->shape[1] * t->shape[2] * sizeof(float));
        for (int k = 0; k < 2; k++)
            each_piece(a, s, k, spread_piece);
        weigh_back(a, s);
    }
}

/* ---- a fresh one ---- */

/* Rows in their order, which a file need not keep. */
static jt_status add_rows(jt_adapter *a, jt_adapter_slot *s, jt_err *err)
{
    JT_TRY(jt_adapter_add_source(a, &s->source[ROWS],
                                 (jt_str){s->target, strlen(s->target)}, rows_name,
                                 JT_I32, 1, (size_t[]){s->rows}, err));
    int32_t *place = a->source[s->source[ROWS]].t.data;
    for (size_t r = 0; r < s->rows; r++)
        place[r] = (int32_t)r;
    a->source[s->source[ROWS]].kept = false;
    return JT_OK;
}

static jt_status add_weights(jt_adapter *a, jt_adapter_slot *s, size_t heads,
                             size_t skills, jt_err *err)
{
    const size_t shape[] = {PLANES, heads, skills};
    JT_TRY(jt_adapter_add_source(a, &s->source[WEIGHTS],
                                 (jt_str){s->target, strlen(s->target)}, "poly_weights",
                                 JT_F32, 3, shape, err));
    a->source[s->source[WEIGHTS]].kept = false;
    return JT_OK;
}

static void start_logits(const jt_tensor *z, uint64_t seed, uint64_t stream)
{
    jt_rng rng = {seed, stream, 0};
    float *at = z->data;
    for (size_t i = 0; i < jt_rows(z) * jt_cols(z); i++)
        at[i] = (2.0f * jt_rng_float(&rng) - 1.0f) * 1e-3f;
}

static jt_status start_slot(jt_adapter *a, jt_adapter_slot *s,
                            const jt_adapter_options *o, uint64_t stream, jt_err *err)
{
    size_t blocks = s->count * o->heads * o->skills;
    jt_str target = {s->target, strlen(s->target)};
    if (s->rows % o->heads || s->cols % o->heads)
        return jt_fail(err, JT_E_ARG,
                       "adapter.heads: %zu do not divide '%s', which is %zu x %zu",
                       o->heads, s->target, s->rows, s->cols);
    const size_t shape_a[] = {blocks, s->rank, s->cols / o->heads};
    const size_t shape_b[] = {blocks, s->rows / o->heads, s->rank};
    const size_t shape_z[] = {o->tasks, o->heads, o->skills};
    JT_TRY(jt_adapter_add_source(a, &s->source[SKILLS_A], target, skills_a, JT_F32, 3,
                                 shape_a, err));
    JT_TRY(jt_adapter_add_source(a, &s->source[SKILLS_B], target, skills_b, JT_F32, 3,
                                 shape_b, err));
    JT_TRY(jt_adapter_add_source(a, &s->source[LOGITS], target, logits, JT_F32, 3,
                                 shape_z, err));
    for (int i = SKILLS_A; i <= LOGITS; i++)
        a->source[s->source[i]].trained = true;
    jt_low_rank_start_a(jt_slot_source(a, s, SKILLS_A)->data,
                        shape_a[0] * shape_a[1] * shape_a[2], shape_a[2], o->seed,
                        stream);
    start_logits(jt_slot_source(a, s, LOGITS), o->seed, stream + 1);
    JT_TRY(add_rows(a, s, err));
    return add_weights(a, s, o->heads, o->skills, err);
}

static jt_status begin(jt_adapter *a, const jt_adapter_options *o, jt_err *err)
{
    for (size_t i = 0; i < a->count; i++)
        JT_TRY(start_slot(a, &a->slot[i], o, (UINT64_C(2) << 32) + 2 * i, err));
    make(a);
    return JT_OK;
}

jt_status jt_poly_for_tasks(jt_adapter *a, size_t tasks, uint64_t seed, jt_err *err)
{
    for (size_t i = 0; i < a->count; i++) {
        jt_tensor *z = &a->source[a->slot[i].source[LOGITS]].t;
        float *room = jt_alloc(tasks * z->shape[1] * z->shape[2], sizeof *room);
        if (!room)
            return jt_fail_memory(err, "starting an adapter");
        free(z->data);
        z->data = room;
        z->shape[0] = tasks;
        start_logits(z, seed, (UINT64_C(2) << 32) + 2 * i + 1);
    }
    return JT_OK;
}

void jt_poly_only_routing(jt_adapter *a)
{
    for (size_t i = 0; i < a->count; i++) {
        a->source[a->slot[i].source[SKILLS_A]].trained = false;
        a->source[a->slot[i].source[SKILLS_B]].trained = false;
    }
}

/* ---- from a file ---- */

/* The order of the rows: as the file has it, or none. */
static jt_status bind_rows(jt_adapter *a, jt_adapter_slot *s, jt_err *err)
{
    jt_str target = {s->target, strlen(s->target)};
    size_t at;
    if (!jt_adapter_has_source(a, target, rows_name))
        return add_rows(a, s, err);
    JT_TRY(jt_adapter_need_source(a, target, rows_name, JT_I32, 1, &at, err));
    const int32_t *place = a->source[at].t.data;
    bool *seen =
        a->source[at].t.shape[0] == s->rows ? jt_calloc(s->rows, sizeof *seen) : NULL;
    bool fits = seen != NULL;
    for (size_t r = 0; r < s->rows && fits; r++) {
        fits = place[r] >= 0 && (size_t)place[r] < s->rows && !seen[place[r]];
        if (fits)
            seen[place[r]] = true;
    }
    free(seen);
    s->source[ROWS] = at;
    return fits ? JT_OK : jt_adapter_fail_source(a, at, err);
}

static jt_status bind_slot(jt_adapter *a, size_t at, jt_str target, float alpha,
                           jt_err *err)
{
    size_t source[3] = {[LOGITS] = at}, shape[3], blocks;
    jt_adapter_slot *s;
    const jt_tensor *z = &a->source[at].t;
    if (z->n_dims != 3 || z->dtype != JT_F32)
        return jt_adapter_fail_source(a, at, err);
    JT_TRY(
        jt_adapter_need_source(a, target, skills_a, JT_F32, 3, &source[SKILLS_A], err));
    JT_TRY(
        jt_adapter_need_source(a, target, skills_b, JT_F32, 3, &source[SKILLS_B], err));
    const jt_tensor *x = &a->source[source[SKILLS_A]].t;
    const jt_tensor *y = &a->source[source[SKILLS_B]].t;
    size_t heads = z->shape[1], skills = z->shape[2];
    if (!jt_mul(heads, skills, &blocks) || x->shape[0] % blocks ||
        x->shape[0] != y->shape[0] || x->shape[1] != y->shape[2] ||
        !jt_mul(y->shape[1], heads, &shape[1]) ||
        !jt_mul(x->shape[2], heads, &shape[2]))
        return jt_adapter_fail_source(a, source[SKILLS_B], err);
    shape[0] = x->shape[0] / blocks;
    JT_TRY(jt_adapter_add(a, &s, target, shape, x->shape[1], alpha, err));
    memcpy(s->source, source, sizeof source);
    for (int i = SKILLS_A; i <= LOGITS; i++)
        a->source[s->source[i]].trained = true;
    JT_TRY(bind_rows(a, s, err));
    return add_weights(a, s, heads, skills, err);
}

static jt_status bind(jt_adapter *a, float alpha, jt_err *err)
{
    size_t n = a->n_sources;
    for (size_t i = 0; i < n; i++) {
        jt_str target;
        if (jt_adapter_source_of(a, i, logits, &target))
            JT_TRY(bind_slot(a, i, target, alpha, err));
    }
    return jt_poly_settle(a, err);
}

jt_status jt_poly_settle(jt_adapter *a, jt_err *err)
{
    size_t tasks = jt_poly_tasks(a);
    for (size_t i = 0; i < a->count; i++) {
        if (jt_slot_source(a, &a->slot[i], LOGITS)->shape[0] != tasks)
            return jt_adapter_fail_source(a, a->slot[i].source[LOGITS], err);
    }
    a->task = tasks == 1 ? 0 : JT_ADAPTER_NO_TASK;
    make(a);
    return JT_OK;
}

/* ---- from peft ---- */

jt_status jt_poly_add(jt_adapter *a, jt_adapter_slot **slot, jt_str target,
                      const size_t shape[3], const jt_adapter_options *o, jt_err *err)
{
    JT_TRY(jt_adapter_add(a, slot, target, shape, o->rank, o->alpha, err));
    return start_slot(a, *slot, o, 0, err);
}

void jt_poly_from_peft(const jt_adapter *a, const jt_adapter_slot *s,
                       const float *from_a, const float *from_b, const float *z,
                       const uint32_t *map)
{
    jt_adapter_source *rows = &a->source[s->source[ROWS]];
    const jt_tensor *to_a = jt_slot_source(a, s, SKILLS_A);
    const jt_tensor *to_b = jt_slot_source(a, s, SKILLS_B);
    const jt_tensor *to_z = jt_slot_source(a, s, LOGITS);
    size_t rank = s->rank, wide = jt_cols(to_a), high = to_b->shape[1];
    memcpy(to_z->data, z, jt_rows(to_z) * jt_cols(to_z) * sizeof *z);
    for (size_t i = 0; i < to_a->shape[0]; i++) {
        for (size_t k = 0; k < rank; k++) {
            for (size_t c = 0; c < wide; c++)
                jt_row(to_a, i * rank + k)[c] = from_a[(i * wide + c) * rank + k];
            for (size_t r = 0; r < high; r++)
                jt_row(to_b, i * high + r)[k] = from_b[(i * rank + k) * high + r];
        }
    }
    for (size_t r = 0; r < s->rows; r++) {
        ((int32_t *)rows->t.data)[map[r]] = (int32_t)r;
        rows->kept |= map[r] != r;
    }
}

size_t jt_poly_tasks(const jt_adapter *a)
{
    return a->kind == &jt_adapter_poly && a->count
               ? jt_slot_source(a, &a->slot[0], LOGITS)->shape[0]
               : 0;
}

static const jt_adapter_making making = {begin, bind, make, spread};

const jt_adapter_kind jt_adapter_poly = {.name = "poly",
                                         .what = "LoRA of skills, weighed by task",
                                         .part = {"lora_a", "lora_b"},
                                         .low_rank = true,
                                         .making = &making,
                                         .scale = jt_low_rank_by_rank,
                                         .is_fresh = jt_low_rank_is_fresh,
                                         .merge_row = jt_low_rank_merge_row,
                                         .change = jt_low_rank_change};
