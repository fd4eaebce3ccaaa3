#include "serve/adapters.h"

#include <string.h>

#include "serve/answer.h"
#include "serve/ask.h"

static void answer_list(const jt_server *s, jt_http_answer *answer)
{
    jt_answer_json(
        answer, 200,
        json_pack("{ss so}", "object", "list", "data", jt_wardrobe_json(s->wardrobe)));
}

void jt_adapters_list(jt_server *s, const jt_http_call *call, jt_http_answer *answer)
{
    (void)call;
    answer_list(s, answer);
}

void jt_adapters_offer(jt_server *s, const jt_http_call *call, jt_http_answer *answer)
{
    jt_problem problem;
    json_t *root = NULL;
    bool fine = jt_ask_json(&root, call->body, call->len, &problem);
    const char *name = json_string_value(json_object_get(root, "name"));
    if (fine && !name)
        fine =
            jt_refuse(&problem, 400, "name", "invalid_type", "'name' must be a string");
    if (fine && jt_wardrobe_offer(s->wardrobe, name, &problem))
        answer_list(s, answer);
    else
        jt_answer_problem(answer, &problem);
    json_decref(root);
}

void jt_adapters_remove(jt_server *s, const jt_http_call *call, jt_http_answer *answer)
{
    jt_problem problem;
    const char *name = call->path + strlen(JT_ADAPTERS_PATH);
    if (jt_wardrobe_remove(s->wardrobe, *name ? name + 1 : "", &problem))
        answer_list(s, answer);
    else
        jt_answer_problem(answer, &problem);
}
