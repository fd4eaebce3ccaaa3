#!/usr/bin/env python3
"""Make tiny Hugging Face folders, as save_pretrained writes them, and what transformers
computes with them.

    python make_hf.py [NAME...]

writes hf/NAME/ and hf/NAME.ref.gguf (as make_models.py does) for every model below, or
the named ones. Weights are rounded to the type that is saved before the reference runs
in F32. To add a family, add a line to MODELS; keep a folder below 150 KB.

The committed files were made with the versions that make_models.py names and
safetensors 0.6.
"""

import copy
import functools
import json
import pathlib
import re
import shutil
import sys
import zlib

import numpy as np
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file

import make_models
import published_folders
import published_forms
import recurrent_models
import reference as own_reference
from make_models import BASE, DENSE, LARGE, MOE, OLMOE, SHARED, rope

HERE = pathlib.Path(__file__).parent / "hf"

# Published models have a magnitude of their own.
LONG = rope("longrope", short_factor=[1.0, 1.5, 3.0], long_factor=[1.0, 2.0, 8.0],
            short_mscale=1.25, long_mscale=1.25, original_max_position_embeddings=32)
NVFP4 = dict(hidden_size=64, intermediate_size=64)


def golden(name, settings=None, **options):
    """The configuration of a golden model, with changes; a seed of its own."""
    _, kind, usual, _ = make_models.MODELS[name]
    seed = zlib.crc32(name.encode()) % 10**6
    return kind, usual | (settings or {}), dict(seed=seed) | options


# name: (transformers' model type, settings, options of the script)
MODELS = {
    "llama": ("llama", DENSE | rope("llama3", factor=8.0, low_freq_factor=1.0,
                                    high_freq_factor=4.0,
                                    original_max_position_embeddings=32), {}),
    "mistral": ("mistral",
                dict(hidden_size=32, intermediate_size=64, head_dim=16,
                     tie_word_embeddings=True),
                dict(f16=True, text=True)),
    "mixtral": ("mixtral", LARGE | dict(intermediate_size=24, num_local_experts=8,
                                        num_experts_per_tok=2), dict(shards="20KB")),
    "qwen2": ("qwen2", DENSE | rope("yarn", factor=4.0,
                                    original_max_position_embeddings=32), {}),
    "qwen2moe": ("qwen2_moe", SHARED | dict(norm_topk_prob=False, num_hidden_layers=3,
                                            mlp_only_layers=[1]), {}),
    "qwen3": ("qwen3", dict(head_dim=16), dict(f32=True)),
    "qwen3moe": ("qwen3_moe", MOE | dict(head_dim=16, norm_topk_prob=True), {}),
    "qwen3moe-fp8": ("qwen3_moe", MOE | dict(head_dim=16, norm_topk_prob=True),
                     dict(fp8=16)),
    "olmoe": ("olmoe", OLMOE | dict(clip_qkv=1.0), {}),
    "gemma": golden("gemma"),
    "gemma2": golden("gemma2"),
    "gemma3": golden("gemma3"),
    "olmo": golden("olmo"),
    "olmo2": golden("olmo2"),
    "smollm3": golden("smollm3"),
    "phi2": golden("phi2", f16=True),
    "glm4": golden("glm4"),
    "seed_oss": golden("seed_oss"),
    "exaone4": golden("exaone4"),
    "cohere2": golden("cohere2"),
    "nemotron": golden("nemotron"),
    "mistral3": golden("mistral3", rope(
        "yarn", factor=4.0, beta_fast=32.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0,
        original_max_position_embeddings=16, llama_4_scaling_beta=0.3)),
    "llama4": golden("llama4", dict(floor_scale=4)),
    "qwen3next": golden("qwen3next"),
    "qwen35": golden("qwen35"),
    "qwen35moe": golden("qwen35moe"),
    "jamba": golden("jamba"),
    "lfm2": golden("lfm2"),
    "lfm2moe": golden("lfm2moe", margin=0.005),
    "granitehybrid": golden("granitehybrid"),
    "granitehybrid-dense": golden("granitehybrid-dense"),
    "nemotron_h": golden("nemotron_h"),
    "nemotron_h_moe": golden("nemotron_h_moe", margin=0.005),
    "falcon-h1": golden("falcon-h1", f32=True),
    "falcon-h1-tied": golden(  # factors of two are exact in BF16
        "falcon-h1", dict(tie_word_embeddings=True, mamba_rms_norm=False,
                          lm_head_multiplier=0.125, embedding_multiplier=4.0,
                          mlp_multipliers=[0.5, 2.0], key_multiplier=0.25,
                          attention_out_multiplier=2.0, attention_in_multiplier=0.5,
                          ssm_in_multiplier=0.5, ssm_out_multiplier=4.0,
                          ssm_multipliers=[0.5, 2.0, 4.0, 0.25, 1.0])),
    "kimi-linear": golden("kimi-linear", margin=0.005),
    "minimax-01": golden("minimax-01", margin=0.005),
    "gemma4": golden("gemma4"),
    "gemma4-moe": golden("gemma4-moe", margin=0.005),
    "gemma4-e2b": golden("gemma4-e2b"),
    "glm4-flash": ("glm4_moe_lite", LARGE | make_models.LATENT | dict(
        n_routed_experts=6, num_experts_per_tok=3, moe_intermediate_size=24,
        num_hidden_layers=2, routed_scaling_factor=1.8), dict(margin=0.005, seed=137000)),
    "solar-open": ("solar_open", LARGE | dict(
        n_routed_experts=5, num_experts_per_tok=2, moe_intermediate_size=24,
        head_dim=12), dict(margin=0.005, seed=138000)),
    "minimax-01-published": golden("minimax-01", margin=0.005),
} | {name: golden(name, margin=0.005) for name in (
    "deepseek2", "deepseek3", "glm4moe-norm", "ernie4_5", "ernie4_5-moe", "dots1",
    "minimax-m2", "hunyuan-dense", "afmoe", "exaone-moe", "granite", "granitemoe",
    "granitemoe-shared")} | {
    "gpt-oss": golden("gpt-oss", dict(vocab_size=40, intermediate_size=12),
                      margin=0.005),
    "phi3": golden("phi3", dict(vocab_size=40, intermediate_size=24)),
    "deepseek2-lite": golden("deepseek2-lite", f16=True, margin=0.005),
    "hunyuan-moe": golden("hunyuan-moe", rope("dynamic", alpha=50.0, factor=1.0),
                          margin=0.005),
    "deepseek3-fp8": golden("deepseek3", fp8=16, margin=0.005),
    "phimoe": golden("phimoe", LONG, margin=0.01,
                     texts={"phimoe": 24, "phimoe-long": 48}),
    "dbrx": golden("dbrx", margin=0.005),
    # Families of reference.py.
    "arctic": golden("arctic", dict(intermediate_size=24), margin=0.005),
} | {name: golden(name, margin=0.005) for name in (
    "deepseek", "bailingmoe", "bailingmoe2", "grok", "grok2", "pangu-pro-moe")} | {
    "olmo3": golden("olmo3"),
    "mimo": golden("qwen2", DENSE, seed=110000),
    "gpt-oss-mxfp4": golden("gpt-oss", dict(vocab_size=40, intermediate_size=32),
                            mxfp4=True, margin=0.05),
    "grok2-cut": golden("grok2", devices=4, margin=0.005),
    # Rows of 48 values are no whole blocks of GGUF.
    "qwen3moe-nvfp4": ("qwen3_moe", MOE | NVFP4 | dict(
        head_dim=12, norm_topk_prob=True, moe_intermediate_size=64),
        dict(nvfp4="modelopt", f32=True, margin=0.05)),
    "mixtral-nvfp4": ("mixtral", NVFP4 | dict(
        num_local_experts=4, num_experts_per_tok=2),
        dict(nvfp4="compressed-tensors", f32=True, margin=0.05)),
    "gemma4-moe-nvfp4": golden("gemma4-moe", NVFP4 | dict(
        num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"],
        vocab_size=40, num_experts=4, moe_intermediate_size=64),
        nvfp4="modelopt", f32=True, margin=0.05),
}


def configure(kind, settings, options):
    own = kind in own_reference.FAMILIES
    base = BASE if kind != "dbrx" else make_models.BASE_DBRX
    if options.get("text"):
        base = base | dict(vocab_size=len(make_models.text_vocabulary()[0]))
    settings = copy.deepcopy(base | settings)  # configurations change it
    config = (own_reference.config_for(kind, settings) if own
              else transformers.AutoConfig.for_model(kind, **settings))
    config._experts_implementation = "eager"
    if kind.startswith("gemma4"):
        config.allow_global_per_layer_attribute_access = True
    if kind == "dbrx":  # as in make_models.py
        config.attn_config.rope_theta = 10000.0
    return config


def draw(name, config, seed):
    """A model of random values that its folder can hold, and what of these is saved in
    another form."""
    options = MODELS[name][2]
    dtype = (torch.float16 if options.get("f16") else
             torch.float32 if options.get("f32") else torch.bfloat16)
    model = own_reference.Model(config) if config.model_type in own_reference.FAMILIES \
        else transformers.AutoModelForCausalLM.from_config(
            config, attn_implementation="eager", dtype=torch.float32).eval()
    if name.endswith("-published"):
        rotate_part(model, ROTARY_DIM)
    generator = torch.Generator().manual_seed(seed)
    make_models.randomise(model, generator)
    if re.sub("-(tied|published)$", "", name) in recurrent_models.MODELS:
        recurrent_models.shake(model, generator)
    stored = None
    if options.get("fp8"):
        stored = published_forms.to_fp8(model, options["fp8"])
    if options.get("mxfp4"):
        stored = published_forms.to_mxfp4(model, generator)
    if options.get("nvfp4"):
        stored = published_forms.to_nvfp4(model, options["nvfp4"])
    for param in model.parameters():
        param.data = param.data.to(dtype).float()
    return model, stored, dtype


def compute(model, texts, rng):
    """Tokens and logits of all texts, and the least gap of a decision."""
    out, gaps = {}, []
    for name, count in texts.items():
        tokens = rng.integers(0, model.config.vocab_size, count, np.int32)
        if model.config.model_type == "phimoe":
            take_factors_by_length(model.model.rotary_emb, count)
        logits, _, gap = make_models.reference(model, tokens)
        out[name] = tokens, logits
        gaps.append(gap)
    return out, min(gaps)


def take_factors_by_length(rope, count):
    """transformers 5.23 asks for the frequencies of a text of no length, which are
    those of short texts; the published code, as transformers 4, for those of this
    one."""
    usual = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["longrope"]
    rope.rope_init_fn = functools.partial(usual, seq_len=count)


def build(name):
    """A model with values of its type, and references without close decisions."""
    kind, settings, options = MODELS[name]
    config = configure(kind, settings, options)
    first = options.get("seed", 100000 + 1000 * list(MODELS).index(name))
    for seed in range(first, first + 1000):
        model, stored, dtype = draw(name, config, seed)
        texts = options.get("texts") or {name: 24}
        found, gap = compute(model, texts, np.random.default_rng(seed))
        if gap > options.get("margin", 0.02):
            largest = max(np.abs(logits).max() for _, logits in found.values())
            print(f"{name}: seed {seed}, largest logit {largest:.1f}, "
                  f"least router gap {gap:.3f}")
            for param in model.parameters():
                param.data = param.data.to(dtype)
            return model, stored, found
    raise SystemExit(f"{name}: no seed gives decided routes")


# ---- as published --------------------------------------------------------------------


ROTARY_DIM = 6


def rotate_part(model, dims):
    """The published MiniMax-Text-01 rotates the first values of a head only, the class
    of transformers all of them."""
    module = sys.modules[type(model).__module__]
    base = model.config.rope_parameters["rope_theta"]
    model.model.rotary_emb.inv_freq = base ** -(torch.arange(0, dims, 2) / dims)

    def apply(q, k, cos, sin, unsqueeze_dim=1):
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
        n = cos.shape[-1]
        return tuple(torch.cat([x[..., :n] * cos + module.rotate_half(x[..., :n]) * sin,
                                x[..., n:]], dim=-1) for x in (q, k))

    module.apply_rotary_pos_emb = apply


def save_published(folder, name):
    """Where transformers saves other names than those of the published models. Decays of
    lightning attention are no parameters."""
    path = folder / "model.safetensors"
    tensors = {}
    for tensor, value in load_file(path).items():
        if not re.search(r"(slope_rate|_decay)$", tensor):
            tensors[re.sub(r"block_sparse_moe\.(\w+_proj)", r"mlp.\1", tensor)] = value
    save_file(tensors, path, metadata={"format": "pt"})
    if not name.endswith("-published"):
        return
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "minimax_text_01"
    config["rotary_dim"] = ROTARY_DIM
    config["attn_type_list"] = [int(kind == "full_attention")
                                for kind in config.pop("layer_types")]
    for part, long in (("full_attn", "full_attention"), ("mlp", "mlp"),
                       ("linear_attn", "linear_attention")):
        for factor in ("alpha", "beta"):
            config[f"layernorm_{long}_{factor}"] = config.pop(f"{part}_{factor}_factor")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


# ---- text ----------------------------------------------------------------------------


def save_tokenizer(folder):
    tokens, _, merges = make_models.text_vocabulary()
    specials = [t for t in tokens if t.startswith("<|")]
    ids = {token: i for i, token in enumerate(tokens) if token not in specials}
    model = tokenizers.models.BPE(ids, [tuple(m.split(" ")) for m in merges])
    text = tokenizers.Tokenizer(model)
    text.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    text.decoder = tokenizers.decoders.ByteLevel()
    text.add_special_tokens(specials)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=text, bos_token="<|endoftext|>", eos_token="<|im_end|>",
        pad_token="<|pad|>")
    fast.chat_template = make_models.CHATML
    fast.save_pretrained(folder)


def save(name, model, stored):
    folder, options = HERE / name, MODELS[name][2]
    shutil.rmtree(folder, ignore_errors=True)
    if isinstance(model, own_reference.Model):
        published_folders.save(model, folder, next(model.parameters()).dtype,
                               options.get("devices", 1))
    else:
        model.save_pretrained(folder, max_shard_size=options.get("shards", "5GB"))
    if options.get("text"):
        save_tokenizer(folder)
    else:  # says nothing
        (folder / "generation_config.json").unlink(missing_ok=True)
    if options.get("fp8"):
        published_forms.save_fp8(folder, stored)
    if options.get("mxfp4"):
        published_forms.save_mxfp4(folder, stored)
    if options.get("nvfp4"):
        published_forms.save_nvfp4(folder, stored)
    if name.startswith(("kimi", "minimax-01")):
        save_published(folder, name)
    if name in published_forms.PREDICTORS:
        published_forms.add_predictors(folder, name)
    if name in published_forms.AGED:
        published_forms.age(folder, name)


def main():
    torch.set_num_threads(1)
    for name in sys.argv[1:] or MODELS:
        model, stored, found = build(name)
        save(name, model, stored)
        for text, (tokens, logits) in found.items():
            make_models.write_reference(f"hf/{text}", tokens, logits, None)


if __name__ == "__main__":
    main()
