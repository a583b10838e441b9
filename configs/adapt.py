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


# Methods that learn from both domains at once, beside DANN, whose ceiling depends on the task
TOGETHER = (
    "class_confusion", "conditional_adversarial", "coral", "discrepancy", "feature_norm", "jan",
    "margin_disparity", "mmd", "nuclear_norm", "self_training",
)  # fmt: skip


def every(rate: dict, less: dict, *, dann: str = "domain_adversarial") -> dict:
    """Every method, for a base with batch norms; `rate` is the space of those that begin with the
    base, `less` of those that go on from the source's model.
    """
    trained = {"start": "source_only", "plan": "features_only"}
    norms = {"epochs": 1, "leaves": "(^|/)norm/(scale|bias)$"}
    recalibrated = {"epochs": 1, "batch_norm": "recalibrate"}
    return {
        "source_only": method("cross_entropy", rate),
        "target_only": method("cross_entropy", rate),
        "adabn": method("adabn", {}, start="source_only", tune=recalibrated),
        "dann": method(dann, rate),
        **{name: method(name, rate) for name in TOGETHER},
        "shot": method("shot", less, **trained),
        "adda": method("adda", less, **trained),
        "tent": method("tent", less, **trained, tune=norms),
        # TENT's own baseline: its steps without its loss, which leave the batches' statistics
        "tent_statistics": method("tent(weight=0.0)", less, **trained, tune=norms),
    }
