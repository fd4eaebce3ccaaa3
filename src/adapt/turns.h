/* In which order the weights of a model are read. */
#ifndef JT_ADAPT_TURNS_H
#define JT_ADAPT_TURNS_H

#include <stddef.h>

/* Something of a weight, known by its number `i` among others. */
typedef struct jt_turn {
    size_t i;
    int turn; /* of weights that work together the same */
} jt_turn;

/* Of the weight with this name in GGUF files. */
int jt_turn_of(const char *target);

/* By turns, and within one by number. */
void jt_turns_sort(jt_turn *list, size_t n);

/* Where the turn ends that entry `first` begins. */
size_t jt_turn_end(const jt_turn *list, size_t n, size_t first);

#endif
