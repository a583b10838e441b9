"""Episodes of a folder's classes, five at a time, from EfficientNet-Lite0 as it is.

    python -m experiments.few_shot --config=configs/few_shot.py --config.task.path=my_photos

Every setting of the study is here; the other few_shot configs change what they need.
"""

import ml_collections

from configs import defaults


def get_config():
    config = defaults.subject()
    # Classes on which bases are trained, and whose mean cl2n subtracts; none: no such classes
    config.base_classes = ()
    config.novel_classes = ()  # the episodes' classes; empty: all that are no base classes
    # How a base is made of the config's: settings of a transfer to the base classes (over those of
    # all trainings, `settings`), by the name that the page gives it. No settings: the base as it is
    config.trainings = ml_collections.ConfigDict({"as it is": {}})
    config.settings = ml_collections.ConfigDict()
    config.layers = ()  # whose features the methods learn from; empty: below the classifier
    config.pool = "mean"  # or adaptive:<most features>
    # nearest_mean, l2n, cl2n (needs base classes), linear (Baseline), cosine (Baseline++), and
    # fine_tune(above='stage5_block2', most=100), which trains layers in each episode; differences
    # are taken to the first
    config.methods = ("nearest_mean", "l2n", "linear", "cosine")
    config.ways = 5  # classes of an episode
    config.shots = (1, 5)  # labelled examples of each
    config.queries = 15  # examples of each to answer
    config.episodes = 600
    config.seeds = (0, 1, 2)  # of training and of the episodes; of a base as it is the first alone
    return config.lock()
