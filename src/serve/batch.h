/* A pass over the tokens of several replies: whose turns it is, and what became of
 * each. */
#ifndef JT_BATCH_H
#define JT_BATCH_H

#include "base/pool.h"
#include "serve/prefill.h"
#include "serve/work.h"

typedef struct jt_batch {
    jt_task **task; /* [n] so are all; in the order in which they came */
    jt_turn *turn;
    jt_status *status;
    jt_err *err;
    size_t n;
    size_t replies; /* those that wait for one token */
    size_t tokens;  /* that were run */
} jt_batch;

/* Room for n tasks. False: no memory; close also then. */
bool jt_batch_open(jt_batch *batch, size_t n);
void jt_batch_close(jt_batch *batch);

typedef enum jt_batch_of { JT_EVERYBODY, JT_PROMPTS, JT_REPLIES } jt_batch_of;

/* Those of `tasks` [n] that wait for the model, and are in no pass. */
void jt_batch_gather(jt_batch *batch, jt_task *const *tasks, size_t n, jt_batch_of who);

/* Advance all by a policy; where that fails, each by itself, so that a failure is only
 * that of the reply which brings it. */
void jt_batch_advance(jt_batch *batch, const jt_prefill *by, size_t budget,
                      const jt_progress *progress);

/* Let each task have its next token, if it has all that it waited for. Those that end,
 * or have failed, wait for nothing then. */
void jt_batch_go_on(jt_batch *batch, jt_pool *pool);

#endif
