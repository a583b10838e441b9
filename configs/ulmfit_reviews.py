"""ULMFiT whole, at a small size: sentences of film reviews, positive or negative.

    python -m experiments.transfer --config=configs/ulmfit_reviews.py

Three stages (Howard & Ruder 2018, arXiv:1801.06146): a language model learns English from 100,000
sentences of many kinds, then from the reviews, whose labels it ignores, and its layers become a
classifier's, unfrozen one by one from the top. Each language model is kept in the results folder:
python -m experiments.language --run=runs/ulmfit_reviews/language/reviews --prompt="The film"

Claim: 69.0 % accuracy on test (validation 71.4 %), perplexities of 157 and 124 after the two
language models, seed 0; 8 min 23 s on 2 idle CPU cores with the texts fetched. Measured on
2026-11-29 with jax 0.10.2. MiniLM, trained on far more text, has 88.6 % (configs/reviews.py).
"""

import ml_collections

from configs import language, language_reviews, text_small


def get_config():
    config = text_small.get_config().unlock()
    config.base, config.weights = "awd_lstm_medium", "random:0"
    config.task.name = "packaged:vader_movies"
    config.size = 48  # tokens
    config.language = ml_collections.ConfigDict()
    config.language.english = english()
    config.language.reviews = language_reviews.tuned(language.get_config())
    config.language.reviews.words = 10_000
    config.language.reviews.tune.epochs = 3
    config.train_head.epochs = 2
    config.tune.learning_rate = 3e-2  # of the head; of the embedding 2.6**4 times less
    config.drop_mult = 0.5
    return config.lock()


def english():
    """A language model of many kinds of sentences, in minutes."""
    config = language.get_config()
    config.task.name = "corpus:sentences"
    config.words, config.least = 10_000, 4
    config.batch_size, config.drop_mult = 64, 0.2
    config.tune.epochs, config.tune.learning_rate = 1, 5e-3
    return config
