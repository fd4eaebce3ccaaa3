/* Several models by name: each is loaded when a request wants it, and leaves when
 * nobody did for a while. To the code of requests every model is a server of its own,
 * which listens through the one in front. */
#ifndef JT_FLEET_H
#define JT_FLEET_H

#include "serve/problem.h"
#include "serve/server.h"

/* `front` outlives the fleet; names that come twice are JT_E_ARG. JT_E_MEMORY. */
jt_status jt_fleet_new(jt_fleet **out, jt_server *front, const jt_server_offer *offers,
                       size_t n, const jt_server_keep *keep, jt_err *err);
/* Onlookers shall leave. */
void jt_fleet_drain(jt_fleet *fleet);
/* Cancel what runs; requests that wait for a model are refused from now on. */
void jt_fleet_stop(jt_fleet *fleet);
/* Every request must be over. NULL is fine. */
void jt_fleet_free(jt_fleet *fleet);

/* Answer by `handler`, of the model that the request names ("model" of its body, or
 * behind the ? of its path; the first if it names none), which is loaded before if need
 * be. A GET looks on: it waits for its model, and does not keep it.
 */
void jt_fleet_answer(jt_fleet *fleet, const jt_http_call *call, jt_http_answer *answer,
                     void (*handler)(jt_server *server, const jt_http_call *call,
                                     jt_http_answer *answer));

/* All models, as /v1/models tells them. NULL: no memory. */
json_t *jt_fleet_json(jt_fleet *fleet);
/* Add the figures of the models that are loaded. */
void jt_fleet_count(jt_fleet *fleet, jt_counters *sum);

#endif
