/* Replies that wait for a slot. Whose turn it is follows from who asks; of one client
 * or user, who came first. */
#ifndef JT_LINE_H
#define JT_LINE_H

#include "serve/counters.h"
#include "serve/work.h"

typedef struct jt_line {
    size_t most; /* replies */
    jt_counters *metrics;
    atomic_bool shut;     /* nobody is let in any more */
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    jt_task **task; /* [n] in the order in which they came */
    size_t n, capacity;
} jt_line;

void jt_line_open(jt_line *line, size_t most, jt_counters *metrics);
void jt_line_close(jt_line *line);

/* ---- for all threads ---- */

/* Let all choices of `work` wait; false, with the problem told, when there is no room,
 * or its client has asked for too much. Where nobody waits there is room for any
 * number. */
bool jt_line_join(jt_line *line, jt_work *work, jt_problem *problem);
/* Somebody has left: whoever waits for news looks again. */
void jt_line_stir(jt_line *line);
/* Let nobody in any more, and nobody wait for news. */
void jt_line_shut(jt_line *line);
size_t jt_line_length(jt_line *line);

/* ---- for the engine ---- */

/* Who leaves the line: one for whom nobody waits any more, or, if there is a slot,
 * whose turn it is. NULL: nobody. */
jt_task *jt_line_next(jt_line *line, bool has_slot);
/* Wait until somebody is there, or the line is shut. */
void jt_line_wait(jt_line *line);
/* Nobody waits for any of them any more. */
void jt_line_cancel(jt_line *line);

#endif
