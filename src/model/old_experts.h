/* GGUF files from before stacked experts. */
#ifndef JT_MODEL_OLD_EXPERTS_H
#define JT_MODEL_OLD_EXPERTS_H

#include "junto/gguf.h"

/* Put in the place of *file one in which the experts of a layer are one tensor, in
 * pieces that lie in *file, which it then owns. Files that need nothing stay. On
 * failure *file is still the caller's. */
jt_status jt_stack_old_experts(jt_gguf **file, jt_err *err);

#endif
