/* How to read: past the page cache or through it, whichever is faster here. */
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "store/cached_impl.h"

/* Enough to see the speed of a disk, little enough to take a fraction of a second. */
enum { SAMPLE_BYTES = 12 << 20, SAMPLE_MOST = 256 };

static jt_status open_reader(jt_cached *c, jt_reader **out, bool direct, jt_err *err)
{
    jt_reader_options options = {.engine = c->options.engine, .direct = direct};
    return jt_reader_new(out, &options, err);
}

static bool can_direct(const jt_cached *c)
{
    for (int i = 0; i < c->stored.n_sources; i++) {
        if (c->stored.sources[i].direct < 0)
            return false;
    }
    return true;
}

/* Some experts, spread over the model, that fit into the slots together. */
static int sample_size(const jt_cached *c)
{
    size_t wanted = SAMPLE_BYTES / (c->slot_bytes + 1) + 1;
    int most = c->slots.count < SAMPLE_MOST ? c->slots.count : SAMPLE_MOST;
    int experts = c->first[c->map.n_layers];
    most = most < experts ? most : experts;
    return wanted < (size_t)most ? (int)wanted : most;
}

/* Bytes per second, of experts that the page cache does not hold; 0: they cannot be
 * read so. `turn` picks others each time. */
static double measure(jt_cached *c, jt_reader *reader, int turn)
{
    int count = sample_size(c), experts = c->first[c->map.n_layers];
    jt_reader *usual = c->reader;
    uint64_t bytes = 0;
    bool failed = false;
    c->reader = reader;
    for (int i = 0; i < count; i++) {
        int expert = (int)(((int64_t)i * experts + turn) / count) % experts;
        c->slots.slot[i].expert = expert;
        for (int p = 0; p < JT_PARTS; p++) {
            const jt_extent *extent = jt_cached_extent(c, expert, p);
            size_t part = jt_cached_part_bytes(c, expert, p);
            if (part)
                jt_source_forget(extent->source, extent->offset, part);
            bytes += part;
        }
    }
    double start = jt_seconds();
    for (int i = 0; i < count; i++)
        jt_cached_read(c, i, true);
    for (jt_read *read; (read = jt_reader_next(reader, true));) {
        failed = failed || read->error;
        if (!jt_reader_is_direct(reader))
            jt_source_forget(read->source, read->offset, read->bytes);
    }
    double seconds = jt_seconds() - start;
    for (int i = 0; i < count; i++)
        c->slots.slot[i] = (jt_slot){.state = JT_SLOT_EMPTY};
    c->reader = usual;
    return failed || seconds <= 0 ? 0.0 : (double)bytes / seconds;
}

/* Direct reads leave the page cache and the processor alone: buffered ones must be
 * clearly faster. Other work on the machine only takes away, so the best of a few turns
 * counts. */
static const double clearly = 1.5;
enum { TURNS = 3 };

/* Choose between `direct`, the reader in use, and a buffered one. */
static jt_status compare(jt_cached *c, jt_err *err)
{
    jt_reader *buffered;
    double speed[2] = {0.0, 0.0};
    JT_TRY(open_reader(c, &buffered, false, err));
    for (int i = 0; i < 2 * TURNS; i++) {
        double found = measure(c, i % 2 ? buffered : c->reader, i);
        speed[i % 2] = found > speed[i % 2] ? found : speed[i % 2];
    }
    bool better = speed[1] > clearly * speed[0];
    c->disk_speed = speed[better];
    jt_reader_free(better ? c->reader : buffered);
    c->reader = better ? buffered : c->reader;
    return JT_OK;
}

jt_status jt_cached_choose_io(jt_cached *c, jt_err *err)
{
    const char *wish = c->options.io;
    bool direct = can_direct(c);
    if (wish && !strcmp(wish, "direct") && !direct)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "'%s' cannot be read directly on this file system",
                       c->stored.sources[0].path);
    if (wish)
        direct = !strcmp(wish, "direct");
    JT_TRY(open_reader(c, &c->reader, direct, err));
    if (direct && !wish)
        JT_TRY(compare(c, err));
    else
        c->disk_speed = measure(c, c->reader, 0);
    c->sampled = jt_reader_bytes(c->reader);
    c->last_seconds = jt_seconds();
    c->last_busy = jt_reader_busy(c->reader);
    return JT_OK;
}
