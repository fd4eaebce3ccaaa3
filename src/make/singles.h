/* The tensors of a file with its experts one by one, each in one piece and with a
 * checksum: the layout "experts" (docs/formats.md). */
#ifndef JT_MAKE_SINGLES_H
#define JT_MAKE_SINGLES_H

#include "junto/gguf.h"

typedef struct jt_singles jt_singles;

/* Of a plain file, which is borrowed. JT_E_UNSUPPORTED (no experts, nested ones),
 * JT_E_FORMAT, JT_E_MEMORY. */
jt_status jt_singles_new(jt_singles **out, const jt_gguf *file, jt_err *err);
void jt_singles_free(jt_singles *s); /* NULL is fine */

/* In the order in which they are written. The data of checksums is there when all
 * before them are written. */
size_t jt_singles_count(const jt_singles *s);
const jt_gguf_tensor *jt_singles_at(const jt_singles *s, size_t i);

/* The stack that a tensor is matrix *expert of; NULL: it is none of an expert. */
const jt_gguf_tensor *jt_singles_stack(const jt_singles *s, size_t i, int *expert);

/* The keys of the layout. */
jt_status jt_singles_set_keys(const jt_singles *s, jt_gguf_writer *w, jt_err *err);
/* Before the data of tensor `i` is written: what is written is summed. */
void jt_singles_begin(jt_singles *s, jt_gguf_writer *w, size_t i);

/* Compare the checksums of a file, if it has any. JT_E_IO names the expert that is
 * damaged. */
jt_status jt_singles_check(const char *path, const jt_progress *progress, jt_err *err);

#endif
