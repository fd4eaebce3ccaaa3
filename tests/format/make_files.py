"""Writes tests/format/data/: files of another writer (gguf-py) for the reader's tests.

    python make_files.py data

Made with gguf 0.19 and numpy 2.4; the files are committed and not made anew by the tests.
"""
import pathlib
import sys

import gguf
import numpy as np

VALUE = gguf.GGUFValueType


def add_keys(writer):
    writer.add_key_value("test.u8", 200, VALUE.UINT8)
    writer.add_key_value("test.i8", -100, VALUE.INT8)
    writer.add_key_value("test.u16", 60000, VALUE.UINT16)
    writer.add_key_value("test.i16", -30000, VALUE.INT16)
    writer.add_key_value("test.u32", 4000000000, VALUE.UINT32)
    writer.add_key_value("test.i32", -2000000000, VALUE.INT32)
    writer.add_key_value("test.u64", 2**64 - 1, VALUE.UINT64)
    writer.add_key_value("test.i64", -(2**63), VALUE.INT64)
    writer.add_key_value("test.f32", 1.5, VALUE.FLOAT32)
    writer.add_key_value("test.f64", -0.1, VALUE.FLOAT64)
    writer.add_key_value("test.true", True, VALUE.BOOL)
    writer.add_key_value("test.false", False, VALUE.BOOL)
    writer.add_key_value("test.string", "gr\u00fc\u00df dich", VALUE.STRING)
    writer.add_key_value("test.empty", "", VALUE.STRING)
    writer.add_array("test.strings", ["a", "", "long enough"])
    writer.add_array("test.ints", [1, -2, 3])
    writer.add_array("test.floats", [0.5, -0.25])
    writer.add_array("test.bools", [True, False, True])


def add_tensors(writer):
    ramp = np.arange(64, dtype=np.float32).reshape(2, 32)
    writer.add_tensor("f32", ramp)
    writer.add_tensor("f16", ramp.astype(np.float16))
    writer.add_tensor("stack", np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    writer.add_tensor("i32", np.arange(5, dtype=np.int32))
    q8_0 = gguf.quants.quantize(ramp, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("q8_0", q8_0, raw_dtype=gguf.GGMLQuantizationType.Q8_0)


def write(path, **options):
    writer = gguf.GGUFWriter(path, "test", **options)
    add_keys(writer)
    add_tensors(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    out = pathlib.Path(sys.argv[1])
    write(out / "v3.gguf")
    write(out / "split.gguf", split_max_tensors=3)  # makes split-00001-of-00002.gguf, ...

    # Version 2 has the same layout; gguf-py no longer writes it.
    data = bytearray((out / "v3.gguf").read_bytes())
    data[4:8] = (2).to_bytes(4, "little")
    (out / "v2.gguf").write_bytes(data)

    # The head of a big-endian file: the version tells.
    writer = gguf.GGUFWriter(out / "big-endian.gguf", "test", endianess=gguf.GGUFEndian.BIG)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
