/* Who asks: whoever shows a key, or, without keys, an address; and within these, the
 * users that their requests name. Clients get slots in turn, and each one's users among
 * themselves, so that a name which anybody can make up takes nothing from others. What
 * a client may have at once, and in a minute, is bounded. All threads may call. */
#ifndef JT_CLIENTS_H
#define JT_CLIENTS_H

#include "serve/problem.h"

typedef struct jt_clients jt_clients;
typedef struct jt_client jt_client;

enum { JT_CLIENT_NAME = 64 };

/* Of each client; 0: no bound. */
typedef struct jt_client_limits {
    size_t replies; /* running or waiting */
    size_t tokens;  /* in a minute, those of prompts and of replies */
} jt_client_limits;

/* JT_E_MEMORY. */
jt_status jt_clients_new(jt_clients **out, const jt_client_limits *limits, jt_err *err);
void jt_clients_free(jt_clients *clients); /* nobody holds any; NULL is fine */

/* Hold the client of this name, or its user (NULL: none is named). NULL: no memory. */
jt_client *jt_client_enter(jt_clients *clients, const char *name, const char *user);
void jt_client_leave(jt_client *client); /* NULL is fine */

/* A request for `replies` that may take so many tokens is let in; false: the problem is
 * told, and when to ask again. Tokens are those of a bucket that a minute fills (as
 * OpenAI has it: what may be written counts from the beginning). */
bool jt_client_admit(jt_client *client, size_t replies, size_t tokens,
                     jt_problem *problem);
/* A reply has left the queue. */
void jt_client_begin(jt_client *client);
/* It is over, and has left so many of its tokens; below 0: it has taken more. */
void jt_client_end(jt_client *client, long long unused);

/* Whose turn it is: that of the client with the fewest replies that have left the
 * queue, or that had its turn longest ago. */
bool jt_client_goes_before(const jt_client *a, const jt_client *b);

/* How much of the tokens is left. */
typedef struct jt_allowance {
    size_t limit, left; /* limit 0: there is none */
    double reset;       /* seconds until all are there again */
} jt_allowance;
jt_allowance jt_client_allowance(jt_client *client);

#endif
