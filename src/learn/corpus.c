#include "learn/corpus.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static bool is_text(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && dot > name && strcmp(dot, ".txt") == 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static jt_status add(jt_corpus *corpus, size_t *capacity, const char *dir,
                     const char *name, jt_err *err)
{
    size_t bytes = strlen(dir) + strlen(name) + 2;
    char *path = jt_alloc(bytes, 1);
    if (!path || !jt_grow((void **)&corpus->path, capacity, corpus->count + 1,
                          sizeof *corpus->path)) {
        free(path);
        return jt_fail_memory(err, "reading a folder");
    }
    snprintf(path, bytes, "%s/%s", dir, name);
    corpus->path[corpus->count++] = path;
    return JT_OK;
}

static jt_status take_texts(jt_corpus *corpus, DIR *folder, const char *dir,
                            jt_err *err)
{
    size_t capacity = 0;
    const struct dirent *entry;
    while ((entry = readdir(folder))) {
        if (is_text(entry->d_name))
            JT_TRY(add(corpus, &capacity, dir, entry->d_name, err));
    }
    if (corpus->count == 0)
        return jt_fail(err, JT_E_ARG,
                       "'%s' has no text (NAME.txt) in it; 'tools/corpus DIR' of "
                       "Junto's source makes a folder that has",
                       dir);
    qsort(corpus->path, corpus->count, sizeof *corpus->path, by_name);
    return JT_OK;
}

jt_status jt_corpus_open(jt_corpus *out, const char *dir, jt_err *err)
{
    jt_corpus corpus = {0};
    DIR *folder = opendir(dir);
    if (!folder)
        return jt_fail(err, JT_E_IO,
                       "cannot open the folder '%s': %s ('tools/corpus DIR' of Junto's "
                       "source makes one)",
                       dir, strerror(errno));
    jt_status status = take_texts(&corpus, folder, dir, err);
    closedir(folder);
    if (status == JT_OK)
        *out = corpus;
    else
        jt_corpus_free(&corpus);
    return status;
}

void jt_corpus_free(jt_corpus *corpus)
{
    for (size_t i = 0; i < corpus->count; i++)
        free(corpus->path[i]);
    free(corpus->path);
    *corpus = (jt_corpus){0};
}
