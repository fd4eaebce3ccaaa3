/* A hash table from names to indices. The bytes of the names are borrowed: they lie in
 * a mapped file or belong to the caller, and must outlive the table. */
#ifndef JT_FORMAT_NAMES_H
#define JT_FORMAT_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/gguf.h"

#define JT_NAMES_NONE ((size_t)-1)

typedef struct jt_names_slot {
    jt_str name; /* data NULL: free */
    uint32_t index;
    uint32_t hash; /* tells most other names apart without a look at them */
} jt_names_slot;

/* All zero is empty and ready. */
typedef struct jt_names {
    jt_names_slot *slots; /* a power of two of them, at most half in use */
    size_t capacity, used;
} jt_names;

/* The index of `name`, or JT_NAMES_NONE. */
size_t jt_names_find(const jt_names *names, jt_str name);

/* Remember `name`, which must not be there yet, with an index below 2^32 - 1. false,
 * unchanged: out of memory. */
bool jt_names_add(jt_names *names, jt_str name, size_t index);
/* The same, but when it is there *index becomes the one that it has. */
bool jt_names_claim(jt_names *names, jt_str name, size_t *index);
/* Make room for `count` names. */
bool jt_names_reserve(jt_names *names, size_t count);

void jt_names_free(jt_names *names);

#endif
