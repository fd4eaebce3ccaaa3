/* HTTP/1.1 by libmicrohttpd, which no other file includes: a thread per connection, so
 * that who answers may wait, and a slow client makes nobody else wait. */
#ifndef JT_HTTP_H
#define JT_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "serve/clients.h"

typedef struct jt_http jt_http;

/* A request. Valid until its answer has been given. */
typedef struct jt_http_call {
    const char *method, *path;
    const char *body; /* ends with a NUL */
    size_t len;
    void *connection;
    int socket;
    char
        address[48]; /* of the client: an IPv4 address, or an IPv6 network of 64 bits */
} jt_http_call;

/* An answer: either `body` or a stream. */
typedef struct jt_http_answer {
    unsigned status;
    const char *type; /* "application/json" */
    char *body;       /* malloc'ed, taken over */
    size_t len;
    unsigned retry_after; /* seconds; 0: not said */
    const char *allow;    /* methods, for 405; or NULL */
    jt_allowance allowance;
    const char *rules; /* what a page may load (Content-Security-Policy); or NULL */
    /* Give at most `most` bytes, waiting for them; 0 at the end, -1: break off. */
    ssize_t (*read)(void *self, char *out, size_t most);
    void (*close)(void *self); /* called in any case, if there is a `read` */
    void *self;
} jt_http_answer;

typedef struct jt_http_options {
    const char *host;
    int port, connections, idle_seconds;
    size_t body_bytes;
    void *user;
    /* Before the body is read: true to read it, false with an answer. */
    bool (*admit)(void *user, const jt_http_call *call, jt_http_answer *answer);
    void (*answer)(void *user, const jt_http_call *call, jt_http_answer *answer);
    /* The answer to a body of more than body_bytes. */
    void (*too_large)(void *user, jt_http_answer *answer);
    /* Once for each `admit`: the answer has been sent, or broke off (status 0: there
     * was none). */
    void (*done)(void *user, unsigned status);
} jt_http_options;

/* Listen. JT_E_ARG (the host is no address), JT_E_IO, JT_E_MEMORY. */
jt_status jt_http_open(jt_http **out, const jt_http_options *options, jt_err *err);
int jt_http_port(const jt_http *http);
void jt_http_quiesce(jt_http *http); /* no new connections */
/* Every `answer` and `read` that waits must be about to return. */
void jt_http_close(jt_http *http);

/* A header of the request, or NULL. */
const char *jt_http_header(const jt_http_call *call, const char *name);
/* A value behind the ? of the path, or NULL. */
const char *jt_http_query(const jt_http_call *call, const char *name);
/* Has the client closed its side? */
bool jt_http_gone(int socket);

#endif
