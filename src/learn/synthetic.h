/* Synthetic text: domains with grammars of their own, for experiments that need no
 * corpus.
 *
 * Each domain is a chain of order 2: the token before last counts by its class, and
 * each context has a few followers whose probabilities fall like 1 / rank. Followers
 * are drawn from a Zipf distribution over the domain's own order of the vocabulary.
 * Some contexts may be common: their followers are the same in all domains. All of it
 * is a function of the seed. */
#ifndef JT_SYNTHETIC_H
#define JT_SYNTHETIC_H

#include <stdint.h>

#include "junto/status.h"

typedef struct jt_synthetic_options {
    int n_domains, n_vocab;
    int n_classes;         /* 1: a chain of order 1; n_vocab: of order 2 in full */
    double common;         /* share of the contexts that are common, 0 .. 1 */
    int documents, length; /* of each domain; tokens of a document */
    uint64_t seed;
} jt_synthetic_options;

/* The file of a domain, and the file with the documents of all of them in turn. */
enum { JT_SYNTHETIC_NAME = 32 };
#define JT_SYNTHETIC_MIXED "mixed.npy"
void jt_synthetic_name(char name[JT_SYNTHETIC_NAME], int index);

/* Write DIR/domainN.npy for each domain, int32 [documents, length], and DIR/mixed.npy,
 * as long as all of them, of other documents. JT_E_IO, JT_E_MEMORY. */
jt_status jt_synthetic_write(const char *dir, const jt_synthetic_options *options,
                             jt_err *err);

#endif
