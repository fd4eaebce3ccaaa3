/* Replies as OpenAI's clients expect them: one object, or events. */
#ifndef JT_ANSWER_H
#define JT_ANSWER_H

#include "serve/http.h"
#include "serve/work.h"

/* What all objects of one answer share. */
typedef struct jt_answer_head {
    char id[40];
    long long created;
    const char *model;
} jt_answer_head;

/* Let `answer` be `json` (freed; NULL: no memory, told with status 500). */
void jt_answer_json(jt_http_answer *answer, unsigned status, json_t *json);
void jt_answer_problem(jt_http_answer *answer, const jt_problem *problem);

/* Tokens of an answer: [{"token", "logprob", "bytes", "top_logprobs"}]. */
json_t *jt_answer_tokens(const jt_task *choice, const jt_said *said);

/* Any event; takes `json` over. */
bool jt_answer_event(jt_buffer *out, json_t *json);

/* The whole, all choices being over. NULL: no memory. */
json_t *jt_answer_whole(const jt_answer_head *head, jt_work *work);

/* Events ("data: {..}", an empty line), appended to `out`; false: no memory. In order:
 * the prompt, where a trace is asked for; of each choice the beginning, words, its end;
 * then of all of them the end. */
bool jt_answer_prompt(jt_buffer *out, const jt_answer_head *head, const jt_work *work);
bool jt_answer_begin(jt_buffer *out, const jt_answer_head *head, const jt_task *choice);
bool jt_answer_words(jt_buffer *out, const jt_answer_head *head, const jt_task *choice,
                     const jt_said *words);
bool jt_answer_finish(jt_buffer *out, const jt_answer_head *head,
                      const jt_task *choice);
bool jt_answer_end(jt_buffer *out, const jt_answer_head *head, const jt_work *work);

#endif
