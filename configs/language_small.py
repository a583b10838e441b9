"""A small language model of the topics of Python's own help, which every Python ships.

python -m experiments.language --config=configs/language_small.py
python -m experiments.language --run=runs/language_small --prompt="The function"
"""

from configs import language


def get_config():
    config = language.get_config()
    config.base, config.weights = "awd_lstm_small", "random:0"
    config.task.name = "python_help"
    config.words, config.least = 2_000, 3
    config.window, config.batch_size = 35, 16
    config.ar, config.tar = 0.2, 0.1
    config.tune.epochs, config.tune.learning_rate = 6, 1e-2
    config.prompt = "The function"
    return config.lock()
