"""What every study of several tasks at once has in common. The other multitask configs fill it.

python -m experiments.multitask --config=configs/multitask_digits.py
"""

import ml_collections

from configs import defaults


def get_config() -> ml_collections.ConfigDict:
    config = defaults.subject()
    # Of transfers: plan, cut, from_layer, tune, batch_size, ...; the same for every method
    config.settings = ml_collections.ConfigDict()
    # single: a network a task; static: weights chosen on validation; cross_stitch: a trunk a task
    config.methods = ("single", "equal", "static", "uncertainty", "gradnorm", "pcgrad")
    config.methods += ("cross_stitch",)
    config.factors = (0.3, 3.0)  # static: each task's weight in turn times each of these
    config.alpha = 1.5  # GradNorm: how strongly tasks that learn slowly are pulled along
    config.gradnorm_rate = 0.025
    config.shared = ""  # GradNorm: the last layer that tasks share; empty: of those that learn
    config.stitched_at = ()  # cross_stitch: layers whose outputs are mixed
    config.stitch_share = 0.9  # of a mix that is a trunk's own, at first
    # cross_stitch: rates of the mixes, times that of the layers they mix; validation chooses
    config.stitch_rates = (1.0, 100.0)
    # equal: of gradient descent on one task, after which the losses of the others are looked at in
    # every step of training; 0: they are not
    config.affinity_step = 0.01
    # By the task's name (head: its own classes), the share of labels that are kept in train and val
    config.labels = ml_collections.ConfigDict()
    # By name, settings that differ: conditions that are varied one at a time
    config.variants = ml_collections.ConfigDict()
    config.compared = ("single", "equal")  # the methods that variants are examined with
    config.seeds = (0, 1, 2, 3, 4)  # splits drawn anew, each with a training of its own
    return config
