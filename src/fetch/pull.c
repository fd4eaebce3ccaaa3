/* From a source to the shelf. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "fetch/download.h"
#include "fetch/hub.h"
#include "junto/shelf.h"

/* Make all folders of `path` but the last part. */
static jt_status make_folders(const char *path, jt_err *err)
{
    char *copy = strdup(path);
    jt_status status = copy ? JT_OK : jt_fail_memory(err, "making a folder");
    for (char *c = copy ? copy + 1 : NULL; status == JT_OK && (c = strchr(c, '/'));
         c++) {
        *c = '\0';
        if (mkdir(copy, 0777) && errno != EEXIST)
            status = jt_fail(err, JT_E_IO, "cannot make the folder '%s': %s", copy,
                             strerror(errno));
        *c = '/';
    }
    free(copy);
    return status;
}

/* Fetch to FOLDER/NAME what is not there yet. */
static jt_status fetch(const char *folder, const char *name, jt_download *d,
                       jt_err *err)
{
    char *path = NULL;
    struct stat info;
    if (asprintf(&path, "%s/%s", folder, name) < 0)
        return jt_fail_memory(err, "fetching a file");
    d->path = path;
    d->what = name;
    jt_status status = make_folders(path, err);
    bool there = stat(path, &info) == 0 &&
                 (d->bytes ? (uint64_t)info.st_size == d->bytes : !d->sha256);
    if (status == JT_OK && !there)
        status = jt_download_file(d, err);
    free(path);
    return status;
}

static char *without_end(const char *name)
{
    size_t n = strlen(name), end = sizeof ".gguf" - 1;
    bool gguf = n > end && strcasecmp(name + n - end, ".gguf") == 0;
    return strndup(name, gguf ? n - end : n);
}

/* ---- the hub ---- */

static jt_status fetch_all(const char *folder, const char *repository,
                           const jt_hub_files *files, const jt_pull_options *o,
                           jt_err *err)
{
    const char *token = getenv("HF_TOKEN");
    for (size_t i = 0; i < files->count; i++) {
        const jt_hub_file *file = &files->list[i];
        const char *sum = file->sha256[0] ? file->sha256 : NULL;
        jt_download d = {.url = file->url,
                         .token = token && *token ? token : NULL,
                         .sha256 = o->sha256 ? o->sha256 : sum,
                         .bytes = file->bytes,
                         .progress = &o->progress};
        char *name = NULL;
        if (asprintf(&name, "%s/%s", repository, file->path) < 0)
            return jt_fail_memory(err, "fetching a model");
        jt_status status = fetch(folder, name, &d, err);
        free(name);
        if (status != JT_OK)
            return status;
    }
    return JT_OK;
}

/* The model is its first GGUF file, or the folder. */
static jt_status name_model(char **name, const char *repository,
                            const jt_hub_files *files, jt_err *err)
{
    const char *path = files->list[0].path, *end = strrchr(path, '.');
    char *whole = NULL;
    bool gguf = end && strcasecmp(end, ".gguf") == 0;
    if (asprintf(&whole, gguf ? "%s/%s" : "%s", repository, path) < 0)
        return jt_fail_memory(err, "naming a model");
    *name = without_end(whole);
    free(whole);
    return *name ? JT_OK : jt_fail_memory(err, "naming a model");
}

static jt_status pull_from_hub(char **name, const char *folder, const char *source,
                               const jt_pull_options *o, jt_err *err)
{
    char *repository = strdup(source);
    if (!repository)
        return jt_fail_memory(err, "fetching a model");
    char *wanted = strchr(repository, ':');
    if (wanted)
        *wanted++ = '\0';
    jt_hub_files files = {0};
    jt_status status = JT_OK;
    const char *slash = strchr(repository, '/');
    if (!jt_hub_safe(repository) || !slash || strchr(slash + 1, '/') ||
        (wanted && !*wanted))
        status = jt_fail(err, JT_E_ARG,
                         "'hf:%s' is not hf:org/model or hf:org/model:FILE", source);
    if (status == JT_OK)
        status = jt_hub_choose(&files, repository, wanted, err);
    if (status == JT_OK && o->sha256 && files.count > 1)
        status = jt_fail(err, JT_E_ARG, "one sum for %zu files", files.count);
    if (status == JT_OK)
        status = fetch_all(folder, repository, &files, o, err);
    if (status == JT_OK)
        status = name_model(name, repository, &files, err);
    jt_hub_free(&files);
    free(repository);
    return status;
}

/* ---- any address ---- */

static jt_status pull_from_address(char **name, const char *folder, const char *url,
                                   const jt_pull_options *o, jt_err *err)
{
    size_t len = strcspn(url, "?#");
    while (len && url[len - 1] == '/')
        len--;
    size_t start = len;
    while (start && url[start - 1] != '/')
        start--;
    char *file = strndup(url + start, len - start);
    if (!file)
        return jt_fail_memory(err, "fetching a model");
    jt_download d = {.url = url, .sha256 = o->sha256, .progress = &o->progress};
    const char *end = strrchr(file, '.');
    jt_status status = JT_OK;
    if (!jt_hub_safe(file) || !end || strcasecmp(end, ".gguf") != 0)
        status = jt_fail(err, JT_E_ARG,
                         "'%s' does not end with the name of a GGUF file", url);
    if (status == JT_OK)
        status = fetch(folder, file, &d, err);
    if (status == JT_OK && !(*name = without_end(file)))
        status = jt_fail_memory(err, "naming a model");
    free(file);
    return status;
}

jt_status jt_shelf_pull(char **name, const char *source, const jt_pull_options *options,
                        jt_err *err)
{
    enum { DIGITS = 64 };
    static const jt_pull_options usual;
    const jt_pull_options *o = options ? options : &usual;
    char *folder;
    if (o->sha256 && (strlen(o->sha256) != DIGITS ||
                      strspn(o->sha256, "0123456789abcdefABCDEF") != DIGITS))
        return jt_fail(err, JT_E_ARG, "'%s' is no SHA-256 sum: %d digits", o->sha256,
                       DIGITS);
    JT_TRY(jt_shelf_folder(&folder, err));
    jt_status status;
    if (strncmp(source, "hf:", 3) == 0)
        status = pull_from_hub(name, folder, source + 3, o, err);
    else if (strncasecmp(source, "https://", 8) == 0 ||
             strncasecmp(source, "http://", 7) == 0)
        status = pull_from_address(name, folder, source, o, err);
    else
        status = jt_fail(err, JT_E_ARG,
                         "'%s' is neither hf:org/model nor an http address", source);
    free(folder);
    return status;
}
