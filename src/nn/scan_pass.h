/* The inside of a scan, for its forward and its backward half. */
#ifndef JT_SCAN_PASS_H
#define JT_SCAN_PASS_H

#include "nn/scan.h"

enum { JT_SCAN_RUN = 64 }; /* rows of a head that one item of the loops takes */

typedef struct jt_scan_piece {
    size_t first, count; /* tokens */
    bool fresh;          /* a document begins */
    float *state;        /* as it was before the first token; NULL when fresh, or when
                            there will be no gradients */
} jt_scan_piece;

typedef struct jt_scan_pass {
    const jt_kernels *kernels;
    jt_scan s;
    float *state; /* [heads, rows, n] */
    float *decay; /* [tokens, heads], by key [tokens, heads * n]; NULL by value */
    jt_tensor y;
    size_t tokens, runs; /* of a head */
    jt_scan_piece *piece;
    size_t n_pieces;
} jt_scan_pass;

/* Rows of one head. */
typedef struct jt_scan_item {
    size_t head, k_head, row, rows; /* row counts over all heads */
} jt_scan_item;
jt_scan_item jt_scan_item_of(const jt_scan_pass *pass, size_t i);

/* The head of keys that a head reads. */
size_t jt_scan_key(const jt_scan *scan, size_t head);

/* The kernel's call for an item and a piece; h is the state of the item. */
jt_recur jt_scan_call(const jt_scan_pass *pass, const jt_scan_item *item,
                      const jt_scan_piece *piece, float *h);

/* Put the pass on the tape. */
void jt_scan_record(jt_context *ctx, const jt_scan_pass *pass);

#endif
