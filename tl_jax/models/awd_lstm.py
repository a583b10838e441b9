"""AWD-LSTM as fastai builds it: the language model of ULMFiT.

Merity et al. 2017 (arXiv:1708.02182), Howard & Ruder 2018 (arXiv:1801.06146). A classifier is the
language model, cut at its last recurrent layer, with the head `ulmfit`. A backward model is the
same network on tokens in reverse order.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tl_jax.chain.network import Network, chain
from tl_jax.chain.places import Layer, Tie
from tl_jax.chain.recurrent import LSTM, QRNN, Decode, Dropped, Embed, Transposed, recurrent
from tl_jax.chain.variables import flat, nested
from tl_jax.data.texts.preprocessing import TOKENS, TextPreprocessing
from tl_jax.errors import UserError
from tl_jax.weights.convert import Rule

READS = TOKENS
TABLE, BIAS = "embed/table", "decode/dense/bias"
WORDS = 60_000  # of fastai's vocabulary


@dataclasses.dataclass(frozen=True)
class Dropouts:
    """Rates of dropout: of words, of the embedded text's features, of features between the
    recurrent layers, of their weights from state to state, and of what comes after them.
    """

    words: float
    input: float
    hidden: float
    weights: float
    output: float

    def times(self, factor: float) -> "Dropouts":
        """Return all rates times a factor: fastai's `drop_mult`."""
        return Dropouts(**{name: rate * factor for name, rate in vars(self).items()})


# fastai's settings for a language model; those that its classifier ends up with are nearly the same
USUAL = Dropouts(words=0.02, input=0.25, hidden=0.15, weights=0.2, output=0.1)


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of the layers below decoder and classifier: fastai's."""

    words: int = 0  # of the vocabulary
    features: int = 400  # of a word, and of the last recurrent layer
    hidden: int = 1152  # of the other recurrent layers
    depth: int = 3
    pad: int | None = 1  # the token that pads
    cell: type[LSTM] | type[QRNN] = LSTM
    bptt: int = 0  # of an LSTM

    def layers(self, dropouts: Dropouts) -> tuple[Layer, ...]:
        """Return `embed`, and the recurrent layers, each after the layer of its state."""
        embed = Embed(self.words, self.features, self.pad, dropouts.words)
        layers, below = list(chain("tokens", embed=embed)), "embed"
        for number in range(1, self.depth + 1):
            name = f"{self.cell.__name__.lower()}{number}"
            features = self.hidden if number < self.depth else self.features
            rate = dropouts.input if number == 1 else dropouts.hidden
            # A QRNN's first layer sees two words at once, as in MultiFiT.
            own: dict[str, Any] = (
                {"bptt": self.bptt} if self.cell is LSTM else {"window": 1 + (number == 1)}
            )
            layers += recurrent(name, self.cell(features, rate, dropouts.weights, **own), below)
            below = name
        return tuple(layers)


VARIANTS = {
    "awd_lstm": Shape(),
    "awd_lstm_medium": Shape(features=192, hidden=384),
    "awd_lstm_small": Shape(features=64, hidden=128),
    "awd_qrnn": Shape(hidden=1552, depth=4, cell=QRNN),  # MultiFiT's (arXiv:1909.04761)
}
PUBLISHED: dict[str, dict] = {}


def language_model(shape: Shape, *, drop_mult: float = 1.0) -> Network:
    """Return the network that predicts the next token, with logits at `decode` and, below it,
    `dropped`. The decoder's kernel is the embedding, transposed (Press & Wolf 2017,
    arXiv:1608.05859).
    """
    rates = USUAL.times(drop_mult)
    top = Layer("dropped", Dropped(rates.output)), Layer("decode", Decode(shape.words))
    tie = Tie("decode/dense/kernel", ("embed",), Transposed(TABLE))
    return Network((*shape.layers(rates), *top), (tie,))


def forms(name: str) -> tuple[str, ...]:
    """Return its one form, fastai's."""
    return ("fastai",)


def build(name: str, form: str, classes: int = 0, words: int = 0) -> Network:
    """Return the language model; its classes are its words, whatever their number is said to be."""
    return language_model(dataclasses.replace(VARIANTS[name], words=words or WORDS))


def preprocessing(name: str, form: str) -> TextPreprocessing:
    """Return the preprocessing without a vocabulary, which comes with the weights."""
    return TextPreprocessing("", 400, pad=1, rules="fastai")


def rules(name: str, form: str) -> list[Rule]:
    """Return the rules for the names that `tidied` gives."""
    cell = VARIANTS[name].cell.__name__.lower()
    return [
        Rule("encoder", f"params/{TABLE}", kernel=np.asarray),
        Rule("decoder", "decode/dense"),
        Rule(r"rnn(\d)\.input", rf"{cell}\1/input"),
        Rule(r"rnn(\d)\.recurrent", rf"params/{cell}\1/recurrent_kernel"),
    ]


# Names in fastai's files of language models: those that stand for them here
_FASTAI = {
    r"0\.encoder(_dp\.emb)?\.weight": "encoder.weight",
    r"1\.decoder\.weight": "encoder.weight",
    r"1\.decoder\.bias": "decoder.bias",
    r"0\.rnns\.(\d)\.weight_hh_l0_raw": "rnn{}.recurrent.weight",
    r"0\.rnns\.(\d)\.module\.weight_hh_l0": "",  # the same, as dropout left it
    r"0\.rnns\.(\d)\.module\.weight_ih_l0": "rnn{}.input.weight",
    r"0\.rnns\.(\d)\.module\.bias_l0": "rnn{}.input.bias",
}


def tidied(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of a file of fastai's, each parameter once; others under their own names.

    The embedding is there three times: UserError unless the copies agree, because the decoder is
    tied. PyTorch's two biases are added up.
    """
    found: dict[str, np.ndarray] = {}
    names: dict[str, str] = {}
    for name, array in _with_one_bias(state).items():
        ours = _ours(name.removeprefix("model."))
        if not ours:
            continue
        if ours in found and not np.array_equal(found[ours], array):
            raise UserError(f"{names[ours]!r} and {name!r} differ: the decoder is not tied")
        found.setdefault(ours, array)
        names.setdefault(ours, name)
    return found


def _ours(name: str) -> str:
    """Return the name that stands for one of fastai's, "" for what is left out."""
    for pattern, ours in _FASTAI.items():
        if match := re.fullmatch(pattern, name):
            return ours.format(int(match[1]) + 1) if "{}" in ours else ours
    return name


def _with_one_bias(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays with the sum `bias_l0` in place of an LSTM's `bias_ih_l0`, `bias_hh_l0`."""
    one = dict(arrays)
    for name in [name for name in arrays if name.endswith(".bias_ih_l0")]:
        other = name.replace("_ih_", "_hh_")
        if other in arrays and arrays[name].shape == arrays[other].shape:
            one[name.replace("_ih_", "_")] = one.pop(name) + one.pop(other)
    return one


def match_words(variables: Any, old: Sequence[str], new: Sequence[str]) -> dict[str, Any]:
    """Return a language model's variables for the vocabulary `new`, from those for `old`.

    Words of both keep their vector and bias; new ones get the means of all old ones (ULMFiT's
    code: fastai's `match_embeds`). UserError if `old` is not the vocabulary of the variables.
    """
    leaves = flat(variables["params"])
    if len(old) != len(leaves[TABLE]):
        raise UserError(
            f"the vocabulary has {len(old)} words, and the weights are of {len(leaves[TABLE])}: "
            "take the vocabulary that came with them"
        )
    numbers = {word: number for number, word in enumerate(old)}
    rows = np.array([numbers.get(word, len(old)) for word in new])
    for path in {TABLE, BIAS} & leaves.keys():
        leaf = np.asarray(leaves[path])
        leaves[path] = np.concatenate([leaf, leaf.mean(0, keepdims=True)])[rows]
    return {**variables, "params": nested(leaves)}
