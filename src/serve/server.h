/* The inside of a server. */
#ifndef JT_SERVER_H
#define JT_SERVER_H

#include <stdatomic.h>

#include "junto/serve.h"
#include "serve/engine.h"
#include "serve/http.h"

typedef struct jt_fleet jt_fleet; /* serve/fleet.h */

typedef enum jt_server_state {
    JT_SERVER_LOADING,
    JT_SERVER_READY,
    JT_SERVER_DRAINING
} jt_server_state;

struct jt_server {
    jt_server_options options; /* with their defaults */
    jt_http *http;
    jt_clients *clients; /* those of a fleet are its front's */
    jt_counters metrics;
    atomic_int state;    /* what follows may be read once it is READY */
    atomic_int busy;     /* requests in work */
    jt_fleet *fleet;     /* of several models; what follows is then that of each */
    jt_routing *routing; /* what the engine tells */
    jt_engine *engine;
    jt_watcher watcher; /* without a name: none */
    jt_replier replier;
    jt_token_tree *tree; /* of its vocabulary */
    jt_wardrobe *wardrobe;
    jt_sampling sampling; /* what a request does not say */
    long long created;    /* seconds since 1970 */
    char name[256];       /* of the model, in answers */
};

#endif
