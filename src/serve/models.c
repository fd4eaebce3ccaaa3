#include "serve/models.h"

#include <string.h>

#include "serve/answer.h"
#include "serve/fleet.h"

static json_t *sizes(const jt_server *s)
{
    jt_model_info info;
    jt_model_describe(s->replier.model, &info);
    return json_pack("{ss si sI si si}", "family", info.family, "n_vocab", info.n_vocab,
                     "n_params", (json_int_t)info.n_params, "n_ctx_train",
                     info.n_ctx_train, "n_ctx", s->replier.n_ctx);
}

json_t *jt_models_one(const char *name, long long created, const jt_server *server,
                      json_t *state)
{
    return json_pack("{ss ss sI ss so so*}", "id", name, "object", "model", "created",
                     (json_int_t)created, "owned_by", "junto", "junto", state, "meta",
                     server ? sizes(server) : NULL);
}

void jt_models_add_adapters(json_t *list, const char *name, const jt_server *server)
{
    json_t *adapters = jt_wardrobe_json(server->wardrobe), *adapter;
    size_t i;
    json_array_foreach(adapters, i, adapter)
    {
        json_t *id = json_sprintf("%s:%s", name,
                                  json_string_value(json_object_get(adapter, "name")));
        json_array_append_new(
            list, json_pack("{so ss sI ss ss sO}", "id", id, "object", "model",
                            "created", (json_int_t)server->created, "owned_by", "junto",
                            "parent", name, "junto", adapter));
    }
    json_decref(adapters);
}

static json_t *only_one(jt_server *s)
{
    jt_counters now;
    jt_counters_open(&now);
    jt_counters_merge(&now, &s->metrics, true);
    json_t *state = json_pack("{ss si}", "state", "loaded", "running",
                              (int)now.value[JT_COUNTER_slots_busy]);
    jt_counters_close(&now);
    json_t *list = json_pack("[o]", jt_models_one(s->name, s->created, s, state));
    jt_models_add_adapters(list, s->name, s);
    return list;
}

/* Answer with the one of the list that a path names. */
static void answer_one(const json_t *list, const char *name, jt_http_answer *answer)
{
    jt_problem problem;
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *model = json_array_get(list, i);
        const char *id = json_string_value(json_object_get(model, "id"));
        if (id && strcmp(id, name) == 0) {
            jt_answer_json(answer, 200, json_incref(model));
            return;
        }
    }
    jt_refuse(&problem, 404, "model", "model_not_found", "there is no model '%.200s'",
              name);
    jt_answer_problem(answer, &problem);
}

void jt_models_answer(jt_server *s, const jt_http_call *call, jt_http_answer *answer)
{
    size_t all = strlen(JT_MODELS_PATH);
    json_t *list = s->fleet ? jt_fleet_json(s->fleet) : only_one(s);
    if (call->path[all] == '/')
        answer_one(list, call->path + all + 1, answer);
    else
        jt_answer_json(answer, 200,
                       json_pack("{ss sO}", "object", "list", "data", list));
    json_decref(list);
}
