/* GET /v1/models. */
#ifndef JT_MODELS_H
#define JT_MODELS_H

#include <jansson.h>

#include "serve/http.h"
#include "serve/server.h"

void jt_models_answer(jt_server *server, const jt_http_call *call,
                      jt_http_answer *answer);

/* One of the list: its sizes if it is loaded (server NULL: it is not), and `state`,
 * which is taken over. NULL: no memory. */
json_t *jt_models_one(const char *name, long long created, const jt_server *server,
                      json_t *state);

#endif
