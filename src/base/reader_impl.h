/* Between a reader and the engines that carry out its pieces. */
#ifndef JT_BASE_READER_IMPL_H
#define JT_BASE_READER_IMPL_H

#include "base/reader.h"

typedef struct jt_piece jt_piece;
struct jt_piece {
    int fd;
    char *to;
    uint64_t offset;
    size_t bytes;
    long result; /* bytes that came, or -errno */
    jt_read *read;
    jt_piece *next;
    double came; /* when it ended, on a disk that a test has made slow */
};

typedef struct jt_read_engine {
    const char *name;
    /* Room for `depth` pieces under way. JT_E_UNSUPPORTED: refused by the system. */
    jt_status (*start)(void **self, int depth, jt_err *err);
    void (*stop)(void *self);
    /* Begin a piece; it may wait for `flush`. */
    void (*submit)(void *self, jt_piece *piece);
    void (*flush)(void *self);
    /* A piece that has ended; NULL: none has. `wait` only while one is under way. */
    jt_piece *(*reap)(void *self, bool wait);
} jt_read_engine;

extern const jt_read_engine jt_read_engine_uring, jt_read_engine_pread;

#endif
