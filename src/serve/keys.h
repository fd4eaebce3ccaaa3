/* Who may ask: each key, a line of a text, is a client of its own. */
#ifndef JT_KEYS_H
#define JT_KEYS_H

#include "serve/http.h"

/* How many clients there are; without keys (NULL) all are one. */
size_t jt_keys_count(const char *keys);

/* The number of the client who shows its key; -1: none of them. Takes as long for a key
 * that is nearly right as for any other of its length. */
int jt_keys_client(const char *keys, const jt_http_call *call);

#endif
