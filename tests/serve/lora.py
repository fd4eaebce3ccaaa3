"""Adapters for the default model, written by hand: safetensors files as docs/adapters.md
has them, with values from a seed."""

import json
import random
import struct

SIZES = {"attn_q": (256, 256), "attn_v": (128, 256), "attn_output": (256, 256),
         "ffn_down_shexp": (256, 128)}
LAYERS = 6
ABOUT = {"junto.adapter": "1", "junto.adapter.model": "0" * 16,
         "junto.adapter.family": "junto"}


def values(rng, n, size):
    return struct.pack(f"<{n}f", *(rng.uniform(-size, size) for _ in range(n)))


def write(path, metadata, tensors):
    """A safetensors file of F32 tensors {name: (shape, bytes)}."""
    header, at = {"__metadata__": metadata}, 0
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text
                     + b"".join(data for _, data in tensors.values()))


def lora(path, seed, rank=4, kind="lora", layers=LAYERS, wrong=0):
    """A LoRA of some matrices of all layers, too loud to be missed."""
    rng, tensors = random.Random(seed), {}
    for layer in range(layers):
        for name, (rows, cols) in SIZES.items():
            at, cols = f"blk.{layer}.{name}.weight", cols + wrong
            tensors[f"{at}.lora_a"] = ([rank, cols], values(rng, rank * cols, 0.2))
            tensors[f"{at}.lora_b"] = ([rows, rank], values(rng, rows * rank, 0.2))
            if kind == "dora":
                tensors[f"{at}.dora_m"] = ([rows], struct.pack(f"<{rows}f", *[1.0] * rows))
    write(path, {**ABOUT, "junto.adapter.kind": kind, "junto.adapter.alpha": "4"}, tensors)
    return path


def mixture(path, seed, n=3, rank=4):
    """A MeteoRA mixture: gates that decide token by token."""
    rng, tensors = random.Random(seed), {}
    for layer in range(LAYERS):
        for name, (rows, cols) in SIZES.items():
            at = f"blk.{layer}.{name}.weight"
            tensors[f"{at}.mix_a"] = ([n, rank, cols], values(rng, n * rank * cols, 0.2))
            tensors[f"{at}.mix_b"] = ([n, rows, rank], values(rng, n * rows * rank, 0.2))
            tensors[f"{at}.mix_gate"] = ([n, cols], values(rng, n * cols, 0.5))
    write(path, {**ABOUT, "junto.adapter.kind": "lora", "junto.adapter.alpha": "1",
                 "junto.mix.method": "meteora",
                 "junto.mix.count": str(n), "junto.mix.top_k": "2",
                 "junto.mix.scale": "2", "junto.mix.temperature": "1",
                 "junto.mix.gate_after": "1", "junto.mix.names": "\n" * (n - 1)},
          tensors)
    return path
