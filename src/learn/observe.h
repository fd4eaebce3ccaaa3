/* What evaluations look at beside the loss: the load of each expert, how much experts
 * say about domains, and the congestion coefficient. */
#ifndef JT_OBSERVE_H
#define JT_OBSERVE_H

#include <jansson.h>

#include "junto/watch.h"
#include "learn/train.h"
#include "watch/congestion.h"
#include "watch/special.h"

typedef struct jt_observer {
    jt_hooks hooks;
    jt_usage *usage;
    jt_special *special;
    jt_congestion *congestion;
} jt_observer;

/* For the model and the domains of a trainer. The address must not change afterwards.
 * JT_E_MEMORY. */
jt_status jt_observer_init(jt_observer *observer, const jt_trainer *trainer,
                           jt_err *err);
void jt_observer_free(jt_observer *observer); /* {0} is fine */
void jt_observer_reset(jt_observer *observer);

/* How an evaluation is watched. */
jt_evaluation_options jt_observer_options(jt_observer *observer);

/* The fields of an evaluation's line in the log:
 *
 *   "information", "shuffled": I(expert; domain) / H(domain) and the same by chance,
 *               means over layers
 *   "congestion": [gamma of each layer]
 *   "layers": [{"layer": 0, "load": [share of each expert], "entropy": 0..1,
 *               "information": ..., "shuffled": ...}, ...]
 *
 * NULL for a model without experts, or without memory. */
json_t *jt_observer_json(jt_observer *observer);

#endif
