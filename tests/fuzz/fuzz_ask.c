/* Any bytes as the body of a request, of a chat and of a text: refused with a problem
 * that can be told, or read, and then everything is in its range. A chat goes through a
 * template. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "serve/prompt.h"
#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_problem(const jt_problem *problem)
{
    WALK_CHECK(problem->status >= 400 && problem->status < 600);
    WALK_CHECK(problem->err.msg[0]);
    json_t *json = jt_problem_json(problem);
    WALK_CHECK(json);
    json_decref(json);
}

static void check_ask(const jt_ask *ask)
{
    const jt_sampling *s = &ask->sampling;
    WALK_CHECK(ask->n >= 1 && ask->n <= JT_ASK_CHOICES);
    WALK_CHECK(ask->max_tokens >= -1 && ask->thinking_budget >= -1);
    WALK_CHECK(isfinite(s->temperature) && s->temperature >= 0);
    WALK_CHECK(s->top_p >= 0 && s->top_p <= 1 && s->min_p >= 0 && s->min_p <= 1);
    WALK_CHECK(s->repeat_penalty > 0 && s->top_k >= 0);
    WALK_CHECK(ask->n_stop <= JT_ASK_STOPS && ask->n_policies <= JT_ASK_POLICIES);
    for (size_t i = 0; i < ask->n_stop; i++)
        WALK_CHECK(strlen(ask->stop[i]) > 0);
}

/* Without a vocabulary, rendering ends in a problem. */
static void render(const jt_ask *ask)
{
    static jt_chat *chat;
    const char *source = jt_chat_builtin("chatml");
    jt_tokens tokens = {0};
    jt_problem problem;
    bool in_thought;
    if (!chat)
        WALK_CHECK(jt_chat_new(&chat, NULL, NULL, source, strlen(source), NULL) ==
                   JT_OK);
    WALK_CHECK(!jt_prompt_chat(ask, chat, &tokens, &in_thought, &problem));
    check_problem(&problem);
    free(tokens.ids);
}

static void read_as(bool chat, const char *text, size_t size)
{
    jt_sampling usual = jt_sampling_default();
    jt_problem problem = {0};
    jt_ask ask;
    if (!jt_ask_read(&ask, chat, text, size, &usual, &problem)) {
        check_problem(&problem);
    } else {
        check_ask(&ask);
        if (chat)
            render(&ask);
    }
    jt_ask_free(&ask);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = size ? (const char *)data : "";
    read_as(true, text, size);
    read_as(false, text, size);
    return 0;
}
