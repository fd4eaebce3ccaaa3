/* The inside of the usage watcher. */
#ifndef JT_WATCH_USAGE_H
#define JT_WATCH_USAGE_H

#include "junto/watch.h"

/* As jt_usage_new, from the number of experts of each layer (0: a dense one). */
jt_status jt_usage_new_layers(jt_usage **out, const int *n_experts, int n_layers,
                              jt_err *err);

#endif
