/* Policies that have files of their own. */
#ifndef JT_STORE_POLICY_IMPL_H
#define JT_STORE_POLICY_IMPL_H

#include "store/policy.h"

jt_status jt_learned_start(jt_ranking *r, const jt_foreknowledge *known, jt_err *err);
void jt_learned_stop(jt_ranking *r);
void jt_learned_use(jt_ranking *r, int expert);
void jt_learned_score(jt_ranking *r, int layer, const float *scores);
size_t jt_learned_bytes(const jt_experts_map *map);

#endif
