#include "serve/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "serve/buffer.h"

typedef union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} address;

struct jt_http {
    jt_http_options options;
    struct MHD_Daemon *daemon;
};

/* A request in progress. */
typedef struct exchange {
    jt_http_call call;
    jt_buffer body;
    bool too_large;
    double begun;
    unsigned status; /* 0: not answered */
} exchange;

/* ---- answers ---- */

/* An answer that is read piece by piece. */
typedef struct stream {
    jt_http_answer answer;
    struct MHD_Connection *connection;
    unsigned idle_seconds;
} stream;

/* Silence is the client's only while it is its turn: the clock starts anew. */
static void restart_clock(struct MHD_Connection *connection, unsigned seconds)
{
    MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
    MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, seconds);
}

static ssize_t read_stream(void *self, uint64_t at, char *out, size_t most)
{
    stream *s = self;
    (void)at;
    ssize_t got = s->answer.read(s->answer.self, out, most);
    restart_clock(s->connection, s->idle_seconds);
    if (got == 0)
        return MHD_CONTENT_READER_END_OF_STREAM;
    return got < 0 ? MHD_CONTENT_READER_END_WITH_ERROR : got;
}

static void close_stream(void *self)
{
    stream *s = self;
    s->answer.close(s->answer.self);
    free(s);
}

static struct MHD_Response *make_stream(const jt_http *http, const jt_http_answer *a,
                                        struct MHD_Connection *connection)
{
    enum { BLOCK = 16384 };
    struct MHD_Response *response = NULL;
    stream *s = jt_alloc(1, sizeof *s);
    if (s) {
        *s = (stream){*a, connection, (unsigned)http->options.idle_seconds};
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK,
                                                     read_stream, s, close_stream);
    }
    if (!response) {
        a->close(a->self);
        free(s);
    }
    return response;
}

static struct MHD_Response *make_body(const jt_http_answer *a)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(a->len, a->body, MHD_RESPMEM_MUST_FREE);
    if (!response)
        free(a->body);
    return response;
}

/* As OpenAI has them. */
static void add_allowance(struct MHD_Response *response, const jt_allowance *a)
{
    char text[32];
    if (!a->limit)
        return;
    snprintf(text, sizeof text, "%zu", a->limit);
    MHD_add_response_header(response, "x-ratelimit-limit-tokens", text);
    snprintf(text, sizeof text, "%zu", a->left);
    MHD_add_response_header(response, "x-ratelimit-remaining-tokens", text);
    snprintf(text, sizeof text, "%.3fs", a->reset);
    MHD_add_response_header(response, "x-ratelimit-reset-tokens", text);
}

static void add_headers(struct MHD_Response *response, const jt_http_answer *a)
{
    char seconds[16];
    MHD_add_response_header(response, "Content-Type", a->type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (a->status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (a->allow)
        MHD_add_response_header(response, "Allow", a->allow);
    if (a->rules) {
        MHD_add_response_header(response, "Content-Security-Policy", a->rules);
        MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    }
    add_allowance(response, &a->allowance);
    if (a->retry_after) {
        snprintf(seconds, sizeof seconds, "%u", a->retry_after);
        MHD_add_response_header(response, "Retry-After", seconds);
    }
}

static enum MHD_Result give(const jt_http *http, exchange *x, const jt_http_answer *a)
{
    struct MHD_Connection *connection = x->call.connection;
    struct MHD_Response *response =
        a->read ? make_stream(http, a, connection) : make_body(a);
    if (!response)
        return MHD_NO;
    add_headers(response, a);
    restart_clock(connection, (unsigned)http->options.idle_seconds);
    x->status = a->status;
    enum MHD_Result result = MHD_queue_response(connection, a->status, response);
    MHD_destroy_response(response);
    return result;
}

/* ---- requests ---- */

/* Whoever has an IPv6 network has 2^64 addresses: they are one. */
static void note_address(jt_http_call *call)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(call->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const address *a = info ? (const address *)info->client_addr : NULL;
    if (a && a->any.sa_family == AF_INET)
        inet_ntop(AF_INET, &a->v4.sin_addr, call->address, sizeof call->address);
    if (!a || a->any.sa_family != AF_INET6)
        return;
    struct in6_addr v6 = a->v6.sin6_addr;
    if (!IN6_IS_ADDR_V4MAPPED(&v6))
        memset(v6.s6_addr + 8, 0, 8);
    inet_ntop(AF_INET6, &v6, call->address, sizeof call->address);
}

static enum MHD_Result begin(const jt_http *http, exchange *x)
{
    jt_http_answer answer = {0};
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->call.connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    x->call.socket = info ? info->connect_fd : -1;
    note_address(&x->call);
    const char *length = jt_http_header(&x->call, "Content-Length");
    bool large =
        length && strtoull(length, NULL, 10) > (uint64_t)http->options.body_bytes;
    if (!http->options.admit(http->options.user, &x->call, &answer))
        return give(http, x, &answer);
    if (!large)
        return MHD_YES;
    http->options.too_large(http->options.user, &answer);
    return give(http, x, &answer);
}

/* A part of the body. One that comes too slowly breaks off. */
static enum MHD_Result take(const jt_http *http, exchange *x, const char *data,
                            size_t len)
{
    if (jt_seconds() - x->begun > http->options.idle_seconds)
        return MHD_NO;
    x->too_large |= len > http->options.body_bytes - x->body.len;
    if (x->too_large)
        return MHD_YES;
    return jt_buffer_add(&x->body, data, len) ? MHD_YES : MHD_NO;
}

static enum MHD_Result answer(const jt_http *http, exchange *x)
{
    jt_http_answer answer = {0};
    if (!jt_buffer_add(&x->body, "", 1))
        return MHD_NO;
    x->call.body = x->body.data;
    x->call.len = x->body.len - 1;
    if (x->too_large)
        http->options.too_large(http->options.user, &answer);
    else
        http->options.answer(http->options.user, &x->call, &answer);
    return give(http, x, &answer);
}

static enum MHD_Result on_request(void *self, struct MHD_Connection *connection,
                                  const char *path, const char *method,
                                  const char *version, const char *data, size_t *len,
                                  void **state)
{
    const jt_http *http = self;
    exchange *x = *state;
    (void)version;
    if (!x) {
        x = *state = jt_calloc(1, sizeof *x);
        if (!x)
            return MHD_NO;
        x->begun = jt_seconds();
        x->call =
            (jt_http_call){.method = method, .path = path, .connection = connection};
        return begin(http, x);
    }
    x->call.method = method;
    x->call.path = path;
    if (*len == 0)
        return answer(http, x);
    enum MHD_Result result = take(http, x, data, *len);
    *len = 0;
    return result;
}

static void on_done(void *self, struct MHD_Connection *connection, void **state,
                    enum MHD_RequestTerminationCode why)
{
    const jt_http *http = self;
    exchange *x = *state;
    (void)connection;
    (void)why;
    if (!x)
        return;
    http->options.done(http->options.user, x->status);
    free(x->body.data);
    free(x);
    *state = NULL;
}

const char *jt_http_header(const jt_http_call *call, const char *name)
{
    return MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND, name);
}

const char *jt_http_query(const jt_http_call *call, const char *name)
{
    return MHD_lookup_connection_value(call->connection, MHD_GET_ARGUMENT_KIND, name);
}

bool jt_http_gone(int socket)
{
    struct pollfd fd = {.fd = socket, .events = POLLRDHUP};
    return poll(&fd, 1, 0) > 0 && (fd.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* ---- listening ---- */

/* libmicrohttpd's own complaints about clients are of no use to anybody. */
static void say_nothing(void *self, const char *format, va_list args)
{
    (void)self;
    (void)format;
    (void)args;
}

static jt_status read_address(address *out, const char *host, int port, jt_err *err)
{
    *out = (address){0};
    if (inet_pton(AF_INET, host, &out->v4.sin_addr) == 1) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons((uint16_t)port);
        return JT_OK;
    }
    if (inet_pton(AF_INET6, host, &out->v6.sin6_addr) != 1)
        return jt_fail(err, JT_E_ARG, "'%s' is no numeric address", host);
    out->v6.sin6_family = AF_INET6;
    out->v6.sin6_port = htons((uint16_t)port);
    return JT_OK;
}

static jt_status listen_at(jt_http *http, jt_err *err)
{
    enum { HEADER_BYTES = 32768 };
    const jt_http_options *o = &http->options;
    address at;
    JT_TRY(read_address(&at, o->host, o->port, err));
    unsigned flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD |
                     MHD_USE_POLL | MHD_USE_ERROR_LOG;
    flags |= at.any.sa_family == AF_INET6 ? MHD_USE_IPv6 : 0u;
    errno = 0;
    http->daemon = MHD_start_daemon(
        flags, (uint16_t)o->port, NULL, NULL, on_request, http,
        MHD_OPTION_EXTERNAL_LOGGER, say_nothing, NULL, MHD_OPTION_SOCK_ADDR, &at.any,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)o->connections,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)o->idle_seconds,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADER_BYTES,
        MHD_OPTION_NOTIFY_COMPLETED, on_done, http, MHD_OPTION_END);
    if (http->daemon)
        return JT_OK;
    return jt_fail(err, JT_E_IO, "cannot listen on %s port %d: %s", o->host, o->port,
                   errno ? strerror(errno) : "unknown reason");
}

jt_status jt_http_open(jt_http **out, const jt_http_options *options, jt_err *err)
{
    jt_http *http = jt_calloc(1, sizeof *http);
    if (!http)
        return jt_fail_memory(err, "starting to listen");
    http->options = *options;
    jt_status status = listen_at(http, err);
    if (status == JT_OK)
        *out = http;
    else
        free(http);
    return status;
}

int jt_http_port(const jt_http *http)
{
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_BIND_PORT);
    return info ? info->port : 0;
}

void jt_http_quiesce(jt_http *http)
{
    MHD_socket listening = MHD_quiesce_daemon(http->daemon);
    if (listening != MHD_INVALID_SOCKET)
        close(listening);
}

void jt_http_close(jt_http *http)
{
    MHD_stop_daemon(http->daemon);
    free(http);
}
