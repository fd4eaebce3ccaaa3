"""The domains of tools/corpus: which packages, and how texts are got out of them."""
import gzip
import json
import os
import re
import struct
import subprocess
import tarfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Callable

import corpus_text


@dataclass
class Domain:
    name: str
    packages: list
    documents: Callable  # of {package: folder}


def files(folder, pattern):
    return sorted(path for path in folder.glob(pattern) if not path.is_symlink())


def read(path):
    return path.read_text(encoding="utf-8", errors="replace")


# Novels: a database of R, blocks of a length (4 bytes) and a zlib stream. What is in a
# block is a vector of lines, each preceded by flags and its length.


def r_lines(block):
    (count,) = struct.unpack_from(">I", block, 27)
    at = 31
    for _ in range(count):
        (length,) = struct.unpack_from(">I", block, at + 4)
        yield block[at + 8 : at + 8 + length].decode()
        at += 8 + length


def novels(folders):
    path = files(folders["r-cran-janeaustenr"], "**/data/Rdata.rdb")[0]
    data = path.read_bytes()
    while data:
        stream = zlib.decompressobj()
        lines = list(r_lines(stream.decompress(data[4:])))
        data = stream.unused_data
        starts = [i for i, line in enumerate(lines) if re.match("chapter ", line, re.I)]
        for start, end in zip([0] + starts, starts + [len(lines)]):
            text = corpus_text.unwrap(lines[start:end])
            if len(text) > 1000:  # no title pages
                yield text.replace("_", "")


# The Bible: a SWORD module. .bzz has zlib streams, .bzs where they are, .bzv where each
# verse lies in them; markup is OSIS, an XML.


def verses(stem):
    index = stem.with_suffix(".bzs").read_bytes()
    data = stem.with_suffix(".bzz").read_bytes()
    books = [
        zlib.decompress(data[at : at + length]) if length else b""
        for at, length, _ in struct.iter_unpack("<III", index)
    ]
    places = stem.with_suffix(".bzv").read_bytes()
    for book, at, length in struct.iter_unpack("<IIH", places):
        yield books[book][at : at + length].decode()


def bible(folders):
    for stem in ("ot", "nt"):
        path = files(folders["sword-text-kjv"], f"**/{stem}.bzz")[0]
        chapter = []
        for verse in verses(path):
            if "<chapter n=" in verse and chapter:
                yield "\n".join(chapter)
                chapter = []
            verse = re.sub(r"(?s)<(note|title)\b[^>]*>.*?</\1>", " ", verse)
            text = " ".join(re.sub("<[^>]*>", "", verse).replace("¶", "").split())
            if text:
                chapter.append(text)
        yield "\n".join(chapter)


# German and French: a handbook, the help of an office suite, and what else there is.


def handbook(folders, language):
    pages = corpus_text.Pages(language)
    locale = {"de": "de-DE", "fr": "fr-FR"}[language]
    for path in files(folders["debian-handbook"], f"**/html/{locale}/*.html"):
        yield pages.document(read(path))


def office_help(folders, language):
    pages = corpus_text.Pages(language)
    for path in files(folders[f"libreoffice-help-{language}"], "**/text/**/*.html"):
        if "/sbasic/" not in str(path):
            yield pages.document(read(path))


def german(folders):
    quotes = files(folders["fortunes-de"], "usr/share/games/fortunes/de/zitate")[0]
    quotes = [quote.strip() for quote in re.split("(?m)^%$", read(quotes))]
    yield from corpus_text.pack((quote.replace("\t", "") for quote in quotes), 1500)
    yield from handbook(folders, "de")
    yield from office_help(folders, "de")


def french(folders):
    pages = corpus_text.Pages("fr")
    for path in files(folders["debian-reference-fr"], "**/ch*.fr.html"):
        yield pages.document(read(path))
    yield from handbook(folders, "fr")
    yield from office_help(folders, "fr")


# C: a C library, without tables of numbers and without what is under the LGPL.


def c_source(folders):
    path = files(folders["newlib-source"], "**/newlib-*.tar.xz")[0]
    with tarfile.open(path) as archive:
        for member in archive:  # in their order: going back means unpacking anew
            name = member.name
            if not re.search(r"/lib[cm]/.*\.[ch]$", name) or "/sys/linux/" in name:
                continue
            stream = archive.extractfile(member)
            source = stream.read().decode("utf-8", "replace") if stream else ""
            digits = sum(map(str.isdigit, source))
            if digits * 8 < len(source) < 100_000:
                source = corpus_text.strip_notices(source)
                yield source if len(source) > 200 else ""


# Manual pages, as a terminal shows them, but neither justified nor hyphenated.

PAGE_SETUP = b".nh\n.de hy\n..\n.na\n.de ad\n..\n"
DASHES = str.maketrans("‐‑−‘’“”", "---''\"\"")


def manual_page(path):
    page = gzip.decompress(path.read_bytes())
    if page.startswith(b".so "):  # a page that stands for another
        return ""
    command = ["groff", "-K", "utf8", "-mandoc", "-t", "-Tutf8", "-rLL=80n"]
    command += ["-P-c", "-P-b", "-P-u", "-P-o"]
    text = subprocess.run(
        command, input=PAGE_SETUP + page, capture_output=True, check=True
    ).stdout
    lines = text.decode().translate(DASHES).rstrip().split("\n")
    return "\n".join(lines[:-1])  # the last one is the footer


def manual(folders):
    paths = []
    for folder in folders.values():
        paths += files(folder, "usr/share/man/man*/*.gz")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(manual_page, paths)


# Dictionary: WordNet. data.* has a synset a line (numbers, words, gloss), index.* says
# in which order the meanings of a word come.

PARTS = {"noun": "noun", "verb": "verb", "adj": "adjective", "adv": "adverb"}


def synsets(path):
    """Offset -> words, gloss."""
    found = {}
    for line in read(path).splitlines():
        if not line.startswith(" "):
            fields, _, gloss = line.partition(" | ")
            fields = fields.split()
            words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
            words = [re.sub(r"\(\w+\)$", "", w).replace("_", " ") for w in words]
            found[fields[0]] = words, gloss.strip()
    return found


def dictionary_entry(lemma, part, offsets, meanings):
    """A meaning is given with its first word only; the others are named."""
    lines = []
    for words, gloss in (meanings[offset] for offset in offsets):
        if words[0].lower() == lemma:
            also = f" Also: {', '.join(words[1:])}." if words[1:] else ""
            lines.append((words[0], f"{len(lines) + 1}. {gloss}.{also}"))
    if not lines:
        return ""
    return "\n".join([f"{lines[0][0]} ({PARTS[part]})"] + [text for _, text in lines])


def dictionary(folders):
    entries = []
    for number, part in enumerate(PARTS):
        folder = folders["wordnet-base"] / "usr/share/wordnet"
        meanings = synsets(folder / f"data.{part}")
        for line in read(folder / f"index.{part}").splitlines():
            if not line.startswith(" "):
                fields = line.split()
                lemma, offsets = fields[0].replace("_", " "), fields[-int(fields[2]) :]
                entry = dictionary_entry(lemma, part, offsets, meanings)
                if entry:
                    entries.append((lemma, number, entry))
    return corpus_text.pack((entry for _, _, entry in sorted(entries)), 3000)


# JSON: tables of countries, languages and currencies, and descriptions of interfaces.


def without_prose(value):
    if isinstance(value, dict):
        prose = {"documentation", "documentationUrl", "description", "comments"}
        return {k: without_prose(v) for k, v in value.items() if k not in prose}
    return [without_prose(v) for v in value] if isinstance(value, list) else value


def pieces(value, most):
    """Cut a list or object to parts of about `most` bytes each, as text."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if len(text) <= 2 * most or not isinstance(value, (dict, list)):
        yield text
    elif len(value) == 1:
        yield from pieces(*(value.values() if isinstance(value, dict) else value), most)
    else:
        items = list(value.items() if isinstance(value, dict) else value)
        count = min(len(items), len(text) // most)
        for i in range(count):
            part = items[i * len(items) // count : (i + 1) * len(items) // count]
            yield from pieces(dict(part) if isinstance(value, dict) else part, most)


def json_data(folders):
    for path in files(folders["iso-codes"], "usr/share/iso-codes/json/*.json"):
        if not path.name.startswith("schema"):
            yield from pieces(json.loads(read(path)), 3000)
    interfaces = []
    data = folders["python3-botocore"] / "usr/lib/python3/dist-packages/botocore/data"
    for service in sorted(path for path in data.iterdir() if path.is_dir()):
        newest = max(path for path in service.iterdir() if path.is_dir())
        for path in files(newest, "*.json"):
            interfaces += pieces(without_prose(json.loads(read(path))), 3000)
    yield from corpus_text.sample((t for t in interfaces if len(t) < 10_000), 3_500_000)


DOMAINS = [
    Domain("novels", ["r-cran-janeaustenr"], novels),
    Domain("bible", ["sword-text-kjv"], bible),
    Domain("german", ["fortunes-de", "debian-handbook", "libreoffice-help-de"], german),
    Domain(
        "french",
        ["debian-reference-fr", "debian-handbook", "libreoffice-help-fr"],
        french,
    ),
    Domain("c", ["newlib-source"], c_source),
    Domain("manual", ["manpages", "manpages-dev"], manual),
    Domain("dictionary", ["wordnet-base"], dictionary),
    Domain("json", ["iso-codes", "python3-botocore"], json_data),
]
