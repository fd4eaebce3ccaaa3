#include "base/reader.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/reader_impl.h"

/* Pieces are small enough for a single expert to keep a disk busy, and for an urgent
 * read not to wait long for those that are under way; larger ones read no faster, but
 * more of them can be under way. Four keep a disk at nine tenths of its speed; what of
 * them is a wrong guess is read in vain. */
enum {
    PIECE = 1 << 18,
    FAR_PIECE = 1 << 20,
    USUAL_DEPTH = 256,
    MOST_DEPTH = 256,
    AHEAD_FLYING = 4
};

typedef struct line {
    jt_read *first, *last;
} line;

struct jt_reader {
    const jt_read_engine *engine;
    void *self;
    bool direct, far;
    int depth, flying, ahead_flying, ahead_most;
    jt_piece *pieces, *idle; /* [depth], and those not under way */
    line urgent, ahead;      /* reads with pieces still to make */
    line ended;
    jt_piece *late; /* of a slow disk */
    int n_late;
    uint64_t bytes;
    double busy, busy_since;
};

static jt_read_fault fault = {.after = -1};

void jt_read_fault_set(jt_read_fault next)
{
    fault = next;
}

static _Atomic(const char *) slow_path;
static atomic_long slow_us;

void jt_read_slow_set(const char *path, long us)
{
    atomic_store(&slow_us, us);
    atomic_store(&slow_path, path);
}

static bool is_late(const jt_piece *piece)
{
    const char *path = atomic_load(&slow_path);
    double late = 1e-6 * (double)atomic_load(&slow_us);
    return path && strcmp(path, piece->read->source->path) == 0 &&
           jt_seconds() < piece->came + late;
}

/* ---- lines of reads ---- */

static void append(line *l, jt_read *read)
{
    read->next = NULL;
    if (l->last)
        l->last->next = read;
    else
        l->first = read;
    l->last = read;
}

static bool take_out(line *l, jt_read *read)
{
    jt_read *before = NULL;
    for (jt_read *r = l->first; r; before = r, r = r->next) {
        if (r != read)
            continue;
        if (before)
            before->next = r->next;
        else
            l->first = r->next;
        if (l->last == r)
            l->last = before;
        return true;
    }
    return false;
}

/* ---- opening ---- */

static const jt_read_engine *const engines[] = {&jt_read_engine_uring,
                                                &jt_read_engine_pread};
enum { ENGINES = sizeof engines / sizeof *engines };

static jt_status start_engine(jt_reader *r, const char *name, jt_err *err)
{
    jt_status status = JT_OK;
    bool known = false;
    for (int i = 0; i < ENGINES; i++) {
        if (name && strcmp(name, engines[i]->name) != 0)
            continue;
        known = true;
        r->engine = engines[i];
        status = r->engine->start(&r->self, r->depth, err);
        if (status == JT_OK || name)
            return status;
    }
    return known ? status
                 : jt_fail(err, JT_E_ARG, "no engine '%s' (uring, pread)", name);
}

jt_status jt_reader_new(jt_reader **out, const jt_reader_options *o, jt_err *err)
{
    jt_reader *r = jt_calloc(1, sizeof *r);
    if (!r)
        return jt_fail_memory(err, "starting to read");
    r->direct = o->direct;
    r->ahead_most = AHEAD_FLYING;
    r->depth = o->depth > 0 && o->depth < MOST_DEPTH ? o->depth : USUAL_DEPTH;
    r->pieces = jt_calloc((size_t)r->depth, sizeof *r->pieces);
    jt_status status = r->pieces ? start_engine(r, o->engine, err)
                                 : jt_fail_memory(err, "starting to read");
    if (status != JT_OK) {
        free(r->pieces);
        free(r);
        return status;
    }
    for (int i = 0; i < r->depth; i++) {
        r->pieces[i].next = r->idle;
        r->idle = &r->pieces[i];
    }
    *out = r;
    return JT_OK;
}

void jt_reader_free(jt_reader *r)
{
    if (!r)
        return;
    r->urgent = r->ahead = (line){0};
    r->flying -= r->n_late;
    for (; r->flying; r->flying--)
        r->engine->reap(r->self, true);
    r->engine->stop(r->self);
    free(r->pieces);
    free(r);
}

const char *jt_reader_engine(const jt_reader *r)
{
    return r->engine->name;
}

bool jt_reader_is_direct(const jt_reader *r)
{
    return r->direct;
}

uint64_t jt_reader_bytes(const jt_reader *r)
{
    return r->bytes;
}

double jt_reader_busy(const jt_reader *r)
{
    return r->busy + (r->flying ? jt_seconds() - r->busy_since : 0.0);
}

/* ---- pieces ---- */

/* What is read for a request: its bytes, or the blocks in which they lie. */
typedef struct extent {
    int fd;
    size_t align, lead, bytes; /* lead: bytes of the first block before the request */
} extent;

static extent extent_of(const jt_reader *r, const jt_read *read)
{
    if (!r->direct || read->source->direct < 0)
        return (extent){read->source->cached, 1, 0, read->bytes};
    size_t mask = JT_READ_ALIGN - 1, lead = (size_t)read->offset & mask;
    return (extent){read->source->direct, JT_READ_ALIGN, lead,
                    (lead + read->bytes + mask) & ~mask};
}

static void start_piece(jt_reader *r, jt_read *read, const extent *e)
{
    jt_piece *piece = r->idle;
    r->idle = piece->next;
    size_t left = e->bytes - read->issued;
    size_t most = r->far ? FAR_PIECE : PIECE;
    size_t count = (left + most - 1) / most; /* of about the same size */
    size_t bytes = (left / count + e->align - 1) & ~(e->align - 1);
    *piece = (jt_piece){.fd = e->fd,
                        .to = read->to - e->lead + read->issued,
                        .offset = read->offset - e->lead + read->issued,
                        .bytes = count == 1 ? left : bytes,
                        .read = read};
    read->issued += piece->bytes;
    read->flying++;
    if (r->flying++ == 0)
        r->busy_since = jt_seconds();
    r->ahead_flying += !read->urgent;
    r->engine->submit(r->self, piece);
}

/* Make pieces of the reads of a line, as far as there is room. */
static void start_line(jt_reader *r, line *l, bool ahead)
{
    while (l->first && r->idle && !(ahead && r->ahead_flying >= r->ahead_most)) {
        jt_read *read = l->first;
        extent e = extent_of(r, read);
        start_piece(r, read, &e);
        if (read->issued == e.bytes)
            take_out(l, read);
    }
}

static void start_more(jt_reader *r)
{
    start_line(r, &r->urgent, false);
    if (!r->urgent.first)
        start_line(r, &r->ahead, true);
    r->engine->flush(r->self);
}

void jt_reader_add(jt_reader *r, jt_read *read, bool urgent)
{
    read->error = 0;
    read->issued = 0;
    read->flying = 0;
    read->urgent = urgent;
    append(urgent ? &r->urgent : &r->ahead, read);
    start_more(r);
}

void jt_reader_far_ahead(jt_reader *r, bool far)
{
    r->far = far;
    r->ahead_most = far ? r->depth * 3 / 4 : AHEAD_FLYING;
}

void jt_reader_hurry(jt_reader *r, jt_read *read)
{
    if (read->urgent)
        return;
    read->urgent = true;
    r->ahead_flying -= read->flying;
    if (take_out(&r->ahead, read))
        append(&r->urgent, read);
    start_more(r);
}

bool jt_reader_give_up(jt_reader *r, jt_read *read)
{
    if (!take_out(read->urgent ? &r->urgent : &r->ahead, read))
        return false; /* all of it is under way */
    read->error = JT_READ_GIVEN_UP;
    return read->flying == 0;
}

/* ---- what comes back ---- */

static bool is_hit(const jt_read *read)
{
    return !fault.to ||
           (read->offset < fault.to && read->offset + read->bytes > fault.from);
}

static jt_piece *take_late(jt_reader *r)
{
    for (jt_piece **at = &r->late; *at; at = &(*at)->next) {
        jt_piece *piece = *at;
        if (is_late(piece))
            continue;
        *at = piece->next;
        r->n_late--;
        return piece;
    }
    return NULL;
}

/* A piece that has ended; NULL: none has. */
static jt_piece *reap(jt_reader *r, bool wait)
{
    static const struct timespec nap = {0, 200000};
    for (;;) {
        jt_piece *piece = r->late ? take_late(r) : NULL;
        if (!piece && r->flying > r->n_late)
            piece = r->engine->reap(r->self, wait && !r->late);
        if (!piece && (!wait || !r->late))
            return NULL;
        if (!piece) {
            nanosleep(&nap, NULL);
            continue;
        }
        if (!atomic_load(&slow_path))
            return piece;
        piece->came = piece->came > 0.0 ? piece->came : jt_seconds();
        if (!is_late(piece))
            return piece;
        piece->next = r->late;
        r->late = piece;
        r->n_late++;
    }
}

static void spoil(jt_piece *piece)
{
    if (fault.pause_us) {
        struct timespec pause = {fault.pause_us / 1000000,
                                 fault.pause_us % 1000000 * 1000L};
        nanosleep(&pause, NULL);
    }
    if (fault.after < 0 || !is_hit(piece->read) || fault.after-- > 0)
        return;
    if (fault.all)
        fault.after = 0;
    if (fault.error)
        piece->result = -fault.error;
    else if (piece->result > (long)fault.keep)
        piece->result = (long)fault.keep;
}

static void end_piece(jt_reader *r, jt_piece *piece)
{
    jt_read *read = piece->read;
    if (--r->flying == 0)
        r->busy += jt_seconds() - r->busy_since;
    r->ahead_flying -= !read->urgent;
    read->flying--;
    piece->next = r->idle;
    r->idle = piece;
}

/* The rest of a piece that came in part; false: there is no more of the file. */
static bool go_on(jt_reader *r, jt_piece *piece, size_t got)
{
    extent e = extent_of(r, piece->read);
    got &= ~(e.align - 1);
    if (got == 0)
        return false;
    piece->to += got;
    piece->offset += got;
    piece->bytes -= got;
    r->engine->submit(r->self, piece);
    return true;
}

/* Bytes of a piece that its request asks for. */
static size_t needed(const jt_piece *piece)
{
    uint64_t end = piece->read->offset + piece->read->bytes;
    uint64_t left = end > piece->offset ? end - piece->offset : 0;
    return left < piece->bytes ? (size_t)left : piece->bytes;
}

/* A piece has ended or was handed over again. */
static void settle(jt_reader *r, jt_piece *piece)
{
    jt_read *read = piece->read;
    if (piece->result == -EINTR || piece->result == -EAGAIN) {
        r->engine->submit(r->self, piece);
        return;
    }
    if (piece->result < 0) {
        read->error = (int)-piece->result;
    } else {
        size_t got = (size_t)piece->result;
        r->bytes += got;
        if (got < needed(piece)) {
            if (go_on(r, piece, got))
                return;
            read->error = JT_READ_SHORT;
        }
    }
    end_piece(r, piece);
    if (read->error) /* no further pieces */
        take_out(read->urgent ? &r->urgent : &r->ahead, read);
    bool whole = read->error || read->issued == extent_of(r, read).bytes;
    if (whole && read->flying == 0)
        append(&r->ended, read);
}

jt_read *jt_reader_next(jt_reader *r, bool wait)
{
    for (;;) {
        while (r->flying) {
            jt_piece *piece = reap(r, wait && !r->ended.first);
            if (!piece)
                break;
            spoil(piece);
            settle(r, piece);
            start_more(r); /* the disk does not wait for the caller */
        }
        start_more(r);
        jt_read *read = r->ended.first;
        if (read) {
            take_out(&r->ended, read);
            return read;
        }
        if (!wait || !r->flying)
            return NULL;
    }
}
