"""Captions of images, word by word: Show and Tell (Vinyals et al. 2015, arXiv:1411.4555)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.chain import words
from tl_jax.chain.network import Net
from tl_jax.chain.places import Known
from tl_jax.chain.telling import Marks, Told, told
from tl_jax.data.texts import captions as texts
from tl_jax.errors import UserError, takes, takes_whole
from tl_jax.stats import captions as stats
from tl_jax.train.objective import Loss, Now, Objective, Term

MARKS = Marks(texts.BEGIN, texts.END, (texts.UNKNOWN,))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captions(Objective):
    """Cross entropy of the next word of every caption of an image, whose words are handed in.

    Predictions are told by beam search with `beam` captions at a time (1: greedily), of which the
    best has the greatest log-probability over its length to the power `length`. `longest` is the
    number of words of the task's longest caption. Asks for a task of captions and for the head
    show_and_tell.
    """

    asks = "captions"
    chosen_by = "val_loss"
    lower = ("loss", "perplexity")
    output: str = "head"
    beam: int = 3
    length: float = 0.0
    longest: int = 20

    def __post_init__(self):
        takes_whole(self.beam, "beam=", 1, 100)
        takes(self.length >= 0, "length=", "a number from 0 on", self.length)

    @property
    def answers(self) -> str:
        """Captions that are told in this way."""
        return f"captions(beam={self.beam}, length={self.length!r}, longest={self.longest})"

    def fitted(self, task: Any) -> "Captions":
        """With the length of the longest caption."""
        return dataclasses.replace(self, longest=task.truth["words"].shape[-1] - 2)

    def check(self, problem: Any) -> None:
        """UserError for another head."""
        if words.READ not in problem.chain.names:
            raise UserError("Captions are told by a head that reads words: head=show_and_tell")

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`loss`, in nats a word."""
        log_p = self._log_p(net, batch["inputs"], train=True)
        return Loss({"loss": _nll(log_p, batch["inputs"][words.WORDS])}, memory)

    def predict(self, net: Net, batch: Any, carry: Any) -> tuple[dict[str, Any], Any]:
        """What is told (`tell`), and "of_words" (B, K, T), the log-probabilities of the words of
        the images' captions.
        """
        given = self._log_p(net, batch["inputs"], train=False)
        return {**self.tell(net, batch["inputs"])._asdict(), "of_words": given}, carry

    def brief(self) -> "Objective":
        """The objective that tells nothing: a beam search takes longer than all else."""
        return _Untold(**{one.name: getattr(self, one.name) for one in dataclasses.fields(self)})

    def tell(self, net: Net, known: Any) -> Told:
        """Captions of the images at the places `known`."""
        how = {"beam": self.beam, "length": self.length, "output": self.output}
        return told(net, known, marks=MARKS, steps=self.longest + 1, **how)

    def score(self, predictions: Any, batch: Any) -> dict[str, Term]:
        """`loss`, in nats a word."""
        return {"loss": _nll(predictions["of_words"], batch["words"], batch["real"])}

    def finish(self, predictions: Any, task: Any, examples: Any) -> dict[str, Any]:
        """`loss`, `perplexity`, and every metric of `tl_jax.stats.captions`."""
        found = super().finish(predictions, task, examples)
        said = [texts.told(row, task.classes) for row in np.asarray(predictions["words"])]
        references = [tuple(map(texts.words_in, task.captions[row])) for row in examples]
        found["perplexity"] = float(np.exp(found["loss"]))
        return found | stats.evaluate(said, references)

    def _log_p(self, net: Net, known: Any, *, train: bool) -> jax.Array:
        """The log-probability (B, K, T) of each word of the captions, after the one before it."""
        numbers = known[words.WORDS]
        read = Known({**known, words.WORDS: numbers[..., :-1]})
        logits = net(read, self.output, train=train).astype(jnp.float32)[:, 1:]
        found = jax.nn.log_softmax(logits).reshape(*read[words.WORDS].shape, -1)
        return jnp.take_along_axis(found, numbers[..., 1:, None], -1)[..., 0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Untold(Captions):
    def predict(self, net: Net, batch: Any, carry: Any) -> tuple[dict[str, Any], Any]:
        return {"of_words": self._log_p(net, batch["inputs"], train=False)}, carry


def _nll(log_p: jax.Array, numbers: jax.Array, real: Any = None) -> Term:
    """The mean of -log p (B, K, T) over the words of captions (B, K, 1 + T)."""
    weights = (numbers[..., 1:] != texts.NONE).astype(jnp.float32)
    weights = weights if real is None else weights * real[:, None, None]
    return Term(-(log_p * weights).sum(), weights.sum())
