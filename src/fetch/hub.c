#include "fetch/hub.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "fetch/download.h"

bool jt_hub_safe(const char *path)
{
    bool start = true;
    for (const char *c = path; *c; c++) {
        bool known = isalnum((unsigned char)*c) || strchr("-_.+=@, ()/", *c);
        if (!known || (start && (*c == '.' || *c == '/' || *c == ' ')))
            return false;
        start = *c == '/';
    }
    return !start;
}

/* ---- addresses ---- */

/* `path` as part of an address, behind `before`. */
static char *make_url(const char *before, const char *path)
{
    size_t at = strlen(before);
    char *url = jt_alloc(at + 3 * strlen(path) + 1, 1);
    if (!url)
        return NULL;
    memcpy(url, before, at + 1);
    for (const char *c = path; *c; c++) {
        bool plain = isalnum((unsigned char)*c) || strchr("-_.~/", *c);
        at += (size_t)sprintf(url + at, plain ? "%c" : "%%%02X", (unsigned char)*c);
    }
    return url;
}

/* ---- the listing ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcasecmp(text + n - m, end) == 0;
}

static jt_status add_file(jt_hub_files *files, const json_t *entry, const char *before,
                          jt_err *err)
{
    const char *path = json_string_value(json_object_get(entry, "path"));
    const json_t *large = json_object_get(entry, "lfs");
    const char *sum = json_string_value(json_object_get(large, "oid"));
    json_int_t bytes = json_integer_value(json_object_get(entry, "size"));
    const char *type = json_string_value(json_object_get(entry, "type"));
    if (!path || !type || strcmp(type, "file") != 0 || !jt_hub_safe(path))
        return JT_OK; /* folders, hidden files */
    jt_hub_file *file = &files->list[files->count++];
    file->path = strdup(path);
    file->url = make_url(before, path);
    file->bytes = bytes > 0 ? (uint64_t)bytes : 0;
    if (sum && strlen(sum) == sizeof file->sha256 - 1)
        memcpy(file->sha256, sum, sizeof file->sha256);
    return file->path && file->url ? JT_OK
                                   : jt_fail_memory(err, "listing a repository");
}

static jt_status read_listing(jt_hub_files *out, const json_t *list, const char *before,
                              const char *repository, jt_err *err)
{
    size_t n = json_array_size(list);
    if (!json_is_array(list))
        return jt_fail(err, JT_E_FORMAT, "the hub's listing of '%s' is no JSON list",
                       repository);
    out->list = jt_calloc(n + 1, sizeof *out->list);
    if (!out->list)
        return jt_fail_memory(err, "listing a repository");
    for (size_t i = 0; i < n; i++)
        JT_TRY(add_file(out, json_array_get(list, i), before, err));
    return JT_OK;
}

/* ---- choosing ---- */

/* How much of a name all parts of a split file share: NAME-00001-of-00003.gguf. */
static size_t stem(const char *path)
{
    enum { TAIL = sizeof "-00001-of-00003.gguf" - 1 };
    size_t n = strlen(path);
    unsigned part, parts;
    int used = 0;
    if (n > TAIL &&
        sscanf(path + n - TAIL, "-%5u-of-%5u.gguf%n", &part, &parts, &used) == 2 &&
        used == TAIL)
        return n - TAIL;
    return n;
}

static bool same_model(const char *a, const char *b)
{
    size_t n = stem(a);
    return n == stem(b) && strncmp(a, b, n) == 0 && (a[n] != '\0') == (b[n] != '\0');
}

static void free_file(jt_hub_file *file)
{
    free(file->path);
    free(file->url);
}

/* Keep those that are chosen. */
static void keep(jt_hub_files *files,
                 bool (*chosen)(const char *path, const char *with), const char *with)
{
    size_t kept = 0;
    for (size_t i = 0; i < files->count; i++) {
        if (chosen(files->list[i].path, with))
            files->list[kept++] = files->list[i];
        else
            free_file(&files->list[i]);
    }
    files->count = kept;
}

static bool is_meant(const char *path, const char *wanted)
{
    return strcmp(path, wanted) == 0 ||
           (ends_with(path, ".gguf") && strcasestr(path, wanted));
}

static bool is_exactly(const char *path, const char *wanted)
{
    return strcmp(path, wanted) == 0;
}

static bool is_gguf(const char *path, const char *with)
{
    (void)with;
    return ends_with(path, ".gguf") && !strcasestr(path, "mmproj") &&
           !strcasestr(path, "imatrix");
}

/* What a Hugging Face folder needs. */
static bool is_of_folder(const char *path, const char *with)
{
    (void)with;
    return !strchr(path, '/') &&
           (ends_with(path, ".safetensors") || ends_with(path, ".json") ||
            ends_with(path, ".model") || ends_with(path, ".txt") ||
            ends_with(path, ".jinja"));
}

static bool has(const jt_hub_files *files, bool (*chosen)(const char *, const char *),
                const char *with)
{
    for (size_t i = 0; i < files->count; i++) {
        if (chosen(files->list[i].path, with))
            return true;
    }
    return false;
}

static jt_status refuse_several(const jt_hub_files *files, const char *repository,
                                jt_err *err)
{
    char names[400] = "";
    size_t at = 0;
    for (size_t i = 0; i < files->count && at < sizeof names; i++) {
        if (i == 0 || !same_model(files->list[i].path, files->list[i - 1].path))
            at += (size_t)snprintf(names + at, sizeof names - at, "%s%s",
                                   at ? ", " : "", files->list[i].path);
    }
    return jt_fail(err, JT_E_ARG,
                   "'%s' has several models, choose one with :FILE: %s%s", repository,
                   names, at >= sizeof names ? " .." : "");
}

static jt_status choose(jt_hub_files *files, const char *repository, const char *wanted,
                        jt_err *err)
{
    if (wanted)
        keep(files, has(files, is_exactly, wanted) ? is_exactly : is_meant, wanted);
    else if (has(files, is_gguf, NULL))
        keep(files, is_gguf, NULL);
    else
        keep(files, is_of_folder, NULL);
    if (files->count == 0)
        return jt_fail(err, JT_E_ARG, "'%s' has no model%s%s", repository,
                       wanted ? " called " : "", wanted ? wanted : "");
    for (size_t i = 1; i < files->count && is_gguf(files->list[0].path, NULL); i++) {
        if (!same_model(files->list[i].path, files->list[0].path))
            return refuse_several(files, repository, err);
    }
    return JT_OK;
}

jt_status jt_hub_read(jt_hub_files *out, const char *listing, size_t bytes,
                      const char *endpoint, const char *repository, const char *wanted,
                      jt_err *err)
{
    char *before = NULL;
    *out = (jt_hub_files){0};
    if (asprintf(&before, "%s/%s/resolve/main/", endpoint, repository) < 0)
        return jt_fail_memory(err, "listing a repository");
    json_t *list = json_loadb(listing, bytes, 0, NULL);
    jt_status status = read_listing(out, list, before, repository, err);
    json_decref(list);
    free(before);
    return status == JT_OK ? choose(out, repository, wanted, err) : status;
}

jt_status jt_hub_choose(jt_hub_files *out, const char *repository, const char *wanted,
                        jt_err *err)
{
    enum { LIMIT = 64 << 20 };
    const char *given = getenv("HF_ENDPOINT"), *token = getenv("HF_TOKEN");
    const char *endpoint = given && *given ? given : "https://huggingface.co";
    char *url = NULL, *text = NULL;
    size_t bytes;
    *out = (jt_hub_files){0};
    if (asprintf(&url, "%s/api/models/%s/tree/main?recursive=true", endpoint,
                 repository) < 0)
        return jt_fail_memory(err, "listing a repository");
    jt_status status = jt_download_text(&text, &bytes, url,
                                        token && *token ? token : NULL, LIMIT, err);
    free(url);
    if (status == JT_OK)
        status = jt_hub_read(out, text, bytes, endpoint, repository, wanted, err);
    free(text);
    return status;
}

void jt_hub_free(jt_hub_files *files)
{
    for (size_t i = 0; i < files->count; i++)
        free_file(&files->list[i]);
    free(files->list);
    *files = (jt_hub_files){0};
}
