#!/usr/bin/env python3
"""Make optim.gguf: what PyTorch's and transformers' optimisers do to small parameters.

    python make_optim.py

The file holds, for parameters of several shapes ([count, rows, cols]) NAME,

    value/NAME       the start
    grad/NAME        [STEPS, count, rows, cols], the gradients of each step
    lr               [STEPS], the learning rates
    CASE/NAME        [2, count, rows, cols], the parameter after half of the steps and
                     after all of them, for each case of the key "cases"

and the keys CASE.kind, CASE.beta1 ... with the settings of each case. Gradients are
multiplied by the key "grad_scale" before use. All is computed in double precision.

torch.optim.Muon rounds to bfloat16 inside its Newton-Schulz steps; here it runs with
the same steps in double precision. The optimisers of torch know no stacks of matrices,
so Muon gets each matrix of a stack as a parameter of its own.

The committed file was made with Python 3.11, torch 2.15.0 (CPU), transformers 5.23.0,
gguf 0.19.0 and numpy 2.4.6.
"""

import pathlib

import gguf
import numpy as np
import torch
from torch.optim import SGD, AdamW, Muon, _muon
from transformers.optimization import Adafactor

STEPS = 20
GRAD_SCALE = 0.5
SHAPES = {
    "tall": (1, 19, 6),
    "wide": (1, 7, 16),
    "stack_tall": (3, 9, 6),
    "stack_wide": (2, 5, 9),
    "vector": (1, 1, 13),
    "stack_vector": (4, 1, 5),
}
# Kind and settings, with the names of jt_optim_group.
CASES = {
    "adamw": ("adamw", dict(weight_decay=0.1)),
    "adamw_betas": ("adamw", dict(beta1=0.8, beta2=0.99, eps=1e-4)),
    "sgd": ("sgd", dict(weight_decay=0.05)),
    "sgd_momentum": ("sgd", dict(momentum=0.9)),
    "sgd_nesterov": ("sgd", dict(momentum=0.8, nesterov=True, weight_decay=0.05)),
    "adafactor": ("adafactor", {}),
    "adafactor_eps": ("adafactor", dict(eps=0.01, weight_decay=0.1)),
    "muon": ("muon", dict(weight_decay=0.1)),
    "muon_nesterov": ("muon", dict(momentum=0.9, nesterov=True, lr_scale=2.0)),
}


def newton_schulz(update, coefficients, steps, eps):
    a, b, c = coefficients
    tall = update.shape[0] > update.shape[1]
    x = update.T if tall else update
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def make_optimizer(kind, settings, value):
    """The optimiser of a tensor [count, rows, cols], in the form in which it takes it."""
    decay = settings.get("weight_decay", 0.0)
    is_vector = value.shape[1] == 1
    if kind == "adamw" or (kind == "muon" and is_vector):
        betas = settings.get("beta1", 0.9), settings.get("beta2", 0.95)
        eps = settings.get("eps", 1e-8)
        return AdamW([value], betas=betas, eps=eps, weight_decay=decay)
    if kind == "sgd":
        momentum, nesterov = settings.get("momentum", 0.0), "nesterov" in settings
        return SGD([value], momentum=momentum, nesterov=nesterov, weight_decay=decay)
    if kind == "adafactor":
        whole = value.view(-1) if is_vector else value
        eps = (settings.get("eps", 1e-30), 1e-3)
        return Adafactor(
            [whole], lr=1.0, eps=eps, weight_decay=decay, scale_parameter=False,
            relative_step=False,
        )
    momentum, nesterov = settings.get("momentum", 0.95), "nesterov" in settings
    return Muon(list(value), weight_decay=decay, momentum=momentum, nesterov=nesterov)


def train(kind, settings, start, grads, rates):
    value = torch.from_numpy(start).double().clone()
    optimizer = make_optimizer(kind, settings, value)
    params = optimizer.param_groups[0]["params"]
    snapshots = []
    for step in range(STEPS):
        grad = torch.from_numpy(grads[step]).double() * GRAD_SCALE
        parts = [grad] if len(params) == 1 else list(grad)
        for param, part in zip(params, parts, strict=True):
            param.grad = part.view(param.shape)
        lr = float(rates[step]) * settings.get("lr_scale", 1.0)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        if step + 1 in (STEPS // 2, STEPS):
            snapshots.append(value.numpy().astype(np.float32))
    return np.stack(snapshots)


def add_settings(out, case, kind, settings):
    out.add_string(f"{case}.kind", kind)
    for name, value in settings.items():
        add = out.add_bool if isinstance(value, bool) else out.add_float32
        add(f"{case}.{name}", value)


def main():
    torch.set_num_threads(1)
    _muon._zeropower_via_newtonschulz = newton_schulz
    rng = np.random.default_rng(7)
    out = gguf.GGUFWriter(pathlib.Path(__file__).parent / "optim.gguf", "reference")
    rates = (0.05 * (1.0 - np.arange(STEPS) / (2 * STEPS))).astype(np.float32)
    out.add_float32("grad_scale", GRAD_SCALE)
    out.add_array("cases", list(CASES))
    out.add_tensor("lr", rates)
    for case, (kind, settings) in CASES.items():
        add_settings(out, case, kind, settings)
    for name, shape in SHAPES.items():
        start = rng.standard_normal(shape).astype(np.float32)
        # a direction that stays, noise, and scales that differ from row to row
        grads = rng.standard_normal(shape) + rng.standard_normal((STEPS, *shape))
        grads = (grads * np.exp(rng.standard_normal((*shape[:2], 1)))).astype(np.float32)
        out.add_tensor(f"value/{name}", start)
        out.add_tensor(f"grad/{name}", grads)
        for case, (kind, settings) in CASES.items():
            out.add_tensor(f"{case}/{name}", train(kind, settings, start, grads, rates))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


if __name__ == "__main__":
    main()
