#include "serve/page.h"

#include <stdlib.h>
#include <string.h>

static const jt_page_file *find(const char *path)
{
    static const char folder[] = "/page/";
    const char *name = "index.html";
    if (strcmp(path, "/") != 0) {
        if (strncmp(path, folder, sizeof folder - 1) != 0)
            return NULL;
        name = path + sizeof folder - 1;
    }
    for (const jt_page_file *file = jt_page_files; file->name; file++) {
        if (strcmp(file->name, name) == 0)
            return file;
    }
    return NULL;
}

bool jt_page_has(const char *path)
{
    return find(path) != NULL;
}

static const char *type_of(const char *name)
{
    const char *end = strrchr(name, '.');
    if (strcmp(end, ".js") == 0)
        return "text/javascript; charset=utf-8";
    return strcmp(end, ".css") == 0 ? "text/css; charset=utf-8"
                                    : "text/html; charset=utf-8";
}

void jt_page_answer(const char *path, jt_http_answer *answer)
{
    const jt_page_file *file = find(path);
    *answer = (jt_http_answer){
        .status = 200,
        .type = type_of(file->name),
        .rules = "default-src 'none'; script-src 'self'; style-src 'self'; "
                 "connect-src 'self'; img-src data:; base-uri 'none'; "
                 "form-action 'none'; frame-ancestors 'none'",
        .body = strdup(file->text),
    };
    answer->len = answer->body ? strlen(answer->body) : 0; /* no memory: empty */
}
