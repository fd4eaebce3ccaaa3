/* Blends in Junto's own files; docs/adapters.md describes them. */
#ifndef JT_ADAPT_BLEND_FILE_H
#define JT_ADAPT_BLEND_FILE_H

#include "adapt/blend.h"
#include "junto/safetensors.h"

/* *out NULL: the file has none. JT_E_FORMAT, JT_E_UNSUPPORTED (another method),
 * JT_E_MEMORY. */
jt_status jt_blend_read(jt_blend **out, const jt_safetensors *file, jt_err *err);
/* Is this the name of one of its tensors? */
bool jt_blend_owns(jt_str name);

/* Metadata and descriptions; then, after what was described before, the values. */
jt_status jt_blend_describe(const jt_blend *blend, jt_safetensors_writer *w,
                            jt_err *err);
jt_status jt_blend_write(const jt_blend *blend, jt_safetensors_writer *w, jt_err *err);

#endif
