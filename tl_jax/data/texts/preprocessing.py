"""What a base's weights expect of a text: its tokenizer, which travels with the base."""

import dataclasses
import functools
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from tl_jax.data.task import Task
from tl_jax.data.texts import library, subwords
from tl_jax.data.texts.rules import PAD, SPECIALS, UNK, apply_rules
from tl_jax.data.texts.split import lower_words_of, tokens_of, words_of
from tl_jax.data.texts.vocabulary import ids_of
from tl_jax.errors import UserError, takes, takes_types, takes_whole, unknown

TOKENS = "tokens"  # the place that a text base's first layer reads
FASTAI, SUBWORDS = "fastai", "fastai_subwords"
# What a text goes through before the tokenizer: a split into words, which are then looked up
SPLITS = {FASTAI: tokens_of, "words": words_of, "lower_words": lower_words_of}
# or nothing, or fastai's rules alone
RULES: dict[str, Callable[[str], Any]] = {"": str, SUBWORDS: apply_rules, **SPLITS}
MAX_SIZE = 2**16  # tokens
MAX_WORDS = 10_000_000
MAX_TOKENIZER = 2**26  # bytes of JSON
STEP = 16  # tokens: lengths are rounded up to it, so that few programs serve all tasks
BATCH = 1024  # texts that are tokenized at once
KEPT = 2  # tasks of whose texts the tokens are kept
LONGEST = 128  # characters: tokens are shorter
WORD = re.compile(r"\S+")


@dataclasses.dataclass(frozen=True)
class TextPreprocessing:
    """From a text to the numbers of its tokens.

    `tokenizer` is JSON as the library `tokenizers` writes it: normalisation, split, vocabulary and
    special tokens. Of a text the first `size` tokens are kept, special ones included. Behind it
    stands the token `pad`.
    """

    tokenizer: str = dataclasses.field(repr=False)
    size: int
    pad: int = 0
    rules: str = ""  # before the tokenizer: a key of `RULES`
    backward: bool = False  # the last token first, of those that are kept

    def __post_init__(self):
        takes_types(self)
        takes_whole(self.size, "size=", 1, MAX_SIZE)
        takes_whole(self.pad, "pad=", 0, 2**31 - 1)
        if self.rules and self.rules not in RULES:
            raise unknown("rules", self.rules, RULES)
        if len(self.tokenizer) > MAX_TOKENIZER:
            raise UserError(f"a tokenizer has at most {MAX_TOKENIZER} characters of JSON")

    def __call__(self, texts: str | Sequence[str]) -> np.ndarray:
        """The tokens of one text or several: int32 (N, T), T at most `size`.

        UserError for what is no text, and where there is no tokenizer.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise UserError("no texts were given")
        for text in texts:
            takes(isinstance(text, str), "a text", "a string", text)
        rows = self._encoded([self._beginning(text) for text in texts], self.size)
        longest = max(1, *map(len, rows))
        length = min(self.size, -(-longest // STEP) * STEP)
        tokens = np.full((len(rows), length), self.pad, np.int32)
        for row, found in zip(tokens, rows, strict=True):
            row[: len(found)] = found
        return tokens

    read = __call__

    def rows(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of each text, all of them: int32 (T,)."""
        return self._encoded(texts, None)

    def _encoded(self, texts: Sequence[str], most: int | None) -> list[np.ndarray]:
        tokenizer, rows = _tokenizer(self.tokenizer, most), []
        for first in range(0, len(texts), BATCH):
            batch = texts[first : first + BATCH]
            ruled = [RULES[self.rules](text) for text in batch]
            with library.refusing("the tokenizer cannot read the texts"):
                encodings = tokenizer.encode_batch(ruled, is_pretokenized=self.rules in SPLITS)
            rows += [np.asarray(one.ids, np.int32) for one in encodings]
        return [row[::-1] for row in rows] if self.backward else rows

    def _beginning(self, text: str) -> str:
        """The part of a text that its first tokens are in: of a long one the rest costs nothing.

        Hardly a word has no token, and none longer than `LONGEST` has one to a character.
        """
        beyond = next(itertools.islice(WORD.finditer(text), 2 * self.size, None), None)
        text = text[: beyond.start()] if beyond else text
        return text[: self.size * LONGEST]

    def words(self) -> tuple[str, ...]:
        """The vocabulary, by the numbers of its tokens; a number without a token has ""."""
        numbers = _tokenizer(self.tokenizer, None).get_vocab(with_added_tokens=True)
        most = max(numbers.values(), default=0)
        if most >= MAX_WORDS:
            raise UserError(f"a vocabulary has at most {MAX_WORDS} words; got the number {most}")
        found = [""] * (1 + most)
        for word, number in numbers.items():
            found[number] = word
        return tuple(found)

    def spans(self, text: str) -> tuple[str, list[tuple[int, int]]]:
        """The text, and where in it each of its tokens begins and ends, in the order in which the
        base reads them; special ones are empty.

        After rules that write a text anew it is that one; words have a space between them.
        """
        shown, spans = self._spans(text)
        return shown, spans[::-1] if self.backward else spans

    def _spans(self, text: str) -> tuple[str, list[tuple[int, int]]]:
        if self.rules in SPLITS:
            tokens = SPLITS[self.rules](self._beginning(text))[: self.size]
            ends = np.cumsum([len(token) + 1 for token in tokens]).tolist()
            spans = [(end - 1 - len(t), end - 1) for t, end in zip(tokens, ends, strict=True)]
            return " ".join(tokens), spans
        shown = RULES[self.rules](self._beginning(text)) if self.rules else text
        encoding = _tokenizer(self.tokenizer, self.size).encode(self._beginning(shown))
        return shown, [_without_space(shown, *span) for span in encoding.offsets]

    def normalise(self, tokens: Any) -> Any:
        """The tokens as they are: layers read whole numbers."""
        return tokens

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """What the network reads of one text, as a shape."""
        return jax.ShapeDtypeStruct((1, self.size), np.int32)

    def resized(self, size: int | None = None, crop: float | None = None) -> "TextPreprocessing":
        """The same for texts of at most `size` tokens; UserError for a crop."""
        if crop is not None:
            raise UserError("a text is not cropped: leave crop= out, and say size= in tokens")
        return dataclasses.replace(self, size=self.size if size is None else size)

    def with_channels(self, channels: int) -> "TextPreprocessing":
        """UserError: a text has none."""
        raise UserError("a text has no channels: leave channels= out")

    def require(self, who: str, tokens: Any) -> None:
        """UserError unless these are numbers of tokens (N, T)."""
        if tokens.ndim != 2 or not np.issubdtype(tokens.dtype, np.integer) or not len(tokens):
            raise UserError(
                f"{who} takes the numbers of tokens, int32 (N, T); got {tokens.dtype} "
                f"{tokens.shape}: base.preprocessing takes texts"
            )

    def described(self) -> dict[str, Any]:
        """Its fields, as JSON-able data; of the tokenizer a hash."""
        digest = hashlib.sha256(self.tokenizer.encode()).hexdigest()[:16]
        return dataclasses.asdict(self) | {"tokenizer": digest}

    def of_task(self, task: Task) -> tuple["TextPreprocessing", Task]:
        """This preprocessing, and the task with the tokens of its texts.

        UserError for a task without texts.
        """
        if not task.texts:
            raise UserError(f"the base reads texts, and the task {task.name!r} has none")
        key = hashlib.sha256(f"{task.fingerprint} {self.fingerprint()}".encode()).hexdigest()
        arrays = {**task.arrays, TOKENS: _tokens(self, tuple(task.texts))}
        return self, dataclasses.replace(task, arrays=arrays, fingerprint=key)

    def padded(self, task: Task, length: int) -> Task:
        """The task, which `of_task` gave, with at least `length` tokens a text."""
        tokens = task.arrays[TOKENS]
        if (more := length - tokens.shape[1]) <= 0:
            return task
        wider = np.pad(tokens, ((0, 0), (0, more)), constant_values=self.pad)
        key = hashlib.sha256(f"{task.fingerprint} {length}".encode()).hexdigest()
        return dataclasses.replace(task, arrays={**task.arrays, TOKENS: wider}, fingerprint=key)

    def fingerprint(self) -> str:
        """A hash that two preprocessings share only if they give the same tokens."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self)).encode()).hexdigest()


def of_words(words: Sequence[str], *, size: int) -> TextPreprocessing:
    """The preprocessing of a model of fastai's with this vocabulary, by the words' numbers."""
    model = {"type": "WordLevel", "vocab": ids_of(words), "unk_token": UNK}
    parts = ("added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    described = {"version": "1.0", **dict.fromkeys(parts), "added_tokens": [], "model": model}
    return TextPreprocessing(json.dumps(described), size, SPECIALS.index(PAD), "fastai")


def of_subwords(texts: Iterable[str], *, size: int, **options: Any) -> TextPreprocessing:
    """The preprocessing of a model of fastai's with pieces that are learned from these texts.

    `options` are those of `tl_jax.data.texts.subwords.trained`.
    """
    return TextPreprocessing(
        subwords.trained(texts, **options), size, SPECIALS.index(PAD), SUBWORDS
    )


def _without_space(text: str, start: int, stop: int) -> tuple[int, int]:
    """The span without the spaces that it begins with: of a piece they are a part."""
    return stop - len(text[start:stop].lstrip()), stop


@functools.lru_cache(maxsize=KEPT)
def _tokens(expects: TextPreprocessing, texts: tuple[str, ...]) -> np.ndarray:
    """The tokens of a task's texts, once a process: each stage and seed of a study asks for them.

    They cannot be written to, as others hold them too.
    """
    tokens = expects(texts)
    tokens.flags.writeable = False
    return tokens


@functools.lru_cache(maxsize=8)
def _tokenizer(described: str, size: int | None) -> Any:
    if not described:
        raise UserError("this base has no tokenizer: load weights that come with one")
    found = library.read(described)
    # What a file says of length and padding is its author's; ours are `size` and `pad`.
    found.no_padding()
    if size is None:
        found.no_truncation()
    else:
        found.enable_truncation(size)
    return found
