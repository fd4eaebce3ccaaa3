/* The log of a training run: a JSON object a line, for people, plots and --resume.
 *
 *   {"kind": "step", "step": 1, "tokens": 2048, "loss": 8.31, "lr": 2e-05, ...}
 *   {"kind": "eval", "step": 100, "tokens": 204800, "loss": 4.02,
 *    "domains": {"books": 3.9, "code": 4.1}}
 *
 * docs/training.md lists the fields. Numbers that are not finite are null. Each line is
 * handed to the system at once, so that a reader sees it and a killed run keeps it. */
#ifndef JT_JOURNAL_H
#define JT_JOURNAL_H

#include <jansson.h>

#include "junto/learn.h"

typedef struct jt_journal jt_journal;

/* Open the log at `path` to go on after step `resume_step`: lines of later steps, and a
 * last line that was cut short, are taken off, so that the log of a resumed run reads
 * as that of one that never stopped. -1 begins anew. JT_E_IO, JT_E_MEMORY. */
jt_status jt_journal_open(jt_journal **out, const char *path, int64_t resume_step,
                          jt_err *err);

/* Append the line of a step or an evaluation, with the fields of `more` (an object,
 * borrowed; may be NULL) after those of the event. A save has no line: it brings the
 * lines so far to the disk, as the checkpoint is. JT_E_IO, JT_E_MEMORY. */
jt_status jt_journal_write(jt_journal *journal, const jt_train_event *event,
                           const json_t *more, jt_err *err);

void jt_journal_close(jt_journal *journal); /* NULL is fine */

/* Call `fn` for each line in order; what is no JSON object is skipped. Ends early with
 * the status of `fn` when that is not JT_OK. JT_E_IO, JT_E_MEMORY. */
typedef jt_status jt_journal_fn(void *user, const json_t *line, jt_err *err);
jt_status jt_journal_read(const char *path, jt_journal_fn *fn, void *user, jt_err *err);

/* A number for the log: null when it is not finite. */
json_t *jt_journal_number(double value);

#endif
