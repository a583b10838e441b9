"""Vectors of the words in the descriptions of Debian's packages.

    python -m experiments.words --config=configs/words.py
    python -m experiments.words --config=configs/words.py --config.method=glove --workdir=runs/glove
    python -m experiments.words --vectors=runs/words --near=editor,compiler

The descriptions are fetched once, from the machine's own Debian mirror. What is learnt is in
vectors.txt, which other programs read too, and which a classifier can begin with:
--config.base=word_vectors --config.weights=runs/words/vectors.txt.
"""

import dataclasses

from configs import defaults
from tl_jax.vectors.settings import SETTINGS


def get_config():
    config = defaults.subject()
    for name in ("base", "weights", "size", "crop", "channels"):
        del config[name]
    del config.task.per_class  # there are no labels to count
    config.task.name = "packaged:debian_sections"
    config.task.val = config.task.test = 0.05  # texts that are not learnt from
    config.method = "skip_gram"  # or glove, fasttext
    config.least = 5  # times that a word occurs
    config.words = 0  # at most, the most frequent ones; 0: all
    for name, method in SETTINGS.items():
        config[name] = dataclasses.asdict(method())
    config.shown = ()  # words whose neighbours are shown; empty: some of all frequencies
    config.maps = ("tsne",)  # of the most frequent words: tsne, umap
    config.seed = 0
    return config.lock()
