/* Which path is answered by what, and who may ask. */
#ifndef JT_ROUTES_H
#define JT_ROUTES_H

#include "serve/http.h"

/* For jt_http_options; `user` is the jt_server. */
bool jt_route_admit(void *user, const jt_http_call *call, jt_http_answer *answer);
void jt_route_answer(void *user, const jt_http_call *call, jt_http_answer *answer);
void jt_route_too_large(void *user, jt_http_answer *answer);
void jt_route_done(void *user, unsigned status);

#endif
