/* A hash table from names to indices. The bytes of the names are borrowed: they lie in
 * a mapped file or belong to the caller, and must outlive the table. */
#ifndef JT_FORMAT_NAMES_H
#define JT_FORMAT_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "junto/gguf.h"

#define JT_NAMES_NONE ((size_t)-1)

typedef struct jt_names_slot {
    jt_str name; /* data NULL: free */
    size_t index;
} jt_names_slot;

/* All zero is empty and ready. */
typedef struct jt_names {
    jt_names_slot *slots; /* a power of two of them, at most half in use */
    size_t capacity, used;
} jt_names;

/* The index of `name`, or JT_NAMES_NONE. */
size_t jt_names_find(const jt_names *names, jt_str name);

/* Remember `name`, which must not be there yet. false, unchanged: out of memory. */
bool jt_names_add(jt_names *names, jt_str name, size_t index);

void jt_names_free(jt_names *names);

#endif
