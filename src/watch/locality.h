/* Locality: how far the tokens of a text use the experts that their neighbours use.
 *
 * SRP and SCH are those of "Not All Models Suit Expert Offloading: On Local Routing
 * Consistency of Mixture-of-Expert Models" (arXiv 2505.16056), as its code computes
 * them.
 *
 * SRP, segment routing best performance, of spans of m tokens: let c(s, e) be the
 * number of tokens of a segment s (any m tokens in a row of one text) that use expert
 * e. Keeping for each segment the experts with c >= v gives
 *     Match(v) = sum of c(s, e) over those,  Pred(v) = m times their number,
 *     F1(v) = 2 Match(v) / max(1, Pred(v) + Act),  Act = Match(0),
 * and SRP = max over v of F1(v): 1 when a segment uses the same experts throughout.
 *
 * Caches hold c experts of a layer; an expert that is used comes in, what has the least
 * priority goes. All experts of a token are looked up before any of them comes in, and
 * then come in the order of its slots. Each text begins with an empty cache, and what
 * is used for the first time while there is room counts as a hit (the paper's choice: a
 * cache that was warm). Priorities are distinct and do not depend on c, so a cache
 * holds what every smaller one does (Mattson et al., "Evaluation techniques for storage
 * hierarchies", 1970) and one pass over a stack gives all sizes.
 *
 * SCH, segment cache best hit rate, is that of a cache which sees m tokens ahead, the
 * one at hand included: priority is the number of uses left in these, then recency. */
#ifndef JT_WATCH_LOCALITY_H
#define JT_WATCH_LOCALITY_H

#include <stddef.h>
#include <stdint.h>

#include "junto/report.h"

/* What a slot holds that is not used. */
#define JT_NO_EXPERT ((uint16_t)0xffff)
enum { JT_SPAN_MOST = 256 };

/* ---- what the past tells, token by token ---- */

typedef struct jt_locality jt_locality;

/* Of a layer; each token uses at most k of its experts. At most 65535 experts.
 * JT_E_MEMORY. */
jt_status jt_locality_new(jt_locality **out, int n_experts, int k, jt_err *err);
void jt_locality_free(jt_locality *locality); /* NULL is fine */

/* The next token of the text uses these `n` experts, all different. */
void jt_locality_add(jt_locality *locality, const uint16_t *experts, size_t n);
/* The text ends; to be called after the last one, too. */
void jt_locality_end(jt_locality *locality);

/* Pairs of a segment of jt_segment[span] tokens and an expert, by the number of tokens
 * that use it: [span + 1] numbers. */
const uint64_t *jt_locality_counts(jt_locality *locality, int span);
/* SRP from such numbers, also from sums over layers. */
jt_srp jt_srp_find(const uint64_t *counts, int span);

/* Hits of an LRU cache: [experts], those of a cache of i + 1 experts at i. */
void jt_locality_hits(const jt_locality *locality, uint64_t *hits);
/* Uses by the number of tokens since the last use in the same text. */
const uint64_t *jt_locality_gaps(const jt_locality *locality); /* [JT_GAPS] */
uint64_t jt_locality_uses(const jt_locality *locality);

/* ---- what needs the future, over a stretch at hand ---- */

typedef struct jt_uses {
    size_t n_tokens, k, stride;
    const uint16_t *expert; /* [tokens, stride]: k slots, unused ones last, no expert
                               twice; stride may be more than k */
    const uint8_t *begins;  /* [tokens] 1: a text begins here */
    const uint32_t *order;  /* [tokens] read row order[t] for token t; NULL: row t */
    int n_experts;
} jt_uses;

/* The row of token `t`, and in *n how many experts it uses. */
const uint16_t *jt_uses_row(const jt_uses *uses, size_t t, size_t *n);

/* Hits of a cache of i + 1 experts at i: [experts]. JT_E_MEMORY. */
jt_status jt_cache_hits(uint64_t *hits, const jt_uses *uses, jt_caching cache,
                        jt_err *err);

#endif
