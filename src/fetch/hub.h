/* What a repository of a Hugging Face hub holds, and which of it is a model. */
#ifndef JT_HUB_H
#define JT_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"

typedef struct jt_hub_file {
    char *path, *url;
    char sha256[65]; /* empty: not known */
    uint64_t bytes;
} jt_hub_file;

typedef struct jt_hub_files {
    jt_hub_file *list;
    size_t count;
} jt_hub_files;

/* The files of the model that "org/name" and `wanted` mean. Without `wanted`: the GGUF
 * file if there is one (all its parts, if it is split), otherwise the folder with
 * safetensors. With it: that file, or the GGUF file with this in its name. Freed with
 * jt_hub_free, also after a failure. JT_E_ARG (several, none), JT_E_IO, JT_E_FORMAT,
 * JT_E_MEMORY. */
jt_status jt_hub_choose(jt_hub_files *out, const char *repository, const char *wanted,
                        jt_err *err);
void jt_hub_free(jt_hub_files *files);

/* The same from a listing, of the hub at `endpoint`. */
jt_status jt_hub_read(jt_hub_files *out, const char *listing, size_t bytes,
                      const char *endpoint, const char *repository, const char *wanted,
                      jt_err *err);

/* Of a name that is safe below a folder: parts between slashes, none of them empty or
 * beginning with a dot. */
bool jt_hub_safe(const char *path);

#endif
