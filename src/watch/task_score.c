/* What answers are worth. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "watch/task.h"

/* Sums over the questions of a domain. */
typedef struct sums {
    size_t questions, cut, tokens, bytes;
    double right, right_norm, chance, nll, squares;
} sums;

static size_t characters(jt_str text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++)
        n += ((unsigned char)text.data[i] & 0xc0) != 0x80;
    return n;
}

/* The least of the negative log likelihoods, and of those per character; the first of
 * equals, as the common harness has it. */
static bool score_choice(sums *s, const jt_question *q, const json_t *record)
{
    const json_t *nll = json_object_get(record, "nll");
    size_t best = 0, best_norm = 0;
    double least = INFINITY, least_norm = INFINITY;
    if (json_array_size(nll) != q->n_options)
        return false;
    for (size_t i = 0; i < q->n_options; i++) {
        const json_t *item = json_array_get(nll, i);
        double x = json_number_value(item);
        double norm = x / (double)characters(q->options[i]);
        if (!json_is_number(item) || !isfinite(x))
            return false;
        if (x < least) {
            least = x;
            best = i;
        }
        if (norm < least_norm) {
            least_norm = norm;
            best_norm = i;
        }
    }
    s->right += best == q->gold;
    s->right_norm += best_norm == q->gold;
    s->chance += 1.0 / (double)q->n_options;
    return true;
}

static bool score_text(sums *s, const jt_question *q, const json_t *record)
{
    const json_t *tokens = json_object_get(record, "tokens");
    double nll = json_number_value(json_object_get(record, "nll"));
    double squares = json_number_value(json_object_get(record, "squares"));
    json_int_t n = json_integer_value(tokens);
    if (n < 1 || (uint64_t)n > (uint64_t)1 << 40 || !isfinite(nll) ||
        !isfinite(squares))
        return false;
    s->tokens += (size_t)n;
    s->bytes += q->context.len;
    s->nll += nll;
    s->squares += squares;
    return true;
}

static bool score_reply(sums *s, const jt_task *task, const jt_question *q,
                        const json_t *record)
{
    const json_t *reply = json_object_get(record, "reply");
    jt_str text = {json_string_value(reply), json_string_length(reply)};
    if (json_is_string(reply))
        s->right += jt_reply_is_right(task, q, text);
    return json_is_string(reply);
}

static bool score(sums *s, const jt_task *task, const jt_question *q,
                  const json_t *record)
{
    s->questions++;
    s->cut += json_is_true(json_object_get(record, "cut"));
    switch (task->kind) {
    case JT_TASK_CHOICE:
        return score_choice(s, q, record);
    case JT_TASK_TEXT:
        return score_text(s, q, record);
    case JT_TASK_REPLY:
        break;
    }
    return score_reply(s, task, q, record);
}

/* Standard error of a share: that of the sample, over the root of its size. */
static double error_of(double share, double n)
{
    return n > 1 ? sqrt(share * (1 - share) / (n - 1)) : (double)NAN;
}

static jt_task_score sum_up(const jt_task *task, const sums *s, const char *name)
{
    bool text = task->kind == JT_TASK_TEXT, choice = task->kind == JT_TASK_CHOICE;
    double n = (double)s->questions, tokens = (double)s->tokens, none = (double)NAN;
    double mean = text ? s->nll / tokens : none;
    double variance = fmax(0.0, s->squares / tokens - mean * mean) / (tokens - 1);
    jt_task_score out = {.name = name, .questions = s->questions, .cut = s->cut};
    out.accuracy = text ? none : s->right / n;
    out.error = error_of(out.accuracy, n);
    out.accuracy_norm = choice ? s->right_norm / n : none;
    out.error_norm = error_of(out.accuracy_norm, n);
    out.chance = choice ? s->chance / n : none;
    out.tokens = s->tokens;
    out.bytes = s->bytes;
    out.nll = mean;
    out.perplexity = exp(mean);
    out.perplexity_error = text && tokens > 1 ? exp(mean) * sqrt(variance) : none;
    out.bits_per_byte = text ? s->nll / log(2.0) / (double)s->bytes : none;
    return out;
}

static void add(sums *all, const sums *one)
{
    all->questions += one->questions;
    all->cut += one->cut;
    all->tokens += one->tokens;
    all->bytes += one->bytes;
    all->right += one->right;
    all->right_norm += one->right_norm;
    all->chance += one->chance;
    all->nll += one->nll;
    all->squares += one->squares;
}

static jt_status score_domains(const jt_task *task, const jt_answers *answers,
                               sums *domains, jt_err *err)
{
    jt_task_info info;
    jt_task_describe(task, &info);
    for (size_t i = 0; i < info.questions; i++) {
        const jt_question *q = &task->questions[i];
        const json_t *record = jt_answers_find(answers, task, q);
        if (record && !score(&domains[q->domain], task, q, record))
            return jt_fail(err, JT_E_FORMAT,
                           "task '%s': what is kept for line %zu is no answer to it",
                           task->name, q->line);
    }
    return JT_OK;
}

jt_status jt_task_score_answers(const jt_task *task, const jt_answers *answers,
                                jt_task_result *result, jt_err *err)
{
    sums all = {0}, *domains = jt_calloc(task->n_domains, sizeof *domains);
    jt_task_score *scores = jt_calloc(task->n_domains, sizeof *scores);
    size_t n = 0;
    bool named = task->n_domains > 1 || task->domains[0][0];
    jt_status status = domains && scores ? score_domains(task, answers, domains, err)
                                         : jt_fail_memory(err, "scoring answers");
    for (size_t i = 0; i < task->n_domains && status == JT_OK; i++) {
        add(&all, &domains[i]);
        if (domains[i].questions && named)
            scores[n++] = sum_up(task, &domains[i], task->domains[i]);
    }
    if (status == JT_OK && !all.questions)
        status = jt_fail(err, JT_E_ARG, "task '%s' has no answer yet", task->name);
    free(domains);
    if (status != JT_OK) {
        free(scores);
        return status;
    }
    *result = (jt_task_result){sum_up(task, &all, NULL), n, scores};
    return JT_OK;
}

void jt_task_result_free(jt_task_result *result)
{
    free(result->domains);
    *result = (jt_task_result){0};
}
