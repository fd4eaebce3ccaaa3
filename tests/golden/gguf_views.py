"""Where each tensor of a GGUF file lies in a transformers model.

One table serves both directions: every GGUF tensor is a view of a parameter, so reading
the view exports a model and copying into the view imports one.
"""

import re

_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)$")
_EXPERTS = re.compile(r"model\.layers\.(\d+)\.mlp\.experts\.(gate_up_proj|down_proj)$")

_TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}

_PART = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
}


def _interleaved(param, heads):
    """Rows of a query or key projection in the order of the "llama" architecture.

    transformers rotates value i of a head with value i + head_dim/2; llama.cpp's
    architecture "llama" rotates neighbours, so its files hold the two halves of each
    head interleaved.
    """
    half = param.shape[0] // heads // 2
    return param.view(heads, 2, half, *param.shape[1:]).transpose(1, 2)


def gguf_views(model, arch):
    """Yield (GGUF name, shape in PyTorch's order, view of the parameter).

    The view has the elements of the GGUF tensor in the right order, but for "llama"
    queries and keys one dimension more: reshape when reading or writing.
    """
    config = model.config
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, param in model.named_parameters():  # names tied weights once
        data = param.data
        if name in _TOP:
            yield _TOP[name], data.shape, data
        elif found := _EXPERTS.match(name):
            layer, kind = found.groups()
            if kind == "down_proj":
                yield f"blk.{layer}.ffn_down_exps.weight", data.shape, data
            else:
                gate, up = data.chunk(2, dim=1)
                yield f"blk.{layer}.ffn_gate_exps.weight", gate.shape, gate
                yield f"blk.{layer}.ffn_up_exps.weight", up.shape, up
        else:
            layer, part, kind = _LAYER.match(name).groups()
            target = _PART[part]
            view = data
            if arch == "llama" and target in heads:
                view = _interleaved(data, heads[target])
            elif target == "ffn_gate_inp_shexp":
                view = data = data[0]
            yield f"blk.{layer}.{target}.{kind}", data.shape, view
