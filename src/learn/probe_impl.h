/* Inside the probes. */
#ifndef JT_PROBE_IMPL_H
#define JT_PROBE_IMPL_H

#include "learn/probe.h"

/* One argument of a probe: as it was written, and as a number. */
typedef struct jt_probe_call {
    jt_trainer *trainer;
    jt_metrics *metrics;
    const char *text; /* "" without arguments */
    double value;
    jt_err *err;
} jt_probe_call;

typedef jt_status jt_probe_fn(const jt_probe_call *call);

/* Held-out loss with `hooks` under a printed name. */
jt_status jt_probe_loss(const jt_probe_call *call, const jt_hooks *hooks,
                        const char *name);

/* Seconds that this machine takes for an expert of 1024 x 512 values: for each, and for
 * each token. */
typedef struct jt_expert_cost {
    double each, token;
    double load; /* not measured */
} jt_expert_cost;
jt_status jt_probe_expert_cost(const jt_probe_call *call, jt_expert_cost *out);

/* Evaluate, and let `watcher` look. */
jt_status jt_probe_watch(const jt_probe_call *call, jt_watcher watcher);

/* probe_load.c: where tokens go. */
jt_probe_fn jt_probe_groups, jt_probe_experts_per_token;
/* probe_locality.c: what neighbours share. */
jt_probe_fn jt_probe_locality;
/* probe_bits.c: experts with fewer bits. */
jt_probe_fn jt_probe_nested, jt_probe_widths;
/* probe_caches.c: routes played back through caches, workers and rings. */
jt_probe_fn jt_probe_caches, jt_probe_hybrid, jt_probe_ring;
/* probe_paths.c: experts foretold from paths and from tokens. */
jt_probe_fn jt_probe_paths;
/* probe_steer.c: policies (junto/steer.h). */
jt_probe_fn jt_probe_modes, jt_probe_scmoe, jt_probe_rewire;
/* probe_audit.c: how much hangs on few experts (junto/audit.h). */
jt_probe_fn jt_probe_audit;
/* probe_mixture.c: mixtures of adapters, source by source. */
jt_probe_fn jt_probe_sources, jt_probe_gates;
/* probe_chance.c: parts without a model. */
jt_probe_fn jt_probe_random_load, jt_probe_recover_gamma;

#endif
