/* Asynchronous reads of large pieces of files.
 *
 *     jt_reader_add(reader, &read, true);       // any number of reads
 *     while ((done = jt_reader_next(reader, true)))
 *         ... done->error is 0 and its bytes are there, or says why not ...
 *
 * The requests of a reader are cut into pieces, many of which are under way at a time:
 * through io_uring or, where the system refuses it (containers, old kernels), through a
 * few threads that call pread. Urgent reads go before those made ahead of need. One
 * thread uses a reader. */
#ifndef JT_BASE_READER_H
#define JT_BASE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "junto/status.h"

/* A file that is read piece by piece, once through the page cache and once past it. */
typedef struct jt_source {
    char *path;
    int cached, direct; /* descriptors; direct -1: this file system has none */
    uint64_t bytes;
    struct timespec changed; /* as the file was when it was opened */
} jt_source;

jt_status jt_source_open(jt_source *out, const char *path, jt_err *err);
void jt_source_close(jt_source *source);
/* JT_E_IO: the file has another size or another time of change than when it was opened.
 */
jt_status jt_source_check(const jt_source *source, jt_err *err);
/* The page cache need not hold these bytes any more. */
void jt_source_forget(const jt_source *source, uint64_t offset, uint64_t bytes);

/* What direct reads are aligned to, in the file and in memory. */
enum { JT_READ_ALIGN = 4096 };

/* A request, owned by the caller and left alone by it until it has ended. The place
 * `to` has the same remainder by JT_READ_ALIGN as `offset`; direct reads also fill the
 * rest of the blocks in which the bytes begin and end. */
typedef struct jt_read jt_read;
struct jt_read {
    const jt_source *source;
    uint64_t offset;
    size_t bytes;
    char *to;
    void *user;
    int error; /* when it has ended: 0, an errno, or JT_READ_SHORT */
    /* The reader's own. */
    size_t issued; /* bytes that pieces were made for, from the first block on */
    int flying;    /* pieces under way */
    bool urgent;
    jt_read *next;
};
enum {
    JT_READ_SHORT = -1,   /* the file ends before the bytes do */
    JT_READ_GIVEN_UP = -2 /* jt_reader_give_up */
};

typedef struct jt_reader jt_reader;

typedef struct jt_reader_options {
    const char *engine; /* "uring", "pread"; NULL: the first that works */
    bool direct;        /* past the page cache, where the source allows it */
    int depth;          /* pieces under way; 0: 256 */
} jt_reader_options;

/* JT_E_ARG (no such engine), JT_E_UNSUPPORTED (the engine asked for is refused here:
 * says why), JT_E_MEMORY. */
jt_status jt_reader_new(jt_reader **out, const jt_reader_options *options, jt_err *err);
void jt_reader_free(jt_reader *reader); /* waits for what is under way; NULL is fine */
const char *jt_reader_engine(const jt_reader *reader);
bool jt_reader_is_direct(const jt_reader *reader);

/* Queue a read and start what there is room for. Not urgent: only few pieces at a time,
 * and only while nothing urgent waits. */
void jt_reader_add(jt_reader *reader, jt_read *read, bool urgent);
/* Far ahead: large pieces, and most of them may be of reads that are not urgent, so
 * that the disk has work for a time in which nobody looks; urgent ones wait longer
 * then. Not so at first. */
void jt_reader_far_ahead(jt_reader *reader, bool far);
/* A read that is queued or under way has become urgent. */
void jt_reader_hurry(jt_reader *reader, jt_read *read);
/* Read no more of a request: its error becomes JT_READ_GIVEN_UP, unless all of it is
 * under way or has ended. True: nothing of it is under way, and it will not be heard of
 * any more; false: it ends as usual. */
bool jt_reader_give_up(jt_reader *reader, jt_read *read);
/* A read that has ended; NULL: none has. With `wait`, NULL only when none is left. */
jt_read *jt_reader_next(jt_reader *reader, bool wait);
/* Bytes that have come since jt_reader_new. */
uint64_t jt_reader_bytes(const jt_reader *reader);
/* Seconds since then in which something was under way. */
double jt_reader_busy(const jt_reader *reader);

/* For tests: what becomes of the n-th piece that ends from now on (0: the next; every
 * one after it too when `all`). Not thread-safe. */
typedef struct jt_read_fault {
    long after; /* negative: no fault */
    bool all;
    int error;         /* an errno; 0: the piece is cut to `keep` bytes */
    size_t keep;       /* 0: as if the file ended here */
    int pause_us;      /* every piece takes so much longer */
    uint64_t from, to; /* only pieces of reads with a byte of these count; 0, 0: all */
} jt_read_fault;
void jt_read_fault_set(jt_read_fault fault);

/* And a slow disk: each piece of the file at `path` (as it was opened) comes so much
 * later, while whoever asked for it may do other things; also pieces that are waited
 * for already. NULL: no such disk. Any thread may call this. */
void jt_read_slow_set(const char *path, long us);

#endif
