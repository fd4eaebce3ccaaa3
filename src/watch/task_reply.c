/* Answering the questions of a task: replies, greedily, several side by side. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "run/session.h"
#include "run/stop.h"
#include "watch/task.h"

/* A reply that is being written. */
typedef struct reply {
    const jt_question *q; /* NULL: nothing to do */
    jt_session *session;
    jt_tokens tokens; /* that are to be run next */
    int written;      /* tokens */
    bool cut;
    jt_outlet outlet;
    char *text;
    size_t len, capacity;
    bool out_of_memory;
} reply;

static int take_text(void *user, const char *text, size_t len)
{
    reply *r = user;
    if (!jt_grow((void **)&r->text, &r->capacity, r->len + len + 1, 1)) {
        r->out_of_memory = true;
        return 1;
    }
    memcpy(r->text + r->len, text, len);
    r->len += len;
    return 0;
}

/* JSON holds characters: bytes that are none become '?'. */
static void make_utf8(char *text, size_t len)
{
    for (size_t at = 0; at < len;) {
        at += jt_utf8_valid(text + at, len - at);
        size_t bad = jt_utf8_invalid(text + at, len - at);
        memset(text + at, '?', bad);
        at += bad;
    }
}

static void close_reply(reply *r)
{
    jt_outlet_free(&r->outlet);
    free(r->tokens.ids);
    free(r->text);
    *r = (reply){.session = r->session};
}

/* Begin the reply to `q`: the question is run next. */
static jt_status open_reply(const jt_task_run_state *run, reply *r,
                            const jt_question *q, jt_err *err)
{
    const jt_task *task = run->task;
    size_t between = strlen(task->delimiter);
    char *text = jt_alloc(q->context.len + between, 1);
    if (!text)
        return jt_fail_memory(err, "asking a question");
    *r = (reply){.q = q, .session = r->session};
    r->outlet = (jt_outlet){
        .stop = task->stop, .n_stop = task->n_stop, .on_text = take_text, .user = r};
    memcpy(text, q->context.data, q->context.len);
    memcpy(text + q->context.len, task->delimiter, between);
    jt_status status = jt_encode(run->tokenizer, text, q->context.len + between,
                                 JT_ENCODE_ADD_SPECIAL, &r->tokens, err);
    free(text);
    JT_TRY(status);
    int room = r->session->capacity - task->max_tokens;
    if (room < 1 || r->tokens.count == 0)
        return jt_fail(err, room < 1 ? JT_E_LIMIT : JT_E_FORMAT,
                       room < 1 ? "a reply of \"max_tokens\" fills the context"
                                : "the question is empty");
    if (r->tokens.count > (size_t)room) {
        size_t skip = r->tokens.count - (size_t)room;
        memmove(r->tokens.ids, r->tokens.ids + skip,
                (size_t)room * sizeof *r->tokens.ids);
        r->tokens.count = (size_t)room;
        r->cut = true;
    }
    jt_session_truncate(r->session, 0);
    return JT_OK;
}

/* The next question without an answer, or NULL. */
static const jt_question *next_question(const jt_task_run_state *run, size_t *at)
{
    jt_task_info info;
    jt_task_describe(run->task, &info);
    while (*at < info.questions) {
        const jt_question *q = &run->task->questions[(*at)++];
        if (!jt_answers_find(run->answers, run->task, q))
            return q;
    }
    return NULL;
}

static int32_t likeliest(const float *logits, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    return (int32_t)best;
}

/* Take the next token; *over when the reply ends with it. */
static jt_status next_token(const jt_task_run_state *run, reply *r, bool *over,
                            jt_err *err)
{
    size_t n_vocab = (size_t)r->session->model->params.n_vocab;
    int32_t id = likeliest(jt_session_logits(r->session), n_vocab);
    jt_str piece = jt_token_piece(run->tokenizer, id);
    bool end = jt_token_is_end(run->tokenizer, id);
    if (!end && !jt_token_is_special(run->tokenizer, id))
        JT_TRY(jt_outlet_add(&r->outlet, piece.data, piece.len, err));
    if (r->out_of_memory)
        return jt_fail_memory(err, "writing a reply");
    r->tokens.ids[0] = id; /* there was a question, so there is room */
    r->tokens.count = 1;
    *over = end || r->outlet.stopped || ++r->written >= run->task->max_tokens;
    return JT_OK;
}

static jt_status end_reply(jt_task_run_state *run, reply *r, jt_err *err)
{
    jt_outlet_finish(&r->outlet);
    if (r->out_of_memory)
        return jt_fail_memory(err, "writing a reply");
    make_utf8(r->text, r->len);
    json_t *record = json_pack("{s:s#, s:i}", "reply", r->len ? r->text : "",
                               (int)r->len, "tokens", r->written);
    if (r->cut && record)
        json_object_set_new(record, "cut", json_true());
    const jt_question *q = r->q;
    close_reply(r);
    return jt_task_answered(run, q, record, err);
}

/* Run what all replies have before them in one go, and take a token of each. */
static jt_status step(jt_task_run_state *run, reply *replies, size_t *at,
                      jt_part *parts, bool *idle, jt_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < run->n_sessions; i++) {
        reply *r = &replies[i];
        const jt_question *q = r->q ? NULL : next_question(run, at);
        jt_status status = q ? open_reply(run, r, q, err) : JT_OK;
        if (status != JT_OK)
            return jt_fail_within(err, status, "task '%s': line %zu", run->task->name,
                                  q->line);
        if (r->q)
            parts[n++] = (jt_part){r->session, r->tokens.ids, r->tokens.count};
    }
    *idle = n == 0;
    if (n == 0)
        return JT_OK;
    JT_TRY(jt_session_eval_together(parts, n, NULL, err));
    for (size_t i = 0; i < run->n_sessions; i++) {
        bool over = false;
        if (replies[i].q)
            JT_TRY(next_token(run, &replies[i], &over, err));
        if (over)
            JT_TRY(end_reply(run, &replies[i], err));
    }
    jt_task_info info;
    jt_task_describe(run->task, &info);
    return jt_progress_report(run->progress, "questions", run->done, info.questions,
                              err);
}

jt_status jt_task_replies(jt_task_run_state *run, jt_err *err)
{
    reply *replies = jt_calloc(run->n_sessions, sizeof *replies);
    jt_part *parts = jt_calloc(run->n_sessions, sizeof *parts);
    jt_status status =
        replies && parts ? JT_OK : jt_fail_memory(err, "answering questions");
    size_t at = 0;
    for (size_t i = 0; i < run->n_sessions && status == JT_OK; i++)
        replies[i].session = run->sessions[i];
    for (bool idle = false; status == JT_OK && !idle;)
        status = step(run, replies, &at, parts, &idle, err);
    for (size_t i = 0; replies && i < run->n_sessions; i++)
        close_reply(&replies[i]);
    free(replies);
    free(parts);
    return status;
}
