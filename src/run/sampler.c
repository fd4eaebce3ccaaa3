#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "run/sampler.h"

typedef struct candidate {
    int32_t id;
    float logit;
    float p; /* set by softmax */
} candidate;

/* How far a candidate's information lies from the expected one. */
typedef struct surprise {
    float distance;
    size_t place; /* in the list */
} surprise;

struct jt_sampler {
    jt_sampling params;
    size_t n_vocab;
    jt_rng rng;
    candidate *list; /* [vocab], room for the candidates of a step */
    size_t count;    /* candidates that are left; from top_k on sorted, best first */
    surprise *order; /* [vocab], for typical sampling; NULL when that is off */
    int32_t *history;
    size_t n_history, history_capacity;
    int32_t *seen; /* [vocab], how often each token stands in the penalty window */
    float *bias;   /* [vocab]; NULL: none */
};

jt_sampling jt_sampling_default(void)
{
    return (jt_sampling){
        .temperature = 0.8f,
        .top_k = 40,
        .top_p = 0.95f,
        .min_p = 0.05f,
        .typical_p = 1.0f,
        .repeat_penalty = 1.0f,
        .repeat_last_n = 64,
    };
}

int jt_sampling_from_file(jt_sampling *sampling, const jt_gguf *file)
{
    int replaced = 0;
    float value;
#define TAKE(key, field, low, high)                                                 \
    if (jt_gguf_get_f32(file, "general.sampling." key, &value) && value >= (low) && \
        value <= (high)) {                                                          \
        sampling->field = (__typeof__(sampling->field))value;                       \
        replaced++;                                                                 \
    }
    TAKE("temp", temperature, 0, 100)
    TAKE("top_k", top_k, 0, 1 << 30)
    TAKE("top_p", top_p, 0, 1)
    TAKE("min_p", min_p, 0, 1)
    TAKE("penalty_repeat", repeat_penalty, 0.01f, 100)
#undef TAKE
    return replaced;
}

static jt_status check_range(const char *name, double value, double low, double high,
                             jt_err *err)
{
    if (value >= low && value <= high)
        return JT_OK;
    return jt_fail(err, JT_E_ARG, "%s is %g, expected %g to %g", name, value, low,
                   high);
}

static jt_status check_sampling(const jt_sampling *s, jt_err *err)
{
    JT_TRY(check_range("temperature", s->temperature, 0, 100, err));
    JT_TRY(check_range("top-k", s->top_k, 0, INT32_MAX, err));
    JT_TRY(check_range("top-p", s->top_p, 0, 1, err));
    JT_TRY(check_range("min-p", s->min_p, 0, 1, err));
    JT_TRY(check_range("typical", s->typical_p, 0, 1, err));
    JT_TRY(check_range("repeat penalty", s->repeat_penalty, 0.01, 100, err));
    JT_TRY(check_range("presence penalty", s->presence_penalty, -100, 100, err));
    JT_TRY(check_range("frequency penalty", s->frequency_penalty, -100, 100, err));
    return check_range("repeat-last-n", s->repeat_last_n, -1, INT32_MAX, err);
}

static bool copy_bias(jt_sampler *s, const jt_sampling *sampling)
{
    if (sampling->n_bias == 0)
        return true;
    s->bias = jt_calloc(s->n_vocab, sizeof *s->bias);
    for (size_t i = 0; i < sampling->n_bias && s->bias; i++) {
        const jt_logit_bias *b = &sampling->bias[i];
        if (b->id >= 0 && (size_t)b->id < s->n_vocab)
            s->bias[b->id] += b->bias;
    }
    return s->bias;
}

jt_status jt_sampler_new(jt_sampler **out, const jt_sampling *sampling, size_t n_vocab,
                         jt_err *err)
{
    JT_TRY(check_sampling(sampling, err));
    jt_sampler *s = jt_calloc(1, sizeof *s);
    if (!s)
        return jt_fail_memory(err, "preparing to sample");
    s->params = *sampling;
    s->params.bias = NULL;
    s->n_vocab = n_vocab;
    s->rng = (jt_rng){.seed = sampling->seed};
    s->list = jt_alloc(n_vocab, sizeof *s->list);
    s->seen = jt_calloc(n_vocab, sizeof *s->seen);
    bool typical = sampling->typical_p < 1.0f;
    s->order = typical ? jt_alloc(n_vocab, sizeof *s->order) : NULL;
    bool fits = s->list && s->seen && (!typical || s->order);
    if (!fits || !copy_bias(s, sampling)) {
        jt_sampler_free(s);
        return jt_fail_memory(err, "preparing to sample");
    }
    *out = s;
    return JT_OK;
}

void jt_sampler_free(jt_sampler *s)
{
    if (!s)
        return;
    free(s->list);
    free(s->order);
    free(s->history);
    free(s->seen);
    free(s->bias);
    free(s);
}

jt_status jt_sampler_accept(jt_sampler *s, int32_t id, jt_err *err)
{
    if (id < 0 || (size_t)id >= s->n_vocab)
        return JT_OK;
    if (!jt_grow((void **)&s->history, &s->history_capacity, s->n_history + 1,
                 sizeof *s->history))
        return jt_fail_memory(err, "sampling");
    s->history[s->n_history++] = id;
    s->seen[id]++;
    int window = s->params.repeat_last_n;
    if (window >= 0 && s->n_history > (size_t)window)
        s->seen[s->history[s->n_history - 1 - (size_t)window]]--;
    return JT_OK;
}

/* Repetition penalty (Keskar et al. 2019) and the presence and frequency penalties of
 * the OpenAI API. */
static float penalised(const jt_sampler *s, size_t id, float logit)
{
    const jt_sampling *p = &s->params;
    int32_t times = s->seen[id];
    logit += s->bias ? s->bias[id] : 0.0f;
    if (times == 0)
        return logit;
    logit = logit > 0.0f ? logit / p->repeat_penalty : logit * p->repeat_penalty;
    return logit - p->presence_penalty - p->frequency_penalty * (float)times;
}

/* A logit that is not a number can never be drawn. */
static candidate candidate_of(const jt_sampler *s, size_t id, float logit)
{
    return (candidate){(int32_t)id, isnan(logit) ? -INFINITY : penalised(s, id, logit),
                       0.0f};
}

static void gather(jt_sampler *s, const float *logits)
{
    s->count = 0;
    for (size_t i = 0; i < s->n_vocab; i++)
        s->list[s->count++] = candidate_of(s, i, logits[i]);
}

static void gather_masked(jt_sampler *s, const float *logits, const uint64_t *mask,
                          size_t n_mask)
{
    s->count = 0;
    for (size_t word = 0; word < (n_mask + 63) / 64; word++) {
        for (uint64_t left = mask[word]; left; left &= left - 1) {
            size_t id = word * 64 + (size_t)__builtin_ctzll(left);
            if (id < s->n_vocab)
                s->list[s->count++] = candidate_of(s, id, logits[id]);
        }
    }
}

static int32_t greedy(const jt_sampler *s)
{
    const candidate *best = s->list;
    for (size_t i = 1; i < s->count; i++) {
        if (s->list[i].logit > best->logit)
            best = &s->list[i];
    }
    return best->id;
}

/* Best first, the lower id first on a tie: a total order, so any sort gives the same.
 */
static int by_logit(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* The k best are found without sorting the rest: in a bounded heap, the worst of them
 * at its root. */
static void sift_down(candidate *heap, size_t n, size_t i)
{
    for (;;) {
        size_t worst = i, left = 2 * i + 1, right = left + 1;
        if (left < n && by_logit(&heap[left], &heap[worst]) > 0)
            worst = left;
        if (right < n && by_logit(&heap[right], &heap[worst]) > 0)
            worst = right;
        if (worst == i)
            return;
        candidate swap = heap[i];
        heap[i] = heap[worst];
        heap[worst] = swap;
        i = worst;
    }
}

/* The list is a heap of the k best that were offered so far; ids come in order. */
static void offer(jt_sampler *s, size_t k, candidate c)
{
    if (s->count < k) {
        s->list[s->count++] = c;
        for (size_t i = s->count == k ? k / 2 : 0; i-- > 0;)
            sift_down(s->list, k, i);
    } else if (by_logit(&c, &s->list[0]) < 0) {
        s->list[0] = c;
        sift_down(s->list, k, 0);
    }
}

static bool any_above(const float *logits, size_t n, float bound)
{
    int above = 0;
    for (size_t i = 0; i < n; i++)
        above += logits[i] > bound;
    return above > 0;
}

/* Only the k best: of most of a large vocabulary it is enough to know that they are
 * below. */
static void gather_best(jt_sampler *s, const float *logits, size_t k)
{
    enum { BLOCK = 256 };
    const jt_sampling *p = &s->params;
    bool as_they_are = !s->bias && p->repeat_penalty == 1.0f &&
                       p->presence_penalty == 0.0f && p->frequency_penalty == 0.0f;
    s->count = 0;
    for (size_t first = 0; first < s->n_vocab; first += BLOCK) {
        size_t left = s->n_vocab - first, n = left < BLOCK ? left : BLOCK;
        if (as_they_are && s->count == k &&
            !any_above(logits + first, n, s->list[0].logit))
            continue;
        for (size_t id = first; id < first + n; id++)
            offer(s, k, candidate_of(s, id, logits[id]));
    }
}

static void top_k(jt_sampler *s)
{
    size_t k = (size_t)s->params.top_k;
    if (k > 0 && k < s->count) {
        size_t count = s->count;
        s->count = 0;
        for (size_t i = 0; i < count; i++)
            offer(s, k, s->list[i]);
    }
    qsort(s->list, s->count, sizeof *s->list, by_logit);
}

/* Probabilities of the candidates at `temperature`; the list is sorted. */
static void softmax(jt_sampler *s, float temperature)
{
    float best = s->list[0].logit;
    double sum = 0.0;
    for (size_t i = 0; i < s->count; i++) {
        float logit = s->list[i].logit;
        s->list[i].p = logit == best ? 1.0f : expf((logit - best) / temperature);
        sum += s->list[i].p;
    }
    for (size_t i = 0; i < s->count; i++)
        s->list[i].p = (float)(s->list[i].p / sum);
}

static int by_distance(const void *a, const void *b)
{
    const surprise *x = a, *y = b;
    if (x->distance != y->distance)
        return x->distance < y->distance ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

/* Locally typical sampling (Meister et al. 2022): keep the candidates whose information
 * is closest to the entropy, until their mass is typical_p. */
static void typical(jt_sampler *s)
{
    if (!s->order)
        return;
    softmax(s, 1.0f);
    double entropy = 0.0, mass = 0.0;
    for (size_t i = 0; i < s->count; i++)
        entropy -= s->list[i].p > 0.0f ? s->list[i].p * logf(s->list[i].p) : 0.0f;
    surprise *order = s->order;
    for (size_t i = 0; i < s->count; i++) {
        float information = s->list[i].p > 0.0f ? -logf(s->list[i].p) : INFINITY;
        order[i] = (surprise){fabsf(information - (float)entropy), i};
    }
    qsort(order, s->count, sizeof *order, by_distance);
    size_t kept = 0;
    while (kept < s->count && mass < s->params.typical_p) {
        candidate *c = &s->list[order[kept++].place];
        mass += c->p;
        c->p = -1.0f; /* marks the kept */
    }
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++) {
        if (s->list[i].p < 0.0f)
            s->list[n++] = s->list[i];
    }
    s->count = n;
}

/* Nucleus (Holtzman et al. 2020): the shortest head whose mass reaches top_p. */
static void top_p(jt_sampler *s)
{
    if (s->params.top_p >= 1.0f)
        return;
    softmax(s, 1.0f);
    double mass = 0.0;
    size_t n = 0;
    do {
        mass += s->list[n++].p;
    } while (n < s->count && mass < s->params.top_p);
    s->count = n;
}

/* min-p (Nguyen et al. 2024): at least min_p times the best one's probability. */
static void min_p(jt_sampler *s)
{
    if (s->params.min_p <= 0.0f)
        return;
    float least = s->list[0].logit + logf(s->params.min_p);
    while (s->count > 1 && s->list[s->count - 1].logit < least)
        s->count--;
}

static int32_t draw(jt_sampler *s)
{
    softmax(s, s->params.temperature);
    double u = jt_rng_double(&s->rng), mass = 0.0;
    for (size_t i = 0; i < s->count; i++) {
        mass += s->list[i].p;
        if (u < mass)
            return s->list[i].id;
    }
    return s->list[0].id; /* rounding left a gap at the end */
}

/* One of the candidates, of which there are some. */
static int32_t choose(jt_sampler *s)
{
    if (s->params.temperature <= 0.0f)
        return greedy(s);
    top_k(s);
    typical(s);
    top_p(s);
    min_p(s);
    return draw(s);
}

int32_t jt_sampler_next(jt_sampler *s, const float *logits)
{
    size_t k = s->params.temperature <= 0.0f ? 1 : (size_t)s->params.top_k;
    if (k > 0 && k < s->n_vocab)
        gather_best(s, logits, k);
    else
        gather(s, logits);
    return choose(s);
}

int32_t jt_sampler_next_of(jt_sampler *s, const float *logits, const uint64_t *mask,
                           size_t n_mask)
{
    gather_masked(s, logits, mask, n_mask);
    return s->count ? choose(s) : -1;
}
