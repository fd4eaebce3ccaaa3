/* Stacks of experts with planes (docs/formats.md, "Nested experts"). */
#ifndef JT_MODEL_NESTED_FILE_H
#define JT_MODEL_NESTED_FILE_H

#include "junto/gguf.h"

/* The plane of bit `bit` (3, ..) of a stack named `stack` ("blk.3.ffn_up_exps.weight");
 * NULL: it has none. JT_E_FORMAT: the plane does not fit the stack, which is `t`. */
jt_status jt_nested_plane(const jt_gguf_tensor **out, const jt_gguf *file,
                          const jt_gguf_tensor *t, int bit, jt_err *err);
/* Bits of the codes of a stack: 2 and its planes; 0: it is not nested. */
jt_status jt_nested_bits(int *bits, const jt_gguf *file, const jt_gguf_tensor *t,
                         jt_err *err);
/* Is this the name of a plane? */
bool jt_nested_is_plane(jt_str name);

/* Put in the place of *file one in which nested stacks are whole, with all their bits,
 * in memory; it then owns *file. Files that need nothing stay. On failure *file is
 * still the caller's. JT_E_FORMAT, JT_E_MEMORY. */
jt_status jt_weave_experts(jt_gguf **file, jt_err *err);

#endif
