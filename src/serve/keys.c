#include "serve/keys.h"

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
    return keys ? n : 1;
}

int jt_keys_client(const char *keys, const jt_http_call *call)
{
    static const char bearer[] = "Bearer ";
    int found = -1, number = 0;
    size_t len;
    if (!keys)
        return 0;
    const char *given = jt_http_header(call, "Authorization");
    if (!given || strncasecmp(given, bearer, sizeof bearer - 1) != 0)
        return -1;
    for (const char *at = keys; (at = next_key(at, &len)); at += len, number++) {
        if (same(given + sizeof bearer - 1, at, len))
            found = number;
    }
    return found;
}
