/* GET /v1/models. */
#ifndef JT_MODELS_H
#define JT_MODELS_H

#include <jansson.h>

#include "serve/http.h"
#include "serve/server.h"

/* The list, or the one of it that the path names behind a slash. */
#define JT_MODELS_PATH "/v1/models"
void jt_models_answer(jt_server *server, const jt_http_call *call,
                      jt_http_answer *answer);

/* Add the adapters of a model to the list, as "NAME:ADAPTER". */
void jt_models_add_adapters(json_t *list, const char *name, const jt_server *server);

/* One of the list: its sizes if it is loaded (server NULL: it is not), and `state`,
 * which is taken over. NULL: no memory. */
json_t *jt_models_one(const char *name, long long created, const jt_server *server,
                      json_t *state);

#endif
