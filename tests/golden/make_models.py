#!/usr/bin/env python3
"""Make the golden models: tiny random checkpoints and what transformers says of them.

    python make_models.py [NAME...]

writes, beside this script, for every model (or the named ones)

    NAME.gguf       the checkpoint, with the tensor and key names of llama.cpp
    NAME.ref.gguf   "tokens" I32 [n], "logits" F32 [n, vocab] and, for mixtures,
                    "routes" I32 [layers, n, k]: the experts of every token, heaviest
                    first, -1 in layers without experts

The committed files were made with Python 3.11, torch 2.15.0 (CPU), transformers 5.23.0,
gguf 0.19.0 and numpy 2.4.6. Seeds are fixed; other versions may move last bits.
"""

import copy
import pathlib
import sys

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Q

import recurrent_models
import reference as own_reference
from gguf_views import CORRECTIONS, gguf_views, tensors

HERE = pathlib.Path(__file__).parent
# ---- the models ----------------------------------------------------------------------

BASE = dict(
    vocab_size=40,
    hidden_size=24,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    rms_norm_eps=1e-5,
    tie_word_embeddings=False,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
)
BASE_DBRX = {name: BASE[name] for name in ("vocab_size", "rope_parameters")}
# Few wide heads, so that a scaled rope has 6 frequencies to differ in.
DENSE = dict(num_attention_heads=2, num_key_value_heads=1)
MOE = dict(num_experts=5, num_experts_per_tok=3, moe_intermediate_size=12)
SHARED = MOE | dict(shared_expert_intermediate_size=20)
OLMOE = dict(num_experts=5, num_experts_per_tok=3, intermediate_size=12,
             norm_topk_prob=False)
# Of models that tests of other parts use, too.
LARGE = dict(vocab_size=96, hidden_size=32, intermediate_size=64)
WIDE = LARGE | dict(hidden_size=256, head_dim=32, num_experts=3, num_experts_per_tok=2,
                    moe_intermediate_size=256, norm_topk_prob=True)


# What files of newer families are made of: half as large, and said by their configs.
HALF = dict(half=True)
EXPERTS = dict(num_local_experts=5, num_experts_per_tok=3, intermediate_size=12)
NOAUX = dict(n_routed_experts=6, num_experts_per_tok=3, moe_intermediate_size=12,
             n_shared_experts=2, first_k_dense_replace=1, norm_topk_prob=True,
             routed_scaling_factor=1.5, n_group=1, topk_group=1)
OWN = dict(num_experts=5, num_experts_per_tok=3, moe_intermediate_size=12,
           first_k_dense_replace=1)
GRANITE = dict(embedding_multiplier=3.0, residual_multiplier=0.6,
               attention_multiplier=0.2, logits_scaling=0.8)


def rope(kind, theta=10000.0, **parameters):
    return dict(rope_parameters={"rope_type": kind, "rope_theta": theta, **parameters})


GLM = dict(head_dim=12, attention_bias=True) | rope("default",
                                                    partial_rotary_factor=0.5)

GEMMA = dict(head_dim=16, num_key_value_heads=1, tie_word_embeddings=True,
             query_pre_attn_scalar=16)
# Layers with a window have narrower heads, and more of them.
GEMMA4 = dict(
    head_dim=8, global_head_dim=16, num_key_value_heads=2, num_global_key_value_heads=1,
    attention_k_eq_v=True, num_hidden_layers=3, sliding_window=12, intermediate_size=40,
    layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    hidden_size_per_layer_input=0, final_logit_softcapping=10.0, rms_norm_eps=1e-6,
    tie_word_embeddings=True, rope_parameters={
        "full_attention": {"rope_type": "proportional", "rope_theta": 100000.0,
                           "partial_rotary_factor": 0.5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}})
LATENT = dict(q_lora_rank=24, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4,
              v_head_dim=6, num_key_value_heads=4)
V2 = LATENT | dict(n_routed_experts=6, num_experts_per_tok=2, moe_intermediate_size=12,
                   n_shared_experts=2, first_k_dense_replace=1, num_hidden_layers=2,
                   n_group=3, topk_group=2, topk_method="group_limited_greedy",
                   routed_scaling_factor=3.0, norm_topk_prob=False, rms_norm_eps=1e-6)

# name: (GGUF architecture, transformers' model type, settings, options of the script)
MODELS = {
    "llama": ("llama", "llama",
              dict(hidden_size=48, intermediate_size=64, tie_word_embeddings=True),
              dict(text=True, tokens=40)),
    "llama-llama3": (
        "llama", "llama",
        DENSE | rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                     original_max_position_embeddings=32),
        dict(half=True, tokens=80)),
    "llama-linear": ("llama", "llama", DENSE | rope("linear", factor=4.0),
                     dict(half=True, tokens=80)),
    "mixtral": (
        "llama", "mixtral",
        dict(hidden_size=32, intermediate_size=24, num_local_experts=8,
             num_experts_per_tok=2),
        dict(text=True, tokens=40)),
    "qwen2": ("qwen2", "qwen2", DENSE | rope("default", 1000000.0), {}),
    "qwen2-yarn": (
        "qwen2", "qwen2",
        DENSE | rope("yarn", factor=4.0, original_max_position_embeddings=32),
        dict(half=True, tokens=80)),
    "qwen2moe": ("qwen2moe", "qwen2_moe",
                 SHARED | LARGE | dict(moe_intermediate_size=24, norm_topk_prob=False,
                                       shared_expert_intermediate_size=32),
                 dict(tokens=40)),
    "qwen2moe-norm": (  # renormalised weights; layer 1 of 3 is dense
        "qwen2moe", "qwen2_moe",
        SHARED | dict(norm_topk_prob=True, num_hidden_layers=3, mlp_only_layers=[1]),
        HALF),
    "qwen3": ("qwen3", "qwen3", dict(head_dim=16), {}),
    "qwen3moe": ("qwen3moe", "qwen3_moe",
                 MOE | LARGE | dict(moe_intermediate_size=24, head_dim=16,
                                    norm_topk_prob=True), dict(tokens=40)),
    "olmoe": ("olmoe", "olmoe",
              OLMOE | LARGE | dict(intermediate_size=24, num_key_value_heads=4),
              dict(tokens=40)),
    "olmoe-clip": (  # clamped queries, keys and values; fewer key heads
        "olmoe", "olmoe", OLMOE | dict(clip_qkv=1.0), HALF),
    "mixed": ("qwen3moe", "qwen3_moe", WIDE,
              dict(tokens=32, margin=0.1, types="QUANTS")),
    # From here on matrices are F16.
    "phimoe": (
        "phimoe", "phimoe",
        EXPERTS | dict(num_experts_per_tok=2, num_key_value_heads=1,
                       attention_bias=True, lm_head_bias=True, rms_norm_eps=1e-5,
                       router_jitter_noise=0.01),
        dict(half=True, seed=13300, margin=0.03)),  # no router without a slope
    "granite": ("granite", "granite", GRANITE, HALF),
    "granitemoe": ("granitemoe", "granitemoe", GRANITE | EXPERTS, HALF),
    "granitemoe-shared": ("granitemoe", "granitemoeshared",
                          GRANITE | EXPERTS | dict(shared_intermediate_size=20),
                          dict(half=True, margin=0.02)),
    "glm4": ("glm4", "glm4",
             dict(attention_bias=True, head_dim=12, partial_rotary_factor=0.5)
             | rope("default", partial_rotary_factor=0.5), HALF),
    "glm4moe": ("glm4moe", "glm4_moe", NOAUX | GLM, HALF),
    "glm4moe-norm": (  # the larger one: norms of q and k; gate and up in one tensor
        "glm4moe", "glm4_moe", NOAUX | GLM | dict(use_qk_norm=True),
        dict(half=True, fused=True)),
    "ernie4_5": ("ernie4_5", "ernie4_5",
                 dict(head_dim=8, use_bias=True, tie_word_embeddings=True), HALF),
    "ernie4_5-moe": (
        "ernie4_5-moe", "ernie4_5_moe",
        dict(num_hidden_layers=3, moe_num_experts=6, moe_k=3, moe_intermediate_size=12,
             moe_num_shared_experts=2, moe_layer_start_index=1, moe_layer_end_index=2,
             moe_layer_interval=1, use_bias=False), HALF),
    "dots1": ("dots1", "dots1",
              NOAUX | dict(n_group=2, topk_group=1, num_key_value_heads=4), HALF),
    "minimax-m2": (
        "minimax-m2", "minimax_m2",
        EXPERTS | dict(head_dim=12) | rope("default", partial_rotary_factor=0.5), HALF),
    "seed_oss": ("seed_oss", "seed_oss", dict(head_dim=8, attention_bias=True), HALF),
    "gemma": ("gemma", "gemma",
              dict(head_dim=16, num_key_value_heads=1, tie_word_embeddings=True,
                   hidden_act="gelu_pytorch_tanh"), HALF),
    "olmo": ("olmo", "olmo", dict(clip_qkv=4.0), HALF),
    "olmo2": ("olmo2", "olmo2", {}, HALF),
    "phi2": ("phi2", "phi", rope("default", partial_rotary_factor=2 / 3), HALF),
    "nemotron": ("nemotron", "nemotron",
                 dict(attention_bias=False, norm_eps=1e-5)
                 | rope("default", partial_rotary_factor=2 / 3), HALF),
    "hunyuan-moe": ("hunyuan-moe", "hunyuan_v1_moe",
                    dict(num_experts=5, moe_topk=3, head_dim=8, intermediate_size=12),
                    HALF),
    "hunyuan-dense": ("hunyuan-dense", "hunyuan_v1_dense", dict(head_dim=8), HALF),
    "exaone-moe": (  # layers 0 and 1 see 8 tokens, layer 2 sees all and is not rotated
        "exaone-moe", "exaone_moe",
        MOE | dict(num_hidden_layers=3, sliding_window=8, sliding_window_pattern=3,
                   first_k_dense_replace=1, routed_scaling_factor=1.5, n_group=1,
                   topk_group=1), HALF),
    "afmoe": (
        "afmoe", "afmoe",
        MOE | dict(num_hidden_layers=4, sliding_window=8, num_dense_layers=1,
                   num_shared_experts=1, route_scale=1.5, mup_enabled=True, head_dim=8),
        HALF),
    "mistral3": (  # queries of tokens from 16 on grow with the logarithm of the position
        "mistral3", "ministral3",
        dict(head_dim=16) | rope("yarn", factor=4.0, beta_fast=32.0, beta_slow=1.0,
                                 original_max_position_embeddings=16,
                                 llama_4_scaling_beta=0.3), HALF),
    "dbrx": ("dbrx", "dbrx",
             dict(d_model=24, n_heads=4, n_layers=2, max_seq_len=256,
                  attn_config=dict(kv_n_heads=2, clip_qkv=4.0),
                  ffn_config=dict(ffn_hidden_size=12, moe_num_experts=5, moe_top_k=3)),
             HALF),
    # Families of reference.py.
    "deepseek": ("deepseek", "deepseek", OWN | dict(n_shared_experts=2), HALF),
    "bailingmoe": ("bailingmoe", "bailing_moe",
                   OWN | dict(n_shared_experts=1, first_k_dense_replace=0, head_dim=12),
                   HALF),
    "bailingmoe2": (
        "bailingmoe2", "bailing_moe_v2",
        OWN | dict(num_experts=6, n_group=3, topk_group=2, n_shared_experts=1,
                   routed_scaling_factor=2.5, head_dim=8)
        | rope("default", partial_rotary_factor=0.5), HALF),
    "grok": (  # no keys for what llama.cpp takes for granted of Grok-1
        "grok", "grok1", OWN | dict(num_experts_per_tok=2, first_k_dense_replace=0),
        HALF),
    "grok2": ("grok", "grok2",
              OWN | dict(num_experts_per_tok=2, first_k_dense_replace=0,
                         embedding_multiplier=3.0, output_multiplier=0.9,
                         attention_multiplier=0.3, attn_softcap=4.0,
                         router_softcap=3.0, final_softcap=8.0), HALF),
    "arctic": ("arctic", "arctic",
               OWN | dict(num_experts_per_tok=2, first_k_dense_replace=0), HALF),
    "pangu-pro-moe": ("pangu-pro-moe", "pangu_pro_moe",
                      OWN | dict(num_experts=6, n_group=3, first_k_dense_replace=0,
                                 n_shared_experts=1), HALF),
    # Windows, layers without rotation, latent attention. Text is longer than windows.
    "smollm3": ("smollm3", "smollm3", dict(num_hidden_layers=4), HALF),
    "llama4": (
        "llama4", "llama4_text",
        dict(num_hidden_layers=4, head_dim=8, intermediate_size=12,
             intermediate_size_mlp=24, num_local_experts=4, num_experts_per_tok=1,
             interleave_moe_layer_step=2, attention_chunk_size=16, floor_scale=8), HALF),
    "phi3": (
        "phi3", "phi3",
        LARGE | dict(sliding_window=12, max_position_embeddings=64,
                     original_max_position_embeddings=64)
        | rope("longrope", short_factor=[1.0, 1.5, 2.0, 3.0],
               long_factor=[1.0, 2.0, 4.0, 8.0], original_max_position_embeddings=64),
        dict(half=True, tokens=40)),
    "phi3-long": (
        "phi3", "phi3",
        dict(sliding_window=None, original_max_position_embeddings=32)
        | rope("longrope", short_factor=[1.0, 1.5, 3.0],
               long_factor=[1.0, 2.0, 8.0], original_max_position_embeddings=32),
        dict(half=True, tokens=80)),
    "gemma2": ("gemma2", "gemma2",
               GEMMA | dict(sliding_window=12, attn_logit_softcapping=3.0,
                            final_logit_softcapping=10.0), HALF),
    "gemma3": (
        "gemma3", "gemma3_text",
        GEMMA | dict(
            sliding_window=12, num_hidden_layers=6,
            rope_parameters={
                "full_attention": {"rope_type": "linear", "rope_theta": 100000.0,
                                   "factor": 4.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}),
        HALF),
    "gpt-oss": (
        "gpt-oss", "gpt_oss",
        EXPERTS | LARGE | dict(sliding_window=12, head_dim=16, intermediate_size=24)
        | rope("yarn", 150000.0, factor=4.0, beta_fast=32.0, beta_slow=1.0,
               truncate=False, original_max_position_embeddings=32),
        dict(half=True, tokens=60, margin=0.02)),
    "cohere2": ("cohere2", "cohere2",
                dict(sliding_window=12, num_hidden_layers=4, logit_scale=0.5,
                     tie_word_embeddings=True), HALF),
    "exaone4": ("exaone4", "exaone4",
                dict(sliding_window=12, sliding_window_pattern=4, num_hidden_layers=4),
                HALF),
    "deepseek2-lite": ("deepseek2", "deepseek_v2", V2 | dict(
        q_lora_rank=None, topk_method="greedy", n_group=None, topk_group=None), HALF),
    "deepseek2": ("deepseek2", "deepseek_v2",
                  V2 | rope("yarn", factor=4.0, original_max_position_embeddings=32,
                            mscale=0.7, mscale_all_dim=0.7),
                  dict(half=True, split=True, tokens=60)),
    "deepseek3": ("deepseek2", "deepseek_v3",
                  LATENT | NOAUX | dict(n_group=3, topk_group=2, num_key_value_heads=4,
                                        num_hidden_layers=2, rms_norm_eps=1e-6),
                  dict(half=True, split=True)),
    "gemma4": ("gemma4", "gemma4_text", GEMMA4, dict(half=True, seed=70000)),
    "gemma4-moe": (
        "gemma4", "gemma4_text",
        GEMMA4 | dict(enable_moe_block=True, num_experts=5, top_k_experts=2,
                      moe_intermediate_size=24), dict(half=True, seed=71000)),
    "mixed-grids": ("qwen3moe", "qwen3_moe", WIDE,
                    dict(tokens=32, margin=0.1, types="GRIDS", seed=13000)),
    "olmo3": (  # layers that see all have YaRN, those with a window have it not
        "olmo2", "olmo3",
        dict(sliding_window=8, num_hidden_layers=4, rope_parameters={
            "full_attention": {"rope_type": "yarn", "rope_theta": 10000.0,
                               "factor": 4.0, "original_max_position_embeddings": 32,
                               "beta_fast": 32.0, "beta_slow": 1.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}),
        dict(half=True, seed=14000)),
    # The last three layers read the keys and values of the first two.
    "gemma4-e2b": (
        "gemma4", "gemma4_text",
        GEMMA4 | dict(num_hidden_layers=5, num_kv_shared_layers=3,
                      layer_types=["sliding_attention", "full_attention"]
                      + GEMMA4["layer_types"], attention_k_eq_v=False,
                      num_key_value_heads=1, use_double_wide_mlp=True,
                      hidden_size_per_layer_input=8, vocab_size_per_layer_input=40,
                      intermediate_size=24),
        dict(half=True, tokens=40, seed=72016)),
} | recurrent_models.MODELS
# These have the sizes that tests of other parts count on.
for name in ("falcon-h1", "kimi-linear", "minimax-01", "gemma4", "gemma4-moe"):
    arch, kind, settings, options = MODELS[name]
    MODELS[name] = arch, kind, LARGE | settings, dict(tokens=40) | options

# Every block format that Junto computes with and gguf-py knows, once or more.
QUANTS = {
    "token_embd": Q.Q8_0, "output": Q.Q6_K,
    "blk.0.attn_q": Q.Q8_0, "blk.0.attn_k": Q.Q4_1, "blk.0.attn_v": Q.Q5_0,
    "blk.0.attn_output": Q.Q5_1, "blk.0.ffn_gate_exps": Q.Q4_K,
    "blk.0.ffn_up_exps": Q.Q5_K, "blk.0.ffn_down_exps": Q.Q6_K,
    "blk.1.attn_q": Q.Q4_K, "blk.1.attn_k": Q.F16, "blk.1.attn_v": Q.BF16,
    "blk.1.attn_output": Q.Q4_0, "blk.1.ffn_gate_exps": Q.Q2_K,
    "blk.1.ffn_up_exps": Q.Q3_K, "blk.1.ffn_down_exps": Q.Q4_K,
}
GRIDS = {
    "token_embd": Q.IQ4_NL, "output": Q.IQ4_XS,
    "blk.0.attn_q": Q.IQ3_S, "blk.0.attn_k": Q.IQ3_XXS, "blk.0.attn_v": Q.TQ1_0,
    "blk.0.attn_output": Q.IQ4_NL, "blk.0.ffn_gate_exps": Q.IQ2_XXS,
    "blk.0.ffn_up_exps": Q.IQ2_XS, "blk.0.ffn_down_exps": Q.IQ2_S,
    "blk.1.attn_q": Q.MXFP4, "blk.1.attn_k": Q.IQ2_S, "blk.1.attn_v": Q.TQ2_0,
    "blk.1.attn_output": Q.NVFP4, "blk.1.ffn_gate_exps": Q.IQ1_S,
    "blk.1.ffn_up_exps": Q.IQ1_M, "blk.1.ffn_down_exps": Q.MXFP4,
}
TYPES = {"QUANTS": QUANTS, "GRIDS": GRIDS}

# ---- random weights ------------------------------------------------------------------

# Standard deviation of a matrix, times 1/sqrt(inputs): larger than trained models begin
# with, so that attention is peaked, routers are decided and logits reach about 10.
GAIN = {"proj": 3.0, "q_proj": 1.5, "q_b_proj": 1.5, "k_proj": 1.5, "gate": 3.0, "router": 3.0,
        "wg": 3.0, "layer": 3.0, "down_proj": 2.0, "lm_head": 2.5}


def deviation(name, shape, tied):
    part = name.removesuffix(".weight").rsplit(".", 1)[-1]
    if part == "embed_tokens":
        return 2.5 * shape[-1] ** -0.5 if tied else 1.0
    return GAIN.get(part, 1.0) * shape[-1] ** -0.5


def randomise(model, generator):
    """Every parameter away from the value that would hide it."""
    plus_one = model.config.model_type in ("gemma", "gemma2", "gemma3_text", "nemotron")
    for name, param in tensors(model):
        noise = torch.randn(param.shape, generator=generator)
        if param.ndim == 1 and name.endswith("weight"):
            param.data = 0.25 * noise + (0.0 if plus_one else 1.0)
        elif name.endswith(("router_scale", "per_expert_scale")):
            param.data = 1.0 + 0.25 * noise
        elif name.endswith("layer_scalar"):
            param.copy_(0.8 + 0.1 * noise)
        elif name.endswith("router.scale"):  # divided by the root of the width
            param.data = (1.0 + 0.25 * noise) * param.shape[0] ** 0.5
        elif name.endswith("bias"):
            param.data = (0.1 if "correction" in name else 0.3) * noise
        else:
            tied = model.config.tie_word_embeddings
            param.data = noise * deviation(name, param.shape, tied)


# Where a block holds its scale and minimum, and the minimum that centres random codes,
# in scales. All other bytes of a block may be anything.
LAYOUT = {
    Q.Q4_0: (0, None, 0.0), Q.Q4_1: (0, 2, -7.5), Q.Q5_0: (0, None, 0.0),
    Q.Q5_1: (0, 2, -15.5), Q.Q8_0: (0, None, 0.0), Q.Q2_K: (80, 82, 1.5),
    Q.Q3_K: (108, None, 0.0), Q.Q4_K: (0, 2, 7.5), Q.Q5_K: (0, 2, 15.5),
    Q.Q6_K: (208, None, 0.0), Q.TQ1_0: (52, None, 0.0), Q.TQ2_0: (64, None, 0.0),
}
LAYOUT |= {q: (0, None, 0.0) for q in (Q.IQ4_NL, Q.IQ4_XS, Q.IQ3_S, Q.IQ3_XXS, Q.IQ2_S,
                                       Q.IQ2_XS, Q.IQ2_XXS, Q.IQ1_S)}


def random_blocks(values, qtype, rng):
    """Bytes of a tensor of `qtype` whose values spread like those of `values`."""
    if qtype in (Q.NVFP4, Q.IQ1_M):
        return spread_out_scales(values, qtype, rng)
    if qtype not in LAYOUT:
        return gguf.quants.quantize(values, qtype)
    width, size = gguf.GGML_QUANT_SIZES[qtype]
    blocks = rng.integers(0, 256, (values.size // width, size), dtype=np.uint8)
    scale_at, minimum_at, minimum = LAYOUT[qtype]

    def put(offset, numbers):
        halves = np.asarray(numbers, np.float16)
        blocks[:, offset:offset + 2] = halves.view(np.uint8).reshape(-1, 2)

    def scale_by(scales):
        put(scale_at, scales)
        if minimum_at is not None:
            put(minimum_at, scales * minimum)

    scale_by(np.full(len(blocks), 1.0))
    spread = gguf.quants.dequantize(blocks, qtype).std()
    scale_by(values.std() / spread * rng.uniform(0.7, 1.3, len(blocks)))
    return blocks.reshape(*values.shape[:-1], -1)


def spread_out_scales(values, qtype, rng):
    """Random blocks of the formats whose scales are not halves at one place."""
    width, size = gguf.GGML_QUANT_SIZES[qtype]
    blocks = rng.integers(0, 256, (values.size // width, size), dtype=np.uint8)
    if qtype == Q.NVFP4:  # E4M3 of about 1/32
        blocks[:, :4] = 0x10 | blocks[:, :4] & 7
    else:  # a half of about 1/64, nibble by nibble
        for at, nibble in zip(range(49, 56, 2), (0, 0, 4, 2)):
            blocks[:, at] = blocks[:, at] & 15 | nibble << 4
    return blocks.reshape(*values.shape[:-1], -1)


def quantise(model, arch, types, rng):
    """Draw the blocks of a mixed model, give the model their values, return the blocks."""
    stored = {}
    for name, shape, view in gguf_views(model, arch):
        qtype = types.get(name.removesuffix(".weight"))
        if qtype is None:
            continue
        blocks = random_blocks(view.reshape(shape).numpy(), qtype, rng)
        values = gguf.quants.dequantize(blocks, qtype).astype(np.float32)
        view.copy_(torch.from_numpy(values).reshape(view.shape))
        stored[name] = (qtype, blocks)
    return stored


def halve(model, arch):
    """Round the matrices to F16, but routers; return the halves."""
    stored = {}
    for name, shape, view in gguf_views(model, arch):
        if len(shape) < 2 or "ffn_gate_inp" in name or name.endswith(".bias"):
            continue
        half = view.to(torch.float16)
        view.copy_(half)
        stored[name] = (Q.F16, half.reshape(shape).contiguous().numpy())
    return stored


# ---- the reference -------------------------------------------------------------------


# Ways of choosing: what routers compare, from their logits and the correction bias.
CHOICES = {
    "softmax": lambda logits, _bias: logits,  # no bias: logits have the same order
    "gemma4_text": lambda probabilities, _bias: probabilities.log(),
    "ernie4_5_moe": lambda logits, bias: logits.softmax(-1) + bias,
    "sigmoid": lambda logits, bias: logits.sigmoid() + bias,
}


def ranked_routes(model, block, router_logits, experts):
    """The experts of every token in falling order of what was compared, and the least
    gap between one that was chosen and the next."""
    bias = next((b for n, b in tensors(block) if n.endswith(CORRECTIONS)), None)
    kind = model.config.model_type
    choose = CHOICES.get(kind) or CHOICES["softmax" if bias is None else "sigmoid"]
    values = choose(router_logits, bias)
    groups = getattr(model.config, "n_group", None) or 1
    gaps = []
    if getattr(model.config, "per_group", None):  # group after group, one of each
        best = values.view(len(values), experts.shape[1], -1).topk(2, dim=-1).values
        return experts.numpy(), (best[..., 0] - best[..., 1]).min().item()
    if groups > 1:
        used, most = model.config.topk_group, 1 if kind == "deepseek_v2" else 2
        best = values.view(len(values), groups, -1).topk(most, dim=-1).values.sum(-1)
        order = best.sort(dim=-1, descending=True).values
        gaps.append((order[:, used - 1] - order[:, used]).min().item())
        kept = torch.zeros_like(best).scatter(1, best.topk(used, dim=-1).indices, 1)
        out = kept.repeat_interleave(values.shape[1] // groups, dim=1) == 0
        values = values.masked_fill(out, -1e9)
    ranked = values.sort(dim=-1, descending=True)
    k = experts.shape[1]
    gaps.append((ranked.values[:, :k] - ranked.values[:, 1:k + 1]).min().item())
    chosen = ranked.indices[:, :k]
    assert (chosen.sort(dim=-1).values == experts.sort(dim=-1).values).all()
    return chosen.numpy(), min(gaps)


def reference(model, tokens):
    """Logits, routes, and the least gap between what the router compared of a chosen
    expert and of the next in rank."""
    k = experts_used(model.config)
    layers = model.config.num_hidden_layers
    routes = np.full((layers, len(tokens), k), -1, np.int32)
    gaps, hooks = [np.inf], []

    def watch(layer, block):
        def hook(_module, _inputs, output):
            if len(output) == 2:  # Llama 4: scores and logits
                output = output[1], None, output[1].topk(k).indices
            if torch.is_tensor(output):  # DBRX
                output = output, None, output.topk(k).indices
            router_logits, _weights, experts = output
            routes[layer], gap = ranked_routes(model, block, router_logits, experts)
            gaps.append(gap)
        return hook

    body = getattr(model, "transformer", None)
    for i, layer in enumerate(body.blocks if body else model.model.layers):
        for block in (layer, *(getattr(layer, name, None) for name in MIXTURES)):
            if block is not None and hasattr(block, "experts"):
                router = getattr(block, "gate", None) or block.router
                hooks.append(router.register_forward_hook(watch(i, block)))
    with torch.no_grad():
        logits = model(torch.from_numpy(tokens)[None].long()).logits[0].numpy()
    for hook in hooks:
        hook.remove()
    return logits, routes if k else None, min(gaps)


MIXTURES = ["mlp", "block_sparse_moe", "ffn", "feed_forward", "mixer"]


def experts_used(config):
    if getattr(config, "ffn_config", None):
        return config.ffn_config.moe_top_k
    return (getattr(config, "num_experts_per_tok", None)
            or getattr(config, "top_k_experts", None) or 0)


def build(name):
    """A model whose routes no rounding can change: the first seed that gives one."""
    arch, kind, settings, options = MODELS[name]
    vocab = text_vocabulary()[0] if options.get("text") else None
    base = BASE if kind != "dbrx" else BASE_DBRX
    settings = base | (dict(vocab_size=len(vocab)) if vocab else {}) | settings
    settings = copy.deepcopy(settings)  # configurations change it
    own = kind in own_reference.FAMILIES
    config = (own_reference.config_for(kind, settings) if own
              else transformers.AutoConfig.for_model(kind, **settings))
    config._experts_implementation = "eager"
    config.allow_global_per_layer_attribute_access = True  # Gemma 4
    if kind == "dbrx":  # transformers 5.23 looks for it there and never sets it
        config.attn_config.rope_theta = 10000.0
    first = options.get("seed", 1000 * list(MODELS).index(name))
    for seed in range(first, first + 1000):
        model = own_reference.Model(config) if own else (
            transformers.AutoModelForCausalLM.from_config(
                config, attn_implementation="eager", dtype=torch.float32).eval())
        generator = torch.Generator().manual_seed(seed)
        randomise(model, generator)
        if name in recurrent_models.MODELS:
            recurrent_models.shake(model, generator)
        rng = np.random.default_rng(seed)
        types = TYPES.get(options.get("types"), {})
        stored = quantise(model, arch, types, rng) if types else {}
        if options.get("half"):
            stored = halve(model, arch)
        tokens = rng.integers(0, config.vocab_size, options.get("tokens", 32), np.int32)
        logits, routes, gap = reference(model, tokens)
        if gap > options.get("margin", 0.005):
            print(f"{name}: seed {seed}, largest logit {np.abs(logits).max():.1f}, "
                  f"least router gap {gap:.3f}")
            return model, stored, tokens, logits, routes
    raise SystemExit(f"{name}: no seed gives decided routes")


# ---- files ---------------------------------------------------------------------------


def text_vocabulary():
    """Tokens, kinds and merges of a byte-level BPE vocabulary (as GPT-2's)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        letters.setdefault(byte, chr(256 + len(letters) - len(printable)))
    merges = ["Ġ t", "h e", "i n", "Ġt he", "e r", "o n", "Ġ a", "r e", "Ġ s", "a t",
              "n d", "Ġa nd"]
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    tokens = [*letters.values(), *(m.replace(" ", "") for m in merges), *specials]
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    kinds = [normal] * (len(tokens) - len(specials)) + [control] * len(specials)
    return tokens, kinds, merges


CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def add_vocabulary(out):
    tokens, kinds, merges = text_vocabulary()
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(tokens)
    out.add_token_types(kinds)
    out.add_token_merges(merges)
    out.add_bos_token_id(tokens.index("<|endoftext|>"))
    out.add_eos_token_id(tokens.index("<|im_end|>"))
    out.add_pad_token_id(tokens.index("<|pad|>"))
    out.add_add_bos_token(False)
    out.add_chat_template(CHATML)


def add_latent(out, config, split):
    """Files with k_b and v_b count compressed rows as keys and values of one head."""
    head, rank = config.qk_nope_head_dim + config.qk_rope_head_dim, config.kv_lora_rank
    out.add_kv_lora_rank(rank)
    if config.q_lora_rank:
        out.add_q_lora_rank(config.q_lora_rank)
    out.add_head_count_kv(1 if split else config.num_attention_heads)
    out.add_key_length(rank + config.qk_rope_head_dim if split else head)
    out.add_value_length(rank if split else config.v_head_dim)
    if split:
        out.add_key_length_mla(head)
        out.add_value_length_mla(config.v_head_dim)


def split_latent(config, matrix):
    """k_b, turned, and v_b of a kv_b of all heads."""
    heads, nope = config.num_attention_heads, config.qk_nope_head_dim
    by_head = matrix.reshape(heads, -1, config.kv_lora_rank)
    return (np.ascontiguousarray(by_head[:, :nope].transpose(0, 2, 1)),
            np.ascontiguousarray(by_head[:, nope:]))


def add_gemma4(out, config):
    """Heads of layers that see everything and of those with a window differ."""
    full = config.layer_types.index("full_attention")
    wide = config.per_layer_config[full].head_dim
    rope = config.rope_parameters["full_attention"]
    turned = int(wide * rope["partial_rotary_factor"] / 2)
    out.add_head_count_kv([config.per_layer_config[i].num_key_value_heads
                           for i in range(config.num_hidden_layers)])
    out.add_key_length(wide)
    out.add_value_length(wide)
    out.add_key_length_swa(config.head_dim)
    out.add_value_length_swa(config.head_dim)
    out.add_rope_dimension_count(wide)
    out.add_rope_dimension_count_swa(config.head_dim)
    out.add_rope_freq_base_swa(config.rope_parameters["sliding_attention"]["rope_theta"])
    out.add_sliding_window_pattern([kind == "sliding_attention"
                                    for kind in config.layer_types])
    out.add_shared_kv_layers(config.num_kv_shared_layers)
    out.add_embedding_length_per_layer_input(config.hidden_size_per_layer_input)
    factors = [1.0] * turned + [1e30] * (wide // 2 - turned)
    out.add_tensor("rope_freqs.weight", np.array(factors, np.float32))


def add_shape(out, arch, config, split):
    usual = config.hidden_size // config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or usual
    out.add_vocab_size(config.vocab_size)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    inner = getattr(config, "ffn_config", None)
    dense = getattr(config, "intermediate_size_mlp", None)  # Llama 4
    width = inner.ffn_hidden_size if inner else dense or config.intermediate_size
    if getattr(config, "use_double_wide_mlp", False):
        width = [width * (1 + (mode == "reuse")) for mode in config.kv_sharing_modes]
    out.add_feed_forward_length(width)
    out.add_head_count(config.num_attention_heads)
    if arch == "deepseek2":
        add_latent(out, config, split)
    elif arch == "gemma4":
        add_gemma4(out, config)
    else:
        out.add_head_count_kv(config.num_key_value_heads)
    if head_dim != usual and arch not in ("deepseek2", "gemma4"):
        out.add_key_length(head_dim)
        out.add_value_length(head_dim)
    eps = getattr(config, "rms_norm_eps", None)
    if arch in LAYER_NORMS:
        out.add_layer_norm_eps(eps or getattr(config, LAYER_NORMS[arch], 1e-5))
    else:
        out.add_layer_norm_rms_eps(eps)
    share = config.rope_parameters.get("partial_rotary_factor", 1.0)
    rotated = getattr(config, "qk_rope_head_dim", None) or int(head_dim * share)
    if arch != "gemma4":
        out.add_rope_dimension_count(rotated)
    clip = getattr(getattr(config, "attn_config", None) or config, "clip_qkv", None)
    if clip:
        out.add_clamp_kqv(clip)
    if arch == "exaone-moe" or config.model_type == "olmo3":
        out.add_sliding_window_pattern(
            [kind == "sliding_attention" for kind in config.layer_types])


def add_longrope(out, config, rope):
    before = rope["original_max_position_embeddings"]
    longer = config.max_position_embeddings / before
    factor = (1 + np.log(longer) / np.log(before)) ** 0.5 if longer > 1 else 1.0
    out.add_rope_scaling_attn_factors(float(factor))
    for kind in ("short", "long"):
        out.add_tensor(f"rope_factors_{kind}.weight",
                       np.array(rope[f"{kind}_factor"], np.float32))


def add_rope(out, model):
    rope = model.config.rope_parameters
    rope = rope.get("full_attention", rope)
    out.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] in ("linear", "yarn", "longrope"):
        out.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
    if rope["rope_type"] in ("linear", "yarn"):
        out.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] in ("yarn", "longrope"):
        out.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if rope.get("mscale_all_dim"):
        out.add_rope_scaling_yarn_log_mul(0.1 * rope["mscale_all_dim"])
    if rope["rope_type"] == "longrope":
        add_longrope(out, model.config, rope)
    if "llama_4_scaling_beta" in rope:
        out.add_attn_temperature_scale(rope["llama_4_scaling_beta"])
    if rope["rope_type"] == "llama3":  # a factor for every pair: plain / scaled
        scaled = model.model.rotary_emb.inv_freq.numpy()
        plain = rope["rope_theta"] ** -(np.arange(len(scaled)) / len(scaled))
        out.add_tensor("rope_freqs.weight", (plain / scaled).astype(np.float32))


# Where the epsilon of a family with LayerNorm stands in its config.
LAYER_NORMS = {"cohere2": "layer_norm_eps", "phimoe": "rms_norm_eps", "olmo": "",
               "phi2": "layer_norm_eps", "nemotron": "norm_eps", "dbrx": ""}

# Keys of a file that configs say by these names, where a family has them.
SAID = {
    "embedding_multiplier": ("{}.embedding_scale", float),
    "residual_multiplier": ("{}.residual_scale", float),
    "attention_multiplier": ("{}.attention.scale", float),
    "logits_scaling": ("{}.logit_scale", float),
    "logit_scale": ("{}.logit_scale", float),
    "first_k_dense_replace": ("{}.leading_dense_block_count", int),
    "moe_layer_start_index": ("{}.leading_dense_block_count", int),
    "n_shared_experts": ("{}.expert_shared_count", int),
    "moe_num_shared_experts": ("{}.expert_shared_count", int),
    "num_dense_layers": ("{}.leading_dense_block_count", int),
    "num_shared_experts": ("{}.expert_shared_count", int),
    "route_scale": ("{}.expert_weights_scale", float),
    "routed_scaling_factor": ("{}.expert_weights_scale", float),
    "output_multiplier": ("{}.logit_scale", float),
    "attn_softcap": ("{}.attn_logit_softcapping", float),
    "router_softcap": ("{}.router_logit_softcapping", float),
    "final_softcap": ("{}.final_logit_softcapping", float),
    "n_group": ("{}.expert_group_count", int),
    "topk_group": ("{}.expert_group_used_count", int),
}
# The same of families with windows.
SAID_OF_WINDOWS = {
    "sliding_window": ("{}.attention.sliding_window", int),
    "attention_chunk_size": ("{}.attention.sliding_window", int),
    "floor_scale": ("{}.attention.temperature_length", float),
    "attn_logit_softcapping": ("{}.attn_logit_softcapping", float),
    "final_logit_softcapping": ("{}.final_logit_softcapping", float),
}
WINDOWS = {"gemma4", "exaone-moe", "afmoe", "llama4", "phi3", "gemma2", "gemma3",
           "gpt-oss", "cohere2", "exaone4", "olmo2"}
SIGMOID = {"bailingmoe2", "glm4moe", "dots1", "minimax-m2", "exaone-moe", "afmoe",
           "deepseek_v3"}
# Families whose files say whether weights are divided by their sum.
SAYS_NORM = {"bailingmoe", "bailingmoe2", "glm4moe", "dots1", "exaone-moe", "afmoe",
             "deepseek2"}


def add_said(out, arch, config):
    if config.model_type == "grok1":
        return
    said = SAID | (SAID_OF_WINDOWS if arch in WINDOWS else {})
    for name, (key, kind) in said.items():
        value = getattr(config, name, None)
        if arch == "grok":
            key = key.replace("attention.scale", "attention.output_scale")
        if value is not None:
            add = out.add_float32 if kind is float else out.add_uint32
            add(key.format(arch), value)
    if arch in SIGMOID or config.model_type in SIGMOID:
        out.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    if arch in SAYS_NORM:
        out.add_expert_weights_norm(getattr(config, "norm_topk_prob", True))


def add_experts(out, arch, config):
    said = getattr(config, "ffn_config", None) or config
    count = next(filter(None, (getattr(said, n, None) for n in (
        "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"))))
    out.add_expert_count(count)
    out.add_expert_used_count(experts_used(config))
    width = getattr(config, "moe_intermediate_size", None)
    if getattr(config, "intermediate_size_mlp", None):
        width = config.intermediate_size
    if width:
        out.add_expert_feed_forward_length(width)
    if getattr(config, "shared_expert_intermediate_size", None):
        out.add_expert_shared_feed_forward_length(
            config.shared_expert_intermediate_size)
    # Written only where it differs from what the architecture implies.
    if arch == "qwen2moe" and config.norm_topk_prob:
        out.add_expert_weights_norm(True)


def close(out):
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def write_model(name, model, stored):
    arch, _, _, options = MODELS[name]
    out = gguf.GGUFWriter(HERE / f"{name}.gguf", arch)
    out.add_name(f"golden {name}")
    mostly = gguf.LlamaFileType.ALL_F32
    if stored:
        mostly = (gguf.LlamaFileType.MOSTLY_F16 if options.get("half")
                  else gguf.LlamaFileType.MOSTLY_Q4_K_M)
    out.add_file_type(mostly)
    if options.get("types"):
        out.add_quantization_version(gguf.GGML_QUANT_VERSION)
    if name in recurrent_models.MODELS:
        recurrent_models.add_keys(out, arch, model.config)
        for tensor, array in recurrent_models.tensors(model, arch):
            out.add_tensor(tensor, array)
        close(out)
        return
    add_shape(out, arch, model.config, options.get("split"))
    if experts_used(model.config):
        add_experts(out, arch, model.config)
    add_said(out, arch, model.config)
    if options.get("text"):
        add_vocabulary(out)
    add_rope(out, model)
    for tensor, shape, view in gguf_views(model, arch):
        if options.get("fused") and "ffn_gate_exps" in tensor:
            both = [stored[n][1] for n in (tensor, tensor.replace("gate", "up"))]
            out.add_tensor(tensor.replace("gate", "gate_up"), np.concatenate(both, 1))
        elif options.get("fused") and "ffn_up_exps" in tensor:
            continue
        elif options.get("split") and "kv_b" in tensor:
            for letter, part in zip("kv", split_latent(model.config, stored[tensor][1])):
                out.add_tensor(tensor.replace("kv_b", f"{letter}_b"), part)
        elif tensor in stored:
            qtype, blocks = stored[tensor]
            out.add_tensor(tensor, blocks, raw_dtype=qtype)
        else:
            out.add_tensor(tensor, view.reshape(shape).contiguous().numpy())
    close(out)


def write_reference(name, tokens, logits, routes):
    out = gguf.GGUFWriter(HERE / f"{name}.ref.gguf", "reference")
    out.add_name(f"logits of golden {name}")
    out.add_tensor("tokens", tokens)
    out.add_tensor("logits", logits)
    if routes is not None:
        out.add_tensor("routes", routes)
    close(out)


def main():
    torch.set_num_threads(1)
    for name in sys.argv[1:] or MODELS:
        model, stored, tokens, logits, routes = build(name)
        write_model(name, model, stored)
        write_reference(name, tokens, logits, routes)


if __name__ == "__main__":
    main()
