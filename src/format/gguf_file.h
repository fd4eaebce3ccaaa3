/* The inside of an open GGUF file, shared by gguf_parse.c (one part), gguf_read.c (the
 * whole) and gguf_keys.c (getters). */
#ifndef JT_FORMAT_GGUF_FILE_H
#define JT_FORMAT_GGUF_FILE_H

#include "base/file.h"
#include "base/memory.h"
#include "format/names.h"
#include "junto/gguf.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "GGUF values are read and written in the order of this machine");

enum {
    JT_GGUF_ALIGNMENT = 32,   /* when general.alignment is absent */
    JT_GGUF_NAME_MOST = 65535 /* bytes of the name of a key or tensor */
};

/* `pub` comes first: getters of array items get a pointer to it. */
typedef struct jt_gguf_key {
    jt_gguf_kv pub;
    const jt_str *items; /* of an array of strings */
} jt_gguf_key;

typedef struct jt_gguf_keys {
    jt_gguf_key *list;
    size_t count;
    jt_names names;
} jt_gguf_keys;

/* One file of a split model, or the only one. `data` and `bytes` are set by the caller;
 * jt_gguf_parse fills in the rest. */
typedef struct jt_gguf_part {
    jt_map map;       /* {0} when the data is the caller's */
    const char *path; /* NULL then */
    const unsigned char *data;
    size_t bytes;
    jt_gguf_keys keys;
    jt_gguf_tensor *tensors;
    size_t n_tensors;
} jt_gguf_part;

struct jt_gguf {
    char *path;
    jt_arena arena;      /* all lists */
    jt_gguf_part *parts; /* the keys of the first are the keys of the whole */
    size_t n_parts;
    uint64_t bytes;
    jt_gguf_tensor *tensors;
    size_t n_tensors;
    jt_names names; /* of tensors */
    /* Of a file that was made in memory. */
    unsigned char *head;
    jt_gguf_owner owner;
    bool laid_out; /* the plain form of one with the layout "experts" */
};

/* Read and check header, keys and tensor descriptions of one part. Duplicate tensor
 * names are the caller's to find: they may lie in different parts. keys.names must be
 * freed also after a failure. */
jt_status jt_gguf_parse(jt_gguf_part *part, jt_arena *arena, jt_err *err);

/* An empty file with room for one part; to be closed also when what follows fails. */
jt_status jt_gguf_new(jt_gguf **out, const char *path, jt_err *err);
/* Index file->tensors by name; no name may be there twice. */
jt_status jt_gguf_index(jt_gguf *file, jt_err *err);

/* Where in the files of an opened model `bytes` bytes at `data` lie: the part, and
 * *offset in it; NULL when they are not part of a mapped file. */
const jt_gguf_part *jt_gguf_locate(const jt_gguf *file, const void *data, size_t bytes,
                                   uint64_t *offset);
/* Give back the memory through which the files were read so far. */
void jt_gguf_forget(const jt_gguf *file);

const jt_gguf_kv *jt_gguf_keys_find(const jt_gguf_keys *keys, const char *key);

/* An integer (or bool: 0 or 1) value. false: of another kind or out of range. */
bool jt_gguf_integer(const jt_gguf_kv *kv, int64_t *value);

/* Any number as a float. */
bool jt_gguf_number(const jt_gguf_kv *kv, float *value);

/* Bytes of a value of a type of fixed size; 0 for strings, arrays, unknown types. */
size_t jt_gguf_type_bytes(uint32_t type);

/* Arguments for "%.*s" that keep a long name from pushing the reason out of a message.
 */
#define JT_GGUF_SHOW(s) ((s).len < 160 ? (int)(s).len : 160), (s).data

#endif
