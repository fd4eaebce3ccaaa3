#!/usr/bin/env python3
"""Make the folders of the import tests: tests/text/data/folders/NAME/.

    make_imports.py [FOLDER]   the ids themselves go to FOLDER, as NAME.ids

Each holds a small vocabulary in the form in which a family of models is published
(normalizer, pre-tokenizer, model and post-processor as in the family's files), trained on
the text in strings.py, and checksums of the ids of strings.txt by the library that the
form belongs to. No vocabulary is a published one.

Made with tokenizers 0.23.3, sentencepiece 0.2.3, tiktoken 0.14.0.
"""

import base64
import io
import json
import os
import sys
import tempfile

import sentencepiece
import tiktoken
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)

import make_tokenizers as families
import strings
from make_tokenizers import digits, gpt2_words, raw_bytes, split

FOLDERS = os.path.join(families.DATA, "folders")
MARK = "\u2581"

LLAMA3 = (families.CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*" + families.SPACES)
NO_HAN = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
KIMI = (r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?" + NO_HAN[0] + "*" + NO_HAN[1] + "+"
        + families.CONTRACTION + r"?|[^\r\n\p{L}\p{N}]?" + NO_HAN[0] + "+" + NO_HAN[1]
        + "*" + families.CONTRACTION + r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        + families.SPACES)
EXAONE = (families.CONTRACTION
          + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+")
FALCON = [pre_tokenizers.Punctuation("contiguous"), gpt2_words(),
          pre_tokenizers.Digits(individual_digits=False)] + split("[0-9][0-9][0-9]")

# name: pre-tokenizers, normalizer, whole words, the name that GGUF has for it
BYTES = {name: (family[0], normalizers.NFC() if family[1] else None, family[2], name)
         for name, family in families.FAMILIES.items()
         if name in ("smollm", "qwen2", "llama-bpe", "gpt-4o", "tekken", "bailingmoe",
                     "deepseek-llm", "deepseek-coder", "deepseek-v3", "seed-coder",
                     "olmo", "qwen35")}
BYTES.update({
    "dbrx": (split(LLAMA3) + [raw_bytes()], None, False, "dbrx"),
    "falcon": (FALCON, None, False, "falcon"),
    "kimi-k2": (split(KIMI) + [raw_bytes()], None, True, "kimi-k2"),
    "superbpe": (split(r"\p{N}+", r"(?=(\d{3})+(?!\d))") + [raw_bytes()], None, False,
                 "superbpe"),
    "exaone-moe": (split(EXAONE) + [raw_bytes()], None, False, "exaone-moe"),
    # what no name of GGUF stands for
    "roberta": ([pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)], None,
                False, "junto"),
    "bloom": (split(r" ?[^(\s|[.,!?…。，、।۔،])]+") + [raw_bytes()], None, False, "junto"),
    "llama3-nfc": (split(LLAMA3) + [raw_bytes()], normalizers.NFC(), True, "junto"),
    "odd": ([pre_tokenizers.Split(" ", "merged_with_next"),
             pre_tokenizers.Split(Regex(r"[.,]+"), "merged_with_previous"),
             pre_tokenizers.Split(Regex("[a-c]"), "contiguous"),
             pre_tokenizers.Split(Regex(r"\w+"), "merged_with_next", invert=True),
             pre_tokenizers.Split("\n", "removed"), raw_bytes()],
            normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(),
                                  normalizers.Lowercase(), normalizers.Strip(),
                                  normalizers.Replace(Regex("e{2,}"), "<e>"),
                                  normalizers.Replace("th", "þ")]), False, "junto"),
})


def added(tok, more=()):
    for text, special in strings.ADDED:
        tok.add_tokens([AddedToken(text, special=special, normalized=False)])
    for text, flags in more:
        tok.add_tokens([AddedToken(text, normalized=False, **flags)])


def template(tok, single, *names):
    tok.post_processor = processors.TemplateProcessing(
        single=single, pair=single + " " + single.replace("$A", "$B"),
        special_tokens=[(name, tok.token_to_id(name)) for name in names])


def write(name, ids, **files):
    folder = os.path.join(FOLDERS, name)
    os.makedirs(folder, exist_ok=True)
    for file, content in files.items():
        path = os.path.join(folder, file.replace("__", "."))
        with open(path, "wb") as f:
            f.write(content if isinstance(content, bytes) else content.encode())
    with open(os.path.join(folder, "sums"), "w") as f:
        f.write("".join("%08x\n" % checksum(line) for line in ids))
    if len(sys.argv) == 2:
        with open(os.path.join(sys.argv[1], name + ".ids"), "w") as f:
            f.write("".join(" ".join(map(str, line)) + "\n" for line in ids))


def checksum(ids):
    """FNV-1a of 32 bits over the ids: the lists themselves would be a megabyte."""
    h = 0x811c9dc5
    for i in ids:
        h = (h ^ i) * 0x01000193 & 0xffffffff
    return h


def write_json(name, tok, config=None, **files):
    if config:
        files["tokenizer_config__json"] = json.dumps(config, indent=1)
    write(name, [tok.encode(s).ids for s in strings.STRINGS],
          tokenizer__json=json.dumps(json.loads(tok.to_str()), ensure_ascii=False,
                                     separators=(",", ":")), **files)


def small_bytes():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = raw_bytes()
    tok.train_from_iterator(strings.TRAINING, trainers.BpeTrainer(
        vocab_size=560, show_progress=False, max_token_length=12,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    model = json.loads(tok.to_str())["model"]
    vocab = model["vocab"]
    for word in strings.WHOLE_WORDS:
        vocab[raw_bytes().pre_tokenize_str(word)[0][0]] = len(vocab)
    return vocab, [tuple(m) for m in model["merges"]]


def make_bytes():
    vocab, merges = small_bytes()
    for name, (parts, normalizer, whole, _) in BYTES.items():
        tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=whole))
        tok.normalizer = normalizer
        tok.pre_tokenizer = (parts[0] if len(parts) == 1
                             else pre_tokenizers.Sequence(parts))
        tok.decoder = decoders.ByteLevel()
        added(tok)
        if name == "llama-bpe":
            template(tok, "<|endoftext|> $A", "<|endoftext|>")
        if name == "roberta":
            tok.post_processor = processors.RobertaProcessing(
                ("<|im_end|>", tok.token_to_id("<|im_end|>")),
                ("<|endoftext|>", tok.token_to_id("<|endoftext|>")))
        if name == "dbrx":
            template(tok, "<|im_start|> <|endoftext|> $A <|im_end|>", "<|im_start|>",
                     "<|endoftext|>", "<|im_end|>")
        write_json(name, tok, {"eos_token": "<|im_end|>", "bos_token": "<|endoftext|>"})


def fallback_bpe(normalizer, parts):
    """The model of Llama 2, Gemma, Mistral and Phi-3 as the tokenizers library has it."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(strings.TRAINING * 4), model_writer=model,
        model_type="bpe", vocab_size=620, byte_fallback=True, split_digits=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, character_coverage=0.98, minloglevel=2)
    sp = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    tokens = [sp.id_to_piece(i) for i in range(sp.get_piece_size())]
    tok = families.hf_pieces(tokens, [sp.get_score(i) for i in range(len(tokens))])
    tok.normalizer = normalizer
    tok.pre_tokenizer = parts
    return tok


def make_fallback():
    prepend = normalizers.Sequence([normalizers.Prepend(MARK),
                                    normalizers.Replace(" ", MARK)])
    def metaspace(scheme, cut):
        return pre_tokenizers.Metaspace(MARK, scheme, cut)
    cases = {
        "llama-2": (prepend, None),
        "gemma": (normalizers.Replace(" ", MARK),
                  pre_tokenizers.Split(" ", "merged_with_previous")),
        "mistral": (None, metaspace("first", False)),
        "metaspace": (None, metaspace("always", True)),
    }
    for name, (normalizer, parts) in cases.items():
        tok = fallback_bpe(normalizer, parts)
        added(tok, [("<|user|>", {"special": True, "rstrip": True}),
                    ("<|mid|>", {"special": True, "lstrip": True, "rstrip": True}),
                    ("fox", {"special": False, "single_word": True})])
        template(tok, "<s> $A", "<s>")
        write_json(name, tok, {"bos_token": "<s>", "eos_token": {"content": "</s>"},
                               "unk_token": "<unk>", "pad_token": None})


def charsmap_rules():
    """A small table instead of nmt_nfkc, which has 200 KB."""
    pairs = [(c, " ") for c in "\t\n\r\u00a0\u2028\u3000\u2003\u180e\u200b"]
    pairs += [("ﬁ", "fi"), ("ﬂ", "fl"), ("½", "1⁄2"), ("²", "2"), ("Ⅻ", "XII"),
              ("ǅ", "Dž"), ("…", "..."), ("\u00ad", ""), ("\u200d", ""),
              ("e\u0301", "é"), ("a\u0301", "á"), ("a\u030a", "å"), ("A\u030a", "Å"),
              ("\u1100\u1161", "가"), ("e\u0323\u0301", "ẹ́"), ("\u212b", "Å")]
    pairs += [(chr(0xff01 + i), chr(0x21 + i)) for i in range(94)]
    def codes(text):
        return " ".join("%04X" % ord(c) for c in text)
    return "".join("%s\t%s\n" % (codes(a), codes(b)) for a, b in pairs)


def train_sentencepiece(kind, **options):
    model = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        rules.write(charsmap_rules())
        rules.flush()
        if options.pop("rules", False):
            options["normalization_rule_tsv"] = rules.name
        else:
            options["normalization_rule_name"] = "identity"
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(strings.TRAINING * 4), model_writer=model,
            model_type=kind, minloglevel=2, **options)
    return model.getvalue()


def make_sentencepiece():
    cases = {
        "spm-bpe": dict(kind="bpe", vocab_size=700, byte_fallback=True,
                        remove_extra_whitespaces=False, character_coverage=0.98,
                        allow_whitespace_only_pieces=True),
        "spm-bpe-rules": dict(kind="bpe", vocab_size=700, rules=True,
                              character_coverage=0.999),
        "spm-bpe-bare": dict(kind="bpe", vocab_size=700, byte_fallback=True,
                             add_dummy_prefix=False, character_coverage=0.98,
                             remove_extra_whitespaces=False),
        "spm-unigram": dict(kind="unigram", vocab_size=500, rules=True,
                            character_coverage=0.99),
        "spm-unigram-bytes": dict(kind="unigram", vocab_size=600, byte_fallback=True,
                                  character_coverage=0.98,
                                  remove_extra_whitespaces=False),
    }
    for name, options in cases.items():
        model = train_sentencepiece(**options)
        sp = sentencepiece.SentencePieceProcessor(model_proto=model)
        write(name, [sp.encode(s) for s in strings.STRINGS], tokenizer__model=model)


def unigram(normalizer, parts):
    model = train_sentencepiece("unigram", vocab_size=500, rules=True,
                                character_coverage=0.99)
    sp = sentencepiece.SentencePieceProcessor(model_proto=model)
    vocab = [(sp.id_to_piece(i), sp.get_score(i)) for i in range(sp.get_piece_size())]
    proto = sentencepiece.sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    tok = Tokenizer(models.Unigram(vocab, unk_id=0))
    charsmap = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
    tok.normalizer = normalizers.Sequence([charsmap] + normalizer)
    tok.pre_tokenizer = parts
    tok.decoder = decoders.Metaspace()
    for text in ("<unk>", "<s>", "</s>"):
        tok.add_special_tokens([AddedToken(text, special=True, normalized=False)])
    template(tok, "$A </s>", "</s>")
    return tok


def make_unigram():
    t5 = unigram([], pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]))
    write_json("t5", t5, {"eos_token": "</s>", "unk_token": "<unk>"})
    squeeze = [normalizers.Strip(left=False, right=True),
               normalizers.Replace(Regex(" {2,}"), " ")]
    xlm = unigram(squeeze, pre_tokenizers.Metaspace())
    write_json("xlm", xlm, {"eos_token": "</s>", "unk_token": "<unk>"})


def make_words():
    for name, lower in (("bert-uncased", True), ("bert-cased", False)):
        tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tok.normalizer = normalizers.BertNormalizer(lowercase=lower)
        tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tok.train_from_iterator(strings.TRAINING, trainers.WordPieceTrainer(
            vocab_size=700, show_progress=False,
            special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
        tok.post_processor = processors.TemplateProcessing(
            single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
        tok.decoder = decoders.WordPiece()
        write_json(name, tok, {"cls_token": "[CLS]", "sep_token": "[SEP]",
                               "unk_token": "[UNK]", "pad_token": "[PAD]"})


def byte_ranks():
    """Bytes of each token of the small byte-level vocabulary, in the order of its ids."""
    vocab, _ = small_bytes()
    back = {c: b for b, c in tiktoken_alphabet().items()}
    return [bytes(back[c] for c in text)
            for text, _ in sorted(vocab.items(), key=lambda item: item[1])]


def tiktoken_alphabet():
    plain = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain},
            **{b: chr(256 + i) for i, b in enumerate(others)}}


def make_ranks():
    ranks = byte_ranks()
    specials = ["[BOS]", "[EOS]", "<|im_end|>", "<|im_start|>"]
    enc = tiktoken.Encoding("kimi", pat_str=KIMI,
                            mergeable_ranks={b: i for i, b in enumerate(ranks)},
                            special_tokens={s: len(ranks) + i
                                            for i, s in enumerate(specials)})
    lines = "".join("%s %d\n" % (base64.b64encode(b).decode(), i)
                    for i, b in enumerate(ranks))
    config = {"added_tokens_decoder": {
        str(len(ranks) + i): {"content": s, "special": True, "lstrip": False,
                              "rstrip": False, "single_word": False,
                              "normalized": False} for i, s in enumerate(specials)},
              "bos_token": "[BOS]", "eos_token": "[EOS]"}
    write("kimi-ranks", [enc.encode(s, allowed_special="all") for s in strings.STRINGS],
          tiktoken__model=lines, tokenizer_config__json=json.dumps(config, indent=1))

    pattern = families.CASED % ("", "") + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*" \
        + families.SPACES
    names = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<|im_end|>"]
    enc = tiktoken.Encoding("tekken", pat_str=pattern,
                            mergeable_ranks={b: i + 10 for i, b in enumerate(ranks)},
                            special_tokens={s: i for i, s in enumerate(names)})
    document = {
        "config": {"pattern": pattern, "num_vocab_tokens": len(ranks) + 5,
                   "default_vocab_size": len(ranks) + 10,
                   "default_num_special_tokens": 10, "version": "v7"},
        "vocab": [{"rank": i, "token_bytes": base64.b64encode(b).decode(),
                   "token_str": b.decode("utf-8", "ignore") or None}
                  for i, b in enumerate(ranks + [b"beyond" * (i + 1) for i in range(5)])],
        "special_tokens": [{"rank": i, "token_str": s, "is_control": True}
                           for i, s in enumerate(names)]}
    write("tekken-ranks", [enc.encode(s, allowed_special="all") for s in strings.STRINGS],
          tekken__json=json.dumps(document, separators=(",", ":")))


if __name__ == "__main__":
    make_bytes()
    make_fallback()
    make_sentencepiece()
    make_unigram()
    make_words()
    make_ranks()
