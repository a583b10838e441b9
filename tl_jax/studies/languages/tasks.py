"""Descriptions of Debian's packages, a task a language, with the same classes and splits in all."""

import collections
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tl_jax.data.task import Task
from tl_jax.data.tasks import packaged
from tl_jax.data.tasks.text import Example, from_texts
from tl_jax.errors import UserError

TEST, VAL = 0.25, 0.1  # shares of the sources of packages


def of_config(config: Any) -> dict[str, Task]:
    """Return the task of each language: its classes are the `config.classes` largest sections, of
    each of which it has at most `config.most` packages.
    """
    found = {
        language: packaged.examples("debian_sections", language=language)
        for language in config.languages
    }
    classes = sections(found, config.classes)
    return {
        language: from_texts(
            f"descriptions_{language}",
            _chosen(examples, classes, config.most),
            duplicates="drop",
            seed=0,
        )
        for language, examples in found.items()
    }


def _chosen(examples: Sequence[Example], classes: Sequence[str], most: int) -> Iterator[Example]:
    """Yield examples of these classes, each with its split, in an order that hashes decide."""
    counts = collections.Counter()
    for one in sorted(examples, key=lambda one: (_share(one.document, "order"), one.id)):
        if one.label in classes and counts[one.label] < most:
            counts[one.label] += 1
            yield one._replace(split=split_of(one.document))


def split_of(source: str) -> str:
    """Return the split that the packages of a source are in, whatever their language."""
    share = _share(source, "split")
    return "test" if share < TEST else "val" if share < TEST + VAL else "train"


def _share(source: str, purpose: str) -> float:
    """Return a number from 0 to 1 that is as good as random, and the same for the same source."""
    digest = hashlib.sha256(f"{purpose} {source}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def sections(found: Mapping[str, Sequence[Example]], count: int) -> list[str]:
    """Return the sections that have most sources in the language where each has fewest."""
    sources = [
        collections.Counter(label for label, _ in {(one.label, one.document) for one in examples})
        for examples in found.values()
    ]
    fewest = {label: min(one[label] for one in sources) for label in sources[0]}
    known = sorted((label for label, n in fewest.items() if n), key=lambda one: (-fewest[one], one))
    if len(known) < count:
        raise UserError(f"{len(known)} sections are in all languages: take classes= of them")
    return known[:count]


def together(tasks: Mapping[str, Task]) -> Task:
    """Return the texts of all languages as one task, whose classes are the languages."""
    examples = (
        Example(f"{language}/{task.ids[row]}", task.texts[row], language, split)
        for language, task in tasks.items()
        for split, rows in task.splits.items()
        for row in rows.tolist()
    )
    return from_texts("descriptions", examples, seed=0)
