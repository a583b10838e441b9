"""Vectors of the words of Python's own help, which every Python ships.

python -m experiments.words --config=configs/words_small.py
"""

from configs import words


def get_config():
    config = words.get_config()
    config.task.name = "python_help"
    for name in ("skip_gram", "glove", "fasttext"):
        config[name].dim = 50
    config.skip_gram.epochs = config.fasttext.epochs = 10
    return config
