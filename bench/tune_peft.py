#!/usr/bin/env python3
"""Tokens per second of tuning a LoRA: `junto tune` and peft take turns.

    bench/tune_peft.py MODEL.gguf [--junto build/junto] [--batch 4] [--length 256] ...

Both train the same weights: those of MODEL, decoded to floats by `junto convert`, the
one from the file, the other from the folder; a LoRA on all matrices of attention and
FFNs, batches of the same shape in which every token counts, gradients clipped to a norm
of 1, AdamW. Whole steps are timed, those of Junto by its own log, without the first two
of each turn. With --own Junto reads MODEL as it is, its weights quantised.

Prints the median of each and their ratio turn by turn: a slow minute of the machine
meets both. By the time of the processor, too, of all threads (those that wait spin, and
are counted: on a busy machine take --threads 1). Needs torch, transformers and peft, of
any recent version."""
import argparse
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

WARM = 2  # steps of Junto at the start of a turn that do not count
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Peft:
    """A training loop as its documentation has it."""

    def __init__(self, folder, args):
        torch.set_num_threads(args.threads)
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, args.dtype))
        config = LoraConfig(r=args.rank, lora_alpha=2 * args.rank,
                            target_modules=TARGETS, task_type="CAUSAL_LM")
        self.model = get_peft_model(model, config)
        self.model.train()
        self.shape = (args.batch, args.length)
        self.vocab = model.config.vocab_size
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(self.trained, lr=2e-4, weight_decay=0.0)
        self.forward = torch.compile(self.model) if args.compile else self.model
        self.step()

    def step(self):
        ids = torch.randint(self.vocab, self.shape)
        loss = self.forward(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return loss.item()

    def rates(self, steps):
        """Of each step by the clock, and of all by the time of the processor."""
        rates, tokens, cpu = [], self.shape[0] * self.shape[1], time.process_time()
        for _ in range(steps):
            start = time.monotonic()
            self.step()
            rates.append(tokens / (time.monotonic() - start))
        return rates, steps * tokens / (time.process_time() - cpu)


class Junto:
    def __init__(self, model, args, folder):
        self.model, self.args, self.folder = model, args, folder
        self.data = os.path.join(folder, "tokens.npy")
        rng = np.random.default_rng(1)
        np.save(self.data, rng.integers(0, 49152, 1 << 18, dtype=np.int32))
        self.start = self.run(WARM)[1]

    def run(self, steps):
        """Rates of the steps, and seconds of the processor."""
        a, out = self.args, tempfile.mkdtemp(dir=self.folder)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [a.junto, "tune", self.model, "--data", self.data, "-o", out, "-q",
             "-r", str(a.rank), "-b", str(a.batch), "-c", str(a.length),
             "-n", str(steps), "-t", str(a.threads), "--eval-every", "0",
             "--set", "eval.batches=1"] + a.flag, check=True, stdout=subprocess.DEVNULL)
        with open(os.path.join(out, "log.jsonl")) as log:
            lines = [json.loads(line) for line in log]
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return [x["tokens_per_second"] for x in lines if x["kind"] == "step"], cpu

    def rates(self, steps):
        rates, cpu = self.run(steps + WARM)
        tokens = steps * self.args.batch * self.args.length
        return rates[WARM:], tokens / (cpu - self.start)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--junto", default="build/junto")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4, help="of each in a turn")
    parser.add_argument("--dtype", default="float32", help="of peft's model")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--own", action="store_true",
                        help="Junto reads the model as it is")
    parser.add_argument("--flag", action="append", default=[], help="of junto tune")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plain = os.path.join(folder, "plain.gguf")
        hub = os.path.join(folder, "hub")
        for command in (["convert", args.model, plain, "--type", "f32", "-q"],
                        ["convert", plain, hub, "-q"]):
            subprocess.run([args.junto] + command, check=True)
        theirs = Peft(hub, args)
        ours = Junto(args.model if args.own else plain, args, folder)
        rates, ratios, by_cpu = {"peft": [], "junto": []}, [], []
        for turn in range(args.turns):
            pair = theirs.rates(args.steps), ours.rates(args.steps)
            rates["peft"] += pair[0][0]
            rates["junto"] += pair[1][0]
            ratios.append(statistics.median(pair[1][0]) / statistics.median(pair[0][0]))
            by_cpu.append(pair[1][1] / pair[0][1])
            print(f"turn {turn + 1}: {ratios[-1]:.2f}, by processor time {by_cpu[-1]:.2f} "
                  f"({pair[1][1]:.0f} and {pair[0][1]:.0f})", flush=True)
    print(f"torch {torch.__version__}, {args.threads} threads, batches of {args.batch} x "
          f"{args.length} tokens, rank {args.rank}, load {os.getloadavg()[0]:.1f}")
    for name, all_rates in rates.items():
        all_rates.sort()
        print(f"{name:6} {statistics.median(all_rates):6.0f} tokens per second "
              f"({all_rates[0]:.0f} to {all_rates[-1]:.0f})")
    print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
          f"{max(ratios):.2f}), by processor time {statistics.median(by_cpu):.2f} "
          f"({min(by_cpu):.2f} to {max(by_cpu):.2f})")


if __name__ == "__main__":
    main()
