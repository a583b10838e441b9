"""Sections of Debian's packages from their descriptions in four languages.

    python -m experiments.languages --config=configs/languages.py

A small language model learns from all four languages, with one vocabulary of subwords. Classifiers
on its features, and on the subwords themselves, learn from labels in English, from few in another
language, or from both. A package is in the same split in all languages. What apt fetches is of that
day: counts change with Debian's releases.
"""

from configs import defaults, language


def get_config():
    config = defaults.subject()
    del config.task
    # the language model: random ones are trained first; one that was trained is taken as it is
    config.base, config.weights = "awd_lstm_small", "random:0"
    config.size = 64  # tokens of a text that the features are of
    config.layer = "lstm3"
    config.languages = ("en", "de", "fr", "es")  # the first is the one with many labels
    config.classes = 12
    config.most = 250  # packages of each class in a language, two thirds of them to train on
    config.budgets = (0, 1, 10, 100)  # labels a class in the other languages; all in the first
    config.seeds = (0, 1, 2, 3, 4)  # draw the labels
    config.model = language.get_config()
    for name in ("base", "weights", "size", "crop", "channels", "task", "cache"):
        del config.model[name]
    config.model.tokens, config.model.words = "unigram", 8_000
    config.model.ar, config.model.tar = 0.2, 0.1
    config.model.tune.epochs, config.model.tune.learning_rate = 2, 1e-2
    return config.lock()
