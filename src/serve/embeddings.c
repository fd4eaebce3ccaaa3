#include "serve/embeddings.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "serve/answer.h"
#include "serve/keys.h"
#include "text/base64.h"

typedef struct asked {
    json_t *root;
    json_t *input; /* a text, tokens, or a list of them */
    bool mean, base64;
} asked;

/* ---- the request ---- */

static bool read_word(const json_t *root, const char *name, const char *usual,
                      const char *other, bool *is_other, jt_problem *p)
{
    const json_t *value = json_object_get(root, name);
    const char *word = json_string_value(value);
    if (!value || json_is_null(value))
        word = usual;
    *is_other = word && strcmp(word, other) == 0;
    return *is_other || (word && strcmp(word, usual) == 0) ||
           jt_refuse(p, 400, name, "invalid_value", "'%s' must be \"%s\" or \"%s\"",
                     name, usual, other);
}

static bool read_ask(asked *a, const jt_http_call *call, int d, jt_problem *p)
{
    bool last;
    if (!jt_ask_json(&a->root, call->body, call->len, p))
        return false;
    const json_t *dimensions = json_object_get(a->root, "dimensions");
    a->input = json_object_get(a->root, "input");
    if (!a->input) /* other values are checked as prompts are */
        return jt_refuse(p, 400, "input", "invalid_type", "there is no 'input'");
    if (json_is_integer(dimensions) && json_integer_value(dimensions) != d)
        return jt_refuse(p, 400, "dimensions", "unsupported_parameter",
                         "the model's vectors have %d dimensions", d);
    if (!read_word(a->root, "encoding_format", "float", "base64", &a->base64, p) ||
        !read_word(a->root, "pooling", "mean", "last", &last, p))
        return false;
    a->mean = !last;
    return true;
}

/* ---- the work ---- */

/* The work of all texts, which samples nothing. */
static jt_work *make_work(jt_server *s, const asked *a, jt_problem *p)
{
    static const char *const same[] = {"model", "adapter", "adapters", "junto", "user"};
    jt_ask ask;
    json_t *root = json_pack("{sO si}", "prompt", a->input, "max_tokens", 0);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        json_object_set(root, same[i], json_object_get(a->root, same[i]));
    if (jt_ask_take(&ask, false, root, &s->sampling, p))
        return jt_work_new(&ask, &s->replier, p);
    jt_ask_free(&ask);
    return NULL;
}

static void wait_for(jt_server *s, jt_work *w, int socket)
{
    while (!jt_work_over(w) && !jt_http_gone(socket))
        jt_work_wait(w, true);
    if (!jt_work_over(w))
        jt_engine_withdraw(s->engine, w);
}

static bool check_result(const jt_work *w, jt_problem *p)
{
    for (size_t i = 0; i < w->n; i++) {
        if (w->choice[i].result.finish == JT_FINISH_INTERRUPTED)
            return jt_refuse(p, 503, NULL, "cancelled", "the request was cancelled");
        if (w->choice[i].err.code != JT_OK)
            return jt_refuse_err(p, NULL, &w->choice[i].err);
    }
    return true;
}

/* Run all texts; vectors: [w->n, d]. */
static bool run(jt_server *s, const asked *a, const jt_http_call *call, jt_work *w,
                float *vectors, jt_problem *p)
{
    size_t d = (size_t)s->replier.model->params.d_model;
    for (size_t i = 0; i < w->n; i++) {
        w->choice[i].vector = vectors + i * d;
        w->choice[i].mean = a->mean;
    }
    w->client = jt_keys_client(s->options.api_key, call, s->clients, w->ask.user);
    if (!w->client)
        return jt_refuse(p, 500, NULL, NULL, "out of memory");
    if (!jt_engine_submit(s->engine, w, p))
        return false;
    wait_for(s, w, call->socket);
    return check_result(w, p);
}

/* ---- the answer ---- */

static json_t *vector_json(const asked *a, const float *vector, size_t d)
{
    json_t *list = NULL;
    if (a->base64) { /* little-endian floats */
        char *text =
            jt_base64_encode((jt_str){(const char *)vector, d * sizeof *vector});
        list = text ? json_string(text) : NULL;
        free(text);
        return list;
    }
    list = json_array();
    for (size_t i = 0; i < d; i++)
        json_array_append_new(list, json_real(vector[i]));
    return list;
}

static json_t *answer_json(const jt_server *s, const asked *a, const jt_work *w)
{
    json_t *data = json_array();
    json_int_t tokens = (json_int_t)jt_work_prompt_tokens(w);
    for (size_t i = 0; i < w->n; i++)
        json_array_append_new(
            data, json_pack("{ss sI so}", "object", "embedding", "index", (json_int_t)i,
                            "embedding",
                            vector_json(a, w->choice[i].vector,
                                        (size_t)s->replier.model->params.d_model)));
    return json_pack("{ss so ss s{sI sI}}", "object", "list", "data", data, "model",
                     s->name, "usage", "prompt_tokens", tokens, "total_tokens", tokens);
}

void jt_embed_texts(jt_server *s, const jt_http_call *call, jt_http_answer *answer)
{
    asked a = {0};
    jt_problem problem;
    size_t d = (size_t)s->replier.model->params.d_model;
    jt_work *w =
        read_ask(&a, call, (int)d, &problem) ? make_work(s, &a, &problem) : NULL;
    float *vectors = w ? jt_alloc(w->n * d, sizeof *vectors) : NULL;
    if (w && !vectors)
        jt_refuse(&problem, 500, NULL, NULL, "out of memory");
    if (vectors && run(s, &a, call, w, vectors, &problem)) {
        jt_answer_json(answer, 200, answer_json(s, &a, w));
        answer->allowance = jt_client_allowance(w->client);
    } else {
        if (strcmp(problem.param, "prompt") == 0)
            strcpy(problem.param, "input");
        jt_answer_problem(answer, &problem);
    }
    if (w)
        jt_work_free(w);
    free(vectors);
    json_decref(a.root);
}
