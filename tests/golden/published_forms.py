"""What published folders have and save_pretrained does not write: weights in 8 and in
4 bits, layers that predict further tokens, configurations of older versions.

    to_fp8, to_mxfp4, to_nvfp4        give a model values that the form can hold
    save_fp8, save_mxfp4, save_nvfp4  rewrite a saved folder
    add_predictors, age               the same
"""

import json
import re

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors


def rewrite(folder, change_tensors, change_config):
    """Load, change and save the tensors and config.json of a folder."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change_tensors(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    change_config(config)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


# ---- FP8, in blocks of size x size: what DeepSeek and Qwen publish -------------------


def blocks_to_fp8(weight, size):
    """Codes and scales of blocks of size x size; what DeepSeek and Qwen publish."""
    rows, cols = weight.shape
    scale = torch.zeros(-(-rows // size), -(-cols // size))
    codes = torch.zeros(rows, cols, dtype=torch.float8_e4m3fn)
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            at = np.s_[i * size:(i + 1) * size, j * size:(j + 1) * size]
            # A power of two, so that decoding and encoding again changes nothing.
            scale[i, j] = 2.0 ** np.ceil(np.log2(weight[at].abs().max() / 448.0))
            codes[at] = (weight[at] / scale[i, j]).to(torch.float8_e4m3fn)
    return codes, scale


def decoded(codes, scale, size):
    rows, cols = codes.shape
    wide = scale.repeat_interleave(size, 0).repeat_interleave(size, 1)[:rows, :cols]
    return codes.float() * wide


def to_fp8(model, size):
    """Give all matrices inside layers the values of FP8; returns size."""
    for name, param in model.named_parameters():
        if ".layers." not in name or param.dim() < 2 or "mlp.gate.weight" in name:
            continue
        flat = param.data.reshape(-1, *param.shape[-2:])
        for matrix in flat:
            codes, scale = blocks_to_fp8(matrix, size)
            matrix.copy_(decoded(codes, scale, size))
        param.data = flat.reshape(param.shape)
    return size


def save_fp8(folder, size):
    """Matrices as codes and scales."""
    def change_tensors(tensors):
        for name, value in list(tensors.items()):
            if ".layers." in name and value.dim() == 2 and "mlp.gate.w" not in name:
                codes, scale = blocks_to_fp8(value.float(), size)
                tensors[name], tensors[name + "_scale_inv"] = codes, scale

    rewrite(folder, change_tensors, lambda config: config.update(quantization_config={
        "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
        "weight_block_size": [size, size]}))


# ---- MXFP4: the experts of gpt-oss ---------------------------------------------------


def to_mxfp4(model, generator):
    """Random blocks for all experts; returns them, by the names of checkpoints."""
    stored = {}
    for name, param in model.named_parameters():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            continue
        experts, inputs, outputs = param.shape
        shape = (experts, outputs, inputs // 32)
        codes = torch.randint(0, 256, (*shape, 16), generator=generator)
        scales = torch.randint(122, 125, shape, generator=generator)
        stored[name + "_blocks"] = codes.to(torch.uint8)
        stored[name + "_scales"] = scales.to(torch.uint8)
        param.data = convert_moe_packed_tensors(
            stored[name + "_blocks"], stored[name + "_scales"],
            dtype=torch.float32).contiguous()
    return stored


def save_mxfp4(folder, stored):
    def change_tensors(tensors):
        for name in stored:
            tensors.pop(name.removesuffix("_blocks"), None)
        tensors.update(stored)

    rewrite(folder, change_tensors, lambda config: config.update(quantization_config={
        "quant_method": "mxfp4", "modules_to_not_convert": [
            "model.layers.*.self_attn", "model.layers.*.mlp.router",
            "model.embed_tokens", "lm_head"]}))


# ---- NVFP4: what nvidia-modelopt and compressed-tensors publish ----------------------
# A weight is E2M1 times E4M3 of 16 values times F32 of the matrix, so that the largest
# value has the largest code and the largest scale.

E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
LARGEST = 6.0 * 448.0


def matrix_to_nvfp4(weight):
    """Codes [rows, cols], scales [rows, cols / 16], factor."""
    factor = weight.abs().max() / LARGEST
    groups = weight.reshape(weight.shape[0], -1, 16)
    scale = (groups.abs().amax(-1) / 6.0 / factor).to(torch.float8_e4m3fn)
    ratio = groups / (scale.float() * factor)[..., None]
    sizes = (ratio.abs()[..., None] - E2M1).abs().argmin(-1)
    return (sizes + 8 * (ratio < 0)).reshape(weight.shape), scale, factor


def from_nvfp4(codes, scale, factor):
    values = E2M1[codes % 8] * torch.where(codes < 8, 1.0, -1.0)
    return values * scale.float().repeat_interleave(16, 1) * factor


def is_nvfp4(name, value):
    router = "gate.weight" in name or "router" in name
    return ".layers." in name and value.dim() >= 2 and not router


def to_nvfp4(model, kind):
    """Give all matrices inside layers but routers such values, and others those of BF16;
    returns the kind."""
    for name, param in model.named_parameters():
        param.data = param.data.bfloat16().float()
        if is_nvfp4(name, param):
            for matrix in param.data.reshape(-1, *param.shape[-2:]):
                # In folders gates and ups are matrices of their own.
                for part in matrix.chunk(2) if "gate_up_proj" in name else [matrix]:
                    part.copy_(from_nvfp4(*matrix_to_nvfp4(part)))
    return kind


def take_apart(tensors):
    """Stacks of experts as one matrix for each (Gemma 4)."""
    for name in [name for name in tensors if re.search(r"experts\.\w+_proj$", name)]:
        place, part = name.rsplit(".", 1)
        for i, matrix in enumerate(tensors.pop(name)):
            names = ["gate_proj", "up_proj"] if "_up_" in part else [part]
            for one, rows in zip(names, matrix.chunk(len(names))):
                tensors[f"{place}.{i}.{one}.weight"] = rows.contiguous()


def save_nvfp4(folder, kind):
    """As "modelopt" or "compressed-tensors" has it: the names, and whether values are
    times a number or divided by it."""
    def change_tensors(tensors):
        take_apart(tensors)
        for name, value in list(tensors.items()):
            if not is_nvfp4(name, value):
                continue
            codes, scale, factor = matrix_to_nvfp4(value)
            assert torch.allclose(from_nvfp4(codes, scale, factor), value, rtol=1e-6)
            packed = (codes[:, 0::2] + 16 * codes[:, 1::2]).to(torch.uint8)
            module = name.removesuffix(".weight")
            tensors[f"{name}_scale"] = scale
            if kind == "modelopt":
                tensors[name] = packed
                tensors[f"{name}_scale_2"] = factor
                tensors[f"{module}.input_scale"] = torch.tensor(0.5)
            else:
                del tensors[name]
                tensors[f"{name}_packed"] = packed
                tensors[f"{name}_global_scale"] = 1.0 / factor[None]
                tensors[f"{module}.input_global_scale"] = torch.tensor([2.0])

    if kind == "modelopt":
        (folder / "hf_quant_config.json").write_text(json.dumps(
            {"producer": {"name": "modelopt", "version": "0.33.0"}, "quantization": {
                "quant_algo": "NVFP4", "kv_cache_quant_algo": None, "group_size": 16,
                "exclude_modules": ["lm_head", "model.layers.*.mlp.gate"]}},
            indent=4) + "\n")
        added = {}
    else:
        weights = {"num_bits": 4, "type": "float", "strategy": "tensor_group",
                   "group_size": 16, "symmetric": True}
        added = {"quantization_config": {
            "quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
            "ignore": ["lm_head", "re:.*gate$"]}}
    rewrite(folder, change_tensors, lambda config: config.update(added))


# ---- layers that predict further tokens, after the last or beside it -----------------

AFTER = ["model.layers.2.enorm.weight", "model.layers.2.eh_proj.weight",
         "model.layers.2.mlp.experts.0.gate_proj.weight",
         "model.layers.2.shared_head.head.weight"]
BESIDE = ["mtp.fc.weight", "mtp.norm.weight", "mtp.layers.0.input_layernorm.weight",
          "mtp.layers.0.mlp.experts.0.gate_proj.weight"]
PREDICTORS = {
    "deepseek3": AFTER,
    "glm4moe-norm": AFTER,
    "bailingmoe2": AFTER,
    "qwen3next": BESIDE,
    "qwen35moe": BESIDE,
    "minimax-m2": BESIDE,
    "mimo": ["model.mtp_layers.0.input_proj.weight",
             "model.mtp_layers.0.self_attn.q_proj.weight"],
    "ernie4_5-moe": ["model.mtp_block.0.mlp.gate_proj.weight",
                     "model.mtp_linear_proj.0.weight"],
}


def add_predictors(folder, name):
    """Only their names matter: they are passed over."""
    names = PREDICTORS[name]
    rewrite(folder, lambda tensors: tensors.update(
        {n: torch.ones(2, 2, dtype=torch.bfloat16) for n in names}),
        lambda config: config.update(num_nextn_predict_layers=1))


# ---- configurations as checkpoints were published with -------------------------------


def older_lfm2(config):
    """Which layers have attention is a list of their numbers."""
    kinds = config.pop("layer_types")
    config["full_attn_idxs"] = [i for i, k in enumerate(kinds) if k == "full_attention"]
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["block_ff_dim"] = config.pop("intermediate_size")


def mimo(config):
    config.update(architectures=["MiMoForCausalLM"], model_type="mimo")


AGED = {"lfm2": older_lfm2, "mimo": mimo}


def age(folder, name):
    rewrite(folder, lambda tensors: None, AGED[name])
