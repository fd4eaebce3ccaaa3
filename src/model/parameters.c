#include "model/parameters.h"

#include <stdio.h>

typedef struct walk {
    jt_parameter_fn *fn;
    void *user;
    int layer;
} walk;

static void visit(const walk *w, const char *suffix, jt_tensor *t)
{
    char name[96];
    if (!jt_has(t))
        return;
    if (w->layer < 0)
        snprintf(name, sizeof name, "%s", suffix);
    else
        snprintf(name, sizeof name, "blk.%d.%s", w->layer, suffix);
    w->fn(w->user, name, t);
}

static void visit_attention(const walk *w, jt_attention *a)
{
    visit(w, "attn_q.weight", &a->q);
    visit(w, "attn_q.bias", &a->q_bias);
    visit(w, "attn_k.weight", &a->k);
    visit(w, "attn_k.bias", &a->k_bias);
    visit(w, "attn_v.weight", &a->v);
    visit(w, "attn_v.bias", &a->v_bias);
    visit(w, "attn_q_norm.weight", &a->q_norm);
    visit(w, "attn_k_norm.weight", &a->k_norm);
    visit(w, "attn_output.weight", &a->o);
    visit(w, "attn_output.bias", &a->o_bias);
}

static void visit_mixture(const walk *w, jt_mixture *m)
{
    visit(w, "ffn_gate_inp.weight", &m->router.weight);
    visit(w, "ffn_gate_inp.bias", &m->router.bias);
    visit(w, "exp_probs_b.bias", &m->router.selection_bias);
    visit(w, "ffn_gate_exps.weight", &m->experts.part[JT_PART_GATE]);
    visit(w, "ffn_up_exps.weight", &m->experts.part[JT_PART_UP]);
    visit(w, "ffn_down_exps.weight", &m->experts.part[JT_PART_DOWN]);
    visit(w, "ffn_gate_inp_shexp.weight", &m->shared_gate);
    visit(w, "ffn_gate_shexp.weight", &m->shared.part[JT_PART_GATE]);
    visit(w, "ffn_up_shexp.weight", &m->shared.part[JT_PART_UP]);
    visit(w, "ffn_down_shexp.weight", &m->shared.part[JT_PART_DOWN]);
}

static void visit_layer(const walk *w, jt_layer *layer)
{
    visit(w, "attn_norm.weight", &layer->attn_norm);
    visit_attention(w, &layer->attention);
    visit(w, "ffn_norm.weight", &layer->ffn_norm);
    if (layer->is_mixture) {
        visit_mixture(w, &layer->mixture);
        return;
    }
    visit(w, "ffn_gate.weight", &layer->dense.part[JT_PART_GATE]);
    visit(w, "ffn_up.weight", &layer->dense.part[JT_PART_UP]);
    visit(w, "ffn_down.weight", &layer->dense.part[JT_PART_DOWN]);
}

void jt_model_each_parameter(jt_model *model, jt_parameter_fn *fn, void *user)
{
    walk w = {fn, user, -1};
    bool tied = model->output.data == model->embedding.data;
    visit(&w, "token_embd.weight", &model->embedding);
    for (w.layer = 0; w.layer < model->params.n_layers; w.layer++)
        visit_layer(&w, &model->layers[w.layer]);
    w.layer = -1;
    visit(&w, "output_norm.weight", &model->output_norm);
    if (tied)
        model->output = model->embedding;
    else
        visit(&w, "output.weight", &model->output);
}
