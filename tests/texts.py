"""Small things that read text: a tokenizer, an encoder, a task of sentences."""

import functools
import hashlib
import json
import pathlib
import tempfile

import numpy as np

from tl_jax import models
from tl_jax.base import tokenizer
from tl_jax.base.base import Base
from tl_jax.base.load import load_base
from tl_jax.data.splits import stratified
from tl_jax.data.task import Task
from tl_jax.data.tasks.arrays import unweighted
from tl_jax.data.texts.preprocessing import TextPreprocessing
from tl_jax.models import bert

PARITY = pathlib.Path(__file__).parent / "parity_text"
SIZES = {
    "bert": bert.Size(2, 16, 4, words=40, positions=8),
    "distilbert": bert.Size(2, 16, 4, words=40, positions=8, segments=False),
}
WORDS = [*tokenizer.SPECIAL, *"the a film was good bad fine dull and not very it we saw".split()]


def vocabulary(folder: pathlib.Path, words: list[str], *, lower: bool = True) -> str:
    """The tokenizer of a `vocab.txt` with these words."""
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    usual = TextPreprocessing("", 8)
    return tokenizer.beside(folder / "model.safetensors", usual).tokenizer


@functools.cache
def base() -> Base:
    """An encoder of 16 features and 2 blocks with fresh weights, and a tokenizer of 19 words."""
    with tempfile.TemporaryDirectory() as folder:
        expects = TextPreprocessing(vocabulary(pathlib.Path(folder), WORDS), 8)
    if not models.is_name("bert_of_tests"):

        @models.register_base(preprocessing=expects, rules=bert.names_of(SIZES["bert"]))
        def bert_of_tests(classes: int):
            return bert.encoder(SIZES["bert"], classes)

    return load_base("bert_of_tests", "random:0")


@functools.cache
def task() -> Task:
    """60 sentences, good or bad."""
    rng, texts, labels = np.random.default_rng(0), [], []
    for row in range(60):
        label = row % 2
        start = " ".join(
            rng.choice(["the", "a", "it", "was", "very", "we", "saw"], rng.integers(1, 5))
        )
        texts.append(f"{start} {rng.choice([['bad', 'dull'], ['good', 'fine']][label])}")
        labels.append(label)
    names = np.array(["bad", "good"])[labels]
    return Task(
        name="sentences",
        classes=("bad", "good"),
        ids=tuple(map(str, range(60))),
        texts=tuple(texts),
        truth=unweighted(labels, 2),
        splits=stratified(names, seed=0, val=0.2, test=0.2),
        fingerprint=hashlib.sha256("\n".join(texts).encode()).hexdigest(),
    )
