/* A server: one model for many users, over HTTP as OpenAI's clients speak it
 * (docs/serve.md).
 *
 *     jt_server *server;
 *     jt_server_new(&server, &options, &err);         // answers that it is loading
 *     jt_model_load(&model, path, &err);
 *     jt_chat_new(&chat, jt_model_file(model), jt_model_tokenizer(model), NULL, 0,
 * &err); jt_server_open(server, model, chat, &err);      // now it replies
 *     ...
 *     jt_server_drain(server);                        // takes nothing new
 *     while (jt_server_busy(server) && ...) ...       // what runs may end
 *     jt_server_free(server);                         // what still runs is cancelled
 *     jt_chat_free(chat);
 *     jt_model_free(model);
 */
#ifndef JUNTO_SERVE_H
#define JUNTO_SERVE_H

#include <stdbool.h>
#include <stddef.h>

#include "junto/adapter.h"
#include "junto/chat.h"
#include "junto/model.h"
#include "junto/session.h"
#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct jt_server jt_server;

/* An adapter that requests can name. */
typedef struct jt_adapter_offer {
    const char *name, *path;
    float scale;   /* that of a request is times it */
    bool has_task; /* of kind "poly": */
    size_t task;   /* mixed for this one */
} jt_adapter_offer;

/* Zero or NULL means the default of each field. Texts must live as long as the server.
 */
typedef struct jt_server_options {
    const char *host;    /* a numeric address; default 127.0.0.1: this machine only */
    int port;            /* default: one that is free, see jt_server_port */
    const char *api_key; /* what a request must show; default: nothing. Of several, one
                            a line, each is a client; without keys each address is.
                            Clients get slots in turn */
    int per_client; /* replies of one client, running or waiting; default: no bound */
    int per_client_tokens; /* of one client in a minute, prompts and replies; default:
                              no bound */
    const char *name;      /* of the model, in answers; default: its general.name */
    int slots;         /* replies that run at once, each with a context; default 4 */
    int queue;         /* replies that may wait; default 64 */
    int connections;   /* at once; default 128 */
    int idle_seconds;  /* a connection may be silent, or its body take; default 60 */
    int reply_seconds; /* a reply may take from its first pass on; default 3600 */
    int max_tokens;    /* of a reply; default: as far as its context goes */
    size_t body_bytes; /* of a request; default 8 MiB */
    size_t kept_bytes; /* of contexts that slots have given up, for requests that
                          begin like them; default: none is kept */
    const char
        *prefill; /* how prompts are run: "chunked" (default), "layered", "whole" */
    const jt_adapter_offer *adapters; /* [n_adapters], opened once at the start */
    size_t n_adapters;
    const char *adapter_folder; /* whose adapters can be offered while it runs */
    uint64_t adapter_bytes;     /* of adapters in memory; default: no bound. Those that
                                   were not used for longest leave it */
    jt_session_options session; /* of every slot; `beside` is not looked at. `chunk`
                                   bounds the tokens of a pass. `store` is about one
                                   store for all, of a model that was loaded apart; its
                                   budget covers the whole server, for each model */
    jt_log log;                 /* from several threads at once */
} jt_server_options;

/* Listen. Every request but those that ask about the server is answered with 503 until
 * jt_server_open. Errors: JT_E_ARG (an option out of its range), JT_E_IO (the address
 * is taken, or not this machine's), JT_E_MEMORY. */
JT_API jt_status jt_server_new(jt_server **out, const jt_server_options *options,
                               jt_err *err);

/* Reply with `model` from now on; what a request does not say about sampling is as the
 * file says (jt_sampling_from_file), or jt_sampling_default. It and `chat` must
 * outlive the server. Once. Errors:
 * JT_E_UNSUPPORTED (no vocabulary), those of jt_session_new. */
JT_API jt_status jt_server_open(jt_server *server, const jt_model *model,
                                const jt_chat *chat, jt_err *err);

/* Let a watcher, which must outlive the server, see what requests without policies run:
 * whole passes, in which the tokens of several requests stand side by side. Before
 * jt_server_open, once. */
JT_API void jt_server_watch(jt_server *server, const jt_watcher *watcher);
/* A model of several, by name. */
typedef struct jt_server_offer {
    const char *name; /* what requests call it; must live as long as the server */
    /* Make both, which then are `unload`'s; called from threads of the server, for each
     * offer one call at a time. */
    jt_status (*load)(void *user, jt_model **model, jt_chat **chat, jt_err *err);
    void (*unload)(void *user, jt_model *model, jt_chat *chat);
    void *user;
} jt_server_offer;

/* How long models stay in memory. */
typedef struct jt_server_keep {
    int seconds; /* after its last use; -1: for ever */
    int most;    /* models that are loaded at once; 0: any number */
} jt_server_keep;

/* In place of jt_server_open: reply with any of `n` models, each of which is loaded
 * when a request names it ("model"; the first where it names none). `offers` are
 * copied; `keep` may be NULL: 300 seconds, any number. JT_E_ARG (none, a name that
 * comes twice), JT_E_MEMORY. */
JT_API jt_status jt_server_offer_all(jt_server *server, const jt_server_offer *offers,
                                     size_t n, const jt_server_keep *keep, jt_err *err);

/* What a server at `url` ("http://127.0.0.1:8080") has: the JSON of its /v1/models,
 * which the caller frees. JT_E_IO, JT_E_MEMORY. */
JT_API jt_status jt_server_look(char **json, const char *url, const char *api_key,
                                jt_err *err);

JT_API int jt_server_port(const jt_server *server);

/* Take no new connections, and refuse new requests on old ones. */
JT_API void jt_server_drain(jt_server *server);
/* Is a request in work? */
JT_API bool jt_server_busy(jt_server *server);

/* Cancel what runs, close all connections. NULL is fine. */
JT_API void jt_server_free(jt_server *server);

#ifdef __cplusplus
}
#endif
#endif
