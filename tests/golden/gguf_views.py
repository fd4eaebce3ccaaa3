"""Where each tensor of a GGUF file lies in a transformers model.

One table serves both directions: every GGUF tensor is a view of a parameter, so reading
the view exports a model and copying into the view imports one. The exception are norms
whose files hold 1 + the parameter (PLUS_ONE): these are copies.
"""

import itertools
import re

_LAYER = re.compile(r"(?:model\.layers|transformer\.blocks)\.(\d+)\.(.+)$")

_TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "model.norm.bias": "output_norm.bias",
    "model.final_layernorm.weight": "output_norm.weight",
    "model.final_layernorm.bias": "output_norm.bias",
    "model.embed_tokens_per_layer.weight": "per_layer_token_embd.weight",
    "model.per_layer_model_projection.weight": "per_layer_model_proj.weight",
    "model.per_layer_projection_norm.weight": "per_layer_proj_norm.weight",
    "transformer.wte.weight": "token_embd.weight",
    "transformer.norm_f.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "lm_head.bias": "output.bias",
}

_PART = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.dense": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.query_layernorm": "attn_q_norm",
    "self_attn.key_layernorm": "attn_k_norm",
    "self_attn.gate_proj": "attn_gate",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": "attn_kv_b",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
    "residual_mlp.gate_proj": "ffn_gate",
    "residual_mlp.up_proj": "ffn_up",
    "residual_mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "mlp.gate.wg": "ffn_gate_inp",
    "mlp.router": "ffn_gate_inp",
    "mlp.router.gate": "ffn_gate_inp",
    "block_sparse_moe.router": "ffn_gate_inp",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
    "feed_forward.gate_proj": "ffn_gate",
    "feed_forward.up_proj": "ffn_up",
    "feed_forward.down_proj": "ffn_down",
    "feed_forward.router": "ffn_gate_inp",
    "feed_forward.shared_expert.gate_proj": "ffn_gate_shexp",
    "feed_forward.shared_expert.up_proj": "ffn_up_shexp",
    "feed_forward.shared_expert.down_proj": "ffn_down_shexp",
    "shared_mlp.output_linear": "ffn_down_shexp",
    "mlp.shared_mlp.gate_proj": "ffn_gate_shexp",
    "mlp.shared_mlp.up_proj": "ffn_up_shexp",
    "mlp.shared_mlp.down_proj": "ffn_down_shexp",
    "norm_attn_norm.norm_1": "attn_norm",
    "norm_attn_norm.norm_2": "attn_output_norm",
    "norm_attn_norm.attn.Wqkv": "attn_qkv",
    "norm_attn_norm.attn.out_proj": "attn_output",
    "ffn.router.layer": "ffn_gate_inp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
}

# Where an architecture has other names for the norms.
_NORMS_AFTER = {
    "post_attention_layernorm": "post_attention_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_AROUND = _NORMS_AFTER | {"pre_feedforward_layernorm": "ffn_norm"}
_GROK = {"post_self_attn_layernorm": "attn_output_norm",
         "post_mlp_layernorm": "layer_output_norm"}
_OTHER = {
    "gemma4": _AROUND | {
        "post_feedforward_layernorm_1": "post_ffw_norm_1",
        "post_feedforward_layernorm_2": "post_ffw_norm_2",
        "pre_feedforward_layernorm_2": "pre_ffw_norm_2", "router.proj": "ffn_gate_inp",
        "per_layer_input_gate": "inp_gate", "per_layer_projection": "proj",
        "post_per_layer_input_norm": "post_norm"},
    "gemma2": _AROUND,
    "gemma3": _AROUND,
    "gpt-oss": {"post_attention_layernorm": "post_attention_norm"},
    "exaone4": _NORMS_AFTER,
    "grok1": _GROK,
    "grok2": _GROK | {"post_mlp_layernorm": "post_ffw_norm"},
    "arctic": {"residual_layernorm": "ffn_norm",
               "post_attention_layernorm": "ffn_norm_exps"},
    "glm4": {"post_self_attn_layernorm": "post_attention_norm",
             "post_mlp_layernorm": "post_ffw_norm"},
    "glm4moe": {"post_attention_layernorm": "post_attention_norm"},
    "seed_oss": {"post_attention_layernorm": "post_attention_norm"},
    "olmo2": _NORMS_AFTER,
    "afmoe": {"post_attention_layernorm": "post_attention_norm",
              "pre_mlp_layernorm": "ffn_norm", "post_mlp_layernorm": "post_ffw_norm"},
}

# Two tensors of a file in one parameter, one after the other.
_SPLIT = {
    "experts.gate_up_proj": ("ffn_gate_exps.weight", "ffn_up_exps.weight"),
    "shared_mlp.input_linear.weight": ("ffn_gate_shexp.weight", "ffn_up_shexp.weight"),
}

# Architectures whose files hold the rows of queries and keys in another order.
_INTERLEAVED = {"llama", "mistral3", "deepseek", "granite", "granitemoe", "bailingmoe",
                "arctic", "olmo", "smollm3"}
# Those whose norms multiply by 1 + their parameter, and whose files hold the sum.
_PLUS_ONE = {"gemma", "gemma2", "gemma3", "nemotron"}
# Those whose experts are stored the other way round, [expert, in, out].
_TURNED = {"llama4", "gpt-oss"}


def _interleaved(param, heads):
    """Rows of a query or key projection in the order of the "llama" architecture.

    transformers rotates value i of a head with value i + head_dim/2; llama.cpp's
    architecture "llama" rotates neighbours, so its files hold the two halves of each
    head interleaved.
    """
    half = param.shape[0] // heads // 2
    return param.view(heads, 2, half, *param.shape[1:]).transpose(1, 2)


_DBRX = {"w1": ("ffn_gate_exps.weight", False), "v1": ("ffn_up_exps.weight", False),
         "w2": ("ffn_down_exps.weight", True)}
CORRECTIONS = ("e_score_correction_bias", "expert_bias")


def _gpt_oss_experts(part, data):
    """Gates and ups take turns there."""
    kind = "bias" if part.endswith("_bias") else "weight"
    if "down_proj" in part:
        return [(f"ffn_down_exps.{kind}", data)]
    return [(f"ffn_gate_exps.{kind}", data[:, ::2]),
            (f"ffn_up_exps.{kind}", data[:, 1::2])]


def _of_layer(arch, other, part, data, experts_width):
    """Names in the layer and views of a parameter."""
    if part.endswith("sinks"):
        return [("attn_sinks.weight", data)]
    if ".experts." in part and arch in _TURNED and data.dim() == 3:
        data = data.transpose(1, 2)
    if ".experts." in part and arch == "gpt-oss":
        return _gpt_oss_experts(part, data)
    for ending, names in _SPLIT.items():
        if part.endswith(ending):
            return list(zip(names, data.chunk(2, dim=-2)))
    if part.endswith("experts.down_proj"):
        return [("ffn_down_exps.weight", data)]
    if part.startswith("ffn.experts.mlp."):  # DBRX: all experts in one matrix
        stacked = data.view(-1, experts_width, data.shape[-1])
        name, turned = _DBRX[part[-2:]]
        return [(name, stacked.transpose(1, 2) if turned else stacked)]
    if part.endswith(CORRECTIONS):
        return [("exp_probs_b.bias", data.view(-1))]
    if part == "router.scale":
        return [("ffn_gate_inp.scale", data)]
    if part == "layer_scalar":
        return [("layer_output_scale.weight", data)]
    if part in ("mlp.router_scale", "router.per_expert_scale"):
        return [("ffn_down_exps.scale", data)]
    stem, kind = part.rsplit(".", 1)
    return [(f"{(_PART | other)[stem]}.{kind}", data)]


def tensors(model):
    """Parameters, and the buffers that files hold; tied weights once."""
    kept = ((name, data) for name, data in model.named_buffers()
            if name.endswith((*CORRECTIONS, "layer_scalar")))
    return itertools.chain(model.named_parameters(), kept)


def gguf_views(model, arch):
    """Yield (GGUF name, shape in PyTorch's order, view of the parameter).

    The view has the elements of the GGUF tensor in the right order, but for interleaved
    queries and keys one dimension more: reshape when reading or writing.
    """
    config = model.config
    other = _OTHER.get(config.model_type) or _OTHER.get(arch, {})
    width = config.ffn_config.ffn_hidden_size if arch == "dbrx" else None
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, param in tensors(model):
        found = _LAYER.match(name)
        layer, part = found.groups() if found else (None, name)
        if found:
            views = _of_layer(arch, other, part, param.data, width)
        else:
            views = [(_TOP[name], param.data)]
        for target, data in views:
            stem = target.rsplit(".", 1)[0]
            view = data
            if arch in _INTERLEAVED and stem in heads:
                view = _interleaved(data, heads[stem])
            elif stem == "ffn_gate_inp_shexp":
                view = data = data[0]
            elif arch in _PLUS_ONE and target.endswith("norm.weight"):
                view = data + 1
            yield f"blk.{layer}.{target}" if found else target, data.shape, view
