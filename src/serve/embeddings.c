#include "serve/embeddings.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "serve/answer.h"
#include "serve/keys.h"
#include "text/base64.h"

enum { MOST_TEXTS = 2048 };

typedef struct asked {
    json_t *root;
    const json_t *input; /* a text, tokens, or a list of them */
    bool listed;         /* it is such a list */
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
    const json_t *first = json_array_get(json_object_get(a->root, "input"), 0);
    a->input = json_object_get(a->root, "input");
    a->listed = first && !json_is_integer(first);
    if (!json_is_string(a->input) && !first)
        return jt_refuse(
            p, 400, "input", "invalid_type",
            "'input' must be a text, a list of tokens, or a list of those");
    if (json_array_size(a->input) > MOST_TEXTS && a->listed)
        return jt_refuse(p, 400, "input", "array_above_max_length",
                         "'input' has more than %d texts", MOST_TEXTS);
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

/* The work of one text, which samples nothing. */
static jt_work *make_work(jt_server *s, const asked *a, json_t *input, float *vector,
                          jt_problem *p)
{
    jt_ask ask;
    if (!json_is_string(input) && !json_is_array(input)) {
        jt_refuse(p, 400, "input", "invalid_type", "'input' has what is no text");
        return NULL;
    }
    static const char *const same[] = {"model", "adapter", "adapters", "junto"};
    json_t *root = json_pack("{sO si}", "prompt", input, "max_tokens", 0);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        json_object_set(root, same[i], json_object_get(a->root, same[i]));
    if (!jt_ask_take(&ask, false, root, &s->sampling, p)) {
        jt_ask_free(&ask);
        return NULL;
    }
    jt_work *work = jt_work_new(&ask, &s->replier, p);
    if (work) {
        work->choice[0].vector = vector;
        work->choice[0].mean = a->mean;
    }
    return work;
}

/* Run a text; *tokens grows by its length. */
static bool embed(jt_server *s, const asked *a, const jt_http_call *call, json_t *input,
                  float *vector, size_t *tokens, jt_problem *p)
{
    jt_work *w = make_work(s, a, input, vector, p);
    if (!w)
        return false;
    w->client = (size_t)jt_keys_client(s->options.api_key, call);
    bool fine = jt_engine_submit(s->engine, w, p);
    while (fine && !jt_work_over(w) && !jt_http_gone(call->socket))
        jt_work_wait(w, true);
    if (fine && !jt_work_over(w))
        jt_engine_withdraw(s->engine, w);
    if (fine && w->choice[0].result.finish == JT_FINISH_INTERRUPTED)
        fine = jt_refuse(p, 503, NULL, "cancelled", "the request was cancelled");
    else if (fine && w->choice[0].err.code != JT_OK)
        fine = jt_refuse_err(p, NULL, &w->choice[0].err);
    *tokens += w->prompt.count;
    jt_work_free(w);
    return fine;
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

static bool embed_all(jt_server *s, const asked *a, const jt_http_call *call, size_t d,
                      json_t *data, size_t *tokens, jt_problem *p)
{
    size_t n = a->listed ? json_array_size(a->input) : 1;
    float *vector = jt_alloc(d, sizeof *vector);
    bool fine = vector || jt_refuse(p, 500, NULL, NULL, "out of memory");
    for (size_t i = 0; i < n && fine; i++) {
        json_t *input = a->listed ? json_array_get(a->input, i) : (json_t *)a->input;
        fine = embed(s, a, call, input, vector, tokens, p);
        if (fine)
            json_array_append_new(data, json_pack("{ss sI so}", "object", "embedding",
                                                  "index", (json_int_t)i, "embedding",
                                                  vector_json(a, vector, d)));
    }
    free(vector);
    return fine;
}

void jt_embed_texts(jt_server *s, const jt_http_call *call, jt_http_answer *answer)
{
    asked a = {0};
    jt_problem problem;
    size_t tokens = 0;
    int d = s->replier.model->params.d_model;
    json_t *data = json_array();
    if (read_ask(&a, call, d, &problem) &&
        embed_all(s, &a, call, (size_t)d, data, &tokens, &problem)) {
        jt_answer_json(answer, 200,
                       json_pack("{ss sO ss s{sI sI}}", "object", "list", "data", data,
                                 "model", s->name, "usage", "prompt_tokens",
                                 (json_int_t)tokens, "total_tokens",
                                 (json_int_t)tokens));
    } else {
        if (strcmp(problem.param, "prompt") == 0)
            strcpy(problem.param, "input");
        jt_answer_problem(answer, &problem);
    }
    json_decref(data);
    json_decref(a.root);
}
