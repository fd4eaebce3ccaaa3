/* The models of the folder: listing, finding, removing. */
#include "junto/shelf.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

jt_status jt_shelf_folder(char **out, jt_err *err)
{
    const char *own = getenv("JUNTO_MODELS"), *data = getenv("XDG_DATA_HOME");
    const char *home = getenv("HOME");
    int made;
    if (own && *own)
        made = asprintf(out, "%s", own);
    else if (data && *data == '/')
        made = asprintf(out, "%s/junto/models", data);
    else if (home && *home)
        made = asprintf(out, "%s/.local/share/junto/models", home);
    else
        return jt_fail(err, JT_E_ARG,
                       "no folder for models: set HOME, XDG_DATA_HOME or JUNTO_MODELS");
    return made >= 0 ? JT_OK : jt_fail_memory(err, "naming a folder");
}

/* ---- listing ---- */

typedef struct shelf {
    jt_shelf_model *list;
    size_t count, capacity;
    size_t folder; /* length of its path, with a slash */
} shelf;

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && strcasecmp(text + n - m, end) == 0;
}

/* Which part of a split file this is; 0: none of one. */
static unsigned part_of(const char *path)
{
    enum { TAIL = sizeof "-00001-of-00003.gguf" - 1 };
    size_t n = strlen(path);
    unsigned part, parts;
    if (n <= TAIL || sscanf(path + n - TAIL, "-%5u-of-%5u.gguf", &part, &parts) != 2)
        return 0;
    return part;
}

static jt_status add(shelf *s, const char *path, const struct stat *info, jt_err *err)
{
    size_t len = strlen(path + s->folder);
    len -= ends_with(path, ".gguf") ? sizeof ".gguf" - 1 : 0;
    if (!jt_grow((void **)&s->list, &s->capacity, s->count + 1, sizeof *s->list))
        return jt_fail_memory(err, "listing models");
    jt_shelf_model *m = &s->list[s->count++];
    *m = (jt_shelf_model){.name = strndup(path + s->folder, len),
                          .path = strdup(path),
                          .bytes = S_ISREG(info->st_mode) ? (uint64_t)info->st_size : 0,
                          .changed = (long long)info->st_mtime};
    return m->name && m->path ? JT_OK : jt_fail_memory(err, "listing models");
}

/* The further parts of split models, of which only the first is listed. */
static void add_part(shelf *s, const char *path, uint64_t bytes)
{
    enum { TAIL = sizeof "00001-of-00003.gguf" - 1 };
    for (size_t i = 0; i < s->count; i++) {
        const char *first = s->list[i].path;
        size_t n = strlen(path);
        if (strlen(first) == n && part_of(first) == 1 &&
            strncmp(first, path, n - TAIL) == 0 &&
            strcmp(first + n - TAIL + 5, path + n - TAIL + 5) == 0)
            s->list[i].bytes += bytes;
    }
}

static jt_status walk(shelf *s, const char *folder, int depth, jt_err *err);

static jt_status visit(shelf *s, const char *path, int depth, jt_err *err)
{
    struct stat info, config;
    char *inner = NULL;
    if (stat(path, &info))
        return JT_OK; /* gone meanwhile, or a link to nothing */
    if (S_ISREG(info.st_mode) && ends_with(path, ".gguf")) {
        if (part_of(path) <= 1)
            return add(s, path, &info, err);
        add_part(s, path, (uint64_t)info.st_size);
    }
    if (!S_ISDIR(info.st_mode))
        return JT_OK;
    if (asprintf(&inner, "%s/config.json", path) < 0)
        return jt_fail_memory(err, "listing models");
    bool whole = stat(inner, &config) == 0;
    free(inner);
    return whole ? add(s, path, &info, err) : walk(s, path, depth + 1, err);
}

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static jt_status walk(shelf *s, const char *folder, int depth, jt_err *err)
{
    enum { DEEPEST = 6 };
    struct dirent **entries;
    jt_status status = JT_OK;
    int n = depth < DEEPEST ? scandir(folder, &entries, visible, alphasort) : 0;
    if (n < 0)
        return errno == ENOENT ? JT_OK
                               : jt_fail(err, JT_E_IO, "cannot list '%s': %s", folder,
                                         strerror(errno));
    for (int i = 0; i < n; i++) {
        char *path = NULL;
        if (status == JT_OK && asprintf(&path, "%s/%s", folder, entries[i]->d_name) < 0)
            status = jt_fail_memory(err, "listing models");
        if (status == JT_OK)
            status = visit(s, path, depth, err);
        free(path);
        free(entries[i]);
    }
    if (depth < DEEPEST)
        free(entries);
    return status;
}

/* Bytes of a model that is a folder. */
static uint64_t folder_bytes(const char *folder)
{
    struct dirent **entries;
    uint64_t sum = 0;
    int n = scandir(folder, &entries, visible, NULL);
    for (int i = 0; i < n; i++) {
        char *path = NULL;
        struct stat info;
        if (asprintf(&path, "%s/%s", folder, entries[i]->d_name) >= 0 &&
            stat(path, &info) == 0 && S_ISREG(info.st_mode))
            sum += (uint64_t)info.st_size;
        free(path);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return sum;
}

jt_status jt_shelf_list(jt_shelf_model **out, size_t *count, jt_err *err)
{
    char *folder;
    shelf s = {0};
    JT_TRY(jt_shelf_folder(&folder, err));
    s.folder = strlen(folder) + 1;
    jt_status status = walk(&s, folder, 0, err);
    free(folder);
    for (size_t i = 0; i < s.count && status == JT_OK; i++) {
        if (!ends_with(s.list[i].path, ".gguf"))
            s.list[i].bytes = folder_bytes(s.list[i].path);
    }
    if (status != JT_OK) {
        jt_shelf_free(s.list, s.count);
        return status;
    }
    *out = s.list;
    *count = s.count;
    return JT_OK;
}

void jt_shelf_free(jt_shelf_model *models, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(models[i].name);
        free(models[i].path);
    }
    free(models);
}

/* ---- finding ---- */

/* "hf:org/model:file.gguf" as a name: org/model/file. */
static char *plain_name(const char *name)
{
    bool hub = strncmp(name, "hf:", 3) == 0;
    char *plain = strdup(hub ? name + 3 : name);
    if (plain && hub) {
        for (char *c = plain; (c = strchr(c, ':'));)
            *c = '/';
    }
    if (plain && ends_with(plain, ".gguf"))
        plain[strlen(plain) - (sizeof ".gguf" - 1)] = '\0';
    return plain;
}

/* The end of a name after a slash: 1; all of it: 2. */
static int matches(const char *model, const char *name)
{
    size_t n = strlen(model), m = strlen(name);
    if (strcmp(model, name) == 0)
        return 2;
    return m && n > m && model[n - m - 1] == '/' && strcmp(model + n - m, name) == 0;
}

static const jt_shelf_model *find(const jt_shelf_model *list, size_t count,
                                  const char *name, const jt_shelf_model **other)
{
    const jt_shelf_model *found = NULL;
    *other = NULL;
    for (size_t i = 0; i < count; i++) {
        int match = matches(list[i].name, name);
        if (match == 2) {
            *other = NULL;
            return &list[i];
        }
        if (match && found)
            *other = &list[i];
        else if (match)
            found = &list[i];
    }
    return found;
}

jt_status jt_shelf_find(char **path, const char *name, jt_err *err)
{
    jt_shelf_model *list;
    const jt_shelf_model *other;
    size_t count;
    *path = NULL;
    JT_TRY(jt_shelf_list(&list, &count, err));
    char *plain = plain_name(name);
    const jt_shelf_model *found = plain ? find(list, count, plain, &other) : NULL;
    jt_status status = plain ? JT_OK : jt_fail_memory(err, "finding a model");
    if (found && other)
        status = jt_fail(err, JT_E_ARG, "'%s' may be '%s' or '%s'", name, found->name,
                         other->name);
    else if (found && !(*path = strdup(found->path)))
        status = jt_fail_memory(err, "finding a model");
    free(plain);
    jt_shelf_free(list, count);
    return status;
}

/* ---- removing ---- */

static jt_status delete_file(const char *path, jt_err *err)
{
    return unlink(path) == 0
               ? JT_OK
               : jt_fail(err, JT_E_IO, "cannot delete '%s': %s", path, strerror(errno));
}

/* The files of a folder; those of a part with the same stem only, unless it is NULL. */
static jt_status delete_files(const char *folder, const char *part, jt_err *err)
{
    enum { NUMBER = 5, TAIL = sizeof "00001-of-00003.gguf" - 1 };
    struct dirent **entries;
    jt_status status = JT_OK;
    int n = scandir(folder, &entries, NULL, NULL);
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        size_t len = strlen(name);
        struct stat info;
        char *path = NULL;
        bool meant = !part || (strlen(part) == len && part_of(name) &&
                               strncmp(name, part, len - TAIL) == 0 &&
                               strcmp(name + len - TAIL + NUMBER,
                                      part + len - TAIL + NUMBER) == 0);
        if (status == JT_OK && meant && asprintf(&path, "%s/%s", folder, name) >= 0 &&
            lstat(path, &info) == 0 && !S_ISDIR(info.st_mode))
            status = delete_file(path, err);
        free(path);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return status;
}

/* Folders that are empty now, up to the shelf's. */
static void tidy(char *path, const char *folder)
{
    for (char *slash; (slash = strrchr(path, '/')) && slash > path;) {
        *slash = '\0';
        if (strlen(path) <= strlen(folder) || rmdir(path))
            return;
    }
}

jt_status jt_shelf_remove(const char *name, jt_err *err)
{
    char *path, *folder;
    JT_TRY(jt_shelf_find(&path, name, err));
    if (!path)
        return jt_fail(err, JT_E_ARG, "there is no model '%s' (see 'junto list')",
                       name);
    jt_status status = jt_shelf_folder(&folder, err);
    if (status != JT_OK) {
        free(path);
        return status;
    }
    if (!ends_with(path, ".gguf")) {
        status = delete_files(path, NULL, err);
        if (status == JT_OK)
            rmdir(path);
    } else if (part_of(path)) {
        char *slash = strrchr(path, '/');
        *slash = '\0';
        status = delete_files(path, slash + 1, err);
        *slash = '/';
    } else {
        status = delete_file(path, err);
    }
    if (status == JT_OK)
        tidy(path, folder);
    free(path);
    free(folder);
    return status;
}
