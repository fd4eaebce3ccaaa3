/* The inside of a writer, shared by gguf_write_keys.c (setters), gguf_write.c (tensors
 * and bytes) and gguf_memory.c (files that are never written). */
#ifndef JT_FORMAT_GGUF_WRITER_H
#define JT_FORMAT_GGUF_WRITER_H

#include "base/file.h"
#include "format/gguf_file.h"

typedef struct jt_written_key {
    char *name;
    uint32_t type;
    unsigned char *raw; /* the encoded value */
    size_t raw_bytes;
} jt_written_key;

/* `pub.name` is the writer's own; `pub.data` and `pub.pieces` are those of a file in
 * memory, NULL otherwise. */
typedef struct jt_written_tensor {
    char *name;
    jt_gguf_tensor pub;
} jt_written_tensor;

/* Who sees the bytes of tensors on their way, and those between them; NULL: nobody. */
typedef struct jt_gguf_tap {
    void (*seen)(void *user, const void *data, size_t bytes);
    void *user;
} jt_gguf_tap;

struct jt_gguf_writer {
    jt_output out; /* empty for a file in memory: its bytes gather in `head` */
    unsigned char *head;
    size_t head_bytes, head_room;
    jt_written_key *keys;
    size_t n_keys, keys_room;
    jt_written_tensor *tensors;
    size_t n_tensors, tensors_room;
    jt_names names; /* of tensors */
    size_t alignment;
    size_t current;      /* the tensor whose data comes next */
    uint64_t done;       /* bytes of it that are written */
    uint64_t data_bytes; /* of all tensors, without padding */
    bool head_written, failed;
    jt_gguf_tap tap;
};

/* A name of a key or tensor that comes in time and can be one. */
jt_status jt_gguf_writer_check_name(const jt_gguf_writer *w, const char *what,
                                    jt_str name, jt_err *err);

/* A key that was set, as it will be read: name, type and encoded value. False when
 * there is none. */
bool jt_gguf_written(const jt_gguf_writer *w, const char *key, jt_gguf_kv *kv);

/* From now on. Before the first data the head goes the same way. */
void jt_gguf_writer_tap(jt_gguf_writer *w, jt_gguf_tap tap);

/* Magic, counts, keys and the descriptions of the first `n_tensors` tensors. */
jt_status jt_gguf_writer_head(jt_gguf_writer *w, size_t n_tensors, jt_err *err);

/* All but the output. */
void jt_gguf_writer_free(jt_gguf_writer *w);

#endif
