#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/bind.h"

/* What a file calls the parts of a bank. A fused gate part holds the up one, too; a
 * bank without a gate has an empty one. */
typedef struct bank_form {
    const char *name[JT_PARTS]; /* NULL: no such part */
    bool fused, stacked;        /* stacked: the experts are the first index */
} bank_form;

static const bank_form gated_dense = {.name = {"ffn_gate", "ffn_up", "ffn_down"}};
static const bank_form plain_dense = {.name = {NULL, "ffn_up", "ffn_down"}};
static const bank_form fused_dense = {.name = {"ffn_up", NULL, "ffn_down"},
                                      .fused = true};
static const bank_form gated_experts = {
    .name = {"ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"}, .stacked = true};
static const bank_form plain_experts = {.name = {NULL, "ffn_up_exps", "ffn_down_exps"},
                                        .stacked = true};
static const bank_form fused_experts = {
    .name = {"ffn_gate_up_exps", NULL, "ffn_down_exps"},
    .fused = true,
    .stacked = true};
static const bank_form gated_shared = {
    .name = {"ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"}};
static const bank_form plain_shared = {
    .name = {NULL, "ffn_up_shexp", "ffn_down_shexp"}};

static const char *with(char suffix[64], const char *name, const char *what)
{
    snprintf(suffix, 64, "%s.%s", name, what);
    return suffix;
}

/* The width of an FFN is that of its own first tensor: it belongs to the layer. */
static size_t width_of(jt_binder *b, const bank_form *form)
{
    char suffix[64];
    const char *first =
        form->name[JT_PART_GATE] ? form->name[JT_PART_GATE] : form->name[JT_PART_UP];
    const jt_gguf_tensor *t = jt_bind_find(b, with(suffix, first, "weight"));
    size_t rows = t && t->n_dims >= 2 ? (size_t)t->shape[t->n_dims - 2] : 0;
    return form->fused ? rows / 2 : rows;
}

/* One part and its bias, seen as stacks also where there is one expert. */
static jt_status bind_part(jt_binder *b, jt_bank *bank, const bank_form *form, int part)
{
    char suffix[64];
    const char *name = bank->name[part] = form->name[part];
    if (!name)
        return JT_OK;
    size_t inner = part == JT_PART_GATE && form->fused ? 2 * bank->width : bank->width;
    bool down = part == JT_PART_DOWN;
    size_t shape[3] = {(size_t)bank->n_experts, down ? bank->d : inner,
                       down ? bank->width : bank->d};
    int skip = form->stacked ? 0 : 1;
    jt_tensor *weight = &bank->part[part], *bias = &bank->bias[part];
    JT_TRY(jt_bind(b, weight, with(suffix, name, "weight"), false, false, 3 - skip,
                   shape + skip));
    weight->n_dims = 3;
    memcpy(weight->shape, shape, sizeof shape);
    JT_TRY(jt_bind(b, bias, with(suffix, name, "bias"), true, true, 2 - skip,
                   shape + skip));
    bias->n_dims = jt_has(bias) ? 2 : 0;
    memcpy(bias->shape, shape, 2 * sizeof *shape);
    return JT_OK;
}

static jt_status bind_bank(jt_binder *b, jt_bank *bank, const bank_form *form,
                           size_t experts, jt_activation activation)
{
    *bank = (jt_bank){
        .kind = jt_expert_kind_find("ffn"),
        .layer = b->layer,
        .n_experts = (int)experts,
        .d = (size_t)b->p->d_model,
        .width = width_of(b, form),
        .activation = activation,
        .fused = form->fused,
    };
    for (int part = 0; part < JT_PARTS; part++)
        JT_TRY(bind_part(b, bank, form, part));
    return JT_OK;
}

static const bank_form *dense_form(const jt_family *family)
{
    if (family->ffn_fused)
        return &fused_dense;
    return family->ffn_plain ? &plain_dense : &gated_dense;
}

/* Null experts have rows in the router, after those of the experts, and nothing else.
 */
static jt_status bind_router(jt_binder *b, jt_router *router)
{
    *router = b->p->router;
    size_t d = (size_t)b->p->d_model, rows = (size_t)jt_router_rows(router);
    bool plain = router->scorer->plain_weight;
    JT_TRY(jt_bind(b, &router->weight, "ffn_gate_inp.weight", plain, false, 2,
                   (size_t[]){rows, d}));
    JT_TRY(jt_bind_vector(b, &router->bias, "ffn_gate_inp.bias", rows, true));
    JT_TRY(jt_bind_vector(b, &router->selection_bias, "exp_probs_b.bias", rows, true));
    return jt_bind_vector(b, &router->expert_scale, "ffn_down_exps.scale",
                          (size_t)router->n_experts, true);
}

static jt_status bind_shared(jt_binder *b, jt_mixture *m, const jt_family *family)
{
    size_t d = (size_t)b->p->d_model;
    if (family->beside == JT_BESIDE_SHARED && jt_bind_find(b, "ffn_up.weight")) {
        m->scale = sqrtf(0.5f);
        return bind_bank(b, &m->shared, dense_form(family), 1, family->activation);
    }
    if (!jt_bind_find(b, "ffn_up_shexp.weight") &&
        !jt_bind_find(b, "ffn_gate_shexp.weight"))
        return JT_OK;
    JT_TRY(bind_bank(b, &m->shared, family->ffn_plain ? &plain_shared : &gated_shared,
                     1, family->activation));
    JT_TRY(jt_bind_vector(b, &m->shared_gate, "ffn_gate_inp_shexp.weight", d, true));
    if (jt_has(&m->shared_gate)) { /* a vector in the file, a one-row matrix to us */
        m->shared_gate.n_dims = 2;
        m->shared_gate.shape[0] = 1;
        m->shared_gate.shape[1] = d;
    }
    return JT_OK;
}

jt_status jt_bind_mixture(jt_binder *b, jt_mixture *m, const jt_family *family)
{
    bool fused = jt_bind_find(b, "ffn_gate_up_exps.weight") != NULL;
    const bank_form *form = fused               ? &fused_experts
                            : family->ffn_plain ? &plain_experts
                                                : &gated_experts;
    JT_TRY(bind_router(b, &m->router));
    JT_TRY(bind_bank(b, &m->experts, form, (size_t)m->router.n_experts,
                     family->activation));
    /* "ffn_down_exps.scale" is the factor of a matrix. Where no bias comes between, the
     * weights of tokens may have it as well: a parameter of the router. */
    if (jt_has(&m->experts.bias[JT_PART_DOWN]))
        m->router.expert_scale = (jt_tensor){0};
    else
        m->experts.part[JT_PART_DOWN].factor = NULL;
    return bind_shared(b, m, family);
}

jt_status jt_bind_dense(jt_binder *b, jt_bank *bank, const jt_family *family)
{
    return bind_bank(b, bank, dense_form(family), 1, family->activation);
}
