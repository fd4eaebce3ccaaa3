/* The inside of open safetensors files, shared by safetensors.c (one file) and
 * safetensors_folder.c (shards and their index). */
#ifndef JT_FORMAT_SAFETENSORS_FILE_H
#define JT_FORMAT_SAFETENSORS_FILE_H

#include "base/file.h"
#include "base/memory.h"
#include "format/names.h"
#include "junto/safetensors.h"

/* What a file says of itself. */
typedef struct jt_safetensors_note {
    jt_str key, value;
} jt_safetensors_note;

struct jt_safetensors {
    jt_arena arena; /* strings with escapes */
    jt_map *maps;
    size_t n_maps, maps_room;
    jt_safetensor *list;
    size_t count, room;
    jt_safetensors_note *notes;
    size_t n_notes, notes_room;
    jt_names names;
    char ending[8]; /* that names of the file at hand get: ".TP-003", or "" */
};

/* Read one file's header and append its tensors. Errors do not name the file. */
jt_status jt_safetensors_parse(jt_safetensors *s, const void *data, size_t bytes,
                               jt_err *err);

/* Map a file and append its tensors; errors name it. */
jt_status jt_safetensors_map(jt_safetensors *s, const char *path, jt_err *err);

/* Open what a folder holds. */
jt_status jt_safetensors_folder(jt_safetensors *s, const char *folder, jt_err *err);

/* "FOLDER/NAME", which the caller frees; NULL: out of memory. */
char *jt_safetensors_path(const char *folder, const char *name, size_t len);

/* Names of shards: which of how many. */
enum { JT_SHARD_NAME = 256 };
#define JT_SHARD_FORMAT "model-%05zu-of-%05zu.safetensors"
#define JT_SHARD_WHOLE  "model.safetensors"
#define JT_SHARD_INDEX  "model.safetensors.index.json"

/* Files of a model that was cut for several devices: those with whole tensors, and
 * those of device 003. */
#define JT_SHARD_COMMON "-TP-common.safetensors"
#define JT_SHARD_DEVICE "-TP-003.safetensors"

#endif
