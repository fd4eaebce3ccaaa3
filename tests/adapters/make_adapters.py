#!/usr/bin/env python3
"""Make tiny PEFT adapters of the folders in tests/golden/hf, and what peft computes.

    python make_adapters.py [NAME...]        write NAME/ and NAME.ref.gguf
    python make_adapters.py --check JUNTO    peft must read what Junto writes: for every
                                             adapter here `junto adapter convert` to PEFT
                                             and back, and the same logits with peft

Weights of adapters are random and large enough to change every logit. The reference
holds tokens, the logits with the adapter and those without it. The committed files were
made with peft 0.21.2, transformers 5.23 and torch 2.15.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import zlib

import gguf
import numpy as np
import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
GOLDEN = HERE.parent / "golden" / "hf"

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]

# name: (folder, kind, settings)
ADAPTERS = {
    "llama-lora": ("llama", "lora", dict(r=4, lora_alpha=8, target_modules=LINEAR)),
    "llama-rslora": ("llama", "rslora", dict(
        r=4, lora_alpha=2, target_modules=["q_proj", "down_proj"],
        rank_pattern={"down_proj": 2}, alpha_pattern={"layers.1.self_attn.q_proj": 3})),
    "llama-dora": ("llama", "dora", dict(r=3, lora_alpha=6, target_modules=LINEAR)),
    "llama-shira": ("llama", "shira", dict(r=1, target_modules=["q_proj", "up_proj"])),
    "llama-poly": ("llama", "poly", dict(
        r=3, n_tasks=3, n_skills=4, n_splits=2,
        target_modules=["q_proj", "k_proj", "down_proj"])),
    "llama-ends": ("llama", "lora", dict(
        r=2, lora_alpha=2, target_modules=["embed_tokens", "lm_head", "v_proj"])),
    "mixtral-lora": ("mixtral", "lora", dict(
        r=2, lora_alpha=4, target_modules=["q_proj", "v_proj", "gate"],
        target_parameters=EXPERTS)),
    "qwen3moe-lora": ("qwen3moe", "lora", dict(
        r=2, lora_alpha=4, target_modules=["k_proj", "o_proj"],
        target_parameters=EXPERTS)),
    "qwen3moe-down": ("qwen3moe", "lora", dict(
        r=3, lora_alpha=3, target_modules=[], target_parameters=EXPERTS[1:])),
    "gpt-oss-lora": ("gpt-oss", "lora", dict(
        r=2, lora_alpha=4, target_modules=["q_proj"], target_parameters=EXPERTS)),
    "phi3-lora": ("phi3", "lora", dict(
        r=2, lora_alpha=4, target_modules=["qkv_proj", "gate_up_proj"])),
    "qwen2moe-dora": ("qwen2moe", "dora", dict(
        r=2, lora_alpha=4, target_modules=["shared_expert.up_proj", "v_proj"])),
    "llama-prompt": ("llama", "prompt", dict(num_virtual_tokens=7)),
    "gemma2-prompt": ("gemma2", "prompt", dict(num_virtual_tokens=5)),
    "granite-prompt": ("granite", "prompt", dict(num_virtual_tokens=3)),
    "lfm2-prompt": ("lfm2", "prompt", dict(num_virtual_tokens=6)),
    "qwen3moe-ptuning": ("qwen3moe", "ptuning", dict(
        num_virtual_tokens=4, encoder_hidden_size=16)),
    "llama-ptuning": ("llama", "ptuning", dict(
        num_virtual_tokens=6, encoder_reparameterization_type="LSTM",
        encoder_hidden_size=12)),
    "llama-prefix": ("llama", "prefix", dict(num_virtual_tokens=7)),
    "mixtral-prefix": ("mixtral", "prefix", dict(
        num_virtual_tokens=5, prefix_projection=True, encoder_hidden_size=16)),
    "phi3-prefix": ("phi3", "prefix", dict(num_virtual_tokens=4)),
    "gpt-oss-prefix": ("gpt-oss", "prefix", dict(num_virtual_tokens=9)),
}
VIRTUAL = {"prompt": peft.PromptTuningConfig, "ptuning": peft.PromptEncoderConfig,
           "prefix": peft.PrefixTuningConfig}


def base(folder):
    config = transformers.AutoConfig.from_pretrained(GOLDEN / folder)
    config._experts_implementation = "eager"
    return transformers.AutoModelForCausalLM.from_pretrained(
        GOLDEN / folder, config=config, dtype=torch.float32,
        attn_implementation="eager").eval()


TASK = 1  # of poly


def logits_of(model, tokens):
    more = {}
    if isinstance(model, peft.PeftModel) and model.peft_type == "POLY":
        model, more = model.base_model, {"task_ids": torch.tensor([TASK])}
    with torch.no_grad():
        ids = torch.from_numpy(tokens).long()[None]
        logits = model(ids, **more).logits[0].float().numpy()
    return logits[-len(tokens):]  # those of virtual ones are not asked for


def build(name):
    folder, kind, settings = ADAPTERS[name]
    torch.manual_seed(zlib.crc32(name.encode()))
    if kind == "poly":
        config = peft.PolyConfig(**settings)
    elif kind == "shira":
        config = peft.ShiraConfig(random_seed=5, **settings)
    elif kind in VIRTUAL:
        return build_virtual(folder, VIRTUAL[kind](task_type="CAUSAL_LM", **settings))
    else:
        config = peft.LoraConfig(use_dora=kind == "dora", use_rslora=kind == "rslora",
                                 **settings)
    model = peft.get_peft_model(base(folder), config).eval()
    for key, value in model.named_parameters():
        if "lora_magnitude" in key:
            value.data *= 1 + 0.3 * torch.rand_like(value)
        elif "module_logits" in key:
            value.data = 2 * torch.randn_like(value)
        elif "lora_" in key or "shira_weight" in key:
            # Close decisions of routers must stay as they are: small for experts.
            scale = 0.05 if ".experts" in key or ".gate." in key else 0.1
            value.data = scale * torch.randn_like(value)
    return model


def build_virtual(folder, config):
    model = peft.get_peft_model(base(folder), config).eval()
    for key, value in model.named_parameters():
        if "prompt_encoder" in key:
            value.data = 0.5 * torch.randn_like(value)
    return model


def write(name):
    folder = ADAPTERS[name][0]
    model = build(name)
    model.save_pretrained(HERE / name)
    strip(HERE / name, folder)
    vocab = model.config.vocab_size
    tokens = np.random.default_rng(7).integers(0, vocab, 24).astype(np.int32)
    logits = logits_of(model, tokens)
    plain = logits_of(base(folder), tokens)
    write_reference(name, tokens, logits, plain)


def write_reference(name, tokens, logits, plain):
    writer = gguf.GGUFWriter(HERE / f"{name}.ref.gguf", "none")
    writer.add_tensor("tokens", tokens)
    writer.add_tensor("logits", logits)
    writer.add_tensor("plain", plain)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file,
                 writer.write_tensors_to_file, writer.close):
        step()
    print(f"{name}: changes logits by up to {np.abs(logits - plain).max():.3f} of "
          f"{np.abs(plain).max():.3f}")


XLORA = {
    "llama-xlora": dict(layerwise_scalings=True, softmax_temperature=0.7),
    "llama-xlora-top": dict(xlora_depth=2, xlora_size=6, top_k_lora=2,
                            global_scaling_weight=1.5),
}
XLORA_PARTS = (LINEAR, ["q_proj", "v_proj", "down_proj"], ["o_proj", "up_proj"])


def write_xlora(name):
    """An X-LoRA folder: peft 0.21.2 loses what is called as one of the adapters
    ("layers.0"), so the head is written here."""
    torch.manual_seed(zlib.crc32(name.encode()))
    with tempfile.TemporaryDirectory() as room:
        paths = {}
        for i, targets in enumerate(XLORA_PARTS):
            part = peft.get_peft_model(base("llama"), peft.LoraConfig(
                r=2 + i, lora_alpha=4, target_modules=targets))
            for key, value in part.named_parameters():
                if "lora_" in key:
                    value.data = 0.1 * torch.randn_like(value)
            paths[str(i)] = f"{room}/{i}"
            part.save_pretrained(paths[str(i)])
            strip(pathlib.Path(paths[str(i)]), "llama")
        model = base("llama")
        model.config.use_cache = False
        model = peft.get_peft_model(model, peft.XLoraConfig(
            task_type="CAUSAL_LM", hidden_size=model.config.hidden_size,
            adapters=paths, **XLORA[name])).eval()
        head = {}
        for key, value in model.named_parameters():
            if "internal_xlora_classifier" in key:
                value.data = 0.5 * torch.randn_like(value)
                head[key] = value.data.clone()
        model.save_pretrained(HERE / name)
        for i in paths:
            for file in ("adapter_config.json", "adapter_model.safetensors"):
                (HERE / name / i / file).write_bytes(
                    pathlib.Path(paths[i], file).read_bytes())
    save_file(head, HERE / name / "adapter_model.safetensors",
              metadata={"format": "pt"})
    path = HERE / name / "adapter_config.json"
    config = json.loads(path.read_text())
    config["adapters"] = {i: i for i in paths}
    config["base_model_name_or_path"] = "llama"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for extra in (HERE / name).rglob("README.md"):
        extra.unlink()
    tokens = np.random.default_rng(7).integers(0, model.config.vocab_size, 24)
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(tokens)[None]).logits[0].numpy()
    write_reference(name, tokens.astype(np.int32), logits,
                    logits_of(base("llama"), tokens))


def strip(folder, base_name):
    """No path of this machine, no model card, no copies of base weights."""
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = base_name
    for key in ("target_modules", "target_parameters"):
        if isinstance(config.get(key), list):
            config[key].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({k: v for k, v in tensors.items() if ".base_layer.weight" not in k},
              folder / "adapter_model.safetensors", metadata={"format": "pt"})


def write_old():
    """mixtral-lora as peft 0.18 wrote it: A and B of stacks have each other's parts
    (delta = einsum("o r e, e r i -> e i o") with i and o the other way round)."""
    source, out = HERE / "mixtral-lora", HERE / "mixtral-old"
    out.mkdir(exist_ok=True)
    config = json.loads((source / "adapter_config.json").read_text())
    config["peft_version"] = "0.18.0"
    (out / "adapter_config.json").write_text(
        json.dumps(config, indent=2, sort_keys=True) + "\n")
    tensors = load_file(source / "adapter_model.safetensors")
    for name in [n for n in tensors if ".experts." in n and "lora_A" in n]:
        other, r = name.replace("lora_A", "lora_B"), config["r"]
        a, b = tensors[name], tensors[other]
        experts = a.shape[0] // r
        tensors[name] = (b.reshape(-1, r, experts).permute(2, 1, 0)
                         .reshape(experts * r, -1).contiguous())
        tensors[other] = (a.reshape(experts, r, -1).permute(2, 1, 0)
                          .reshape(-1, r * experts).contiguous())
    save_file(tensors, out / "adapter_model.safetensors", metadata={"format": "pt"})
    (HERE / "mixtral-old.ref.gguf").write_bytes(
        (HERE / "mixtral-lora.ref.gguf").read_bytes())


def check(junto):
    for name, (folder, kind, _) in ADAPTERS.items():
        if kind == "poly":  # is written as LoRA
            continue
        with tempfile.TemporaryDirectory() as room:
            own, back = f"{room}/a.safetensors", f"{room}/peft"
            for source, out in ((HERE / name, own), (own, back)):
                subprocess.run([junto, "adapter", "convert", source, "-o", out,
                                "--model", GOLDEN / folder, "--format",
                                "junto" if out == own else "peft"], check=True)
            ref = {t.name: t.data for t in
                   gguf.GGUFReader(HERE / f"{name}.ref.gguf").tensors}
            model = peft.PeftModel.from_pretrained(base(folder), back).eval()
            error = np.abs(logits_of(model, ref["tokens"]) - ref["logits"]).max()
            print(f"{name}: {error:.2e}")
            if not error <= 1e-4 * np.abs(ref["logits"]).max():
                raise SystemExit(f"{name}: peft reads something else than Junto wrote")


def main():
    if sys.argv[1:2] == ["--check"]:
        check(sys.argv[2])
        return
    for name in sys.argv[1:] or [*ADAPTERS, *XLORA]:
        write_xlora(name) if name in XLORA else write(name)
    write_old()


if __name__ == "__main__":
    main()
