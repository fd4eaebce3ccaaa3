/* Folders: one file, or shards and the index that says which tensor lies in which, or
 * files of a model that was cut for several devices (Grok-2), which have no index. */
#include "format/safetensors_file.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "format/gguf_file.h"
#include "format/json.h"

enum { INDEX_MOST = 256 << 20 }; /* bytes of an index */

char *jt_safetensors_path(const char *folder, const char *name, size_t len)
{
    size_t bytes = strlen(folder) + 1 + len + 1;
    char *path = jt_alloc(bytes, 1);
    if (path)
        snprintf(path, bytes, "%s/%.*s", folder, (int)len, name);
    return path;
}

/* The shards in the order in which the index names them, and how far each reaches in
 * the list of tensors. */
typedef struct shards {
    jt_safetensors *s;
    const char *folder;
    jt_names names;
    jt_str *list;
    size_t *end; /* [count] tensors of this shard and those before it */
    size_t count, list_room, end_room;
    jt_names seen; /* tensors that the index names */
    size_t entries;
    jt_err *err;
} shards;

/* A file name and nothing else: an index must not lead out of its folder. */
static bool is_plain(jt_str name)
{
    static const char suffix[] = ".safetensors";
    size_t len = sizeof suffix - 1;
    return name.len > len && name.len <= 255 && name.data[0] != '.' &&
           memcmp(name.data + name.len - len, suffix, len) == 0 &&
           !memchr(name.data, '/', name.len) && !memchr(name.data, '\0', name.len);
}

/* Open a shard that the index names for the first time. */
static jt_status add_shard(shards *a, jt_str name)
{
    if (!is_plain(name))
        return jt_fail(a->err, JT_E_FORMAT, "'%.*s' is no name of a shard",
                       JT_GGUF_SHOW(name));
    if (!jt_grow((void **)&a->list, &a->list_room, a->count + 1, sizeof *a->list) ||
        !jt_grow((void **)&a->end, &a->end_room, a->count + 1, sizeof *a->end) ||
        !jt_names_add(&a->names, name, a->count))
        return jt_fail_memory(a->err, "reading an index of shards");
    char *path = jt_safetensors_path(a->folder, name.data, name.len);
    if (!path)
        return jt_fail_memory(a->err, "reading an index of shards");
    jt_status status = jt_safetensors_map(a->s, path, a->err);
    free(path);
    a->list[a->count] = name;
    a->end[a->count++] = a->s->count;
    return status;
}

/* The index says that `tensor` lies in `shard`; the shard is open then. */
static jt_status check_entry(shards *a, jt_str tensor, jt_str shard)
{
    size_t i = jt_names_find(&a->names, shard);
    if (i == JT_NAMES_NONE) {
        i = a->count;
        JT_TRY(add_shard(a, shard));
    }
    size_t t = jt_names_find(&a->s->names, tensor);
    size_t start = i ? a->end[i - 1] : 0;
    if (t == JT_NAMES_NONE || t < start || t >= a->end[i])
        return jt_fail(a->err, JT_E_FORMAT,
                       "tensor '%.*s' is not in '%.*s', as the index says; do these "
                       "shards belong together?",
                       JT_GGUF_SHOW(tensor), JT_GGUF_SHOW(shard));
    return JT_OK;
}

/* An entry must be the only one of its name. */
static jt_status add_entry(shards *a, jt_str tensor, jt_str shard)
{
    if (jt_names_find(&a->seen, tensor) != JT_NAMES_NONE)
        return jt_fail(a->err, JT_E_FORMAT, "tensor '%.*s' appears twice",
                       JT_GGUF_SHOW(tensor));
    if (!jt_names_add(&a->seen, tensor, a->entries++))
        return jt_fail_memory(a->err, "reading an index of shards");
    return check_entry(a, tensor, shard);
}

static jt_status read_index(shards *a, const char *text, size_t bytes, jt_arena *arena)
{
    jt_json j;
    jt_json_open(&j, text, bytes, arena, a->err);
    jt_json_enter(&j, JT_JSON_OBJECT);
    while (jt_json_next(&j)) {
        if (!jt_json_key_is(&j, "weight_map"))
            continue;
        jt_json_enter(&j, JT_JSON_OBJECT);
        while (jt_json_next(&j)) {
            jt_str tensor = j.key, shard = jt_json_str(&j);
            if (j.status == JT_OK)
                JT_TRY(add_entry(a, tensor, shard));
        }
    }
    JT_TRY(jt_json_finish(&j));
    if (!a->entries)
        return jt_fail(a->err, JT_E_FORMAT, "it names no tensors");
    if (a->entries < a->s->count)
        return jt_fail(a->err, JT_E_FORMAT,
                       "the shards hold %zu tensors, the index names %zu; do they "
                       "belong together?",
                       a->s->count, a->entries);
    return JT_OK;
}

static jt_status open_shards(jt_safetensors *s, const char *folder, const char *index,
                             jt_err *err)
{
    shards a = {.s = s, .folder = folder, .err = err};
    jt_arena arena = {0};
    char *text;
    size_t bytes;
    JT_TRY(jt_read_file(&text, &bytes, index, INDEX_MOST, err));
    jt_status status = read_index(&a, text, bytes, &arena);
    if (status != JT_OK)
        jt_fail_within(err, status, "'%s'", index);
    jt_names_free(&a.names);
    jt_names_free(&a.seen);
    free(a.list);
    free(a.end);
    free(text);
    jt_arena_free(&arena);
    return status;
}

/* "-TP-common" or "-TP-003": where in a name of a file, or NULL. */
static const char *cut_at(const char *name)
{
    static const char *const endings[] = {JT_SHARD_COMMON, JT_SHARD_DEVICE};
    size_t len = strlen(name);
    for (int i = 0; i < 2; i++) {
        size_t tail = strlen(endings[i]), at = len < tail ? 0 : len - tail;
        bool same = len >= tail && name[0] != '.';
        for (size_t j = 0; same && j < tail; j++) {
            char c = name[at + j], wanted = endings[i][j];
            same = i == 1 && isdigit((unsigned char)wanted) ? isdigit((unsigned char)c)
                                                            : c == wanted;
        }
        if (same)
            return name + at;
    }
    return NULL;
}

static int is_cut(const struct dirent *entry)
{
    return cut_at(entry->d_name) != NULL;
}

static jt_status open_cut(jt_safetensors *s, const char *folder, const char *name,
                          jt_err *err)
{
    const char *ending = cut_at(name);
    char *path = jt_safetensors_path(folder, name, strlen(name));
    if (!path)
        return jt_fail_memory(err, "opening a folder");
    if (isdigit((unsigned char)ending[4]))
        snprintf(s->ending, sizeof s->ending, ".%.6s", ending + 1);
    jt_status status = jt_safetensors_map(s, path, err);
    s->ending[0] = '\0';
    free(path);
    return status;
}

/* Tensors of which each device has a part are "NAME.TP-000", "NAME.TP-001", .. */
static jt_status open_parts(jt_safetensors *s, const char *folder, jt_err *err)
{
    struct dirent **list = NULL;
    int count = scandir(folder, &list, is_cut, alphasort);
    jt_status status = JT_OK;
    if (count <= 0)
        status = jt_fail(err, JT_E_IO, "'%s' holds neither %s nor %s", folder,
                         JT_SHARD_WHOLE, JT_SHARD_INDEX);
    for (int i = 0; i < count; i++) {
        if (status == JT_OK)
            status = open_cut(s, folder, list[i]->d_name, err);
        free(list[i]);
    }
    free(list);
    return status;
}

jt_status jt_safetensors_folder(jt_safetensors *s, const char *folder, jt_err *err)
{
    char *whole = jt_safetensors_path(folder, JT_SHARD_WHOLE, strlen(JT_SHARD_WHOLE));
    char *index = jt_safetensors_path(folder, JT_SHARD_INDEX, strlen(JT_SHARD_INDEX));
    jt_status status;
    if (!whole || !index)
        status = jt_fail_memory(err, "opening a folder");
    else if (access(whole, F_OK) == 0 && access(index, F_OK) == 0)
        status = jt_fail(err, JT_E_FORMAT,
                         "'%s' and '%s' are both there: which is the model?", whole,
                         JT_SHARD_INDEX);
    else if (access(whole, F_OK) == 0)
        status = jt_safetensors_map(s, whole, err);
    else if (access(index, F_OK) == 0)
        status = open_shards(s, folder, index, err);
    else
        status = open_parts(s, folder, err);
    free(whole);
    free(index);
    return status;
}
