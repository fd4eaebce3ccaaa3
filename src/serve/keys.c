#include "serve/keys.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* The next line that is not empty, and its length; NULL: there is none. */
static const char *next_key(const char *at, size_t *len)
{
    at += strspn(at, "\r\n");
    *len = strcspn(at, "\r\n");
    return *len ? at : NULL;
}

static bool same(const char *a, const char *b, size_t m)
{
    size_t n = strlen(a);
    unsigned differ = n != m;
    for (size_t i = 0; i < n; i++)
        differ |= (unsigned char)(a[i] ^ b[i % m]);
    return !differ;
}

size_t jt_keys_count(const char *keys)
{
    size_t n = 0, len;
    for (const char *at = keys; at && (at = next_key(at, &len)); at += len)
        n++;
    return n;
}

/* The number of the key that is shown; -1: none of them. */
static int find(const char *keys, const jt_http_call *call)
{
    static const char bearer[] = "Bearer ";
    int found = -1, number = 0;
    size_t len;
    const char *given = jt_http_header(call, "Authorization");
    if (!given || strncasecmp(given, bearer, sizeof bearer - 1) != 0)
        return -1;
    for (const char *at = keys; (at = next_key(at, &len)); at += len, number++) {
        if (same(given + sizeof bearer - 1, at, len))
            found = number;
    }
    return found;
}

bool jt_keys_admit(const char *keys, const jt_http_call *call)
{
    return !keys || find(keys, call) >= 0;
}

jt_client *jt_keys_client(const char *keys, const jt_http_call *call,
                          jt_clients *clients, const char *user)
{
    char name[JT_CLIENT_NAME];
    if (!keys)
        return jt_client_enter(clients, call->address, user);
    snprintf(name, sizeof name, "key %d", find(keys, call));
    return jt_client_enter(clients, name, user);
}
