/* adapter_config.json of PEFT folders. */
#ifndef JT_ADAPT_PEFT_CONFIG_H
#define JT_ADAPT_PEFT_CONFIG_H

#include <jansson.h>

#include "adapt/adapter.h"

/* Read the text; the caller lets go of *out, also on failure. JT_E_FORMAT with the
 * line.
 */
jt_status jt_peft_parse(json_t **out, const char *text, size_t bytes, jt_err *err);

/* The kind that it describes. JT_E_UNSUPPORTED for others, and for what changes the
 * meaning of tensors in ways that Junto does not know. */
jt_status jt_peft_kind(const json_t *config, const jt_adapter_kind **out, jt_err *err);

/* The number that `name` ("lora_alpha") and its patterns ("alpha_pattern") give to the
 * module `path`. JT_E_FORMAT where it is none. */
jt_status jt_peft_number(const json_t *config, const char *name, const char *patterns,
                         const char *path, double *out, jt_err *err);

/* Did the version that wrote it give A and B of a stack of experts the parts of each
 * other? Those before 0.19.1 did for stacks [experts, out, in], and 0.19.0 alone also
 * for `turned` ones, [experts, in, out]. Without a version: one before 0.19. */
bool jt_peft_is_old(const json_t *config, bool turned);

#endif
