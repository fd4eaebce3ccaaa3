#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

static jt_status fail_errno(jt_err *err, const char *what, const char *path)
{
    return jt_fail(err, JT_E_IO, "cannot %s '%s': %s", what, path, strerror(errno));
}

jt_status jt_map_open(jt_map *out, const char *path, jt_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(err, "open", path);
    struct stat st;
    if (fstat(fd, &st) != 0) {
        jt_status status = fail_errno(err, "read", path);
        close(fd);
        return status;
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return jt_fail(err, JT_E_IO, "cannot read '%s': not a regular file", path);
    }
    jt_map map = {NULL, (size_t)st.st_size};
    if (map.bytes) {
        void *p = mmap(NULL, map.bytes, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            jt_status status = fail_errno(err, "map", path);
            close(fd);
            return status;
        }
        map.data = p;
    }
    close(fd);
    *out = map;
    return JT_OK;
}

void jt_map_close(jt_map *map)
{
    if (map->data)
        munmap((void *)(uintptr_t)map->data, map->bytes);
    *map = (jt_map){0};
}

void jt_map_forget(const void *data, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = ((uintptr_t)data + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)data + bytes) / page * page;
    if (start < end) /* only advice: a refusal changes nothing */
        (void)madvise((void *)start, end - start, MADV_DONTNEED);
}

/* Read `stream` to its end. */
static jt_status slurp(char **data, size_t *bytes, FILE *stream, const char *path,
                       size_t limit, jt_err *err)
{
    char *text = NULL;
    size_t used = 0, capacity = 0;
    for (;;) {
        if (!jt_grow((void **)&text, &capacity, used + 65536, 1)) {
            free(text);
            return jt_fail_memory(err, "reading a file");
        }
        size_t got = fread(text + used, 1, capacity - used - 1, stream);
        used += got;
        if (got == 0)
            break;
        if (used > limit) {
            free(text);
            return jt_fail(err, JT_E_LIMIT, "'%s' is larger than %zu bytes", path,
                           limit);
        }
    }
    if (ferror(stream)) {
        free(text);
        return fail_errno(err, "read", path);
    }
    text[used] = '\0';
    *data = text;
    *bytes = used;
    return JT_OK;
}

jt_status jt_read_file(char **data, size_t *bytes, const char *path, size_t limit,
                       jt_err *err)
{
    if (strcmp(path, "-") == 0)
        return slurp(data, bytes, stdin, "standard input", limit, err);
    FILE *stream = fopen(path, "rbe");
    if (!stream)
        return fail_errno(err, "open", path);
    jt_status status = slurp(data, bytes, stream, path, limit, err);
    fclose(stream);
    return status;
}

/* A rename would replace a device, a pipe or a folder by a file. */
static bool may_replace(const char *path)
{
    struct stat st;
    return stat(path, &st) != 0 || S_ISREG(st.st_mode);
}

static void output_release(jt_output *out)
{
    free(out->path);
    free(out->part);
    *out = (jt_output){0};
}

jt_status jt_output_open(jt_output *out, const char *path, jt_err *err)
{
    static const char suffix[] = ".XXXXXX.part";
    size_t len = strlen(path);
    *out = (jt_output){0};
    if (!may_replace(path))
        return jt_fail(err, JT_E_IO, "cannot write '%s': not a regular file", path);
    *out = (jt_output){.path = jt_strndup(path, len),
                       .part = jt_alloc(len + sizeof suffix, 1)};
    if (!out->path || !out->part) {
        output_release(out);
        return jt_fail_memory(err, "opening an output file");
    }
    memcpy(out->part, path, len);
    memcpy(out->part + len, suffix, sizeof suffix);
    int fd = mkostemps(out->part, 5, O_CLOEXEC);
    if (fd >= 0) {
        mode_t mask = umask(0);
        umask(mask);
        fchmod(fd, 0666 & ~mask); /* mkostemps makes it private */
        out->stream = fdopen(fd, "wb");
    }
    if (!out->stream) {
        jt_status status = fail_errno(err, "write", path);
        if (fd >= 0) {
            close(fd);
            unlink(out->part);
        }
        output_release(out);
        return status;
    }
    return JT_OK;
}

jt_status jt_output_write(jt_output *out, const void *data, size_t bytes, jt_err *err)
{
    if (bytes && fwrite(data, 1, bytes, out->stream) != bytes)
        return fail_errno(err, "write", out->path);
    return JT_OK;
}

/* A rename is on disk only when its directory is. */
static void sync_directory(const char *path)
{
    char *copy = jt_strndup(path, strlen(path));
    int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(copy);
}

jt_status jt_output_commit(jt_output *out, jt_err *err)
{
    jt_status status = JT_OK;
    if (fflush(out->stream) != 0 || fsync(fileno(out->stream)) != 0)
        status = fail_errno(err, "write", out->path);
    if (fclose(out->stream) != 0 && status == JT_OK)
        status = fail_errno(err, "write", out->path);
    if (status == JT_OK && rename(out->part, out->path) != 0)
        status = fail_errno(err, "rename to", out->path);
    if (status == JT_OK)
        sync_directory(out->path);
    else
        unlink(out->part);
    output_release(out);
    return status;
}

void jt_output_abort(jt_output *out)
{
    if (out->stream) {
        fclose(out->stream);
        unlink(out->part);
    }
    output_release(out);
}

jt_status jt_append_continue(jt_append *out, const char *path, size_t keep, jt_err *err)
{
    *out = (jt_append){.fd = -1, .path = jt_strndup(path, strlen(path))};
    if (!out->path)
        return jt_fail_memory(err, "opening an output file");
    int how = O_WRONLY | O_CREAT | O_CLOEXEC | (keep ? 0 : O_TRUNC);
    out->fd = open(path, how, 0666);
    out->bytes = out->sent = out->gone = keep;
    if (out->fd >= 0 && (!keep || (ftruncate(out->fd, (off_t)keep) == 0 &&
                                   lseek(out->fd, 0, SEEK_END) == (off_t)keep)))
        return JT_OK;
    jt_status status = fail_errno(err, "write", path);
    if (out->fd >= 0)
        close(out->fd);
    free(out->path);
    *out = (jt_append){.fd = -1};
    return status;
}

jt_status jt_append_open(jt_append *out, const char *path, jt_err *err)
{
    return jt_append_continue(out, path, 0, err);
}

/* Each stretch is sent when it is whole, and has until the next one is whole to reach
 * the disk: hardly anybody waits. Where the system cannot do this, it does no harm. */
static void let_go(jt_append *out)
{
#ifdef __linux__
    enum { STRETCH = 1 << 20 };
    uint64_t end = out->bytes / STRETCH * STRETCH;
    if (end <= out->sent)
        return;
    off_t gone = (off_t)out->gone, sent = (off_t)out->sent;
    unsigned reach = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                     SYNC_FILE_RANGE_WAIT_AFTER;
    (void)sync_file_range(out->fd, sent, (off_t)end - sent, SYNC_FILE_RANGE_WRITE);
    if (sent > gone) {
        (void)sync_file_range(out->fd, gone, sent - gone, reach);
        (void)posix_fadvise(out->fd, gone, sent - gone, POSIX_FADV_DONTNEED);
    }
    out->gone = out->sent;
    out->sent = end;
#else
    (void)out;
#endif
}

jt_status jt_append_write(jt_append *out, const void *data, size_t bytes, jt_err *err)
{
    const char *rest = data;
    while (bytes) {
        ssize_t done = write(out->fd, rest, bytes);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return fail_errno(err, "write", out->path);
        rest += done;
        bytes -= (size_t)done;
        out->bytes += (uint64_t)done;
    }
    let_go(out);
    return JT_OK;
}

jt_status jt_append_close(jt_append *out, jt_err *err)
{
    jt_status status = JT_OK;
    if (fsync(out->fd) != 0 && errno != EINVAL) /* pipes and devices have no disk */
        status = fail_errno(err, "write", out->path);
    if (close(out->fd) != 0 && status == JT_OK)
        status = fail_errno(err, "write", out->path);
    free(out->path);
    *out = (jt_append){.fd = -1};
    return status;
}
