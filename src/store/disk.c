/* How fast a disk is. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/reader.h"
#include "junto/store.h"

/* As large as parts of experts are, as many at a time as a few layers lack. */
enum { PIECE = 1 << 20, PLACES = 16 };

/* A place of the file that no earlier one is near to: pieces in a scattered order. */
static uint64_t offset_of(const jt_source *source, uint64_t i)
{
    uint64_t pieces = source->bytes / PIECE, stride = 0x9e3779b1;
    return i * stride % pieces * PIECE;
}

static void begin(jt_reader *reader, jt_read *read, const jt_source *source, uint64_t i)
{
    read->source = source;
    read->offset = offset_of(source, i);
    read->bytes = PIECE;
    jt_source_forget(source, read->offset, PIECE);
    jt_reader_add(reader, read, true);
}

static jt_status run(double *speed, jt_reader *reader, const jt_source *source,
                     char *room, uint64_t count, jt_err *err)
{
    jt_read reads[PLACES] = {0};
    uint64_t sent = 0, ended = 0;
    int error = 0;
    double start = jt_seconds();
    for (; sent < count && sent < PLACES; sent++) {
        reads[sent].to = room + sent * PIECE;
        begin(reader, &reads[sent], source, sent);
    }
    for (jt_read *read; (read = jt_reader_next(reader, true)); ended++) {
        error = read->error ? read->error : error;
        if (!jt_reader_is_direct(reader))
            jt_source_forget(source, read->offset, PIECE);
        if (sent < count)
            begin(reader, read, source, sent++);
    }
    if (error)
        return jt_fail(err, JT_E_IO, "cannot read '%s': %s", source->path,
                       error > 0 ? strerror(error) : "it is shorter than it was");
    *speed = (double)ended * PIECE / (jt_seconds() - start);
    return JT_OK;
}

static jt_status measure(double *speed, const jt_source *source, uint64_t bytes,
                         const jt_store_options *o, jt_err *err)
{
    bool direct = source->direct >= 0 && !(o->io && !strcmp(o->io, "buffered"));
    jt_reader_options options = {.engine = o->engine, .direct = direct};
    if (source->bytes < PIECE)
        return jt_fail(err, JT_E_ARG, "'%s' is too small to measure a disk with",
                       source->path);
    char *room = jt_alloc_large(PLACES * PIECE);
    if (!room)
        return jt_fail_memory(err, "measuring a disk");
    jt_reader *reader;
    jt_status status = jt_reader_new(&reader, &options, err);
    if (status == JT_OK) {
        memset(room, 0, PLACES * PIECE); /* new memory takes time of its own */
        status = run(speed, reader, source, room, bytes / PIECE + 1, err);
        jt_reader_free(reader);
    }
    free(room);
    return status;
}

jt_status jt_measure_disk(double *speed, const char *path, uint64_t bytes,
                          const jt_store_options *options, jt_err *err)
{
    jt_store_options usual = {0};
    jt_source source;
    JT_TRY(jt_source_open(&source, path, err));
    jt_status status = measure(speed, &source, bytes, options ? options : &usual, err);
    jt_source_close(&source);
    return status;
}
