"""Digits, whether they are odd, and by how much they are turned: a small network from scratch.

    python -m experiments.multitask --config=configs/multitask_digits.py

scikit-learn's digits are turned by quarters that are drawn, so 6 and 9 are hard to tell apart.
Conditions: labels drawn at random instead of parity, a tenth of the labels of the turn, and a
smaller network. One seed shows that it runs and decides nothing; docs/beyond/several_tasks.md has
more.
"""

from configs import multitask


def get_config():
    config = multitask.get_config()
    config.base, config.weights = "alexnet_small", "random:0"
    config.task.name = "digits"
    config.task.truths = ("parity", "turned")
    config.settings.plan, config.settings.batch_size = "full", 64
    config.settings.tune = {"epochs": 6, "learning_rate": 3e-3}
    config.stitched_at = ("pool2", "pool4")
    config.variants.unrelated = {"task": {"truths": ("random(2)", "turned")}}
    config.variants.few_labels = {"labels": {"turned": 0.1}}
    config.variants.small_network = {"settings": {"cut": "conv3"}}
    config.factors = (3.0,)
    config.seeds = (0,)
    return config.lock()
