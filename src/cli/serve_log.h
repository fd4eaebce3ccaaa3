/* The log of a server: a line per event, "EVENT KEY=VALUE ..", on standard error. */
#ifndef JUNTO_CLI_SERVE_LOG_H
#define JUNTO_CLI_SERVE_LOG_H

#include "common.h"

typedef struct serve_log {
    bool quiet; /* warnings only */
    bool
        json; /* an object per line, otherwise text with its time and level before it */
} serve_log;

/* `log` must live as long. */
jt_log serve_log_open(serve_log *log);

#endif
