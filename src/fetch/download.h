/* Downloads by HTTP, through libcurl, which no other file includes. */
#ifndef JT_DOWNLOAD_H
#define JT_DOWNLOAD_H

#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"

typedef struct jt_download {
    const char *url, *path;      /* from, to */
    const char *token;           /* shown to this host only; NULL: none */
    const char *sha256;          /* in hexadecimal; NULL: not checked */
    uint64_t bytes;              /* 0: not known */
    const char *what;            /* for progress */
    const jt_progress *progress; /* may be NULL */
} jt_download;

/* Fetch a file: it grows at PATH.part, and is renamed when it is whole and its sum is
 * right. An earlier part is gone on with if the server still has the same file; a
 * connection that breaks is tried again. JT_E_IO, JT_E_INTERRUPTED (the part stays),
 * JT_E_MEMORY. */
jt_status jt_download_file(const jt_download *download, jt_err *err);

/* Fetch a text of at most `limit` bytes; ends with a NUL, and the caller frees.
 * JT_E_IO, JT_E_LIMIT, JT_E_MEMORY. */
jt_status jt_download_text(char **text, size_t *bytes, const char *url,
                           const char *token, size_t limit, jt_err *err);

#endif
