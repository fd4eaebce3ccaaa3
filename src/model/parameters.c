#include "model/parameters.h"

#include <stdio.h>

typedef struct walk {
    jt_parameter_fn *fn;
    void *user;
    int layer;
    const jt_norm_names *norm_names;
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

static void visit_qkv(const walk *w, jt_attention *a)
{
    if (jt_has(&a->qkv)) {
        visit(w, "attn_qkv.weight", &a->qkv);
        visit(w, "attn_qkv.bias", &a->qkv_bias);
        jt_attention_cut(a);
        return;
    }
    visit(w, "attn_q.weight", &a->q);
    visit(w, "attn_q.bias", &a->q_bias);
    visit(w, "attn_k.weight", &a->k);
    visit(w, "attn_k.bias", &a->k_bias);
    visit(w, "attn_v.weight", &a->v);
    visit(w, "attn_v.bias", &a->v_bias);
}

static void visit_attention(const walk *w, jt_attention *a)
{
    visit_qkv(w, a);
    visit(w, "attn_sinks.weight", &a->sinks);
    visit(w, "attn_q_norm.weight", &a->q_norm);
    visit(w, "attn_k_norm.weight", &a->k_norm);
    visit(w, "attn_gate.weight", &a->gate);
    visit(w, "attn_output.weight", &a->o);
    visit(w, "attn_output.bias", &a->o_bias);
}

static void visit_latent(const walk *w, jt_latent *l)
{
    visit(w, "attn_q_a.weight", &l->q_a);
    visit(w, "attn_q_a_norm.weight", &l->q_a_norm);
    visit(w, jt_has(&l->q_a) ? "attn_q_b.weight" : "attn_q.weight", &l->q_b);
    visit(w, "attn_kv_a_mqa.weight", &l->kv_a);
    visit(w, "attn_kv_a_norm.weight", &l->kv_a_norm);
    visit(w, "attn_kv_b.weight", &l->kv_b);
    visit(w, "attn_k_b.weight", &l->k_b);
    visit(w, "attn_v_b.weight", &l->v_b);
    visit(w, "attn_output.weight", &l->o);
}

/* "NAME.weight" and "NAME.bias". */
static void visit_both(const walk *w, const char *name, jt_tensor *weight,
                       jt_tensor *bias)
{
    char suffix[64];
    snprintf(suffix, sizeof suffix, "%s.weight", name);
    visit(w, suffix, weight);
    snprintf(suffix, sizeof suffix, "%s.bias", name);
    visit(w, suffix, bias);
}

static void visit_norm(const walk *w, jt_layer *layer, jt_norm_place place)
{
    jt_norm *norm = &layer->norm[place];
    if (norm->kind != JT_NORM_NONE)
        visit_both(w, (*w->norm_names)[place], &norm->weight, &norm->bias);
}

static void visit_bank(const walk *w, jt_bank *bank)
{
    for (int part = 0; part < JT_PARTS; part++) {
        if (bank->name[part])
            visit_both(w, bank->name[part], &bank->part[part], &bank->bias[part]);
    }
}

static void visit_recurrent(const walk *w, jt_layer *layer)
{
    size_t count;
    const jt_recurrent_part *part = jt_recurrent_parts(layer->recurrent.kind, &count);
    for (size_t i = 0; i < count; i++)
        visit(w, part[i].name,
              (jt_tensor *)((char *)&layer->recurrent + part[i].offset));
}

static void visit_mixture(const walk *w, jt_mixture *m)
{
    visit(w, "ffn_gate_inp.weight", &m->router.weight);
    visit(w, "ffn_gate_inp.bias", &m->router.bias);
    visit(w, "exp_probs_b.bias", &m->router.selection_bias);
    visit_bank(w, &m->experts);
    visit(w, "ffn_down_exps.scale", &m->router.expert_scale);
    visit(w, "ffn_gate_inp_shexp.weight", &m->shared_gate);
    visit_bank(w, &m->shared);
}

static void visit_layer(const walk *w, jt_layer *layer)
{
    visit_norm(w, layer, JT_BEFORE_ATTENTION);
    visit_attention(w, &layer->attention);
    visit_latent(w, &layer->latent);
    visit_recurrent(w, layer);
    visit_norm(w, layer, JT_AFTER_ATTENTION);
    visit_norm(w, layer, JT_BEFORE_FFN);
    visit_norm(w, layer, JT_BEFORE_EXPERTS);
    if (layer->is_mixture)
        visit_mixture(w, &layer->mixture);
    visit_bank(w, &layer->dense);
    visit_norm(w, layer, JT_AFTER_FFN);
    visit(w, "inp_gate.weight", &layer->input_gate);
    visit(w, "proj.weight", &layer->input_up);
    visit_norm(w, layer, JT_AFTER_INPUT);
}

void jt_model_each_parameter(jt_model *model, jt_parameter_fn *fn, void *user)
{
    walk w = {fn, user, -1, model->norm_names};
    bool tied = model->output.data == model->embedding.data;
    visit(&w, "token_embd.weight", &model->embedding);
    visit(&w, "per_layer_token_embd.weight", &model->layer_embedding);
    visit(&w, "per_layer_model_proj.weight", &model->layer_projection);
    visit(&w, "per_layer_proj_norm.weight", &model->layer_norm);
    for (w.layer = 0; w.layer < model->params.n_layers; w.layer++)
        visit_layer(&w, &model->layers[w.layer]);
    w.layer = -1;
    visit_both(&w, jt_family_last_norm(model->family), &model->output_norm.weight,
               &model->output_norm.bias);
    if (tied)
        model->output = model->embedding;
    else
        visit(&w, "output.weight", &model->output);
    visit(&w, "output.bias", &model->output_bias);
}

jt_status jt_model_trains(const jt_model *model, jt_err *err)
{
    if (jt_family_trains(model->family))
        return JT_OK;
    return jt_fail(err, JT_E_UNSUPPORTED,
                   "training models of the family '%s' is not supported: some of "
                   "its layers have no gradients",
                   model->family->arch);
}
