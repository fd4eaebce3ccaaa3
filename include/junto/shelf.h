/* The shelf: models by name, in a folder of the user, and how they get there.
 *
 *     char *name, *path;
 *     jt_shelf_pull(&name, "hf:org/model:model-q4_k.gguf", NULL, &err);
 *     jt_shelf_find(&path, name, &err);               // what jt_model_load takes
 *
 * The folder is $JUNTO_MODELS, otherwise junto/models in $XDG_DATA_HOME, otherwise
 * ~/.local/share/junto/models. A model is a GGUF file in it (of a split one the first
 * part), or a folder with a config.json; its name is its path in there, without .gguf.
 * docs/shelf.md. */
#ifndef JUNTO_SHELF_H
#define JUNTO_SHELF_H

#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The folder, which need not be there; the caller frees. JT_E_ARG (no home either),
 * JT_E_MEMORY. */
JT_API jt_status jt_shelf_folder(char **out, jt_err *err);

typedef struct jt_shelf_model {
    char *name, *path;
    uint64_t bytes;    /* with all parts and files of it */
    long long changed; /* seconds since 1970 */
} jt_shelf_model;

/* All models, by name. The caller frees with jt_shelf_free. JT_E_IO, JT_E_MEMORY. */
JT_API jt_status jt_shelf_list(jt_shelf_model **out, size_t *count, jt_err *err);
JT_API void jt_shelf_free(jt_shelf_model *models, size_t count);

/* The path of a model: by its name, by the end of its name (after a /) where no other
 * ends so, or by where it came from ("hf:org/model:file.gguf"). *path is NULL when
 * there is none; the caller frees it. JT_E_ARG (several), those of jt_shelf_list. */
JT_API jt_status jt_shelf_find(char **path, const char *name, jt_err *err);

/* Take a model, found as above, off the shelf: deletes its files, and folders that are
 * then empty. JT_E_ARG (there is none), JT_E_IO, JT_E_MEMORY. */
JT_API jt_status jt_shelf_remove(const char *name, jt_err *err);

typedef struct jt_pull_options {
    const char *sha256; /* of the one file, in hexadecimal; default: what the source
                           says, otherwise not checked */
    jt_progress progress;
} jt_pull_options;

/* Fetch a model: "hf:org/model", "hf:org/model:FILE" (a file, or a part of the name of
 * one GGUF file, as Q4_K_M) or the address of a GGUF file. What an earlier call has
 * begun is gone on with. *name is that of the model; the caller frees it. `options` may
 * be NULL. HF_ENDPOINT names another hub, HF_TOKEN is shown to it. JT_E_ARG (no such
 * source; several files, and which), JT_E_IO (net, disk, a checksum that differs),
 * JT_E_INTERRUPTED, JT_E_MEMORY. */
JT_API jt_status jt_shelf_pull(char **name, const char *source,
                               const jt_pull_options *options, jt_err *err);

#ifdef __cplusplus
}
#endif
#endif
