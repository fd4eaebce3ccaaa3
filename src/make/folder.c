#include "make/folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

enum { PATH_BYTES = 4096 };

bool jt_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static void folder_free(jt_folder *folder)
{
    free(folder->path);
    free(folder->part);
    *folder = (jt_folder){0};
}

static jt_status check_free(const jt_folder *folder, jt_err *err)
{
    struct stat st;
    if (lstat(folder->path, &st) == 0)
        return jt_fail(err, JT_E_IO, "'%s' is there already", folder->path);
    if (mkdir(folder->part, 0777) != 0)
        return jt_fail(err, JT_E_IO, "cannot make '%s': %s%s", folder->part,
                       strerror(errno),
                       errno == EEXIST ? " (left by a run that was killed?)" : "");
    return JT_OK;
}

jt_status jt_folder_open(jt_folder *out, const char *path, jt_err *err)
{
    static const char suffix[] = ".part";
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    *out = (jt_folder){.path = jt_strndup(path, len),
                       .part = jt_alloc(len + sizeof suffix, 1)};
    jt_status status = JT_OK;
    if (!out->path || !out->part) {
        status = jt_fail_memory(err, "opening an output folder");
    } else {
        memcpy(out->part, path, len);
        memcpy(out->part + len, suffix, sizeof suffix);
        status = check_free(out, err);
    }
    if (status != JT_OK)
        folder_free(out);
    return status;
}

/* Call `fn` for each file of the folder. */
static void each_file(const char *folder, void (*fn)(void *user, const char *path),
                      void *user)
{
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            fn(user, path);
    }
    if (dir)
        closedir(dir);
}

static void remove_file(void *user, const char *path)
{
    (void)user;
    unlink(path);
}

static void add_size(void *user, const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0)
        *(uint64_t *)user += (uint64_t)st.st_size;
}

void jt_folder_abort(jt_folder *folder)
{
    each_file(folder->part, remove_file, NULL);
    rmdir(folder->part);
    folder_free(folder);
}

jt_status jt_folder_commit(jt_folder *folder, uint64_t *bytes, jt_err *err)
{
    *bytes = 0;
    each_file(folder->part, add_size, bytes);
    if (rename(folder->part, folder->path) != 0) {
        jt_status status = jt_fail(err, JT_E_IO, "cannot rename to '%s': %s",
                                   folder->path, strerror(errno));
        jt_folder_abort(folder);
        return status;
    }
    folder_free(folder);
    return JT_OK;
}

jt_status jt_folder_copy(const char *from, const char *to, const char *name,
                         bool *copied, jt_err *err)
{
    char source[PATH_BYTES], target[PATH_BYTES];
    jt_map map;
    jt_output out;
    snprintf(source, sizeof source, "%s/%s", from, name);
    snprintf(target, sizeof target, "%s/%s", to, name);
    *copied = access(source, F_OK) == 0;
    if (!*copied)
        return JT_OK;
    JT_TRY(jt_map_open(&map, source, err));
    jt_status status = jt_output_open(&out, target, err);
    if (status == JT_OK) {
        status = jt_output_write(&out, map.data, map.bytes, err);
        if (status == JT_OK)
            status = jt_output_commit(&out, err);
        else
            jt_output_abort(&out);
    }
    jt_map_close(&map);
    return status;
}
