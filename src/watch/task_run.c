/* Answering the questions of a task: choices and texts. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "run/likelihood.h"
#include "run/session.h"
#include "watch/task.h"

jt_status jt_task_answered(jt_task_run_state *run, const jt_question *q, json_t *record,
                           jt_err *err)
{
    jt_task_info info;
    jt_task_describe(run->task, &info);
    JT_TRY(jt_answers_add(run->answers, run->task, q, record, err));
    return jt_progress_report(run->progress, "questions", ++run->done, info.questions,
                              err);
}

/* ---- choices ---- */

/* Something for the first token to follow, where the vocabulary asks for nothing. */
static jt_status begin(const jt_task_run_state *run, jt_tokens *tokens, jt_err *err)
{
    int32_t id = jt_token_bos(run->tokenizer);
    id = id >= 0 ? id : jt_token_eos(run->tokenizer);
    if (id < 0)
        return jt_fail(err, JT_E_FORMAT,
                       "nothing stands before the choice, and the vocabulary has no "
                       "token that begins a text");
    if (!jt_grow((void **)&tokens->ids, &tokens->capacity, tokens->count + 1,
                 sizeof *tokens->ids))
        return jt_fail_memory(err, "scoring a choice");
    memmove(tokens->ids + 1, tokens->ids, tokens->count * sizeof *tokens->ids);
    tokens->ids[0] = id;
    tokens->count++;
    return JT_OK;
}

/* The question and choice `i` as one text; the choice begins with the first token that
 * is not one of the question alone. */
static jt_status encode_choice(const jt_task_run_state *run, const jt_question *q,
                               size_t i, const jt_tokens *question, jt_tokens *tokens,
                               size_t *first, jt_err *err)
{
    jt_str choice = q->options[i];
    size_t between = strlen(run->task->delimiter);
    size_t len = q->context.len + between + choice.len;
    char *text = jt_alloc(len, 1);
    if (!text)
        return jt_fail_memory(err, "scoring a choice");
    memcpy(text, q->context.data, q->context.len);
    memcpy(text + q->context.len, run->task->delimiter, between);
    memcpy(text + q->context.len + between, choice.data, choice.len);
    jt_status status =
        jt_encode(run->tokenizer, text, len, JT_ENCODE_ADD_SPECIAL, tokens, err);
    free(text);
    JT_TRY(status);
    for (*first = 0; *first < question->count && *first < tokens->count; ++*first) {
        if (question->ids[*first] != tokens->ids[*first])
            break;
    }
    if (*first == tokens->count)
        return jt_fail(err, JT_E_FORMAT, "choice %zu adds no token to the question", i);
    if (*first == 0) {
        JT_TRY(begin(run, tokens, err));
        *first = 1;
    }
    return JT_OK;
}

/* Its likelihood; *cut: the question had to be shortened. */
static jt_status score_choice(const jt_task_run_state *run, const jt_question *q,
                              size_t i, const jt_tokens *question,
                              jt_likelihood *likelihood, bool *cut, jt_err *err)
{
    jt_session *session = run->sessions[0];
    size_t room = (size_t)session->capacity + 1; /* the last one is not run */
    size_t first = 0;
    jt_tokens tokens = {0};
    jt_status status = encode_choice(run, q, i, question, &tokens, &first, err);
    size_t skip = tokens.count > room ? tokens.count - room : 0;
    if (status == JT_OK && skip >= first)
        status = jt_fail(err, JT_E_LIMIT,
                         "choice %zu has %zu tokens, the context has room for %d", i,
                         tokens.count - first, session->capacity);
    if (status == JT_OK)
        status = jt_likelihood_add(likelihood, session, tokens.ids + skip,
                                   tokens.count - skip, first - skip, err);
    *cut |= skip > 0;
    free(tokens.ids);
    return status;
}

static jt_status answer_choice(const jt_task_run_state *run, const jt_question *q,
                               json_t *record, jt_err *err)
{
    jt_tokens question = {0};
    bool cut = false;
    json_t *nll = json_array();
    jt_status status = jt_encode(run->tokenizer, q->context.data, q->context.len,
                                 JT_ENCODE_ADD_SPECIAL, &question, err);
    jt_session_truncate(run->sessions[0], 0);
    for (size_t i = 0; i < q->n_options && status == JT_OK; i++) {
        jt_likelihood l = {0};
        status = score_choice(run, q, i, &question, &l, &cut, err);
        if (status == JT_OK && json_array_append_new(nll, json_real(l.nll)) != 0)
            status = jt_fail_memory(err, "keeping an answer");
    }
    free(question.ids);
    if (json_object_set_new(record, "nll", nll) != 0 && status == JT_OK)
        status = jt_fail_memory(err, "keeping an answer");
    if (cut)
        json_object_set_new(record, "cut", json_true());
    return status;
}

/* ---- texts ---- */

static jt_status answer_text(const jt_task_run_state *run, const jt_question *q,
                             json_t *record, jt_err *err)
{
    jt_tokens tokens = {0};
    jt_likelihood l = {0};
    jt_status status = jt_encode(run->tokenizer, q->context.data, q->context.len,
                                 JT_ENCODE_ADD_SPECIAL, &tokens, err);
    if (status == JT_OK && tokens.count < 2)
        status =
            jt_fail(err, JT_E_FORMAT, "a text of one token has nothing to foresee");
    if (status == JT_OK)
        status =
            jt_likelihood_text(&l, run->sessions[0], tokens.ids, tokens.count, err);
    free(tokens.ids);
    if (status == JT_OK &&
        (json_object_set_new(record, "nll", json_real(l.nll)) != 0 ||
         json_object_set_new(record, "squares", json_real(l.squares)) != 0 ||
         json_object_set_new(record, "tokens", json_integer((json_int_t)l.scored)) !=
             0))
        status = jt_fail_memory(err, "keeping an answer");
    return status;
}

/* ---- the whole ---- */

static jt_status answer(jt_task_run_state *run, const jt_question *q, jt_err *err)
{
    json_t *record = json_object();
    if (!record)
        return jt_fail_memory(err, "keeping an answer");
    jt_status status = run->task->kind == JT_TASK_CHOICE
                           ? answer_choice(run, q, record, err)
                           : answer_text(run, q, record, err);
    if (status == JT_OK)
        return jt_task_answered(run, q, record, err);
    json_decref(record);
    return status == JT_E_INTERRUPTED
               ? status
               : jt_fail_within(err, status, "task '%s': line %zu", run->task->name,
                                q->line);
}

jt_status jt_task_run(const jt_task *task, jt_session *const *sessions, size_t n,
                      jt_answers *answers, jt_progress progress, jt_err *err)
{
    if (n == 0)
        return jt_fail(err, JT_E_ARG, "no session to answer with");
    jt_task_run_state run = {.task = task,
                             .sessions = sessions,
                             .n_sessions = n,
                             .tokenizer = jt_model_tokenizer(sessions[0]->model),
                             .answers = answers,
                             .progress = &progress,
                             .done = jt_answers_count(answers, task)};
    jt_task_info info;
    jt_task_describe(task, &info);
    if (!run.tokenizer)
        return jt_fail(err, JT_E_UNSUPPORTED, "the model has no tokenizer");
    JT_TRY(jt_progress_report(&progress, "questions", run.done, info.questions, err));
    if (task->kind == JT_TASK_REPLY)
        return jt_task_replies(&run, err);
    for (size_t i = 0; i < info.questions; i++) {
        if (!jt_answers_find(answers, task, &task->questions[i]))
            JT_TRY(answer(&run, &task->questions[i], err));
    }
    return JT_OK;
}
