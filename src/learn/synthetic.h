/* Synthetic domains: token files that are made in a moment and of which one knows how
 * well they can be foreseen at best.
 *
 * Each domain is a random grammar of its own over the shared vocabulary. After tokens
 * a, b come `branches` different tokens, the r-th with a probability in proportion to
 * 1 / r (Zipf); which ones is drawn for each b and each of `classes` groups into which
 * the a are divided. Frequent successors are frequent in the whole domain. Now and then
 * a stretch that was there before in the document comes again: this is learnt by
 * attending to it, in all domains alike, while the grammars are for experts to share
 * out. */
#ifndef JT_SYNTHETIC_H
#define JT_SYNTHETIC_H

#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"

typedef struct jt_synthetic_options {
    size_t n_domains; /* 1 .. 256 */
    size_t n_vocab;   /* 3 .. 65536; token 0 ends documents, the others are shared */
    size_t n_documents, document_tokens; /* of each domain; with the end, at least 4 */
    size_t branches;                     /* 1 .. 64, at most half the vocabulary */
    size_t classes;                      /* 1 .. 64; 1 is a grammar of order one */
    double copy;                  /* chance of a copy after each token, 0 .. 0.5 */
    size_t copy_least, copy_most; /* tokens of a copy, from 1 on; there is none before
                                     there are copy_most tokens to copy */
    uint64_t seed;
    jt_progress progress; /* documents */
} jt_synthetic_options;

/* Eight domains of 1000 documents of 256 tokens over 512 tokens; a fifth of them is
 * copied. */
jt_synthetic_options jt_synthetic_defaults(void);

/* What was written. The entropy of a domain is between the bounds: the lower one is
 * that of somebody who is told what is copied and from where, the upper one adds what
 * this costs to say. The end of documents, which are all equally long, counts as
 * nothing. */
typedef struct jt_synthetic_report {
    double copied;       /* share of the tokens */
    double grammar_nats; /* of a token of the grammar: the same in all domains */
    double least_nats, most_nats; /* per token, with copies */
} jt_synthetic_report;

/* Write DIR/domain-0.bin, domain-1.bin ...: int32 tokens, little-endian, each document
 * closed by token 0 (jt_data reads them with separator "0"). The folder is made if need
 * be. The same options give the same bytes; more documents begin with those of fewer.
 * `reports` has a place for each domain, or is NULL. Errors: JT_E_ARG, JT_E_IO,
 * JT_E_MEMORY, JT_E_INTERRUPTED. */
jt_status jt_synthetic_write(const char *dir, const jt_synthetic_options *options,
                             jt_synthetic_report *reports, jt_err *err);

#endif
