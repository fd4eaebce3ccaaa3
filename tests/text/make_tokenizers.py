#!/usr/bin/env python3
"""Make the data of the tokenizer tests: tests/text/data/.

    make_tokenizers.py                     write everything
    make_tokenizers.py MODEL.gguf OUT.ids  ids of strings.txt by a real byte-level
                                           vocabulary, for
                                           test_text_golden MODEL.gguf OUT.ids

What is written: strings.txt (one string a line, escaped), bytes.gguf (a byte-level
vocabulary that all pre-tokenizers share; its merges cross words, so that a wrong border
shows), pieces.gguf (a SentencePiece vocabulary), and for each pre-tokenizer NAME.ids, the
expected ids of each string, one line each. The text and the strings are in strings.py.

Made with tokenizers 0.23.3, sentencepiece 0.2.3, gguf 0.19.0.
"""

import io
import json
import os
import sys

import gguf
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, trainers)

import strings

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "data")

NORMAL, UNKNOWN, CONTROL, USER = 1, 2, 3, 4


def split(*expressions):
    return [pre_tokenizers.Split(Regex(e), "isolated") for e in expressions]


def raw_bytes():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def gpt2_words():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def digits():
    return pre_tokenizers.Digits(individual_digits=True)


CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
CASED = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s")
SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
EAST_ASIAN = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
# Cased letters of Unicode 11, as DeepSeek's tokenizer.json lists them.
LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293"
    "\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c"
    "\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5"
    "\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57"
    "\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4"
    "\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc"
    "\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d"
    "\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b"
    "\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f"
    "\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a"
    "\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb"
    "\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df"
    "\U0001e900-\U0001e943")

# name: pre-tokenizers as in the tokenizer.json of the family, normalized to NFC first,
# pieces that are tokens are not merged
FAMILIES = {
    "gpt-2": ([gpt2_words()], False, False),
    "olmo": ([gpt2_words()], True, False),
    "smollm": ([digits(), gpt2_words()], False, False),
    "llama-bpe": (split(
        CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        + SPACES) + [raw_bytes()], False, True),
    "qwen2": (split(
        CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        + SPACES) + [raw_bytes()], True, False),
    "qwen35": (split(
        CONTRACTION + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
        r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + SPACES) + [raw_bytes()], True, False),
    "gpt-4o": (split(
        CASED % (CONTRACTION + "?", CONTRACTION + "?")
        + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + SPACES) + [raw_bytes()],
        False, False),
    "tekken": (split(
        CASED % ("", "") + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + SPACES)
        + [raw_bytes()], False, True),
    "seed-coder": (split(
        CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+"
        + SPACES) + [raw_bytes()], False, False),
    "bailingmoe": (split(
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+") + [raw_bytes()],
        False, False),
    "deepseek-llm": (split(
        "[\r\n]", r"\s?[" + LETTERS + "]+",
        r"\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
        r"\s+$", EAST_ASIAN) + [digits(), raw_bytes()], False, False),
    "deepseek-coder": (split(
        "[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", EAST_ASIAN) + [digits(), raw_bytes()],
        False, False),
    "deepseek-v3": (split(
        r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
        r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*" + SPACES)
        + [raw_bytes()], False, False),
}


def train_bytes():
    """Vocabulary and merges of a byte-level BPE that knows no words."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = raw_bytes()
    trainer = trainers.BpeTrainer(
        vocab_size=1400, show_progress=False, max_token_length=12,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tok.train_from_iterator(strings.TRAINING, trainer)
    model = json.loads(tok.to_str())["model"]
    vocab = model["vocab"]
    merges = [tuple(m) for m in model["merges"]]
    for word in strings.WHOLE_WORDS:  # tokens that no merge makes
        text = raw_bytes().pre_tokenize_str(word)[0][0]
        assert text not in vocab, word
        vocab[text] = len(vocab)
    return vocab, merges


def byte_tokenizer(vocab, merges, family, added):
    parts, nfc, whole_words = family
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=whole_words))
    if nfc:
        tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence(parts)
    tok.decoder = decoders.ByteLevel()
    for text, special in added:
        tok.add_tokens([AddedToken(text, special=special, normalized=False)])
    return tok


def gguf_writer(name, kind):
    writer = gguf.GGUFWriter(os.path.join(DATA, name), "llama")
    writer.add_tokenizer_model(kind)
    return writer


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_ids(name, lists):
    with open(os.path.join(DATA, name + ".ids"), "w") as out:
        for ids in lists:
            out.write(" ".join(map(str, ids)) + "\n")


def escape(text):
    out = io.StringIO()
    for byte in text.encode():
        if byte < 0x20 or byte == 0x7f or byte == 0x5c:
            out.write("\\x%02x" % byte)
        else:
            out.write(chr(byte))
    return out.getvalue().encode("latin-1")


def make_bytes():
    vocab, merges = train_bytes()
    added = strings.ADDED
    tokens = [t for t, _ in sorted(vocab.items(), key=lambda item: item[1])]
    writer = gguf_writer("bytes.gguf", "gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens + [text for text, _ in added])
    writer.add_token_types([NORMAL] * len(tokens) +
                           [CONTROL if special else USER for _, special in added])
    writer.add_token_merges([" ".join(m) for m in merges])
    writer.add_bos_token_id(len(tokens))
    writer.add_eos_token_id(len(tokens))
    finish(writer)
    for name, family in FAMILIES.items():
        tok = byte_tokenizer(vocab, merges, family, added)
        write_ids(name, [tok.encode(s, add_special_tokens=False).ids
                         for s in strings.STRINGS])


def train_pieces():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(strings.TRAINING * 4), model_writer=model,
        model_type="bpe", vocab_size=1100, byte_fallback=True, split_digits=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
        add_dummy_prefix=True, allow_whitespace_only_pieces=True,
        character_coverage=0.995, minloglevel=2)
    return model.getvalue()


def hf_pieces(tokens, scores):
    """The same vocabulary as tokenizers has it, which knows special tokens in text."""
    vocab = {text: i for i, text in enumerate(tokens)}
    merges = []
    for i, text in enumerate(tokens):
        for at in range(1, len(text)):
            left, right = text[:at], text[at:]
            if left in vocab and right in vocab:
                merges.append((-scores[i], vocab[left], vocab[right], left, right))
    merges.sort()
    tok = Tokenizer(models.BPE(vocab=vocab, merges=[m[3:] for m in merges],
                               unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    for text in ("<unk>", "<s>", "</s>"):
        tok.add_special_tokens([AddedToken(text, special=True, normalized=False)])
    return tok


def make_pieces():
    model = train_pieces()
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    tokens = [p.piece for p in proto.pieces]
    scores = [p.score for p in proto.pieces]
    writer = gguf_writer("pieces.gguf", "llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types([p.type for p in proto.pieces])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    finish(writer)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    write_ids("pieces", [processor.encode(s) for s in strings.STRINGS])
    tok = hf_pieces(tokens, scores)
    write_ids("pieces-special", [tok.encode(s, add_special_tokens=False).ids
                                 for s in strings.STRINGS])


def check_real(path, out):
    fields = gguf.GGUFReader(path).fields
    def items(key):
        return fields["tokenizer.ggml." + key].contents()
    tokens, types = items("tokens"), items("token_type")
    vocab = {text: i for i, text in enumerate(tokens)}
    merges = [tuple(m.split(" ")) for m in items("merges")]
    family = FAMILIES[items("pre")]
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=family[2]))
    tok.normalizer = normalizers.NFC() if family[1] else None
    tok.pre_tokenizer = pre_tokenizers.Sequence(family[0])
    for text, kind in zip(tokens, types):
        if kind != NORMAL:
            tok.add_tokens([AddedToken(text, special=True, normalized=False)])
    with open(out, "w") as f:
        for s in strings.STRINGS:
            ids = tok.encode(s, add_special_tokens=False).ids
            f.write(" ".join(map(str, ids)) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        check_real(*sys.argv[1:])
    else:
        os.makedirs(DATA, exist_ok=True)
        with open(os.path.join(DATA, "strings.txt"), "wb") as f:
            for s in strings.STRINGS:
                f.write(escape(s) + b"\n")
        make_bytes()
        make_pieces()
