#!/usr/bin/env python3
"""Write blocks.bin: golden blocks of every quantised format, from gguf-py.

For each format, in the order of the list below: random blocks and what
gguf.quants.dequantize makes of them (formulas here for the two that it does not know);
for some formats that gguf-py can write, also floats and what gguf.quants.quantize makes
of them. test_quants.c reads the file.

    record  uint32 GGUF id, number of decoded blocks, number of encoded blocks
            blocks, their values as float32
            values as float32, their blocks

Needs: pip install gguf numpy. The committed file was written with gguf 0.19.
"""

import sys

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

# Where a block has its halves.
HALVES = {
    T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
    T.IQ4_NL: [0], T.IQ4_XS: [0], T.MXFP4: [], T.NVFP4: [], T.IQ2_XXS: [0],
    T.IQ2_XS: [0], T.IQ2_S: [0], T.IQ3_XXS: [0], T.IQ3_S: [0], T.IQ1_S: [0],
    T.IQ1_M: [], T.TQ1_0: [52], T.TQ2_0: [64], T.Q1_0: [0], 42: [0],
}
SIZES = dict(GGML_QUANT_SIZES) | {42: (64, 18)}  # Q2_0
CAN_QUANTIZE = {T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1}


def decode(blocks, kind):
    if kind not in (T.Q1_0, 42):
        return dequantize(blocks, kind)
    bits = 1 if kind == T.Q1_0 else 2
    q = blocks[:, 2:, None] >> np.arange(0, 8, bits) & (1 << bits) - 1
    d = np.ascontiguousarray(blocks[:, :2]).view(np.float16).astype(np.float32)
    return d * (q.reshape(len(blocks), -1) * (2 if bits == 1 else 1) - 1.0).astype(np.float32)


def random_blocks(rng, kind, count):
    blocks = rng.integers(0, 256, (count, SIZES[kind][1]), dtype=np.uint8)
    for at in HALVES[kind]:
        d = (0.02 * rng.standard_normal(count)).astype(np.float16)
        blocks[:, at:at + 2] = d.view(np.uint8).reshape(count, 2)
    if kind == T.IQ1_M:  # a half in four nibbles: not an infinity or NaN
        blocks[:, 55] &= 0xbf
    if kind == T.MXFP4:
        blocks[:3, 0] = 0, 1, 255
    if kind == T.NVFP4:
        blocks[0, :4] = 0, 127, 255, 128
    return blocks


def random_values(rng, count):
    x = rng.standard_normal((count, 32)).astype(np.float32)
    x[0] = 0
    x[1] = np.arange(32) - 7
    x[2] = 0
    x[2, 5] = -3
    return x


def main(path):
    rng = np.random.default_rng(1)
    with open(path, "wb") as out:
        for kind in HALVES:
            small = SIZES[kind][0] < 256
            blocks = random_blocks(rng, kind, 16 if small else 3)
            values = random_values(rng, 8) if kind in CAN_QUANTIZE else []
            head = [int(kind), len(blocks), len(values)]
            out.write(np.array(head, dtype="<u4").tobytes())
            out.write(blocks.tobytes())
            out.write(decode(blocks, kind).astype("<f4").tobytes())
            if len(values):
                out.write(values.tobytes())
                out.write(quantize(values, kind).tobytes())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "blocks.bin")
