/* GET /v1/junto/routing: the routing of all replies, as it goes, as events. */
#ifndef JT_ONLOOKER_H
#define JT_ONLOOKER_H

#include "serve/http.h"
#include "serve/server.h"

void jt_onlooker_answer(jt_server *server, const jt_http_call *call,
                        jt_http_answer *answer);

#endif
