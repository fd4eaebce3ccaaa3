"""Plain text out of marked-up text, for tools/corpus."""
import re
import unicodedata
from collections import Counter
from html.parser import HTMLParser

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060\ufeff\ufffd]"
)


def tidy(text):
    """No control characters, no spaces at line ends, no runs of empty lines."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n"))
    text = _CONTROL.sub("", text).replace("\u00a0", " ")
    text = re.sub(r"[ \t]+\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n").rstrip()


def size(text):
    return len(text.encode())


def sample(documents, most):
    """Documents of about `most` bytes together, spread evenly over all of them."""
    documents = list(documents)
    share = min(1.0, most / max(1, sum(map(size, documents))))
    return [
        text
        for i, text in enumerate(documents)
        if int((i + 1) * share) > int(i * share)
    ]


def pack(entries, least):
    """Join short entries to documents of at least `least` bytes."""
    document = []
    for entry in entries:
        document.append(entry)
        if sum(map(len, document)) >= least:
            yield "\n\n".join(document)
            document = []
    if document:
        yield "\n\n".join(document)


def unwrap(lines):
    """Paragraphs, each on a line of its own, from lines of a book."""
    parts = "\n".join(lines).split("\n\n")
    return "\n\n".join(" ".join(part.split()) for part in parts if part.strip())


class _Page(HTMLParser):
    """The paragraphs of a page, without navigation."""

    SKIPPED_TAGS = {"head", "script", "style", "nav", "header", "footer", "aside"}
    SKIPPED_NAMES = {"docnav", "navheader", "navfooter", "toc", "list-of-tables"}
    SKIPPED_NAMES |= {"relatedtopics", "banner", "footnotes", "mediaobject"}
    BLOCKS = {"p", "div", "li", "dt", "dd", "tr", "td", "th", "table", "ul", "ol", "dl"}
    BLOCKS |= {"h1", "h2", "h3", "h4", "h5", "h6", "pre", "blockquote", "body", "br"}

    def __init__(self):
        super().__init__()
        self.paragraphs, self.words = [], []
        self.skipping, self.depth = None, 0
        self.preformatted, self.bullet = False, ""

    def flush(self):
        text = "".join(self.words)
        text = text.strip("\n") if self.preformatted else " ".join(text.split())
        self.words = []
        if text.strip():
            self.paragraphs.append(self.bullet + text)
            self.bullet = ""

    def handle_starttag(self, tag, attrs):
        if self.skipping:
            self.depth += tag == self.skipping
            return
        attrs = dict(attrs)
        names = set((attrs.get("class") or "").split()) | {attrs.get("id")}
        if tag in self.SKIPPED_TAGS or names & self.SKIPPED_NAMES:
            self.skipping, self.depth = tag, 1
        elif tag in self.BLOCKS:
            self.flush()
            self.preformatted = tag == "pre"
            self.bullet = "- " if tag == "li" else self.bullet

    def handle_endtag(self, tag):
        if self.skipping:
            self.depth -= tag == self.skipping
            if self.depth == 0:
                self.skipping = None
        elif tag in self.BLOCKS:
            self.flush()
            self.preformatted = False

    def handle_data(self, data):
        if not self.skipping:
            self.words.append(data)


def paragraphs(html):
    page = _Page()
    page.feed(html)
    page.close()
    page.flush()
    return page.paragraphs


_COMMON = {
    "en": "the of and to is that with for are this you it be by on as can not from",
    "de": "der das und ist nicht mit für werden wird ein eine zu den dem sie auf im",
    "fr": "le la les des est une un dans pour que vous du et par sur qui au avec",
}
_COMMON = {language: set(words.split()) for language, words in _COMMON.items()}


def is_language(text, language):
    """False for a passage that was left in English."""
    words = re.findall(r"\w+", text.lower())
    own = sum(word in _COMMON[language] for word in words)
    english = sum(word in _COMMON["en"] for word in words)
    return own > english if len(words) > 6 else english == 0


class Pages:
    """Documents from web pages of one language, without what all of them repeat."""

    def __init__(self, language):
        self.language = language
        self.seen = Counter()

    def is_new(self, paragraph):
        self.seen[paragraph] += 1
        return self.seen[paragraph] <= (1 if len(paragraph) > 40 else 10)

    def document(self, html):
        kept = [
            text
            for text in paragraphs(html)
            if is_language(text, self.language) and self.is_new(text)
        ]
        text = "\n\n".join(kept)
        return text if len(text) >= 300 else ""


_LEGAL = re.compile(
    r"redistribut|warrant|merchantab|copyright|permission|all rights reserved"
    r"|\(c\)|licen[sc]e|public domain",
    re.IGNORECASE,
)


def strip_notices(source):
    """C source without the comments that speak of copyright."""
    source = re.sub(
        r"/\*.*?\*/[ \t]*\n?",
        lambda m: "" if _LEGAL.search(m.group()) else m.group(),
        source,
        flags=re.DOTALL,
    )
    lines = source.split("\n")
    return "\n".join(l for l in lines if not (l.startswith("//") and _LEGAL.search(l)))
