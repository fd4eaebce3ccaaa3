/* A suite of small tasks, for experiments on adapters: what is asked of a string of
 * symbols, with a letter that says which task it is.
 *
 *     Bcafd=dfac        task 1 of the list, "reverse"
 *
 * A document has some such questions with their answers, one after the other: of one
 * task, or, in a mix, of different ones. There is loss on answers only. */
#ifndef JT_SUITE_H
#define JT_SUITE_H

#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"

/* Documents whose questions are of these tasks, none twice in a row. */
typedef struct jt_suite_mix {
    const char *name; /* of the file, as if it were a task */
    const char *const *task;
    size_t n_tasks;
} jt_suite_mix;

typedef struct jt_suite_options {
    const char *const *task; /* [n_tasks] names: see jt_suite_check */
    size_t n_tasks;
    const jt_suite_mix *mix; /* [n_mixes] */
    size_t n_mixes;
    int documents; /* of each task */
    int length;    /* symbols of a question */
    int symbols;   /* of an alphabet */
    int apart;     /* so many symbols after that of the task before, task by task, four
                      alphabets in turn; 0: all have the same */
    int segments;  /* questions of a document */
    int mixed_segments; /* of a mix; 0: as many */
    uint64_t seed;
} jt_suite_options;

#define JT_SUITE_VOCABULARY "vocabulary.gguf"

/* Is `name` a task? copy, reverse, sort, rotate (by one), swap (of neighbours), fold
 * (first, last, second, ..), double (of the first half), shiftN (each symbol the N-th
 * after it), cipherN (another symbol for each, by key N), backN (those in reverse
 * order). JT_E_ARG. */
jt_status jt_suite_check(const char *name, jt_err *err);

/* The letter of task `i`. */
char jt_suite_letter(size_t i);

/* Write DIR/NAME.jsonl for each task and each mix, and a vocabulary of bytes. JT_E_ARG,
 * JT_E_IO, JT_E_MEMORY. */
jt_status jt_suite_write(const char *dir, const jt_suite_options *options, jt_err *err);

#endif
