/* From stage one of MixDA to stage two. */
#include <string.h>

#include "adapt/mixda.h"

typedef struct joining {
    const jt_adapter *const *part;
    size_t n, task_rank;
    uint64_t seed;
    jt_adapter *out;
} joining;

static size_t domains_of(const jt_adapter *a)
{
    return (size_t)a->setting[JT_MIXDA_DOMAINS];
}

static jt_status check(const joining *j, jt_err *err)
{
    size_t domains = 0;
    for (size_t i = 0; i < j->n; i++) {
        const jt_adapter *a = j->part[i], *first = j->part[0];
        if (a->kind != &jt_adapter_mixda || a->setting[JT_MIXDA_TASK_RANK] > 0.0f)
            return jt_fail(err, JT_E_ARG, "'%s' is no domain adapter of stage one",
                           a->path);
        if (a->count != first->count)
            return jt_fail(err, JT_E_ARG, "'%s' stands at other weights than '%s'",
                           a->path, first->path);
        domains += domains_of(a);
    }
    if (domains > JT_MIXDA_MOST)
        return jt_fail(err, JT_E_LIMIT, "more than %d domain adapters", JT_MIXDA_MOST);
    j->out->setting[JT_MIXDA_DOMAINS] = (float)domains;
    return JT_OK;
}

/* Ranks of `from` become those of `to` from `rank` on, and its biases from `bias` on.
 */
static void copy_ranks(const jt_adapter_slot *from, jt_adapter_slot *to, size_t rank,
                       size_t bias)
{
    const jt_tensor *b = &from->part[JT_LOW_B];
    memcpy(jt_row(&to->part[JT_LOW_A], rank), from->part[JT_LOW_A].data,
           from->rank * from->cols * sizeof(float));
    for (size_t r = 0; r < from->rows; r++)
        memcpy(jt_row(&to->part[JT_LOW_B], r) + rank, jt_row(b, r),
               from->rank * sizeof(float));
    memcpy((float *)to->part[JT_MIXDA_A_BIAS].data + rank,
           from->part[JT_MIXDA_A_BIAS].data, from->rank * sizeof(float));
    memcpy(jt_row(&to->part[JT_MIXDA_B_BIAS], bias), from->part[JT_MIXDA_B_BIAS].data,
           jt_rows(&from->part[JT_MIXDA_B_BIAS]) * from->rows * sizeof(float));
}

static void copy_gate(const jt_adapter_slot *from, jt_adapter_slot *to)
{
    for (int i = JT_MIXDA_GATE; i < JT_ADAPTER_PARTS; i++)
        memcpy(to->part[i].data, from->part[i].data,
               jt_rows(&to->part[i]) * jt_cols(&to->part[i]) * sizeof(float));
}

/* Slot number `i` of all parts. */
static jt_status join_slot(const joining *j, size_t i, jt_err *err)
{
    const jt_adapter_slot *first = &j->part[0]->slot[i];
    const size_t shape[] = {1, first->rows, first->cols};
    jt_str target = {first->target, strlen(first->target)};
    const jt_adapter_slot *from[JT_MIXDA_MOST];
    size_t ranks = 0, rank = 0, bias = 0;
    jt_adapter_slot *to;
    for (size_t e = 0; e < j->n; e++) {
        from[e] = jt_adapter_find(j->part[e], target);
        if (!from[e] || from[e]->rows != first->rows || from[e]->cols != first->cols ||
            from[e]->rank / domains_of(j->part[e]) !=
                first->rank / domains_of(j->part[0]))
            return jt_fail(err, JT_E_ARG,
                           "'%s' has not the same adapter at '%s' as '%s'",
                           j->part[e]->path, first->target, j->part[0]->path);
        ranks += from[e]->rank;
    }
    JT_TRY(jt_adapter_add(j->out, &to, target, shape, ranks + j->task_rank, 1.0f, err));
    jt_low_rank_start_a(to->part[JT_LOW_A].data, to->rank * to->cols, to->cols, j->seed,
                        i);
    memset(to->part[JT_LOW_B].data, 0, to->rows * to->rank * sizeof(float));
    to->frozen = ranks;
    jt_adapter_mixda.start_more(to, j->seed, i);
    for (size_t e = 0; e < j->n;
         rank += from[e]->rank, bias += domains_of(j->part[e++]))
        copy_ranks(from[e], to, rank, bias);
    if (j->n == 1)
        copy_gate(from[0], to);
    return JT_OK;
}

static jt_status join_slots(const joining *j, size_t width, jt_err *err)
{
    float own = j->part[0]->setting[JT_MIXDA_GATE_WIDTH];
    JT_TRY(check(j, err));
    j->out->setting[JT_MIXDA_GATE_WIDTH] = j->n == 1 ? own : (float)width;
    j->out->setting[JT_MIXDA_TASK_RANK] = (float)j->task_rank;
    for (size_t i = 0; i < j->part[0]->count; i++)
        JT_TRY(join_slot(j, i, err));
    return JT_OK;
}

jt_status jt_mixda_join(jt_adapter **out, const jt_adapter *const *parts, size_t n,
                        size_t task_rank, size_t width, uint64_t seed, jt_err *err)
{
    joining j = {.part = parts, .n = n, .task_rank = task_rank, .seed = seed};
    if (n > JT_MIXDA_MOST)
        return jt_fail(err, JT_E_LIMIT, "more than %d domain adapters", JT_MIXDA_MOST);
    JT_TRY(jt_adapter_new(&j.out, &jt_adapter_mixda, "(new)", err));
    jt_status status = join_slots(&j, width, err);
    if (status == JT_OK)
        *out = j.out;
    else
        jt_adapter_free(j.out);
    return status;
}
