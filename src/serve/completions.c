#include "serve/completions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"
#include "serve/keys.h"
#include "serve/responses.h"

typedef enum interface { CHAT, TEXT, RESPONSE } interface;

/* A request and its answer. */
typedef struct completion {
    interface kind;
    jt_response response; /* of that kind */
    jt_server *server;
    jt_work *work;
    jt_answer_head head;
    int socket;

    /* Of a stream. */
    jt_buffer out; /* events, of which `sent` bytes are gone */
    size_t sent;
    bool begun, ended;
} completion;

/* ---- the beginning and the end ---- */

static void make_id(char *id, size_t size, const char *prefix)
{
    unsigned char random[12] = {0};
    (void)!getrandom(random, sizeof random, 0);
    int at = snprintf(id, size, "%s", prefix);
    for (size_t i = 0; i < sizeof random; i++)
        at += snprintf(id + at, size - (size_t)at, "%02x", random[i]);
}

static void make_head(completion *c)
{
    static const char *const prefixes[] = {"chatcmpl-", "cmpl-", "resp_"};
    make_id(c->head.id, sizeof c->head.id, prefixes[c->kind]);
    make_id(c->response.message, sizeof c->response.message, "msg_");
    make_id(c->response.item, sizeof c->response.item, "rs_");
    c->head.created = (long long)time(NULL);
    c->head.model = c->server->name;
}

/* The first choice that failed, or NULL. */
static const jt_task *failed(const jt_work *w)
{
    for (size_t i = 0; i < w->n; i++) {
        if (w->choice[i].err.code != JT_OK)
            return &w->choice[i];
    }
    return NULL;
}

static void report(const completion *c)
{
    const jt_work *w = c->work;
    double now = jt_seconds(), first = w->first ? w->first - w->asked : 0;
    size_t tokens = 0;
    const char *end = jt_finish_name(w->choice[0].result.finish);
    const jt_task *bad = failed(w);
    for (size_t i = 0; i < w->n; i++)
        tokens += w->choice[i].result.tokens;
    if (w->first) {
        jt_counters_add(&c->server->metrics, JT_COUNTER_first_token_seconds_sum, first);
        jt_counters_add(&c->server->metrics, JT_COUNTER_first_token_seconds_count, 1);
    }
    jt_log_line(&c->server->options.log, JT_LOG_INFO,
                "reply id=%s n=%zu prompt=%zu kept=%zu tokens=%zu end=%s first=%.3f "
                "seconds=%.3f",
                c->head.id, w->n, jt_work_prompt_tokens(w),
                w->choice[0].result.kept_tokens, tokens, bad ? "failed" : end, first,
                now - w->asked);
    if (bad)
        jt_log_line(&c->server->options.log, JT_LOG_WARN, "failed id=%s error=%s",
                    c->head.id, bad->err.msg);
}

static void close_completion(void *self)
{
    completion *c = self;
    jt_engine_withdraw(c->server->engine, c->work);
    report(c);
    jt_work_free(c->work);
    jt_response_free(&c->response);
    free(c->out.data);
    free(c);
}

/* ---- at once ---- */

static void answer_whole(completion *c, jt_http_answer *answer)
{
    jt_problem problem;
    while (!jt_work_over(c->work) && !jt_http_gone(c->socket))
        jt_work_wait(c->work, true);
    bool over = jt_work_over(c->work) && !atomic_load(&c->work->cancelled);
    if (!over)
        jt_engine_withdraw(c->server->engine, c->work);
    if (!over)
        jt_refuse(&problem, 503, NULL, "cancelled", "the reply was cancelled");
    else if (failed(c->work))
        jt_refuse_err(&problem, NULL, &failed(c->work)->err);
    if (!over || failed(c->work))
        jt_answer_problem(answer, &problem);
    else
        jt_answer_json(answer, 200,
                       c->kind == RESPONSE
                           ? jt_response_whole(&c->response, &c->head, c->work)
                           : jt_answer_whole(&c->head, c->work));
    close_completion(c);
}

/* ---- as a stream ---- */

static bool add_response_news(completion *c)
{
    jt_response *r = &c->response;
    if (!c->begun && !jt_response_begin(r, &c->out, &c->head, c->work))
        return false;
    c->begun = true;
    return jt_response_news(r, &c->out, &c->head, c->work, &c->ended);
}

static bool add_news(completion *c)
{
    jt_work *w = c->work;
    if (c->kind == RESPONSE)
        return add_response_news(c);
    bool fits = true, over = true;
    if (!c->begun)
        fits = jt_answer_prompt(&c->out, &c->head, w);
    for (size_t i = 0; i < w->n && !c->begun && fits; i++)
        fits = jt_answer_begin(&c->out, &c->head, &w->choice[i]);
    c->begun = true;
    for (size_t i = 0; i < w->n && fits; i++) {
        jt_task *choice = &w->choice[i];
        jt_said words;
        fits = jt_task_fetch(choice, &words) &&
               jt_answer_words(&c->out, &c->head, choice, &words);
        if (words.over && !choice->told && fits) {
            fits = jt_answer_finish(&c->out, &c->head, choice);
            choice->told = true;
        }
        jt_said_free(&words);
        over &= choice->told;
    }
    c->ended = over;
    return fits && (!over || jt_answer_end(&c->out, &c->head, w));
}

/* Let there be something to send; false: the client has left, the server stops, or
 * there is no memory. */
static bool refill(completion *c)
{
    c->out.len = c->sent = 0;
    while (c->out.len == 0) {
        if (c->begun)
            jt_work_wait(c->work, false);
        if (jt_http_gone(c->socket) || atomic_load(&c->work->cancelled) || !add_news(c))
            return false;
    }
    return true;
}

static ssize_t read_stream(void *self, char *to, size_t most)
{
    completion *c = self;
    if (c->sent == c->out.len) {
        if (c->ended)
            return 0;
        if (!refill(c))
            return -1;
    }
    size_t left = c->out.len - c->sent, n = left < most ? left : most;
    memcpy(to, c->out.data + c->sent, n);
    c->sent += n;
    return (ssize_t)n;
}

static void answer_stream(completion *c, jt_http_answer *answer)
{
    *answer = (jt_http_answer){.status = 200,
                               .type = "text/event-stream",
                               .read = read_stream,
                               .close = close_completion,
                               .self = c};
}

/* ---- both ---- */

static bool read_ask(jt_ask *ask, interface kind, const jt_http_call *call,
                     const jt_sampling *usual, jt_problem *p)
{
    json_t *root, *chat = NULL;
    if (kind != RESPONSE)
        return jt_ask_read(ask, kind == CHAT, call->body, call->len, usual, p);
    *ask = (jt_ask){0};
    bool fine =
        jt_ask_json(&root, call->body, call->len, p) && jt_response_ask(root, &chat, p);
    json_decref(root);
    if (fine)
        return jt_ask_take(ask, true, chat, usual, p);
    json_decref(chat);
    return false;
}

/* The work of a request, handed to the engine; NULL: the problem is told. */
static jt_work *begin_work(jt_server *s, interface kind, const jt_http_call *call,
                           jt_problem *p)
{
    jt_ask ask;
    if (!read_ask(&ask, kind, call, &s->sampling, p)) {
        jt_ask_free(&ask);
        return NULL;
    }
    jt_work *work = jt_work_new(&ask, &s->replier, p);
    if (!work)
        return NULL;
    work->client = jt_keys_client(s->options.api_key, call, s->clients, work->ask.user);
    if (!work->client)
        jt_refuse(p, 500, NULL, NULL, "out of memory");
    else if (jt_engine_submit(s->engine, work, p))
        return work;
    jt_work_free(work);
    return NULL;
}

static void complete(jt_server *s, interface kind, const jt_http_call *call,
                     jt_http_answer *answer)
{
    jt_problem problem;
    completion *c = jt_calloc(1, sizeof *c);
    jt_work *work = NULL;
    if (!c)
        jt_refuse(&problem, 500, NULL, NULL, "out of memory");
    else
        work = begin_work(s, kind, call, &problem);
    if (!work) {
        free(c);
        if (kind == RESPONSE)
            jt_response_blame(&problem);
        jt_answer_problem(answer, &problem);
        return;
    }
    *c = (completion){.kind = kind, .server = s, .work = work, .socket = call->socket};
    make_head(c);
    jt_allowance allowance = jt_client_allowance(work->client);
    if (work->ask.stream)
        answer_stream(c, answer);
    else
        answer_whole(c, answer);
    answer->allowance = allowance;
}

void jt_complete_chat(jt_server *s, const jt_http_call *call, jt_http_answer *answer)
{
    complete(s, CHAT, call, answer);
}

void jt_complete_text(jt_server *s, const jt_http_call *call, jt_http_answer *answer)
{
    complete(s, TEXT, call, answer);
}

void jt_complete_response(jt_server *s, const jt_http_call *call,
                          jt_http_answer *answer)
{
    complete(s, RESPONSE, call, answer);
}
