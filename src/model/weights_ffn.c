#include <string.h>

#include "model/bind.h"

/* The width of an FFN is that of its own gate tensor: it belongs to the layer. */
static size_t width_of(jt_binder *b, const char *gate_name)
{
    const jt_gguf_tensor *t = jt_bind_find(b, gate_name);
    return t && t->n_dims >= 2 ? (size_t)t->shape[t->n_dims - 2] : 0;
}

/* gate, up and down of a bank: `stacked` tensors have the experts as first index. */
static jt_status bind_bank(jt_binder *b, jt_bank *bank,
                           const char *const names[JT_PARTS], bool stacked,
                           size_t experts)
{
    size_t d = (size_t)b->p->d_model, width = width_of(b, names[JT_PART_GATE]);
    int skip = stacked ? 0 : 1;
    for (int part = 0; part < JT_PARTS; part++) {
        bool down = part == JT_PART_DOWN;
        size_t shape[3] = {experts, down ? d : width, down ? width : d};
        jt_tensor *t = &bank->part[part];
        JT_TRY(jt_bind(b, t, names[part], false, false, 3 - skip, shape + skip));
        t->n_dims = 3;
        memcpy(t->shape, shape, sizeof shape);
    }
    bank->kind = jt_expert_kind_find("ffn");
    bank->layer = b->layer;
    bank->n_experts = (int)experts;
    bank->d = d;
    bank->width = width;
    return JT_OK;
}

static const char *const dense_names[JT_PARTS] = {"ffn_gate.weight", "ffn_up.weight",
                                                  "ffn_down.weight"};
static const char *const expert_names[JT_PARTS] = {
    "ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"};
static const char *const shared_names[JT_PARTS] = {
    "ffn_gate_shexp.weight", "ffn_up_shexp.weight", "ffn_down_shexp.weight"};

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
    return jt_bind_vector(b, &router->selection_bias, "exp_probs_b.bias", rows, true);
}

jt_status jt_bind_mixture(jt_binder *b, jt_mixture *m)
{
    const jt_params *p = b->p;
    size_t d = (size_t)p->d_model, experts = (size_t)p->router.n_experts;
    JT_TRY(bind_router(b, &m->router));
    JT_TRY(bind_bank(b, &m->experts, expert_names, true, experts));
    if (!jt_bind_find(b, shared_names[JT_PART_GATE]))
        return JT_OK;
    JT_TRY(bind_bank(b, &m->shared, shared_names, false, 1));
    JT_TRY(jt_bind_vector(b, &m->shared_gate, "ffn_gate_inp_shexp.weight", d, true));
    if (jt_has(&m->shared_gate)) { /* a vector in the file, a one-row matrix to us */
        m->shared_gate.n_dims = 2;
        m->shared_gate.shape[0] = 1;
        m->shared_gate.shape[1] = d;
    }
    return JT_OK;
}

jt_status jt_bind_dense(jt_binder *b, jt_bank *bank)
{
    return bind_bank(b, bank, dense_names, false, 1);
}
