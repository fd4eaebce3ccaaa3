/* The simplest store: all experts lie in the mapped file, the kernel pages them in. */
#ifndef JT_STORE_MAPPED_H
#define JT_STORE_MAPPED_H

#include "moe/experts.h"

/* A lease is a matter of pointers; nothing is pinned. Never fails. */
extern const jt_store jt_store_mapped;

#endif
