/* One value of a flag: text to number, in one place for arguments and defaults. */
#ifndef JUNTO_CLI_VALUE_H
#define JUNTO_CLI_VALUE_H

#include "options.h"

/* Store `text` into the field of `option`; `flag` is how the user wrote it. The text
 * stays referenced. JT_E_ARG, JT_E_MEMORY. */
jt_status cli_store(const cli_option *option, void *field, const char *flag,
                    const char *text, jt_err *err);

#endif
