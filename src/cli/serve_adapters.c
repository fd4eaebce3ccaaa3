#include "serve_adapters.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* The last part of a path, without what says that it is an adapter. */
static char *name_of(const char *path)
{
    static const char *const ends[] = {".safetensors", ".gguf"};
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    size_t start = len;
    while (start && path[start - 1] != '/')
        start--;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t tail = strlen(ends[i]);
        if (len - start > tail && strncasecmp(path + len - tail, ends[i], tail) == 0)
            len -= tail;
    }
    return strndup(path + start, len - start);
}

static jt_status read_offer(jt_adapter_offer *out, const char *item, jt_err *err)
{
    const char *equals = access(item, F_OK) == 0 ? NULL : strchr(item, '=');
    cli_adapter_at at;
    char *path = NULL;
    JT_TRY(cli_adapter_item(equals ? equals + 1 : item, &path, &at, err));
    out->path = path;
    out->scale = at.scale;
    out->has_task = at.has_task;
    out->task = at.task;
    out->name = equals ? strndup(item, (size_t)(equals - item)) : name_of(path);
    if (!out->name)
        return jt_fail(err, JT_E_MEMORY, "out of memory for adapters");
    return *out->name ? JT_OK
                      : jt_fail(err, JT_E_ARG, "--adapter: '%s' has no name", item);
}

jt_status serve_adapters_open(serve_adapters *out, const cli_list *given, jt_err *err)
{
    out->offers = calloc(given->count + 1, sizeof *out->offers);
    if (!out->offers)
        return jt_fail(err, JT_E_MEMORY, "out of memory for adapters");
    for (size_t i = 0; i < given->count; i++) {
        out->count++;
        JT_TRY(read_offer(&out->offers[i], given->items[i], err));
    }
    return JT_OK;
}

void serve_adapters_close(serve_adapters *adapters)
{
    for (size_t i = 0; i < adapters->count; i++) {
        free((char *)adapters->offers[i].name);
        free((char *)adapters->offers[i].path);
    }
    free(adapters->offers);
    *adapters = (serve_adapters){0};
}
