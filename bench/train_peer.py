#!/usr/bin/env python3
"""Speed of training the mini mixture in PyTorch on the CPU: the baseline of bench/train.

    python train_peer.py [--threads 2] [--repeats 5] [--seconds 6] [VARIANT/MODE...]

The shape is that of Junto's mini model: width 256, 6 layers, 4 query and 2 key heads of
64, RMSNorm, norms of queries and keys, 24 experts of width 64 with 4 used (softmax over
all, weights not renormalised), a shared expert of width 128, SwiGLU, 4096 tied tokens,
F32. A step is 8 sequences of 256 tokens: forward, cross entropy, backward, clipping,
AdamW.

Three ways to run the experts:

    loop      for each expert: its tokens by index_select, results by index_add, as
              transformers does
    grouped   tokens sorted by expert, each expert a slice of the sorted rows and of one
              stack of weights; nothing is indexed twice
    padded    sorted, every expert padded to the fullest, three batched products

and two modes: eager, and torch.compile (its default mode). Prints tokens per second:
median and the 5th and 95th of a hundred steps, by the clock and by processor time, all
variants taking turns, so that a slow minute of the machine meets all of them. On a machine
that does other work too, only processor time with one thread says much: set
OMP_WAIT_POLICY=passive, so that waiting is not counted.
"""

import argparse
import os
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

LAYERS, WIDTH, HEADS, KV_HEADS, HEAD_DIM = 6, 256, 4, 2, 64
EXPERTS, USED, EXPERT_WIDTH, SHARED_WIDTH = 24, 4, 64, 128
VOCAB, BATCH, LENGTH = 4096, 8, 256


def rope_tables(length):
    frequency = 10000.0 ** -(torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    angle = torch.outer(torch.arange(length), frequency)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(WIDTH, HEADS * HEAD_DIM, bias=False)
        self.k = nn.Linear(WIDTH, KV_HEADS * HEAD_DIM, bias=False)
        self.v = nn.Linear(WIDTH, KV_HEADS * HEAD_DIM, bias=False)
        self.o = nn.Linear(HEADS * HEAD_DIM, WIDTH, bias=False)
        self.q_norm = nn.RMSNorm(HEAD_DIM, eps=1e-6)
        self.k_norm = nn.RMSNorm(HEAD_DIM, eps=1e-6)

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape

        def heads(y):
            return y.view(batch, length, -1, HEAD_DIM)

        q = rotate(self.q_norm(heads(self.q(x))).transpose(1, 2), cos, sin)
        k = rotate(self.k_norm(heads(self.k(x))).transpose(1, 2), cos, sin)
        v = heads(self.v(x)).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o(y.transpose(1, 2).reshape(batch, length, -1))


class FFN(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gate = nn.Linear(WIDTH, width, bias=False)
        self.up = nn.Linear(WIDTH, width, bias=False)
        self.down = nn.Linear(width, WIDTH, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Loop(nn.Module):
    """A module for each expert."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(FFN(EXPERT_WIDTH) for _ in range(EXPERTS))

    def forward(self, x, weight, chosen):
        y = torch.zeros_like(x)
        mask = F.one_hot(chosen, EXPERTS).permute(2, 1, 0)
        for e, expert in enumerate(self.experts):
            slot, token = torch.where(mask[e])
            rows = expert(x.index_select(0, token))
            y.index_add_(0, token, rows * weight[token, slot, None])
        return y


class Stacked(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_up = nn.Parameter(torch.empty(EXPERTS, 2 * EXPERT_WIDTH, WIDTH))
        self.down = nn.Parameter(torch.empty(EXPERTS, WIDTH, EXPERT_WIDTH))
        nn.init.normal_(self.gate_up, std=WIDTH ** -0.5)
        nn.init.normal_(self.down, std=EXPERT_WIDTH ** -0.5)


class Grouped(Stacked):
    def forward(self, x, weight, chosen):
        order = chosen.flatten().argsort()
        token = order // USED
        counts = torch.bincount(chosen.flatten(), minlength=EXPERTS).tolist()
        parts = x.index_select(0, token).split(counts)
        out = []
        for rows, gate_up, down in zip(parts, self.gate_up.unbind(), self.down.unbind()):
            gate, up = F.linear(rows, gate_up).chunk(2, dim=-1)
            out.append(F.linear(F.silu(gate) * up, down))
        rows = torch.cat(out) * weight.flatten()[order, None]
        return torch.zeros_like(x).index_add(0, token, rows)


class Padded(Stacked):
    def forward(self, x, weight, chosen):
        expert, order = chosen.flatten().sort()
        token = order // USED
        counts = torch.bincount(expert, minlength=EXPERTS)
        place = torch.arange(len(expert)) - (counts.cumsum(0) - counts)[expert]
        room = int(counts.max())
        slot = expert * room + place
        rows = x.new_zeros(EXPERTS * room, WIDTH).index_copy(
            0, slot, x.index_select(0, token)).view(EXPERTS, room, WIDTH)
        gate, up = torch.bmm(rows, self.gate_up.transpose(1, 2)).chunk(2, dim=-1)
        out = torch.bmm(F.silu(gate) * up, self.down.transpose(1, 2)).flatten(0, 1)
        out = out.index_select(0, slot) * weight.flatten()[order, None]
        return torch.zeros_like(x).index_add(0, token, out)


class Block(nn.Module):
    def __init__(self, experts):
        super().__init__()
        self.attn_norm = nn.RMSNorm(WIDTH, eps=1e-6)
        self.attention = Attention()
        self.ffn_norm = nn.RMSNorm(WIDTH, eps=1e-6)
        self.router = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.experts = experts()
        self.shared = FFN(SHARED_WIDTH)

    def forward(self, h, cos, sin):
        h = h + self.attention(self.attn_norm(h), cos, sin)
        x = self.ffn_norm(h).flatten(0, 1)
        weight, chosen = self.router(x).softmax(dim=-1).topk(USED, dim=-1)
        y = self.experts(x, weight, chosen) + self.shared(x)
        return h + y.view_as(h)


class Model(nn.Module):
    def __init__(self, experts):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, WIDTH)
        nn.init.normal_(self.embedding.weight, std=WIDTH ** -0.5)
        self.layers = nn.ModuleList(Block(experts) for _ in range(LAYERS))
        self.norm = nn.RMSNorm(WIDTH, eps=1e-6)
        cos, sin = rope_tables(LENGTH)
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def forward(self, ids, targets):
        h = self.embedding(ids)
        for layer in self.layers:
            h = layer(h, self.cos, self.sin)
        logits = F.linear(self.norm(h), self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Runner:
    def __init__(self, variant, mode):
        torch.manual_seed(1)
        self.name = f"{variant}/{mode}"
        self.model = Model(dict(loop=Loop, grouped=Grouped, padded=Padded)[variant])
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-4,
                                           betas=(0.9, 0.95), weight_decay=0.1)
        self.forward = torch.compile(self.model) if mode == "compile" else self.model
        self.rates, self.cpu_rates = [], []

    def step(self):
        ids = torch.randint(VOCAB, (BATCH, LENGTH + 1))
        loss = self.forward(ids[:, :-1], ids[:, 1:])
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        return loss.item()

    def warm_up(self):
        for _ in range(3):
            self.step()

    def measure(self, seconds):
        end = time.monotonic() + seconds
        while (start := time.monotonic()) < end:
            cpu_start = time.process_time()
            self.step()
            self.rates.append(BATCH * LENGTH / (time.monotonic() - start))
            self.cpu_rates.append(BATCH * LENGTH / (time.process_time() - cpu_start))

    def report(self):
        for rates, unit in ((self.rates, "second"), (self.cpu_rates, "CPU second")):
            rates.sort()
            low, high = rates[len(rates) // 20], rates[-1 - len(rates) // 20]
            print(f"{self.name:16} {statistics.median(rates):6.0f} tokens per {unit}"
                  f"  (5%: {low:.0f}, 95%: {high:.0f}, {len(rates)} steps)")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("which", nargs="*", default=[
        f"{v}/{m}" for m in ("eager", "compile") for v in ("loop", "grouped", "padded")])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    runners = []
    for which in args.which:
        runner = Runner(*which.split("/"))
        start = time.monotonic()
        runner.warm_up()
        print(f"{which}: warm after {time.monotonic() - start:.0f} s", flush=True)
        runners.append(runner)
    for _ in range(args.repeats):
        for runner in runners:
            runner.measure(args.seconds)
    parameters = sum(p.numel() for p in runners[0].model.parameters())
    print(f"torch {torch.__version__}, {args.threads} threads, "
          f"{parameters / 1e6:.2f} million parameters, load {os.getloadavg()[0]:.1f}")
    for runner in runners:
        runner.report()


if __name__ == "__main__":
    main()
