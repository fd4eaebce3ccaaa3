#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/reader.h"

jt_status jt_source_open(jt_source *out, const char *path, jt_err *err)
{
    jt_source s = {.path = jt_strndup(path, strlen(path)), .cached = -1, .direct = -1};
    if (!s.path)
        return jt_fail_memory(err, "opening a file");
    s.cached = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st = {0};
    if (s.cached < 0 || fstat(s.cached, &st) != 0) {
        jt_fail(err, JT_E_IO, "cannot open '%s': %s", path, strerror(errno));
        jt_source_close(&s);
        return JT_E_IO;
    }
    /* What is read is known: nothing beside it need come along. */
    (void)posix_fadvise(s.cached, 0, 0, POSIX_FADV_RANDOM);
    s.direct = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT); /* -1 is an answer, too */
    s.bytes = (uint64_t)st.st_size;
    s.changed = st.st_mtim;
    *out = s;
    return JT_OK;
}

void jt_source_close(jt_source *source)
{
    if (!source->path)
        return;
    if (source->cached >= 0)
        close(source->cached);
    if (source->direct >= 0)
        close(source->direct);
    free(source->path);
    *source = (jt_source){0};
}

jt_status jt_source_check(const jt_source *source, jt_err *err)
{
    struct stat st;
    if (fstat(source->cached, &st) != 0)
        return jt_fail(err, JT_E_IO, "cannot read '%s': %s", source->path,
                       strerror(errno));
    if ((uint64_t)st.st_size != source->bytes)
        return jt_fail(err, JT_E_IO,
                       "'%s' has changed while it was in use: it had %llu bytes, now "
                       "it has %llu; load the model again",
                       source->path, (unsigned long long)source->bytes,
                       (unsigned long long)st.st_size);
    if (st.st_mtim.tv_sec != source->changed.tv_sec ||
        st.st_mtim.tv_nsec != source->changed.tv_nsec)
        return jt_fail(err, JT_E_IO,
                       "'%s' was written to while it was in use; load the model again",
                       source->path);
    return JT_OK;
}

void jt_source_forget(const jt_source *source, uint64_t offset, uint64_t bytes)
{
    /* The system keeps pages together in folios and drops those that lie in the range
     * as a whole. Only advice: a refusal changes nothing. */
    enum { FOLIO = 2 << 20 };
    uint64_t start = offset / FOLIO * FOLIO;
    uint64_t end = (offset + bytes + FOLIO - 1) / FOLIO * FOLIO;
    (void)posix_fadvise(source->cached, (off_t)start, (off_t)(end - start),
                        POSIX_FADV_DONTNEED);
}
