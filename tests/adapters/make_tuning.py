#!/usr/bin/env python3
"""What peft and PyTorch lose while they tune adapters of tiny models.

    python make_tuning.py

writes for every run below NAME/ (the adapter before the first step, as peft saves it)
and NAME.ref.gguf: the tokens, four documents that are one batch, and the loss before
each of 30 steps of AdamW. tests/adapt/tuning_test.c does the same with Junto. Versions
as in make_adapters.py.
"""

import gguf
import numpy as np
import peft
import torch

from make_adapters import EXPERTS, HERE, LINEAR, VIRTUAL, base, strip

STEPS, RATE = 30, 0.01

# name: (folder, settings of LoRA, or the kind of virtual tokens and how many)
RUNS = {
    "tune-llama-lora": ("llama", dict(r=4, lora_alpha=8, target_modules=LINEAR)),
    "tune-llama-dora": ("llama", dict(r=4, lora_alpha=8, target_modules=LINEAR,
                                      use_dora=True)),
    "tune-mixtral-rslora": ("mixtral", dict(
        r=2, lora_alpha=2, use_rslora=True, target_modules=["q_proj", "v_proj"],
        target_parameters=EXPERTS[1:])),  # gate and up share an A in peft alone
    "tune-llama-prompt": ("llama", ("prompt", 4)),
    "tune-llama-prefix": ("llama", ("prefix", 4)),
    "tune-phi3-prefix": ("phi3", ("prefix", 3)),
}


def loss_of(model, tokens):
    n = tokens.shape[1] - 1
    logits = model(tokens[:, :-1]).logits[:, -n:].float()  # no virtual tokens
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1),
                                             tokens[:, 1:].flatten())


def write(name):
    folder, settings = RUNS[name]
    torch.manual_seed(3)
    if isinstance(settings, dict):
        config = peft.LoraConfig(**settings)
    else:
        kind, front = settings
        config = VIRTUAL[kind](task_type="CAUSAL_LM", num_virtual_tokens=front)
    model = peft.get_peft_model(base(folder), config)
    model.save_pretrained(HERE / name)
    strip(HERE / name, folder)
    vocab = model.config.vocab_size
    tokens = np.random.default_rng(9).integers(0, vocab, (4, 16)).astype(np.int32)
    batch = torch.from_numpy(tokens).long()
    params = [p for p in model.parameters() if p.requires_grad]
    optim = torch.optim.AdamW(params, lr=RATE, betas=(0.9, 0.999), eps=1e-8,
                              weight_decay=0.0)
    losses = []
    for _ in range(STEPS):
        optim.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optim.step()
        losses.append(loss.item())
    writer = gguf.GGUFWriter(HERE / f"{name}.ref.gguf", "none")
    writer.add_tensor("tokens", tokens)
    writer.add_tensor("losses", np.array(losses, np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file,
                 writer.write_tensors_to_file, writer.close):
        step()
    print(f"{name}: {losses[0]:.4f} to {losses[-1]:.4f}")


if __name__ == "__main__":
    for run in RUNS:
        write(run)
