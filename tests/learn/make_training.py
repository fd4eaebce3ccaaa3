#!/usr/bin/env python3
"""Train a tiny Mixtral in PyTorch and keep what happened, step by step.

    python make_training.py

writes, into data/ beside this script,

    mixtral.gguf   the model before training, with the names of llama.cpp
    curves.gguf    "tokens" I32 [steps * micro-batches * sequences, length], each row a
                   document; for each run "NAME.loss" F32 [steps] and
                   "NAME.grad_norm" F32 [steps] (before clipping); and the settings, as
                   keys

The model is transformers' MixtralForCausalLM in F32, the optimiser torch.optim.AdamW,
clipping torch.nn.utils.clip_grad_norm_. Run "plain" has the cross entropy alone; run
"balanced" adds BALANCE * E * sum_i f_i P_i for each layer and micro-batch, f_i the share
of the picks that expert i got, P_i its mean probability.

The committed files were made with Python 3.11, torch 2.15.0 (CPU), transformers 5.23.0,
gguf 0.19.0 and numpy 2.4.6.
"""

import math
import pathlib
import sys

import gguf
import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent / "golden"))
import make_models as golden  # noqa: E402
from gguf_views import gguf_views  # noqa: E402

SEED = 5
STEPS, MICRO, SEQUENCES, LENGTH = 50, 2, 4, 24
WARMUP, LR, FINAL_LR = 5, 1e-2, 1e-3
BETAS, EPS, WEIGHT_DECAY, CLIP = (0.9, 0.95), 1e-8, 0.1, 0.85
BALANCE = 0.01
RUNS = {"plain": 0.0, "balanced": BALANCE}
SHAPE = golden.BASE | golden.LARGE | dict(
    intermediate_size=16, num_local_experts=8, num_experts_per_tok=2)


def make_model():
    torch.manual_seed(SEED)
    config = transformers.MixtralConfig(**SHAPE)
    config._experts_implementation = "eager"
    return transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", dtype=torch.float32).train()


def make_tokens():
    """Documents of a chain in which each token has three likely successors."""
    rng = np.random.default_rng(SEED)
    vocab = SHAPE["vocab_size"]
    after = rng.integers(0, vocab, (vocab, 3))
    rows = np.empty((STEPS * MICRO * SEQUENCES, LENGTH), np.int32)
    rows[:, 0] = rng.integers(0, vocab, len(rows))
    for i in range(1, LENGTH):
        rows[:, i] = after[rows[:, i - 1], rng.integers(0, 3, len(rows))]
    return rows


def schedule(step):
    if step < WARMUP:
        return LR * (step + 1) / WARMUP
    along = (step - WARMUP) / (STEPS - 1 - WARMUP)
    return FINAL_LR + (LR - FINAL_LR) * 0.5 * (1 + math.cos(math.pi * along))


def make_optimiser(model):
    """Weight decay on matrices, none on vectors."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    return torch.optim.AdamW(
        [dict(params=matrices, weight_decay=WEIGHT_DECAY),
         dict(params=vectors, weight_decay=0.0)], betas=BETAS, eps=EPS)


def balance_loss(router_logits, k):
    """E * sum_i f_i P_i over one layer's tokens."""
    experts = router_logits.shape[-1]
    probabilities = router_logits.softmax(dim=-1)
    chosen = probabilities.topk(k, dim=-1).indices.flatten()
    share = torch.bincount(chosen, minlength=experts) / len(chosen)
    return experts * (share * probabilities.mean(dim=0)).sum()


def train(tokens, alpha):
    model = make_model()
    optimiser = make_optimiser(model)
    losses, norms = [], []
    for step, batch in enumerate(torch.from_numpy(tokens).long().split(MICRO * SEQUENCES)):
        optimiser.zero_grad()
        total = 0.0
        for rows in batch.split(SEQUENCES):
            out = model(rows, output_router_logits=True)
            loss = torch.nn.functional.cross_entropy(
                out.logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten())
            balance = sum(balance_loss(x, SHAPE["num_experts_per_tok"])
                          for x in out.router_logits)
            ((loss + alpha * balance) / MICRO).backward()
            total += loss.item() / MICRO
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP).item()
        for group in optimiser.param_groups:
            group["lr"] = schedule(step)
        optimiser.step()
        losses.append(total)
        norms.append(norm)
    return np.array(losses, np.float32), np.array(norms, np.float32)


def write_model():
    model = make_model()
    out = gguf.GGUFWriter(HERE / "data" / "mixtral.gguf", "llama")
    out.add_name("tiny mixtral before training")
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    golden.add_shape(out, model.config)
    golden.add_experts(out, "llama", model.config)
    golden.add_rope(out, model)
    for name, shape, view in gguf_views(model, "llama"):
        out.add_tensor(name, view.reshape(shape).contiguous().numpy())
    golden.close(out)


def write_curves(tokens):
    out = gguf.GGUFWriter(HERE / "data" / "curves.gguf", "reference")
    out.add_name("a training run of a tiny mixtral in PyTorch")
    for key, value in dict(steps=STEPS, micro_batches=MICRO, sequences=SEQUENCES,
                           warmup=WARMUP).items():
        out.add_uint32(key, value)
    for key, value in dict(lr=LR, final_lr=FINAL_LR, beta1=BETAS[0], beta2=BETAS[1],
                           eps=EPS, weight_decay=WEIGHT_DECAY, clip=CLIP,
                           balance=BALANCE).items():
        out.add_float32(key, value)
    out.add_tensor("tokens", tokens)
    for name, alpha in RUNS.items():
        losses, norms = train(tokens, alpha)
        print(f"{name}: loss {losses[0]:.4f} to {losses[-1]:.4f}, gradients up to "
              f"{norms.max():.2f}, {np.sum(norms > CLIP)} of {STEPS} steps clipped")
        out.add_tensor(f"{name}.loss", losses)
        out.add_tensor(f"{name}.grad_norm", norms)
    golden.close(out)


def main():
    torch.set_num_threads(1)
    write_model()
    write_curves(make_tokens())


if __name__ == "__main__":
    main()
