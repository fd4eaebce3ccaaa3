/* The places where replies run, "slots" to users: each has a context that outlives
 * them, so that a request which begins like an earlier one need not run the same tokens
 * again. */
#ifndef JT_SEATS_H
#define JT_SEATS_H

#include "run/kept.h"
#include "serve/work.h"

/* An adapter, not longer in memory than somebody holds it, and its scale. */
typedef struct jt_worn {
    uint64_t serial;
    float scale;
} jt_worn;

/* Whom a context is of use to, among those with the same adapters: with a mixture by
 * rule, which decides by the whole text, nobody; with one that looks ahead, and so
 * remembers more than the context, the seat itself. */
typedef enum jt_seat_fits {
    JT_SEAT_FITS_ALL,
    JT_SEAT_FITS_ITSELF,
    JT_SEAT_FITS_NONE
} jt_seat_fits;

typedef struct jt_seat {
    jt_session *session;           /* NULL: made when it is needed */
    int n_watchers;                /* that are its own */
    jt_worn worn[JT_ASK_ADAPTERS]; /* [n_worn] what its context was run with */
    size_t n_worn;
    jt_seat_fits fits;
    jt_steering *steering;   /* policies of its session; NULL: none */
    jt_task *task;           /* that runs here; NULL: free */
    unsigned long long used; /* the larger, the later */
} jt_seat;

typedef struct jt_seats {
    const jt_model *model;
    jt_session_options options;
    const jt_watcher *watcher; /* of sessions without policies; or NULL */
    jt_session *host;          /* its threads, scratch and store are those of all */
    jt_watcher onlooker;       /* of all tasks; all zero: nobody */
    jt_seat *seat;             /* [n] */
    size_t n, n_free;
    jt_kept kept; /* what seats held before they were given to something else */
    unsigned long long clock;
} jt_seats;

/* hosting->guests contexts by `options`, and hosting->spare bytes for what they held
 * before; `watcher` may be NULL. Errors: those of jt_session_new. Close also after one.
 */
jt_status jt_seats_open(jt_seats *seats, const jt_model *model,
                        const jt_session_options *options, const jt_hosting *hosting,
                        const jt_watcher *watcher, jt_err *err);
void jt_seats_close(jt_seats *seats);

/* Give `task` the free seat that holds most of its prompt, run with the same adapters;
 * of equals the one that has been free for longest; there must be one. Where a seat
 * that is taken or a context that is kept holds more, its session gets a copy of that.
 * task->session is then set; what it holds beyond the prompt's beginning is of no use.
 * Errors: those of jt_session_new and jt_steering_attach; the seat stays free then. */
jt_status jt_seats_take(jt_seats *seats, jt_task *task, jt_err *err);
void jt_seats_leave(jt_seats *seats, jt_task *task);

#endif
