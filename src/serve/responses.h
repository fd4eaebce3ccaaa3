/* /v1/responses: the same replies as a chat's, in the words of OpenAI's later
 * interface. Nothing is stored: what belongs to a chat comes with each request. */
#ifndef JT_RESPONSES_H
#define JT_RESPONSES_H

#include "serve/answer.h"
#include "serve/server.h"

/* The request as one for /v1/chat/completions. *out is the caller's. */
bool jt_response_ask(const json_t *root, json_t **out, jt_problem *problem);
/* Let a problem name the field of the request, not that of the chat. */
void jt_response_blame(jt_problem *problem);

/* The answer to a request, on its way. */
typedef struct jt_response {
    char message[44], item[44]; /* ids: of the message, and of the thought */
    jt_buffer answer, thought;  /* so far */
    json_t *calls;              /* [..] that have begun; NULL: none */
    json_t *tokens; /* [..] of the answer, with their probabilities; NULL: none */

    /* Of a stream. */
    jt_buffer arguments; /* of the last call, while it is under way */
    json_int_t sequence; /* of the next event */
    bool thinks;         /* the thought has begun, and has not ended */
    bool speaks;         /* the message has begun */
    bool calls_on;       /* the last call has not ended */
} jt_response;

void jt_response_free(jt_response *response);

/* The whole, the reply being over. NULL: no memory. */
json_t *jt_response_whole(jt_response *r, const jt_answer_head *head, jt_work *work);

/* Events, appended to `out`; false: no memory. */
bool jt_response_begin(jt_response *r, jt_buffer *out, const jt_answer_head *head,
                       jt_work *work);
/* What came since; *over: that was all, and the end has been told. */
bool jt_response_news(jt_response *r, jt_buffer *out, const jt_answer_head *head,
                      jt_work *work, bool *over);

#endif
