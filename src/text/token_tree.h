/* The texts of a vocabulary as a tree, laid out in the order of a walk through it. */
#ifndef JT_TEXT_TOKEN_TREE_H
#define JT_TEXT_TOKEN_TREE_H

#include "junto/grammar.h"

typedef struct jt_tree_node {
    uint32_t end;    /* the node after all below this one */
    uint32_t tokens; /* of `ids`, those whose text ends here .. */
    uint16_t count;  /* .. and how many they are */
    uint16_t depth;  /* bytes from the root, at least 1 */
    uint8_t byte;
} jt_tree_node;

/* Without tokens that are no text: special ones, those that end a reply, empty ones. */
struct jt_token_tree {
    size_t n_vocab, n_nodes, n_ids, n_ends;
    jt_tree_node *nodes;
    int32_t *ids;  /* [n_ids] by their text */
    int32_t *ends; /* [n_ends] those that end a reply */
    size_t depth;  /* of the longest text */
};

#endif
