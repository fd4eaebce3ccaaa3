/* /v1/junto/adapters: the adapters that requests can name. */
#ifndef JT_ADAPTERS_H
#define JT_ADAPTERS_H

#include "serve/http.h"
#include "serve/server.h"

#define JT_ADAPTERS_PATH "/v1/junto/adapters"

/* GET: all of them. */
void jt_adapters_list(jt_server *server, const jt_http_call *call,
                      jt_http_answer *answer);
/* POST {"name"}: one more. */
void jt_adapters_offer(jt_server *server, const jt_http_call *call,
                       jt_http_answer *answer);
/* DELETE JT_ADAPTERS_PATH "/NAME": one less. */
void jt_adapters_remove(jt_server *server, const jt_http_call *call,
                        jt_http_answer *answer);

#endif
