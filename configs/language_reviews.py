r"""A language model of English, fine-tuned on the texts of film reviews, whose labels it ignores.

    python -m experiments.language --config=configs/language_english.py
    python -m experiments.language --config=configs/language_reviews.py
    python -m experiments.transfer --config=configs/text_small.py \
        --config.base=runs/language_reviews --config.task.name=packaged:vader_movies

Howard & Ruder 2018, sections 3.1 and 3.2: each recurrent layer learns at 1 / 2.6 of the rate of the
one above, on a slanted triangular schedule.
"""

from configs import language


def get_config():
    config = language.get_config()
    config.base = "runs/language_english"
    config.task.name = "packaged:vader_movies"
    return tuned(config).lock()


def tuned(config):
    """Set how a pretrained language model is fine-tuned on a task's texts."""
    config.factor = 2.6
    config.drop_mult = 0.5
    config.batch_size = 16
    config.tune.epochs, config.tune.learning_rate = 5, 4e-3
    config.tune.schedule = "slanted_triangular"
    config.words, config.least = 15_000, 2
    return config
