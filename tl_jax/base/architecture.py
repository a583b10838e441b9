"""What a network is built from, as plain values that a file can carry."""

import dataclasses
import functools
from collections.abc import Collection

from tl_jax import models
from tl_jax.chain import heads
from tl_jax.chain.deeper import with_copies
from tl_jax.chain.network import Network
from tl_jax.chain.sizes import with_sizes
from tl_jax.data.texts.preprocessing import MAX_WORDS
from tl_jax.errors import UserError, unknown
from tl_jax.weights.vectors_file import WIDEST

MAX_CLASSES = 100_000  # a model file may come from a stranger, and the classifier grows with them


@dataclasses.dataclass(frozen=True)
class Architecture:
    """An architecture of the zoo in one of its forms, whole or cut, with its own or a new head."""

    name: str
    form: str
    classes: int = 1000
    cut: str = ""  # the last layer kept; empty: all of them, the classifier included
    head: str = ""  # on top of the cut (tl_jax.chain.heads); empty: none
    dropout: float = 0.0  # of the head
    words: int = 0  # of the vocabulary, of a base that reads texts; 0: the usual ones
    features: int = 0  # of a word, of a base whose words may have any number; 0: the usual one
    # Of a base that has grown: (name, the layer below, of which it is a copy) of further layers,
    # and (path of a module, channels of its output) of those that have another number
    added: tuple[tuple[str, str], ...] = ()
    sizes: tuple[tuple[str, int], ...] = ()

    def __post_init__(self):
        for name in ("added", "sizes"):  # a file has lists
            object.__setattr__(self, name, tuple(map(tuple, getattr(self, name))))
        forms = models.family(self.name).forms(self.name)
        if self.form not in forms:
            raise unknown(f"form of {self.name}", self.form, forms)
        if not 1 <= self.classes <= MAX_CLASSES:
            raise UserError(f"classes are at least 1 and at most {MAX_CLASSES}; got {self.classes}")
        if not 0 <= self.words <= MAX_WORDS:
            raise UserError(f"words are at most {MAX_WORDS}; got {self.words}")
        if not 0 <= self.features <= WIDEST:
            raise UserError(f"features are at most {WIDEST}; got {self.features}")
        if self.head and not self.cut:
            raise UserError("a new head goes on top of a cut: name the last layer that is kept")

    def keeping(self, layers: Collection[str]) -> "Architecture":
        """The same, with what it says of these layers' growth alone."""
        added = tuple(row for row in self.added if row[0] in layers)
        sizes = tuple(row for row in self.sizes if row[0].split("/")[0] in layers)
        return dataclasses.replace(self, added=added, sizes=sizes)

    def chain(self) -> Network:
        """The layers; UserError for an unknown cut, or one that would keep the old classifier."""
        return with_sizes(self._usual(), dict(self.sizes))

    def _usual(self) -> Network:
        """The layers in their usual sizes."""
        build = functools.partial(models.family(self.name).build, self.name, self.form)
        if self.words:
            build = functools.partial(build, words=self.words)
        if self.features:
            build = functools.partial(build, features=self.features)
        if not self.cut:
            return with_copies(build(self.classes), self.added)
        whole = with_copies(build(), self.added)
        if self.head and self.cut == whole.names[-1]:
            raise UserError(
                f"a cut at {self.cut!r} would keep the old classifier; cut below it: "
                f"{whole.names[-2]!r}"
            )
        kept = whole.cut(self.cut)
        if not self.head:
            return kept
        headed = kept.with_layers(*heads.make(self.head, self.classes, dropout=self.dropout))
        return with_copies(headed, self.added)
