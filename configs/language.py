"""What every training of a language model has in common; no task yet."""

from configs import defaults
from tl_jax.runs import settings


def get_config():
    config = defaults.subject()
    config.task.name = ""  # empty: the texts of the transfer whose first stage this is
    del config.task.per_class  # there are no labels to count
    # awd_lstm (random:0), awd_qrnn, or what was trained before: random ones begin with the tokens
    # of the task's texts, others keep the vectors of the tokens that they know
    config.base = "awd_lstm"
    config.weights = ""
    # words (fastai's), unigram or bpe (subwords, for texts of any language). Empty: the base keeps
    # its subwords, if it has some, and `words` and `least` say nothing; else words
    config.tokens = ""
    config.words = 30_000  # tokens of the vocabulary at most; of subwords 8,000 to 15,000 are usual
    config.least = 3  # times that a word occurs in the training texts
    config.backward = False  # a new one reads from the end to the beginning; others read as before
    config.window = 70  # tokens through which gradients flow back
    config.batch_size = 32  # streams side by side
    config.factor = 1.0  # of a recurrent layer's rate over that of the one below: 2.6 in ULMFiT
    config.drop_mult = 1.0  # times every rate of dropout; less for a small model or much text
    config.ar = 2.0  # activation regularisation, and temporal
    config.tar = 1.0
    config.prompt = ""  # what the sample in the result begins with
    config.seed = 0
    config.checkpoint_seconds = 30.0
    config.tune = settings.phase_defaults("tune")
    config.tune.update({"learning_rate": 4e-3, "schedule": "one_cycle", "best_by": "val_loss"})
    return config
