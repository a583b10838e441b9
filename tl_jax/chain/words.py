"""Heads that read words beside an image: captions of it, and texts that belong to it.

The place `words` has the numbers (N, K, T) of K captions of each image, where 0 is no word. Where
nobody hands them in there are none, so an image alone is enough for all that a base is asked.
"""

import math

import flax.linen as nn
import jax.numpy as jnp

from tl_jax import ops
from tl_jax.chain.places import Layer
from tl_jax.chain.recurrent import LSTM, Decode, Dropped, Embed, recurrent
from tl_jax.errors import takes, takes_whole

WORDS, TEXTS = "words", "texts"  # the places of a head's second input
PICTURE, EMBED, READ = "head_picture", "head_embed", "head_read"
MOST_FEATURES = 10_000
FIRST_SCALE, MOST_SCALE = 1 / 0.07, 100.0  # of cosines; CLIP's


class Nothing(nn.Module):
    """What is read where nobody hands in words or texts: zeros of the `shape`."""

    shape: tuple[int, ...]
    dtype: str

    def __call__(self):
        return jnp.zeros(self.shape, self.dtype)


class Projected(nn.Module):
    """Dropout and one dense layer on the last axis: (..., D) to (..., features)."""

    features: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x):
        x = nn.Dropout(self.dropout)(x, deterministic=not self.has_rng("dropout"))
        return nn.Dense(self.features)(x)


class Picture(nn.Module):
    """The mean over space, dropout, one dense layer: (N, H, W, C) or (N, D) to (N, features)."""

    features: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x):
        return Projected(self.features, self.dropout)(ops.mean_of_positions(x))


class Read(nn.Module):
    """What a captioner reads: the image's vector (N, D), once, then those of the words of each of
    its captions (N, K, T, D); to (N K, 1 + T, D).
    """

    def __call__(self, picture, words):
        count, (_, each, _, features) = len(picture), words.shape
        words = jnp.broadcast_to(words, (count, *words.shape[1:]))
        first = jnp.broadcast_to(picture[:, None, None], (count, each, 1, features))
        return jnp.concatenate([first, words], 2).reshape(count * each, -1, features)


class MeanOfWords(nn.Module):
    """The mean over the words of each caption: (N, K, T, D) to (N, K, D)."""

    def __call__(self, words):
        return ops.mean_of_positions(words.reshape(-1, *words.shape[2:])).reshape(
            *words.shape[:2], -1
        )


class Matched(nn.Module):
    """Unit vectors of images (N, D) and of texts (N, K, D), by name, and the learned `scale` of
    their cosines, at most `MOST_SCALE` (Radford et al. 2021, arXiv:2103.00020, 2.3 and 2.5).
    """

    @nn.compact
    def __call__(self, image, text):
        log = self.param("log_scale", nn.initializers.constant(math.log(FIRST_SCALE)), ())
        scale = jnp.exp(jnp.minimum(log, math.log(MOST_SCALE)))
        return {"image": ops.unit(image), "text": ops.unit(text), "scale": scale}


def show_and_tell(classes: int, dropout: float, features: int = 256) -> tuple[Layer, ...]:
    """Return the captioner of Vinyals et al. 2015 (arXiv:1411.4555): an LSTM of `features` that
    reads the image first, and then the words; at `head` are logits of the next word, (N K, 1 + T,
    classes). The first are what comes after the image, which no caption has.
    """
    takes_whole(features, "show_and_tell: features", 1, MOST_FEATURES)
    return (
        Layer(PICTURE, Picture(features)),
        Layer(WORDS, Nothing((1, 1, 1), "int32"), ()),
        Layer(EMBED, Embed(classes, features, 0), (WORDS,)),
        Layer(READ, Read(), (PICTURE, EMBED)),
        *recurrent("head_lstm", LSTM(features, dropout), READ),
        Layer("head_dropped", Dropped(dropout), ("head_lstm",)),
        Layer("head", Decode(classes)),
    )


def pair(
    classes: int, dropout: float, features: int = 128, text: int = 0
) -> tuple[Layer, ...]:
    """Return two projections to `features` that may be compared, of images and of their texts.

    `text`: the width of texts' vectors, which an encoder gives; 0: a text is the mean of the
    vectors of its words, which are learned.
    """
    takes_whole(features, "pair: features", 1, MOST_FEATURES)
    takes(isinstance(text, int) and text >= 0, "pair: text", "a width, or 0 for words", text)
    words = (
        Layer(WORDS, Nothing((1, 1, 1), "int32"), ()),
        Layer(EMBED, Embed(classes, features, 0), (WORDS,)),
        Layer(TEXTS, MeanOfWords(), (EMBED,)),
    )
    given = (Layer(TEXTS, Nothing((1, 1, text), "float32"), ()),)
    return (
        Layer(PICTURE, Picture(features, dropout)),
        *(given if text else words),
        Layer("head_text", Projected(features, dropout), (TEXTS,)),
        Layer("head", Matched(), (PICTURE, "head_text")),
    )


HEADS = {f.__name__: f for f in (show_and_tell, pair)}
