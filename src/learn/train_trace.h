/* A trace of a training: what the routers did in its passes, and of which domain each
 * token is. */
#ifndef JT_TRAIN_TRACE_H
#define JT_TRAIN_TRACE_H

#include "learn/train.h"

typedef struct jt_train_trace {
    const jt_trainer *trainer;
    jt_trace_writer *writer; /* NULL: none is wanted */
    jt_watcher watcher;      /* the writer's */
    int32_t *number;         /* [sources] of the name of its domain */
    int32_t *label;          /* [tokens of a batch] */
    bool on;                 /* the step at hand is traced */
} jt_train_trace;

/* Begin what the trainer's options ask for. The address must not change afterwards.
 * Errors: those of jt_trace_writer_new; JT_E_ARG for a resumed run whose file is there.
 */
jt_status jt_train_trace_begin(jt_train_trace *trace, jt_trainer *trainer, jt_err *err);

/* Finish, and free; {0} is fine. Gives `status`, that of the run, or a failure to
 * write. */
jt_status jt_train_trace_end(jt_train_trace *trace, jt_status status, jt_err *err);

#endif
