"""What every study of adaptation has in common: no domains yet. The other adapt configs give them.

    python -m experiments.adapt --config=configs/adapt_digits.py

Every method is tuned by as many draws of its settings, source_only included; all end with their
last epoch, since to choose one by labels of the target would be an oracle's choice.
"""

import ml_collections

from configs import defaults


def get_config():
    config = defaults.subject()
    del config.task
    config.tasks = ml_collections.ConfigDict()  # source and target: a task's name and options
    # By name: a transfer's settings, the `space` of those that are drawn, and `start`: "base", or
    # "source_only" for methods that go on from what that method gave with the same seed and draw.
    # source_only and target_only, which has the target's labels, are references that every study
    # has.
    config.methods = ml_collections.ConfigDict()
    config.settings = ml_collections.ConfigDict()  # of all transfers, below the methods' own
    config.draws = 3  # of each method's settings
    config.seeds = (0, 1, 2, 3, 4)  # of splits, weights, orders and draws
    # What may choose among the draws; tl_jax.measure.validators says what each rewards
    config.validators = (
        "source_accuracy", "entropy", "infomax", "bnm", "snd", "iwcv", "dev", "devn", "class_ami",
        "reverse_accuracy",
    )  # fmt: skip
    config.rule = "source_accuracy"  # the one of them that verdicts are about
    return config.lock()


def method(objective: str, space: dict, **changes) -> ml_collections.ConfigDict:
    """A method: all layers learn, from the base, unless `changes` say otherwise."""
    own = {"objective": objective, "plan": "full", "start": "base"}
    return ml_collections.ConfigDict(own | changes | {"space": space})
