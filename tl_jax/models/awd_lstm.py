"""AWD-LSTM as fastai builds it, and ULMFiT's classifier on it.

Merity et al. 2017 (arXiv:1708.02182), Howard & Ruder 2018 (arXiv:1801.06146). A language model and
a classifier share the layers below: `embed`, `lstm1`, `lstm2`, ... A backward model is the same
network on tokens in reverse order.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from tl_jax.chain.network import Network, chain
from tl_jax.chain.places import Layer, Tie
from tl_jax.chain.variables import flat, nested
from tl_jax.errors import UserError
from tl_jax.models.recurrent import (
    LSTM,
    QRNN,
    Decode,
    Dropped,
    Embed,
    NormDense,
    SequencePool,
    Transposed,
    recurrent,
)
from tl_jax.weights import convert

TABLE, BIAS = "embed/table", "decode/dense/bias"


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


# fastai's settings
LANGUAGE_MODEL = Dropouts(words=0.02, input=0.25, hidden=0.15, weights=0.2, output=0.1)
CLASSIFIER = Dropouts(words=0.05, input=0.4, hidden=0.3, weights=0.5, output=0.4)


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of the layers below decoder and classifier: fastai's."""

    words: int  # of the vocabulary
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


def language_model(shape: Shape, *, drop_mult: float = 1.0) -> Network:
    """Return the network that predicts the next token, with logits at `decode` and, below it,
    `dropped`. The decoder's kernel is the embedding, transposed (Press & Wolf 2017,
    arXiv:1608.05859).
    """
    rates = LANGUAGE_MODEL.times(drop_mult)
    top = Layer("dropped", Dropped(rates.output)), Layer("decode", Decode(shape.words))
    tie = Tie("decode/dense/kernel", ("embed",), Transposed(TABLE))
    return Network((*shape.layers(rates), *top), (tie,))


def classifier(shape: Shape, classes: int, *, drop_mult: float = 0.5) -> Network:
    """Return ULMFiT's classifier: the layers of a language model, pooling, `head_hidden`, `head`.

    Its variables are a trained language model's where the names are the same.
    """
    rates = CLASSIFIER.times(drop_mult)
    return Network((*shape.layers(rates), *head(classes, dropout=rates.output)))


def head(classes: int, *, dropout: float = 0.2, hidden: int = 50) -> tuple[Layer, ...]:
    """Return ULMFiT's head, on the last recurrent layer: last step, maximum and mean, then twice
    batch norm, dropout and a dense layer.
    """
    return (
        Layer("pool", SequencePool()),
        Layer("head_hidden", NormDense(hidden, dropout, jax.nn.relu)),
        Layer("head", NormDense(classes, 0.1)),
    )


def from_fastai(arrays: Mapping[str, np.ndarray], network: Network) -> dict[str, Any]:
    """Return variables of a `language_model` with LSTMs from the arrays of a file of fastai's.

    The embedding is there three times: UserError unless the copies agree, because the decoder is
    tied. PyTorch's two biases are added up. UserError, which lists both sides, unless names and
    shapes are the network's.
    """
    found = convert.Found({}, {}, [], [])
    for name, array in _with_one_bias(arrays).items():
        path, converted = _from_fastai(name.removeprefix("model."), array)
        if path is None:
            found.surplus.append(name)
        elif not path:
            found.aside.append(name)
        elif path not in found.arrays:
            found.arrays[path], found.names[path] = converted, name
        elif not np.array_equal(found.arrays[path], converted):
            raise UserError(f"{found.names[path]!r} and {name!r} differ: the decoder is not tied")
    tokens = jax.ShapeDtypeStruct((1, 1), np.int32)
    return convert.fill(found, network.shapes({"tokens": tokens})[0])


# Names in fastai's files of language models: paths here, with the number of the recurrent layer
_FASTAI = {
    r"0\.encoder(_dp\.emb)?\.weight": TABLE,
    r"1\.decoder\.weight": TABLE,
    r"1\.decoder\.bias": BIAS,
    r"0\.rnns\.(\d)\.weight_hh_l0_raw": "lstm{}/recurrent_kernel",
    r"0\.rnns\.(\d)\.module\.weight_hh_l0": "",  # the same, as dropout left it
    r"0\.rnns\.(\d)\.module\.weight_ih_l0": "lstm{}/input/kernel",
    r"0\.rnns\.(\d)\.module\.bias_l0": "lstm{}/input/bias",
}


def _from_fastai(name: str, array: np.ndarray) -> tuple[str | None, np.ndarray]:
    """Return the path of an array of fastai's and the array as it is here.

    The path is "" for what is left out, and None for an unknown name. The gates have one order.
    """
    for pattern, path in _FASTAI.items():
        if match := re.fullmatch(pattern, name):
            layer = int(match[1]) + 1 if "{}" in path else 0
            full = path and f"params/{path.format(layer)}"
            return full, array.T if path.endswith("kernel") else array
    return None, array


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
