/* Small random mixtures, as a model that policies can be opened on. */
#ifndef TEST_STEER_MIXTURES_H
#define TEST_STEER_MIXTURES_H

#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "model/model.h"
#include "store/mapped.h"

enum { MIX_LAYERS = 3, MIX_D = 8, MIX_WIDTH = 4, MIX_EXPERTS = 24 };

/* Layer 0 is dense, the others have experts. */
typedef struct test_mixtures {
    jt_model model;
    jt_layer layer[MIX_LAYERS];
    float router[MIX_EXPERTS * MIX_D];
    float part[JT_PARTS][MIX_EXPERTS * MIX_D * MIX_WIDTH];
} test_mixtures;

static inline jt_tensor mix_tensor(float *data, size_t a, size_t b, size_t c)
{
    return (jt_tensor){.data = data, .dtype = JT_F32, .n_dims = 3, .shape = {a, b, c}};
}

static inline void mix_init(test_mixtures *m, jt_rng *rng, int experts, int k,
                            jt_gating gating, bool renormalise)
{
    size_t n = (size_t)experts;
    *m = (test_mixtures){0};
    jt_rng_normals(rng, m->router, n * MIX_D);
    for (int p = 0; p < JT_PARTS; p++)
        jt_rng_normals(rng, m->part[p], n * MIX_D * MIX_WIDTH);
    jt_mixture mixture = {.router = {.scorer = jt_scorer_find("linear"),
                                     .selector = jt_selector_find("topk"),
                                     .n_experts = experts,
                                     .k = k,
                                     .gating = gating,
                                     .renormalise = renormalise,
                                     .scale = 1.0f},
                          .experts = {.kind = jt_expert_kind_find("ffn"),
                                      .n_experts = experts,
                                      .d = MIX_D,
                                      .width = MIX_WIDTH}};
    mixture.router.weight = mix_tensor(m->router, 1, n, MIX_D);
    mixture.experts.part[JT_PART_GATE] = mix_tensor(m->part[0], n, MIX_WIDTH, MIX_D);
    mixture.experts.part[JT_PART_UP] = mix_tensor(m->part[1], n, MIX_WIDTH, MIX_D);
    mixture.experts.part[JT_PART_DOWN] = mix_tensor(m->part[2], n, MIX_D, MIX_WIDTH);
    for (int i = 1; i < MIX_LAYERS; i++)
        m->layer[i] = (jt_layer){.is_mixture = true, .mixture = mixture};
    static const jt_family family = {.arch = "mixtures", .untrained = true};
    m->model.family = &family;
    m->model.params.n_layers = MIX_LAYERS;
    m->model.params.router = mixture.router;
    m->model.layers = m->layer;
}

#endif
