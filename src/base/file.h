/* Files: read-only maps, and output that appears whole or not at all. */
#ifndef JT_BASE_FILE_H
#define JT_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "junto/status.h"

typedef struct jt_map {
    const unsigned char *data; /* NULL for an empty file */
    size_t bytes;
} jt_map;

/* Map a regular file read only. JT_E_IO names the path and the reason. */
jt_status jt_map_open(jt_map *out, const char *path, jt_err *err);
void jt_map_close(jt_map *map);
/* Part of a map will not be read again soon: whole pages in it are given back to the
 * system, which reads them anew if they are. */
void jt_map_forget(const void *data, size_t bytes);

/* Read a whole file ("-" is standard input) into a fresh buffer with a NUL after its
 * last byte; refuses more than `limit` bytes with JT_E_LIMIT. The caller frees. */
jt_status jt_read_file(char **data, size_t *bytes, const char *path, size_t limit,
                       jt_err *err);

/* A file that is written beside its final name ("PATH.XXXXXX.part") and renamed when it
 * is complete and on disk. */
typedef struct jt_output {
    FILE *stream;
    char *path, *part;
} jt_output;

jt_status jt_output_open(jt_output *out, const char *path, jt_err *err);
jt_status jt_output_write(jt_output *out, const void *data, size_t bytes, jt_err *err);
/* Flush, sync, rename. On failure the unfinished file is removed. Closes in any case.
 */
jt_status jt_output_commit(jt_output *out, jt_err *err);
void jt_output_abort(jt_output *out); /* remove the unfinished file; {0} is fine */

/* A file that grows at its end and is never complete: what was written stays, whatever
 * becomes of the process. Each write goes to the system at once, and of a long file all
 * but the last megabytes to the disk and out of the page cache, which may be counted
 * with the memory of the process. */
typedef struct jt_append {
    int fd;
    char *path;
    uint64_t bytes; /* of the file */
    uint64_t sent,
        gone; /* of these, on their way to the disk, and not cached any more */
} jt_append;

/* Begin it anew; what was there is gone. */
jt_status jt_append_open(jt_append *out, const char *path, jt_err *err);
/* Go on after its first `keep` bytes. */
jt_status jt_append_continue(jt_append *out, const char *path, size_t keep,
                             jt_err *err);
jt_status jt_append_write(jt_append *out, const void *data, size_t bytes, jt_err *err);
/* Sync and close. */
jt_status jt_append_close(jt_append *out, jt_err *err);

#endif
