"""The golden models whose layers carry a state: what make_models.py needs to know.

    MODELS                     as in make_models.py
    shake(model, generator)    random values for parameters that only these models have
    add_keys(out, arch, config)
    tensors(model, arch)       yields (GGUF name, array), as llama.cpp's converters write
                               them: -exp(A_log), 1 + w for norms of Qwen3-Next, ..

Matrices are stored as F16, which keeps the files small; the reference computes with the
rounded values.
"""

import re

import gguf
import numpy as np
import torch

CONV, ATTENTION = "conv", "full_attention"
MAMBA = "linear_attention"

JAMBA = dict(
    num_hidden_layers=4, intermediate_size=12, attn_layer_period=4, attn_layer_offset=2,
    expert_layer_period=2, expert_layer_offset=1, num_experts=3, num_experts_per_tok=2,
    mamba_d_state=6, mamba_dt_rank=5)
LFM2 = dict(norm_eps=1e-5, intermediate_size=24, tie_word_embeddings=True, conv_L_cache=3,
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})
GRANITE = dict(
    num_hidden_layers=3, layer_types=[MAMBA, ATTENTION, MAMBA], intermediate_size=16,
    shared_intermediate_size=24, mamba_n_heads=4, mamba_d_head=12, mamba_d_state=12,
    mamba_chunk_size=8, embedding_multiplier=3.0, residual_multiplier=0.7,
    attention_multiplier=0.4, logits_scaling=1.5, position_embedding_type="nope")
DELTA = dict(
    linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8,
    linear_value_head_dim=8, num_experts=5, num_experts_per_tok=3,
    moe_intermediate_size=12, shared_expert_intermediate_size=20, head_dim=16,
    norm_topk_prob=True, partial_rotary_factor=0.25, full_attention_interval=3,
    num_hidden_layers=3, rms_norm_eps=1e-6)

NEMOTRON = dict(
    num_hidden_layers=4, intermediate_size=24, head_dim=12, ssm_state_size=12,
    mamba_num_heads=4, mamba_head_dim=12, n_groups=2, n_routed_experts=5,
    moe_intermediate_size=12, moe_shared_expert_intermediate_size=20,
    num_experts_per_tok=2, routed_scaling_factor=1.5, norm_topk_prob=True)
# Every multiplier counts; GGUF has them in its matrices.
FALCON = dict(
    intermediate_size=40, head_dim=12, mamba_d_ssm=48, mamba_n_heads=4, mamba_d_head=12,
    mamba_n_groups=2, mamba_d_state=10, mamba_d_conv=4, mamba_chunk_size=8,
    mamba_rms_norm=True, mamba_norm_before_gate=False, lm_head_multiplier=0.7,
    embedding_multiplier=1.3, mlp_multipliers=[0.8, 1.2], key_multiplier=0.9,
    attention_out_multiplier=1.1, attention_in_multiplier=1.4, ssm_in_multiplier=0.85,
    ssm_multipliers=[0.6, 1.25, 0.75, 1.5, 0.95], ssm_out_multiplier=0.65)
KIMI = dict(
    num_hidden_layers=3, layer_types=[MAMBA, ATTENTION, MAMBA], intermediate_size=40,
    mlp_layer_types=["dense", "sparse", "sparse"],
    moe_intermediate_size=20, num_local_experts=6, num_experts_per_tok=2,
    n_shared_experts=1, routed_scaling_factor=1.5, n_group=1, topk_group=1,
    norm_topk_prob=True, q_lora_rank=None, kv_lora_rank=16, qk_nope_head_dim=8,
    qk_rope_head_dim=4, v_head_dim=6, num_key_value_heads=4, linear_head_dim=10,
    linear_num_heads=4, linear_conv_kernel_dim=4, rope_parameters=None)
MINIMAX = dict(
    num_hidden_layers=3, layer_types=[MAMBA, ATTENTION, MAMBA], head_dim=12,
    intermediate_size=24, num_local_experts=5, num_experts_per_tok=2, block_size=8) | {
    f"{part}_alpha_factor": 1.5 for part in ("full_attn", "linear_attn", "mlp")}
# Delta nets without experts.
DENSE_DELTA = {key: value for key, value in DELTA.items()
               if "expert" not in key and not key.startswith(("moe_", "norm_"))}

MODELS = {
    "jamba": ("jamba", "jamba", JAMBA, {}),
    "lfm2": ("lfm2", "lfm2",
             LFM2 | dict(num_hidden_layers=3, layer_types=[CONV, ATTENTION, CONV],
                         block_auto_adjust_ff_dim=False), {}),
    "lfm2moe": (
        "lfm2moe", "lfm2_moe",
        LFM2 | dict(num_hidden_layers=4, layer_types=[CONV, CONV, ATTENTION, CONV],
                    num_dense_layers=1, num_experts=5, num_experts_per_tok=2,
                    moe_intermediate_size=12), {}),
    "granitehybrid": (
        "granitehybrid", "granitemoehybrid",
        GRANITE | dict(num_local_experts=3, num_experts_per_tok=2, mamba_n_groups=2),
        {}),
    "granitehybrid-dense": (
        "granitehybrid", "granitemoehybrid",
        GRANITE | dict(num_local_experts=0, mamba_n_groups=1), {}),
    "qwen3next": ("qwen3next", "qwen3_next", DELTA, {}),
    "qwen35": ("qwen35", "qwen3_5_text", DENSE_DELTA, {}),
    "qwen35moe": ("qwen35moe", "qwen3_5_moe_text", DELTA, {}),
    "nemotron_h": (
        "nemotron_h", "nemotron_h",
        NEMOTRON | dict(layers_block_type=[MAMBA, "mlp", ATTENTION, "mlp"]), {}),
    "nemotron_h_moe": (
        "nemotron_h_moe", "nemotron_h",
        NEMOTRON | dict(layers_block_type=[MAMBA, "moe", ATTENTION, "moe"]), {}),
    "falcon-h1": ("falcon-h1", "falcon_h1", FALCON, {}),
    "kimi-linear": ("kimi-linear", "kimi_linear", KIMI, {}),
    "minimax-01": ("minimax-01", "minimax", MINIMAX, {}),
}

for number, (_, _, _, options) in enumerate(MODELS.values()):
    options["seed"] = 100000 + 1000 * number

# ---- random values -------------------------------------------------------------------


def shake(model, generator):
    """After the general rules of make_models.py; matrices are rounded to F16."""
    centered = model.config.model_type.startswith(("qwen3_next", "qwen3_5"))
    for name, param in model.named_parameters():
        noise = torch.randn(param.shape, generator=generator)
        part = name.removesuffix(".weight").rsplit(".", 1)[-1]
        if part == "A_log":
            param.data = 0.5 * noise
        elif part == "embeddings":
            param.data = noise
        elif part == "norm_f":
            param.data = 1.0 + 0.25 * noise
        elif part == "D":
            param.data = 1.0 + 0.25 * noise
        elif part == "dt_bias" or name.endswith("dt_proj.bias"):
            param.data = 0.5 * noise - 1.0
        elif part in ("conv1d", "conv"):
            param.data = noise * param.shape[-1] ** -0.5
        elif part == "router" or name.endswith("router.weight"):
            param.data = 3.0 * noise * param.shape[-1] ** -0.5
        elif name.endswith("norm.weight") and centered and ".linear_attn." not in name:
            param.data = param.data - 1.0
        if is_matrix(name, param):
            scale = multiplier(model.config, name)
            param.data = (param.data * scale).half().float() / scale


def multiplier(config, name):
    """What a matrix of Falcon-H1 is multiplied by before it is stored: a number, or one
    for each row."""
    part = name.removesuffix(".weight").rsplit(".", 1)[-1]
    if config.model_type != "falcon_h1":
        return 1.0
    if part == "in_proj":
        inner, b = config.mamba_d_ssm, config.mamba_n_groups * config.mamba_d_state
        rows = torch.tensor([inner, inner, b, b, config.mamba_n_heads])
        each = torch.tensor(config.ssm_multipliers) * config.ssm_in_multiplier
        return each.repeat_interleave(rows)[:, None]
    attention = config.attention_in_multiplier
    return {"embed_tokens": config.embedding_multiplier,
            "lm_head": config.lm_head_multiplier, "q_proj": attention,
            "v_proj": attention, "k_proj": attention * config.key_multiplier,
            "o_proj": config.attention_out_multiplier,
            "out_proj": config.ssm_out_multiplier,
            "gate_proj": config.mlp_multipliers[0],
            "down_proj": config.mlp_multipliers[1]}.get(part, 1.0)


def is_matrix(name, param):
    """What converters store in the file's own type: not routers and convolutions."""
    plain = r"(A_log|conv1d\.weight|conv\.conv\.weight|router\.weight|\.gate\.weight|" \
            r"shared_expert_gate\.weight)$"
    return param.dim() >= 2 and not re.search(plain, name)


# ---- keys ----------------------------------------------------------------------------


def kinds(config):
    if config.model_type in ("jamba", "falcon_h1"):
        return config.layers_block_type
    return config.layer_types


def add_keys(out, arch, config):
    attention = [kind in ("attention", ATTENTION, "hybrid") for kind in kinds(config)]
    kv_heads = [config.num_key_value_heads if a else 0 for a in attention]
    eps = next(getattr(config, name) for name in
               ("norm_eps", "layer_norm_epsilon", "rms_norm_eps") if hasattr(config, name))
    out.add_vocab_size(config.vocab_size)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    if hasattr(config, "intermediate_size"):
        out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_layer_norm_rms_eps(eps)
    if arch.startswith("qwen3"):
        add_delta_net(out, config)
    elif arch == "kimi-linear":
        add_kimi(out, config, attention)
    elif arch == "minimax-01":
        add_minimax(out, config)
    else:
        out.add_head_count_kv(kv_heads)
    if arch.startswith("lfm2"):
        out.add_shortconv_l_cache(config.conv_L_cache)
        out.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if arch.startswith("nemotron"):
        add_nemotron(out, arch, config)
        return
    if arch in ("jamba", "granitehybrid", "falcon-h1"):
        add_mamba(out, config)
    if arch == "falcon-h1":
        out.add_key_length(config.head_dim)
        out.add_value_length(config.head_dim)
        out.add_rope_freq_base(config.rope_parameters["rope_theta"])
        return
    if arch == "granitehybrid":
        out.add_embedding_scale(config.embedding_multiplier)
        out.add_residual_scale(config.residual_multiplier)
        out.add_attention_scale(config.attention_multiplier)
        out.add_logit_scale(config.logits_scaling)
        out.add_rope_scaling_finetuned(False)
    add_experts(out, arch, config)


def add_mamba(out, config):
    falcon = config.model_type == "falcon_h1"
    inner = config.mamba_d_ssm if falcon else config.mamba_expand * config.hidden_size
    out.add_ssm_conv_kernel(config.mamba_d_conv)
    out.add_ssm_inner_size(inner)
    out.add_ssm_state_size(config.mamba_d_state)
    if config.model_type == "jamba":
        out.add_ssm_time_step_rank(config.mamba_dt_rank)
    else:
        out.add_ssm_time_step_rank(config.mamba_n_heads)
        out.add_ssm_group_count(config.mamba_n_groups)


def add_nemotron(out, arch, config):
    out.add_key_length(config.head_dim)
    out.add_value_length(config.head_dim)
    out.add_ssm_conv_kernel(config.conv_kernel)
    out.add_ssm_inner_size(config.mamba_num_heads * config.mamba_head_dim)
    out.add_ssm_state_size(config.ssm_state_size)
    out.add_ssm_time_step_rank(config.mamba_num_heads)
    out.add_ssm_group_count(config.n_groups)
    out.add_rope_scaling_finetuned(False)
    if not arch.endswith("_moe"):
        return
    out.add_expert_count(config.n_routed_experts)
    out.add_expert_used_count(config.num_experts_per_tok)
    out.add_expert_feed_forward_length(config.moe_intermediate_size)
    out.add_expert_shared_feed_forward_length(
        config.moe_shared_expert_intermediate_size)
    out.add_expert_weights_norm(config.norm_topk_prob)
    out.add_expert_weights_scale(config.routed_scaling_factor)
    out.add_expert_group_count(config.n_group)
    out.add_expert_group_used_count(config.topk_group)


def add_kimi(out, config, attention):
    out.add_head_count_kv([int(a) for a in attention])
    out.add_ssm_conv_kernel(config.linear_conv_kernel_dim)
    out.add_kda_head_dim(config.linear_head_dim)
    out.add_kv_lora_rank(config.kv_lora_rank)
    out.add_rope_dimension_count(config.qk_rope_head_dim)
    out.add_key_length(config.kv_lora_rank + config.qk_rope_head_dim)
    out.add_key_length_mla(config.qk_nope_head_dim + config.qk_rope_head_dim)
    out.add_value_length_mla(config.v_head_dim)
    out.add_expert_shared_count(config.n_shared_experts)
    out.add_leading_dense_block_count(config.mlp_layer_types.count("dense"))
    out.add_expert_weights_scale(config.routed_scaling_factor)
    out.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)


def add_minimax(out, config):
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_key_length(config.head_dim)
    out.add_value_length(config.head_dim)
    out.add_rope_freq_base(config.rope_parameters["rope_theta"])
    out.add_rope_dimension_count(config.head_dim)
    out.add_residual_scale(config.full_attn_alpha_factor)


def add_delta_net(out, config):
    values = config.linear_value_head_dim * config.linear_num_value_heads
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_key_length(config.head_dim)
    out.add_value_length(config.head_dim)
    out.add_rope_freq_base(config.rope_parameters["rope_theta"])
    out.add_rope_dimension_count(int(config.head_dim * 0.25))
    out.add_ssm_conv_kernel(config.linear_conv_kernel_dim)
    out.add_ssm_state_size(config.linear_key_head_dim)
    out.add_ssm_group_count(config.linear_num_key_heads)
    out.add_ssm_time_step_rank(config.linear_num_value_heads)
    out.add_ssm_inner_size(values)
    out.add_full_attention_interval(config.layer_types.index(ATTENTION) + 1)


def add_experts(out, arch, config):
    count = getattr(config, "num_experts", 0) or getattr(config, "num_local_experts", 0)
    if not count:
        return
    out.add_expert_count(count)
    out.add_expert_used_count(config.num_experts_per_tok)
    if hasattr(config, "moe_intermediate_size"):
        out.add_expert_feed_forward_length(config.moe_intermediate_size)
    if hasattr(config, "shared_expert_intermediate_size"):
        out.add_expert_shared_feed_forward_length(
            config.shared_expert_intermediate_size)
    if arch == "granitehybrid":
        out.add_expert_shared_feed_forward_length(config.shared_intermediate_size)
    if arch == "lfm2moe":
        out.add_leading_dense_block_count(config.num_dense_layers)
        out.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)


# ---- tensors -------------------------------------------------------------------------

_TOP = {
    "model.embed_tokens": "token_embd",
    "model.embeddings": "token_embd",
    "model.final_layernorm": "output_norm",
    "model.norm_f": "output_norm",
    "model.embedding_norm": "token_embd_norm",
    "model.norm": "output_norm",
    "lm_head": "output",
}

_PART = {
    "input_layernorm": "attn_norm",
    "norm": "attn_norm",
    "operator_norm": "attn_norm",
    "pre_ff_layernorm": "ffn_norm",
    "post_attention_layernorm": "ffn_norm",
    "ffn_norm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.out_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_layernorm": "attn_q_norm",
    "self_attn.k_layernorm": "attn_k_norm",
    # short convolution
    "conv.in_proj": "shortconv.in_proj",
    "conv.conv": "shortconv.conv",
    "conv.out_proj": "shortconv.out_proj",
    # Mamba
    "mamba.in_proj": "ssm_in",
    "mamba.conv1d": "ssm_conv1d",
    "mamba.x_proj": "ssm_x",
    "mamba.dt_proj": "ssm_dt",
    "mamba.dt_layernorm": "ssm_dt_norm",
    "mamba.b_layernorm": "ssm_b_norm",
    "mamba.c_layernorm": "ssm_c_norm",
    "mamba.norm": "ssm_norm",
    "mamba.out_proj": "ssm_out",
    # gated delta net
    "linear_attn.conv1d": "ssm_conv1d",
    "linear_attn.in_proj_ba": "ssm_ba",
    "linear_attn.in_proj_b": "ssm_beta",
    "linear_attn.in_proj_a": "ssm_alpha",
    "linear_attn.in_proj_qkv": "attn_qkv",
    "linear_attn.in_proj_z": "attn_gate",
    "linear_attn.norm": "ssm_norm",
    "linear_attn.out_proj": "ssm_out",
    # Kimi-Linear
    "self_attn.forget_gate.f_a_proj": "ssm_f_a",
    "self_attn.forget_gate.f_b_proj": "ssm_f_b",
    "self_attn.b_proj": "ssm_beta",
    "self_attn.g_a_proj": "ssm_g_a",
    "self_attn.g_b_proj": "ssm_g_b",
    "self_attn.o_norm": "ssm_norm",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
    # MiniMax-Text-01
    "self_attn.norm": "attn_norm_2",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.output_gate": "attn_gate",
    # Nemotron-H calls every part a mixer
    "mixer.in_proj": "ssm_in",
    "mixer.conv1d": "ssm_conv1d",
    "mixer.norm": "ssm_norm",
    "mixer.out_proj": "ssm_out",
    "mixer.q_proj": "attn_q",
    "mixer.k_proj": "attn_k",
    "mixer.v_proj": "attn_v",
    "mixer.o_proj": "attn_output",
    "mixer.up_proj": "ffn_up",
    "mixer.down_proj": "ffn_down",
    "mixer.gate": "ffn_gate_inp",
    "mixer.shared_experts.up_proj": "ffn_up_shexp",
    "mixer.shared_experts.down_proj": "ffn_down_shexp",
    # FFN
    "feed_forward.gate_proj": "ffn_gate",
    "feed_forward.up_proj": "ffn_up",
    "feed_forward.down_proj": "ffn_down",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w3": "ffn_up",
    "feed_forward.w2": "ffn_down",
    "feed_forward.router": "ffn_gate_inp",
    "feed_forward.gate": "ffn_gate_inp",
    "block_sparse_moe.router": "ffn_gate_inp",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
}


def interleaved(value, heads):
    """As gguf_views.py has it: rotation pairs are neighbours in "granitehybrid"."""
    half = value.shape[0] // heads // 2
    return value.view(heads, 2, half, -1).transpose(1, 2).reshape(value.shape)


def apart(config, value):
    """Rows (q, k, v, z) of each key head: those of q, k, v of all heads, those of z."""
    share = config.linear_num_value_heads // config.linear_num_key_heads
    parts = [config.linear_key_head_dim] * 2 + [config.linear_value_head_dim * share] * 2
    heads = value.view(config.linear_num_key_heads, sum(parts), -1)
    q, k, v, z = (part.reshape(-1, value.shape[1]) for part in heads.split(parts, dim=1))
    return torch.cat([q, k, v]), z


def tiled(config, value, first=0, dim=0):
    """Heads of values in the order of "qwen35" files: the first of each key head, then
    the second of each, .. `first` rows of other things come before them."""
    keys = config.linear_num_key_heads
    share = config.linear_num_value_heads // keys
    rest, heads = value.split([first, value.shape[dim] - first], dim)
    order = torch.arange(heads.shape[dim]).view(keys, share, -1).transpose(0, 1)
    return torch.cat([rest, heads.index_select(dim, order.flatten())], dim)


def in_file_order(config, part, value):
    """A parameter of a gated delta net of Qwen3.5."""
    name = part.removeprefix("linear_attn.").removesuffix(".weight")
    if name in ("in_proj_qkv", "conv1d"):
        keys = config.linear_num_key_heads * config.linear_key_head_dim
        return tiled(config, value, first=2 * keys)
    if name == "out_proj":
        return tiled(config, value, dim=1)
    return value if name == "norm" else tiled(config, value)


def layer_tensors(config, arch, part, value):
    """(name after "blk.N.", tensor) of one parameter of a layer."""
    field, _, kind = part.rpartition(".")
    if arch.startswith("qwen35") and part.startswith("linear_attn."):
        value = in_file_order(config, part, value)
    if kind == "A_log":
        value = -torch.exp(value)
        heads = field in ("mamba", "mixer") and value.dim() == 1
        yield "ssm_a", value[:, None] if heads else value
    elif kind == "D":
        yield "ssm_d", value if arch == "jamba" else value[:, None]
    elif kind == "dt_bias":
        yield "ssm_dt.bias", value
    elif kind == "gate_up_proj":
        gate, up = value.chunk(2, dim=1)
        yield "ffn_gate_exps.weight", gate
        yield "ffn_up_exps.weight", up
    elif kind == "up_proj":  # of experts without a gate
        yield "ffn_up_exps.weight", value
    elif kind == "down_proj":  # of experts
        yield "ffn_down_exps.weight", value
    elif field == "self_attn.conv1d":  # of q, k and v
        for letter, conv in zip("qkv", value.chunk(3)):
            yield f"ssm_conv1d_{letter}.weight", conv.transpose(0, 1)[None]
    elif field == "self_attn.kv_b_proj":
        heads = value.view(config.num_attention_heads, -1, config.kv_lora_rank)
        nope = config.qk_nope_head_dim
        yield "attn_k_b.weight", heads[:, :nope].transpose(1, 2)
        yield "attn_v_b.weight", heads[:, nope:]
    elif field == "linear_attn.in_proj_qkvz":
        qkv, z = apart(config, value)
        yield "attn_qkv.weight", qkv
        yield "attn_gate.weight", z
    elif field.startswith("shared_mlp."):
        suffix = "_shexp" if config.num_local_experts else ""
        if field.endswith("output_linear"):
            yield f"ffn_down{suffix}.weight", value
        else:
            gate, up = value.chunk(2, dim=0)
            yield f"ffn_gate{suffix}.weight", gate
            yield f"ffn_up{suffix}.weight", up
    else:
        yield f"{_PART[field]}.{kind}", reshaped(config, arch, field, value)


def reshaped(config, arch, field, value):
    if field.endswith("conv1d") or field == "conv.conv":
        return value.squeeze(1) if value.dim() == 3 else value
    if field in ("mamba.norm", "mixer.norm"):
        groups = config.n_groups if field == "mixer.norm" else config.mamba_n_groups
        return value.view(groups, -1)
    if field == "mlp.shared_expert_gate":
        return value[0]
    if arch == "granitehybrid" and field == "self_attn.q_proj":
        return interleaved(value, config.num_attention_heads)
    if arch == "granitehybrid" and field == "self_attn.k_proj":
        return interleaved(value, config.num_key_value_heads)
    return value


def tensors(model, arch):
    config = model.config
    centered = arch.startswith("qwen3")
    for name, param in model.named_parameters():
        value, matrix = param.data, is_matrix(name, param)
        if centered and name.endswith("norm.weight") and ".linear_attn." not in name:
            value = value + 1.0
        found = re.match(r"model\.layers\.(\d+)\.(.+)$", name)
        if found:
            layer, part = found.groups()
            named = [(f"blk.{layer}.{target}", v)
                     for target, v in layer_tensors(config, arch, part, value)]
        else:
            field, _, kind = name.rpartition(".")
            named = [(f"{_TOP[field]}.{kind}", value)]
        scale = multiplier(config, name)
        for target, v in named:
            if centered:
                target = target.replace("ffn_norm", "post_attention_norm")
            if arch == "falcon-h1":
                target = target.replace("ffn_norm.weight", "ffn_norm")
            array = (v * scale).contiguous().numpy()
            yield target, array.astype(np.float16) if matrix else array
    for name, buffer in model.named_buffers():
        if name.endswith(("expert_bias", "e_score_correction_bias")):
            layer = name.split(".")[2]
            yield f"blk.{layer}.exp_probs_b.bias", buffer.numpy()
