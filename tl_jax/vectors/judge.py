"""How good vectors of words are: similarity of pairs, analogies, neighbours."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tl_jax.data import tables
from tl_jax.data.files import path_of
from tl_jax.errors import UserError
from tl_jax.stats.intervals import of_spearman
from tl_jax.weights.vectors_file import Vectors

RESTRICTED = 300_000  # most frequent words among which an analogy's answer is looked for
MOST_BYTES = 2**26  # of a file of questions
CHUNK = 2**22  # cosines that are computed at once


class Similarity(NamedTuple):
    """How well cosines rank pairs of words as people do."""

    spearman: float
    low: float  # of its 95 % interval
    high: float
    pairs: int  # that counted
    missing: int  # pairs with a word that has no vector, which do not count


class Analogies(NamedTuple):
    """How many questions "a is to b as c is to ?" are answered right."""

    correct: int
    asked: int
    missing: int  # questions with a word that has no vector, which do not count

    @property
    def accuracy(self) -> float:
        """The share that is right; NaN of none."""
        return self.correct / self.asked if self.asked else float("nan")


class Space:
    """Vectors of length 1, found by their words: as written, else in lower case."""

    def __init__(self, vectors: Vectors):
        self.words = vectors.words
        lengths = np.linalg.norm(vectors.rows, axis=1, keepdims=True)
        self.rows = vectors.rows / np.where(lengths > 0, lengths, 1)
        self.number = {word: number for number, word in enumerate(vectors.words)}

    def find(self, word: str) -> int | None:
        """The number of a word; None of an unknown one."""
        return self.number.get(word, self.number.get(word.lower()))

    def neighbours(self, word: str, count: int = 10) -> list[tuple[str, float]]:
        """The words with the greatest cosines to this one, and these; UserError for an unknown."""
        own = self.find(word)
        if own is None:
            raise _without(word, self.words)
        cosines = self.rows @ self.rows[own]
        cosines[own] = -np.inf
        best = np.argsort(-cosines, kind="stable")[: min(count, len(cosines) - 1)]
        return [(self.words[other], float(cosines[other])) for other in best]


def require(words: Sequence[str], known: Sequence[str]) -> None:
    """UserError, with the near miss, for one of the words that is not known."""
    there = set(known)
    for word in words:
        if word not in there and word.lower() not in there:
            raise _without(word, known)


def _without(word: str, known: Sequence[str]) -> UserError:
    near = difflib.get_close_matches(word.lower(), known[:RESTRICTED], n=3)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    return UserError(f"the word {word!r:.80} has no vector: it is not among {len(known):,}{hint}")


def similarity(space: Space, path: str | Path) -> Similarity:
    """Spearman's correlation between cosines and what people said, over the pairs of a file.

    Lines have two words and a number, separated by tabs, commas or spaces; a header may stand
    before them (WordSim-353's "Word 1, Word 2, Human (mean)", SimLex-999's with the column
    "SimLex999"). Pairs with a word that has no vector do not count.
    """
    from scipy import stats

    cosines, scores, missing = [], [], 0
    for one, other, score in _pairs(path_of(path)):
        places = space.find(one), space.find(other)
        if None in places:
            missing += 1
            continue
        cosines.append(space.rows[places[0]] @ space.rows[places[1]])
        scores.append(score)
    if len(scores) < 3:
        raise UserError(f"{path}: {len(scores)} of its pairs have vectors, and 3 are needed")
    if len(set(scores)) < 2 or len(set(cosines)) < 2:
        raise UserError(f"{path}: its pairs are all equally similar, so nothing can be ranked")
    value = float(stats.spearmanr(scores, cosines).statistic)
    return Similarity(value, *of_spearman(value, len(scores)), len(scores), missing)


def _pairs(path: Path) -> Iterator[tuple[str, str, float]]:
    column = 2
    for place, (number, line) in enumerate(_lines(path)):
        fields = [field.strip() for field in re.split(r"\t|,|;", line)]
        fields = fields if len(fields) > 2 else line.split()
        if len(fields) <= column:
            raise UserError(f"{path}, line {number}, has no two words and a number: {line!r:.60}")
        score = _number(fields[column])
        if score is not None:
            yield fields[0], fields[1], score
        elif place == 0:
            lower = [field.lower() for field in fields]
            column = lower.index("simlex999") if "simlex999" in lower else column
        else:
            raise UserError(f"{path}, line {number}: {fields[column]!r:.40} is no number")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def analogies(space: Space, path: str | Path, *, most: int = RESTRICTED) -> dict[str, Analogies]:
    """How many questions of a file are answered right, by section.

    After a line ": section" a question is a line of four words, of which the last is the answer:
    the word, but for the first three, whose vector has the greatest cosine to b - a + c (3CosAdd:
    Mikolov et al. 2013, arXiv:1301.3781). Only the `most` first words, as a rule the most frequent,
    take part; questions with another word do not count.
    """
    few = min(most, len(space.words))
    found: dict[str, Analogies] = {}
    for section, questions in _sections(path_of(path)).items():
        numbers = [[space.find(word) for word in question] for question in questions]
        asked = np.array([row for row in numbers if all(n is not None and n < few for n in row)])
        correct = 0
        for part in np.array_split(asked, max(1, -(-len(asked) * few // CHUNK))):
            correct += _answered(space.rows[:few], part) if len(part) else 0
        found[section] = Analogies(correct, len(asked), len(numbers) - len(asked))
    return found


def _answered(rows: np.ndarray, asked: np.ndarray) -> int:
    """How many of the questions (Q, 4) are answered right."""
    a, b, c, d = asked.T
    cosines = (rows[b] - rows[a] + rows[c]) @ rows.T
    for given in (a, b, c):
        cosines[np.arange(len(asked)), given] = -np.inf
    return int((cosines.argmax(1) == d).sum())


def totals(found: Mapping[str, Analogies]) -> dict[str, Analogies]:
    """The sums over all sections, and over Google's two kinds: grammar's are called "gram..."."""
    kinds = {
        "semantic": [a for name, a in found.items() if not name.startswith("gram")],
        "syntactic": [a for name, a in found.items() if name.startswith("gram")],
        "all": list(found.values()),
    }
    return {
        name: Analogies(*(sum(one[place] for one in some) for place in range(3)))
        for name, some in kinds.items()
        if some
    }


def _sections(path: Path) -> dict[str, list[Sequence[str]]]:
    found: dict[str, list[Sequence[str]]] = {}
    section = ""
    for number, line in _lines(path):
        if line.startswith(":"):
            section = line[1:].strip()
            found.setdefault(section, [])
            continue
        words = line.split()
        if len(words) != 4 or section not in found:
            raise UserError(
                f"{path}, line {number}: a question is four words, below a line ': section'; got "
                f"{line!r:.60}"
            )
        found[section].append(words)
    if not any(found.values()):
        raise UserError(f"{path} has no questions")
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are neither empty nor a remark (#), with their numbers."""
    if not path.is_file():
        raise UserError(f"{str(path)!r} is no file of pairs or questions")
    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"{str(path)!r} has more than {MOST_BYTES:,} bytes")
    with path.open("rb") as file:
        for number, line in enumerate(tables.lines(file, path.name), 1):
            if line.strip() and not line.startswith("#"):
                yield number, line.strip()


def said(found: Similarity | Analogies) -> str:
    """The result in a line."""
    if isinstance(found, Analogies):
        share = f" ({100 * found.accuracy:.1f} %)" if found.asked else ""
        return f"{found.correct:,} of {found.asked:,} right{share}; {_left_out(found, 'questions')}"
    return (
        f"Spearman {found.spearman:.3f} (95 % interval {found.low:.3f} to {found.high:.3f}) over "
        f"{found.pairs:,} pairs; {_left_out(found, 'pairs')}"
    )


def _left_out(found: Similarity | Analogies, what: str) -> str:
    return f"{found.missing:,} {what} with a word that has no vector are left out"
