/* Text on its way out: cut at character boundaries, held back where it may begin a stop
 * string. */
#ifndef JT_STOP_H
#define JT_STOP_H

#include <stdbool.h>
#include <stddef.h>

#include "junto/status.h"

typedef struct jt_outlet {
    const char *const *stop; /* stop strings; empty ones never match */
    size_t n_stop;
    int (*on_text)(void *user, const char *text, size_t len); /* may be NULL */
    void *user;
    char *held; /* bytes that were not given out yet */
    size_t n_held, capacity;
    bool stopped;     /* a stop string came; nothing more goes out */
    bool interrupted; /* on_text asked to end */
} jt_outlet;

/* Append bytes and give out what is certain. JT_E_MEMORY. */
jt_status jt_outlet_add(jt_outlet *outlet, const char *text, size_t len, jt_err *err);
/* No more text will come: give out what was held back. */
void jt_outlet_finish(jt_outlet *outlet);
void jt_outlet_free(jt_outlet *outlet);

#endif
