#include "serve/work.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"
#include "serve/prompt.h"

/* ---- what the engine writes ---- */

static int gather(jt_task *c, jt_buffer *to, const char *text, size_t len)
{
    jt_work *w = c->work;
    bool fits = true;
    if (len) {
        pthread_mutex_lock(&w->lock);
        fits = jt_buffer_add(to, text, len);
        if (w->first == 0)
            w->first = jt_seconds();
        pthread_cond_signal(&w->news);
        pthread_mutex_unlock(&w->lock);
    }
    return !fits || atomic_load(&w->cancelled);
}

static int on_text(void *user, const char *text, size_t len)
{
    jt_task *c = user;
    return gather(c, &c->answer, text, len);
}

static int on_thought(void *user, const char *text, size_t len)
{
    jt_task *c = user;
    return gather(c, &c->thought, text, len);
}

/* Tokens of the answer; when they cannot be kept, they are missing. */
static void on_token(void *user, const jt_sampled *token)
{
    jt_task *c = user;
    if (token->thought)
        return;
    pthread_mutex_lock(&c->work->lock);
    if (jt_grow((void **)&c->sampled, &c->sampled_capacity, c->n_sampled + 1,
                sizeof *c->sampled))
        c->sampled[c->n_sampled++] = *token;
    pthread_mutex_unlock(&c->work->lock);
}

jt_status jt_task_show(jt_task *c, jt_err *err)
{
    jt_work *w = c->work;
    if (!w->ask.trace)
        return JT_OK;
    pthread_mutex_lock(&w->lock);
    bool fits = jt_picks_move(&c->picks, &c->recorder);
    pthread_cond_signal(&w->news);
    pthread_mutex_unlock(&w->lock);
    return fits ? JT_OK : jt_fail_memory(err, "tracing a reply");
}

jt_status jt_task_begin(jt_task *c, jt_err *err)
{
    const jt_work *w = c->work;
    jt_status status = JT_OK;
    if (!atomic_load(&w->cancelled))
        status =
            jt_sampler_new(&c->sampler, &c->sampling, jt_vocab_size(w->tokenizer), err);
    jt_reply_start(&c->reply, w->tokenizer, c->sampler, &c->options, &c->result);
    return status;
}

void jt_task_end(jt_task *c, const jt_err *err)
{
    jt_work *w = c->work;
    jt_sampler_free(c->sampler);
    c->sampler = NULL;
    pthread_mutex_lock(&w->lock);
    c->err = *err;
    c->over = true;
    pthread_cond_signal(&w->news);
    pthread_mutex_unlock(&w->lock);
}

/* ---- what the connection reads ---- */

/* Tokens wait for the text that they are part of. */
bool jt_task_fetch(jt_task *c, jt_said *out)
{
    pthread_mutex_lock(&c->work->lock);
    *out = (jt_said){
        .answer = c->answer, .thought = c->thought, .picks = c->picks, .over = c->over};
    c->answer = c->thought = (jt_buffer){0};
    c->picks = (jt_picks){0};
    if (out->answer.len || c->over) {
        out->sampled = c->sampled;
        out->n_sampled = c->n_sampled;
        c->sampled = NULL;
        c->n_sampled = c->sampled_capacity = 0;
    }
    pthread_mutex_unlock(&c->work->lock);
    return jt_calls_read(&c->calls, &out->answer, out->over, &out->calls);
}

void jt_said_free(jt_said *said)
{
    free(said->answer.data);
    free(said->thought.data);
    free(said->picks.list);
    free(said->sampled);
    json_decref(said->calls);
    *said = (jt_said){0};
}

/* Both with the lock held. */
static bool is_over(const jt_work *w)
{
    bool over = true;
    for (size_t i = 0; i < w->n; i++)
        over &= w->choice[i].over;
    return over;
}

static bool has_words(const jt_work *w)
{
    size_t bytes = 0;
    for (size_t i = 0; i < w->n; i++)
        bytes += w->choice[i].answer.len + w->choice[i].thought.len +
                 w->choice[i].picks.count;
    return bytes > 0;
}

void jt_work_wait(jt_work *w, bool whole)
{
    const struct timespec until = jt_a_moment_later();
    int late = 0;
    pthread_mutex_lock(&w->lock);
    while (!late && !is_over(w) && (whole || !has_words(w)))
        late = pthread_cond_timedwait(&w->news, &w->lock, &until);
    pthread_mutex_unlock(&w->lock);
}

bool jt_work_over(jt_work *w)
{
    pthread_mutex_lock(&w->lock);
    bool over = is_over(w);
    pthread_mutex_unlock(&w->lock);
    return over;
}

const char *jt_task_finish(const jt_task *c)
{
    bool stopped =
        c->result.finish == JT_FINISH_END || c->result.finish == JT_FINISH_STOP;
    return !stopped ? "length" : c->calls.count ? "tool_calls" : "stop";
}

/* ---- tokens ---- */

size_t jt_work_prompt_tokens(const jt_work *w)
{
    size_t tokens = 0;
    for (size_t i = 0; i < w->n_prompts; i++)
        tokens += w->prompt[i].count;
    return tokens;
}

static size_t bound(const jt_task *c)
{
    return c->options.max_tokens > 0 ? (size_t)c->options.max_tokens : 0;
}

size_t jt_work_tokens(const jt_work *w)
{
    size_t tokens = jt_work_prompt_tokens(w);
    for (size_t i = 0; i < w->n; i++)
        tokens += bound(&w->choice[i]);
    return tokens;
}

long long jt_task_unused(const jt_task *c)
{
    return (long long)bound(c) - (long long)c->result.tokens;
}

/* ---- making ---- */

/* A policy that reads a file is the operator's business: no request opens one. */
static bool reads_files(const char *policy)
{
    size_t len = strcspn(policy, ":");
    jt_policy_info info;
    jt_policy_key key;
    for (size_t i = 0; jt_policy_describe(i, &info); i++) {
        if (strlen(info.name) != len || memcmp(info.name, policy, len) != 0)
            continue;
        for (size_t k = 0; jt_policy_describe_key(i, k, &key); k++) {
            if (strcmp(key.value, "FILE") == 0)
                return true;
        }
    }
    return false;
}

static bool add_policies(jt_task *c, const jt_ask *ask, const jt_model *model,
                         jt_problem *p)
{
    jt_err err = {0};
    if (ask->n_policies == 0)
        return true;
    jt_status status = jt_steering_new(&c->steering, model, &err);
    for (size_t i = 0; i < ask->n_policies && status == JT_OK; i++) {
        if (reads_files(ask->policy[i]))
            return jt_refuse(p, 400, "junto.policy", "invalid_value",
                             "a request cannot use a policy that reads a file");
        status = jt_steering_add(c->steering, ask->policy[i], &err);
    }
    return status == JT_OK || jt_refuse_err(p, "junto.policy", &err);
}

static bool make_call_grammar(jt_work *w, const jt_replier *who, jt_problem *p)
{
    const jt_ask *ask = &w->ask;
    jt_err err = {0};
    char *text;
    if (!jt_call_style_grammar(who->calls, ask->must_call, ask->parallel, &text, p))
        return false;
    jt_status status = jt_grammar_new(&w->grammar, text, strlen(text), &err);
    free(text);
    return status == JT_OK || jt_refuse_err(p, "tools", &err);
}

/* The form of the replies, on the thread of the connection: it may take a while. */
static bool make_grammar(jt_work *w, const jt_replier *who, jt_problem *p)
{
    const jt_ask *ask = &w->ask;
    jt_err err = {0};
    if (ask->must_call)
        return make_call_grammar(w, who, p);
    if (ask->grammar)
        return jt_grammar_new(&w->grammar, json_string_value(ask->grammar),
                              json_string_length(ask->grammar), &err) == JT_OK ||
               jt_refuse_err(p, "grammar", &err);
    if (!ask->schema)
        return true;
    char *text = json_dumps(ask->schema, JSON_COMPACT | JSON_ENCODE_ANY);
    jt_status status = text
                           ? jt_grammar_of_schema(&w->grammar, text, strlen(text), &err)
                           : jt_fail_memory(&err, "reading a JSON schema");
    free(text);
    return status == JT_OK || jt_refuse_err(p, "response_format", &err);
}

static bool add_constraint(jt_task *c, const jt_replier *who, jt_problem *p)
{
    jt_err err = {0};
    if (!c->work->grammar)
        return true;
    if (jt_constraint_new(&c->constraint, c->work->grammar, who->tree, &err) != JT_OK)
        return jt_refuse_err(p, NULL, &err);
    c->options.constraint = c->constraint;
    return true;
}

static uint64_t choose_seed(const jt_ask *ask)
{
    uint64_t seed;
    if (ask->seed != -1)
        return (uint64_t)ask->seed;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        seed = (uint64_t)time(NULL); /* no source of chance: the time must do */
    return seed;
}

static bool make_choice(jt_task *c, uint64_t seed, const jt_replier *who,
                        bool in_thought, jt_problem *p)
{
    const jt_ask *ask = &c->work->ask;
    int most = ask->max_tokens, bound = who->max_tokens;
    c->sampling = ask->sampling;
    c->sampling.seed = seed;
    c->sampling.bias = ask->bias;
    c->sampling.n_bias = ask->n_bias;
    c->options = (jt_generate_options){
        .max_tokens = bound && (most < 0 || most > bound) ? bound : most,
        .ignore_end = ask->ignore_end,
        .stop = ask->stop,
        .n_stop = ask->n_stop,
        .on_text = on_text,
        .on_thought = on_thought,
        .user = c,
        .thinking = ask->chat ? jt_chat_thinking(who->chat) : NULL,
        .in_thought = in_thought,
        .thinking_budget = ask->thinking_budget,
        .on_token = ask->logprobs ? on_token : NULL,
        .n_top = (size_t)ask->n_top};
    if (ask->tools && who->calls) {
        c->calls = (jt_calls){
            .style = who->calls, .tools = ask->tools, .forced = ask->must_call != NULL};
        c->options.shown = who->calls->shown;
    }
    return add_constraint(c, who, p) && add_policies(c, ask, who->model, p);
}

static bool take_adapter(jt_work *w, const char *name, float weight, jt_problem *p)
{
    bool held = jt_wardrobe_take(w->wardrobe, name, weight, &w->held[w->n_held], p);
    w->n_held += held;
    return held;
}

/* Those that the request names, or else the one behind a colon of "MODEL:ADAPTER";
 * names of models may have colons of their own. */
static bool take_adapters(jt_work *w, jt_problem *p)
{
    const jt_ask *ask = &w->ask;
    bool fine = true;
    for (size_t i = 0; i < ask->n_adapters && fine; i++)
        fine = take_adapter(w, ask->adapter[i].name, ask->adapter[i].weight, p);
    const char *colon = ask->n_adapters || !ask->model ? NULL : ask->model;
    while (colon && (colon = strchr(colon, ':')) && w->n_held == 0 && fine) {
        if (jt_wardrobe_has(w->wardrobe, ++colon))
            fine = take_adapter(w, colon, 1.0f, p);
    }
    return fine;
}

static bool fits_context(const jt_work *w, const jt_tokens *prompt,
                         const jt_replier *who, jt_problem *p)
{
    const char *param = w->ask.chat ? "messages" : "prompt";
    if (prompt->count == 0)
        return jt_refuse(p, 400, param, "invalid_value", "the prompt has no tokens");
    if (prompt->count < (size_t)who->n_ctx)
        return true;
    return jt_refuse(p, 400, param, "context_length_exceeded",
                     "This server's maximum context length is %d tokens. However, your "
                     "prompt has %zu tokens.",
                     who->n_ctx, prompt->count);
}

static bool make_prompts(jt_work *w, const jt_replier *who, bool *in_thought,
                         jt_problem *p)
{
    size_t n = w->ask.chat ? 1 : json_array_size(w->ask.prompts);
    bool fine = true;
    w->prompt = jt_calloc(n, sizeof *w->prompt);
    if (!w->prompt)
        return jt_refuse(p, 500, NULL, NULL, "out of memory");
    for (; w->n_prompts < n && fine; w->n_prompts++) {
        jt_tokens *prompt = &w->prompt[w->n_prompts];
        const json_t *text = json_array_get(w->ask.prompts, w->n_prompts);
        fine = w->ask.chat ? jt_prompt_chat(&w->ask, who->chat, prompt, in_thought, p)
                           : jt_prompt_text(text, w->tokenizer, prompt, p);
        fine = fine && fits_context(w, prompt, who, p);
    }
    return fine;
}

/* What is written to a prompt does not depend on those beside it: each has the same
 * seeds. */
static bool make_choices(jt_work *w, const jt_replier *who, bool in_thought,
                         jt_problem *p)
{
    size_t each = (size_t)w->ask.n, n = w->n_prompts * each;
    uint64_t seed = choose_seed(&w->ask);
    w->choice = jt_calloc(n, sizeof *w->choice);
    if (!w->choice)
        return jt_refuse(p, 500, NULL, NULL, "out of memory");
    while (w->n < n) {
        size_t i = w->n++; /* also if only half of it is there */
        jt_task *c = &w->choice[i];
        c->work = w;
        c->prompt = &w->prompt[i / each];
        if (!make_choice(c, seed + i % each, who, in_thought, p))
            return false;
    }
    return true;
}

static bool make(jt_work *w, const jt_replier *who, jt_problem *p)
{
    bool in_thought = false;
    return make_prompts(w, who, &in_thought, p) && make_grammar(w, who, p) &&
           take_adapters(w, p) && make_choices(w, who, in_thought, p);
}

jt_work *jt_work_new(jt_ask *ask, const jt_replier *who, jt_problem *p)
{
    jt_work *w = jt_calloc(1, sizeof *w);
    if (!w) {
        jt_ask_free(ask);
        jt_refuse(p, 500, NULL, NULL, "out of memory");
        return NULL;
    }
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&w->news, &clock);
    pthread_condattr_destroy(&clock);
    pthread_mutex_init(&w->lock, NULL);
    w->ask = *ask;
    w->tokenizer = jt_model_tokenizer(who->model);
    w->wardrobe = who->wardrobe;
    *ask = (jt_ask){0};
    w->asked = jt_seconds();
    if (make(w, who, p))
        return w;
    jt_work_free(w);
    return NULL;
}

void jt_work_free(jt_work *w)
{
    for (size_t i = 0; i < w->n; i++) {
        jt_task *c = &w->choice[i];
        jt_sampler_free(c->sampler);
        jt_steering_free(c->steering);
        jt_constraint_free(c->constraint);
        jt_calls_free(&c->calls);
        free(c->sampled);
        free(c->answer.data);
        free(c->thought.data);
        free(c->picks.list);
        free(c->recorder.fresh.list);
    }
    for (size_t i = 0; i < w->n_held; i++)
        jt_wardrobe_drop(w->wardrobe, &w->held[i]);
    free(w->choice);
    for (size_t i = 0; i < w->n_prompts; i++)
        free(w->prompt[i].ids);
    free(w->prompt);
    jt_client_leave(w->client);
    jt_grammar_free(w->grammar);
    jt_ask_free(&w->ask);
    pthread_cond_destroy(&w->news);
    pthread_mutex_destroy(&w->lock);
    free(w);
}
