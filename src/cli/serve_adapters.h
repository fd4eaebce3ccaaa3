/* The adapters that a server offers by name. */
#ifndef JUNTO_CLI_SERVE_ADAPTERS_H
#define JUNTO_CLI_SERVE_ADAPTERS_H

#include "common.h"

typedef struct serve_adapters {
    jt_adapter_offer *offers; /* [count], whose texts are owned */
    size_t count;
} serve_adapters;

/* "[NAME=]FILE[@TASK][:SCALE]" each; without a name that of the file. Nothing is
 * opened. Close in every case. */
jt_status serve_adapters_open(serve_adapters *out, const cli_list *given, jt_err *err);
void serve_adapters_close(serve_adapters *adapters);

#endif
