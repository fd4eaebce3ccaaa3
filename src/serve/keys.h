/* Who may ask: each key, a line of a text, is a client of its own. */
#ifndef JT_KEYS_H
#define JT_KEYS_H

#include "serve/http.h"

/* How many there are. */
size_t jt_keys_count(const char *keys);

/* Hold the client who asks, and the user that it names (or NULL): the one who shows its
 * key, or, without keys (NULL), who has its address. NULL: no memory. */
jt_client *jt_keys_client(const char *keys, const jt_http_call *call,
                          jt_clients *clients, const char *user);

/* May the client ask, without keys or with one of them? Takes as long for a key that is
 * nearly right as for any other of its length. */
bool jt_keys_admit(const char *keys, const jt_http_call *call);

#endif
