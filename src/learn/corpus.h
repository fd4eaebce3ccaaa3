/* A corpus: a folder with a text file for each domain, as tools/corpus writes it. */
#ifndef JT_CORPUS_H
#define JT_CORPUS_H

#include <stddef.h>

#include "junto/status.h"

/* The line between the documents of a file. */
#define JT_CORPUS_SEPARATOR "<|endoftext|>"

typedef struct jt_corpus {
    char **path; /* by name, so that the order is that of every machine */
    size_t count;
} jt_corpus;

/* Take the files DIR/NAME.txt. JT_E_IO, JT_E_ARG (no text in it), JT_E_MEMORY. */
jt_status jt_corpus_open(jt_corpus *out, const char *dir, jt_err *err);
void jt_corpus_free(jt_corpus *corpus); /* {0} is fine */

#endif
