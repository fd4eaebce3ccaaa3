"""Folders of the models of reference.py, as their checkpoints are published.

transformers has no class for them, so this file says how their tensors are named and
what their config.json holds. Where names come from is said in src/model/hf_rows_*.c.
"""

import json
import re

import torch
from safetensors.torch import save_file

GATE, UP, DOWN = "gate_proj", "up_proj", "down_proj"
MIXTRAL = {GATE: "w1", UP: "w3", DOWN: "w2"}
GROK_NORMS = {"input_layernorm": "pre_attn_norm",
              "post_self_attn_layernorm": "post_attn_norm",
              "post_attention_layernorm": "pre_moe_norm",
              "post_mlp_layernorm": "post_moe_norm"}
BAILING = {"model.embed_tokens": "model.word_embeddings", "self_attn.": "attention.",
           "o_proj": "dense", "qkv_proj": "query_key_value",
           "q_norm": "query_layernorm", "k_norm": "key_layernorm",
           "e_score_correction_bias": "expert_bias"}

# kind: parts of names replaced in this order; the names of an expert's matrices.
NAMES = {
    "deepseek": ({}, {}),
    "bailing_moe": (BAILING, {}),
    "bailing_moe_v2": (BAILING, {}),
    "grok1": (GROK_NORMS | {"norm.weight": "norm.scale", "self_attn": "attn",
                            "mlp.": "moe_block."},
              {GATE: "linear", UP: "linear_v", DOWN: "linear_1"}),
    "grok2": (GROK_NORMS | {".mlp.": ".block_sparse_moe.", "residual_mlp": "mlp"},
              MIXTRAL),
    "arctic": ({".mlp.": ".block_sparse_moe."}
               | {f"residual_mlp.{part}": f"residual_mlp.{MIXTRAL[part]}"
                  for part in MIXTRAL}, MIXTRAL),
    "pangu_pro_moe": ({"shared_experts": "shared_expert"}, {}),
}

# kind: names in config.json of settings that have another one there; None: none.
SETTINGS = {
    "deepseek": {"num_experts": "n_routed_experts"},
    "bailing_moe": {"n_shared_experts": "num_shared_experts"},
    "bailing_moe_v2": {"n_shared_experts": "num_shared_experts"},
    "grok1": {"embedding_multiplier": "embedding_multiplier_scale",
              "output_multiplier": "output_multiplier_scale",
              "attention_multiplier": "attn_output_multiplier",
              "attn_softcap": "max_attn_value",
              "moe_intermediate_size": "intermediate_size"},
    "grok2": {"embedding_multiplier": "embedding_multiplier_scale",
              "output_multiplier": "output_multiplier_scale",
              "attention_multiplier": "attn_output_multiplier",
              "attn_softcap": "attn_logit_softcapping",
              "router_softcap": "router_logit_softcapping",
              "final_softcap": "final_logit_softcapping",
              "num_experts": "num_local_experts"},
    "arctic": {"num_experts": "num_local_experts",
               "moe_intermediate_size": "intermediate_size"},
    "pangu_pro_moe": {"n_shared_experts": None},
}
USUAL = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
         "num_attention_heads", "num_key_value_heads", "max_position_embeddings",
         "rms_norm_eps", "tie_word_embeddings", "head_dim", "num_experts",
         "num_experts_per_tok", "moe_intermediate_size", "n_shared_experts",
         "embedding_multiplier", "output_multiplier", "attention_multiplier",
         "attn_softcap", "router_softcap", "final_softcap")
# Of some only.
ROUTING = {
    "deepseek": ("first_k_dense_replace", "norm_topk_prob"),
    "bailing_moe": ("first_k_dense_replace", "norm_topk_prob"),
    "bailing_moe_v2": ("first_k_dense_replace", "norm_topk_prob", "n_group",
                       "topk_group", "routed_scaling_factor"),
}

# kind: model type, architecture, and what config.json has beside the settings.
TITLES = {
    "deepseek": ("deepseek", "DeepseekForCausalLM",
                 dict(hidden_act="silu", scoring_func="softmax", moe_layer_freq=1)),
    "bailing_moe": ("bailing_moe", "BailingMoeForCausalLM",
                    dict(hidden_act="silu", use_bias=False, use_qkv_bias=False,
                         norm_head=False)),
    "bailing_moe_v2": ("bailing_moe", "BailingMoeV2ForCausalLM",
                       dict(hidden_act="silu", use_bias=False, use_qkv_bias=False,
                            use_qk_norm=True, score_function="sigmoid",
                            moe_router_enable_expert_bias=True,
                            num_nextn_predict_layers=0)),
    "grok1": ("grok-1", "Grok1ModelForCausalLM", {}),
    "grok2": ("git", "Grok1ForCausalLM", dict(residual_moe=True, rope_type="original")),
    "arctic": ("arctic", "ArcticForCausalLM",
               dict(hidden_act="silu", moe_layer_frequency=1,
                    parallel_attn_mlp_res=True)),
    "pangu_pro_moe": ("PanguProMoE", "PanguProMoEForCausalLM",
                      dict(hidden_act="silu")),
}


def config_json(config, dtype):
    kind = config.model_type
    model_type, architecture, more = TITLES[kind]
    rope = config.rope_parameters
    out = dict(architectures=[architecture], model_type=model_type,
               torch_dtype=str(dtype).removeprefix("torch."),
               rope_theta=rope["rope_theta"]) | more
    if "partial_rotary_factor" in rope:
        out["partial_rotary_factor"] = rope["partial_rotary_factor"]
    if kind == "pangu_pro_moe":
        out["shared_expert_intermediate_size"] = (config.n_shared_experts *
                                                  config.moe_intermediate_size)
    for name in USUAL + ROUTING.get(kind, ()):
        value, said = getattr(config, name), SETTINGS[kind].get(name, name)
        if value is not None and said:
            out[said] = value
    return out


def published(model):
    """Names and values, experts one by one, queries, keys and values together where
    the checkpoint has them so."""
    kind = model.config.model_type
    replaced, matrices = NAMES[kind]

    def title(name):
        for before, after in replaced.items():
            name = name.replace(before, after)
        return name

    rest = {name: param.data for name, param in model.named_parameters()}
    for name, stack in list(rest.items()):
        if not re.search(r"\.experts\.", name):
            continue
        parts = {DOWN: stack} if DOWN in name else dict(
            zip((GATE, UP), stack.chunk(2, dim=1)))
        for part, matrices_of in parts.items():
            for i, matrix in enumerate(matrices_of):
                place = name.rsplit(".", 1)[0] + f".{i}.@"
                yield (title(place).replace("@", matrices.get(part, part)) + ".weight",
                       matrix)
        del rest[name]
    if kind == "bailing_moe":
        for i in range(model.config.num_hidden_layers):
            at = f"model.layers.{i}.self_attn."
            rest[f"{at}qkv_proj.weight"] = torch.cat(
                [rest.pop(f"{at}{letter}_proj.weight") for letter in "qkv"])
    for name, value in rest.items():
        if name.endswith("router_scale"):
            value = value[None]
        yield title(name), value


def save_cut(values, folder, devices):
    """Experts cut for so many devices, as Grok-2 is published: rows of w1 and w3, columns
    of w2. There is no index."""
    parts = [{} for _ in range(devices)]
    for name in [name for name in values if ".experts." in name]:
        matrix = values.pop(name)
        for part, some in zip(parts, matrix.chunk(devices, dim=int(".w2." in name))):
            part[name] = some.contiguous()
    for i, part in enumerate(parts):
        save_file(part, folder / f"pytorch_model-{i:05d}-TP-{i:03d}.safetensors")
    save_file(values, folder / f"pytorch_model-{devices:05d}-TP-common.safetensors")


def save(model, folder, dtype, devices=1):
    folder.mkdir(parents=True)
    values = {name: value.to(dtype).contiguous() for name, value in published(model)}
    if devices > 1:
        save_cut(values, folder, devices)
    else:
        save_file(values, folder / "model.safetensors", metadata={"format": "pt"})
    text = json.dumps(config_json(model.config, dtype), indent=2, sort_keys=True)
    (folder / "config.json").write_text(text + "\n")
