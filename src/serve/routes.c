#include "serve/routes.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "serve/adapters.h"
#include "serve/answer.h"
#include "serve/completions.h"
#include "serve/embeddings.h"
#include "serve/fleet.h"
#include "serve/keys.h"
#include "serve/models.h"
#include "serve/onlooker.h"
#include "serve/page.h"
#include "serve/prompt.h"
#include "serve/server.h"

/* ---- small answers ---- */

static bool refuse_unready(const jt_server *s, jt_problem *p)
{
    int state = atomic_load(&s->state);
    if (state == JT_SERVER_READY)
        return true;
    bool loading = state == JT_SERVER_LOADING;
    return jt_refuse(p, 503, NULL, loading ? "loading" : "stopping",
                     loading ? "the model is being loaded" : "the server stops");
}

static void health(jt_server *s, const jt_http_call *call, jt_http_answer *answer)
{
    jt_problem problem;
    (void)call;
    if (refuse_unready(s, &problem))
        jt_answer_json(answer, 200, json_pack("{ss}", "status", "ok"));
    else
        jt_answer_problem(answer, &problem);
}

static void metrics(jt_server *s, const jt_http_call *call, jt_http_answer *answer)
{
    jt_buffer text = {0};
    (void)call;
    jt_counters sum;
    jt_counters_open(&sum);
    jt_counters_merge(&sum, &s->metrics, true);
    if (atomic_load(&s->state) != JT_SERVER_LOADING && s->fleet)
        jt_fleet_count(s->fleet, &sum);
    (void)jt_counters_write(&sum, &text); /* what fits */
    jt_counters_close(&sum);
    *answer = (jt_http_answer){.status = 200,
                               .type = "text/plain; version=0.0.4; charset=utf-8",
                               .body = text.data,
                               .len = text.len};
}

static json_t *tokens_json(const jt_tokens *tokens)
{
    json_t *list = json_array();
    for (size_t i = 0; i < tokens->count; i++)
        json_array_append_new(list, json_integer(tokens->ids[i]));
    return list;
}

/* {"content", "add_special", "parse_special"} -> {"tokens"} */
static bool encode(const jt_tokenizer *tok, const json_t *root, json_t **out,
                   jt_problem *p)
{
    const json_t *text = json_object_get(root, "content");
    const json_t *parse = json_object_get(root, "parse_special");
    unsigned flags = parse && !json_is_true(parse) ? 0u : JT_ENCODE_PARSE_SPECIAL;
    jt_tokens tokens = {0};
    jt_err err = {0};
    if (!json_is_string(text))
        return jt_refuse(p, 400, "content", "invalid_type",
                         "'content' must be a string");
    if (json_is_true(json_object_get(root, "add_special")))
        flags |= JT_ENCODE_ADD_SPECIAL;
    bool fine = jt_encode(tok, json_string_value(text), json_string_length(text), flags,
                          &tokens, &err) == JT_OK ||
                jt_refuse_err(p, "content", &err);
    *out = fine ? json_pack("{so}", "tokens", tokens_json(&tokens)) : NULL;
    free(tokens.ids);
    return fine;
}

/* {"tokens"} -> {"content"} */
static bool decode(const jt_tokenizer *tok, const json_t *root, json_t **out,
                   jt_problem *p)
{
    jt_tokens tokens = {0};
    jt_buffer text = {0};
    jt_err err = {0};
    bool fine =
        jt_prompt_tokens(json_object_get(root, "tokens"), "tokens", tok, &tokens, p);
    if (fine)
        fine = jt_decode(tok, tokens.ids, tokens.count, true, &text.data, &text.len,
                         &err) == JT_OK ||
               jt_refuse_err(p, "tokens", &err);
    *out = fine ? json_pack("{so}", "content", jt_buffer_json(&text)) : NULL;
    free(tokens.ids);
    free(text.data);
    return fine;
}

static void convert(const jt_server *s, const jt_http_call *call,
                    jt_http_answer *answer,
                    bool (*by)(const jt_tokenizer *tok, const json_t *root,
                               json_t **out, jt_problem *p))
{
    jt_problem problem;
    json_t *root = NULL, *out = NULL;
    if (jt_ask_json(&root, call->body, call->len, &problem) &&
        by(jt_model_tokenizer(s->replier.model), root, &out, &problem))
        jt_answer_json(answer, 200, out);
    else
        jt_answer_problem(answer, &problem);
    json_decref(root);
}

static void tokenize(jt_server *s, const jt_http_call *call, jt_http_answer *answer)
{
    convert(s, call, answer, encode);
}

static void detokenize(jt_server *s, const jt_http_call *call, jt_http_answer *answer)
{
    convert(s, call, answer, decode);
}

static void page(jt_server *s, const jt_http_call *call, jt_http_answer *answer)
{
    (void)s;
    jt_page_answer(call->path, answer);
}

/* ---- the table ---- */

typedef struct route {
    const char *method, *path;
    bool open;  /* to everybody, without a key */
    bool model; /* needs one that is loaded */
    void (*answer)(jt_server *s, const jt_http_call *call, jt_http_answer *answer);
} route;

static const route routes[] = {
    {"GET", "/health", true, false, health},
    {"GET", "/metrics", false, false, metrics},
    {"GET", JT_MODELS_PATH, false, true, jt_models_answer},
    {"GET", JT_MODELS_PATH "/", false, true, jt_models_answer},
    {"GET", "/v1/junto/routing", false, true, jt_onlooker_answer},
    {"GET", JT_ADAPTERS_PATH, false, true, jt_adapters_list},
    {"POST", JT_ADAPTERS_PATH, false, true, jt_adapters_offer},
    {"DELETE", JT_ADAPTERS_PATH "/", false, true, jt_adapters_remove},
    {"POST", "/v1/chat/completions", false, true, jt_complete_chat},
    {"POST", "/v1/completions", false, true, jt_complete_text},
    {"POST", "/v1/responses", false, true, jt_complete_response},
    {"POST", "/v1/embeddings", false, true, jt_embed_texts},
    {"POST", "/tokenize", false, true, tokenize},
    {"POST", "/detokenize", false, true, detokenize},
};

/* One that ends in a slash is that of all paths which go on from there. */
static bool is_at(const route *r, const char *path)
{
    size_t len = strlen(r->path);
    if (r->path[len - 1] == '/')
        return strncmp(r->path, path, len) == 0 && path[len];
    return strcmp(r->path, path) == 0;
}

/* The route of a call; of a path that has other methods only, one of these. */
static const route *find(const jt_http_call *call)
{
    static const route of_page = {"GET", "/", true, false, page};
    const route *found = jt_page_has(call->path) ? &of_page : NULL;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (!is_at(&routes[i], call->path))
            continue;
        if (strcmp(routes[i].method, call->method) == 0)
            return &routes[i];
        found = found ? found : &routes[i];
    }
    return found;
}

/* A web page may send texts and forms to any server, but JSON only where it is let. */
static bool is_json(const jt_http_call *call)
{
    static const char json[] = "application/json";
    const char *type = jt_http_header(call, "Content-Type");
    return type && strncasecmp(type, json, sizeof json - 1) == 0;
}

static bool check(const jt_server *s, const route *r, const jt_http_call *call,
                  jt_problem *p)
{
    if (!jt_keys_admit(s->options.api_key, call) && !(r && r->open))
        return jt_refuse(p, 401, NULL, "invalid_api_key",
                         "a valid API key is needed: Authorization: Bearer KEY");
    if (!r)
        return jt_refuse(p, 404, NULL, "unknown_url", "there is no such path");
    if (strcmp(r->method, call->method) != 0)
        return jt_refuse(p, 405, NULL, "method_not_allowed", "%s takes %s only",
                         r->path, r->method);
    if (strcmp(r->method, "POST") == 0 && !is_json(call))
        return jt_refuse(p, 415, NULL, "unsupported_media_type",
                         "the Content-Type must be application/json");
    return !r->model || refuse_unready(s, p);
}

bool jt_route_admit(void *user, const jt_http_call *call, jt_http_answer *answer)
{
    jt_server *s = user;
    jt_problem problem;
    const route *r = find(call);
    atomic_fetch_add(&s->busy, 1);
    if (check(s, r, call, &problem))
        return true;
    jt_answer_problem(answer, &problem);
    answer->allow = problem.status == 405 ? r->method : NULL;
    return false;
}

void jt_route_answer(void *user, const jt_http_call *call, jt_http_answer *answer)
{
    jt_server *s = user;
    const route *r = find(call);
    bool of_one = r->model && r->answer != jt_models_answer;
    if (of_one && s->fleet)
        jt_fleet_answer(s->fleet, call, answer, r->answer);
    else
        r->answer(s, call, answer);
}

void jt_route_too_large(void *user, jt_http_answer *answer)
{
    const jt_server *s = user;
    jt_problem problem;
    jt_refuse(&problem, 413, NULL, "request_too_large",
              "the body is larger than %zu bytes", s->options.body_bytes);
    jt_answer_problem(answer, &problem);
}

void jt_route_done(void *user, unsigned status)
{
    jt_server *s = user;
    jt_counters_add(&s->metrics, JT_COUNTER_requests_total, 1);
    jt_counters_add(&s->metrics, JT_COUNTER_failed_requests_total, status >= 400);
    atomic_fetch_sub(&s->busy, 1);
}
