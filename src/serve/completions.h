/* /v1/chat/completions, /v1/completions and /v1/responses. */
#ifndef JT_COMPLETIONS_H
#define JT_COMPLETIONS_H

#include "serve/server.h"

void jt_complete_chat(jt_server *server, const jt_http_call *call,
                      jt_http_answer *answer);
void jt_complete_text(jt_server *server, const jt_http_call *call,
                      jt_http_answer *answer);
void jt_complete_response(jt_server *server, const jt_http_call *call,
                          jt_http_answer *answer);

#endif
