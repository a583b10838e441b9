"""Every setting of a transfer run; the other configs change some of them.

`tl_jax.runs.settings` and `tl_jax.plans.plan.Settings` define and explain the settings.
"""

import ml_collections

from tl_jax.runs import settings


def subject() -> ml_collections.ConfigDict:
    """Return the settings of a base and a task, which every experiment has."""
    config = ml_collections.ConfigDict()
    config.base = "efficientnet_lite0"  # any that `python -m experiments.describe --all` lists
    # A weight file, torchvision:..., timm:..., keras:..., pip:... or random:<seed>; empty: the
    # first published weights of this base
    config.weights = ""
    config.size = 0  # side of the input in pixels; 0: that of the weights
    config.crop = 0.0  # share of a side that the central crop keeps; 0: that of the weights
    config.channels = 0  # of the images; 0: those of the weights; otherwise the stem is adapted

    config.task = ml_collections.ConfigDict()
    config.task.name = "folder"  # elpv, folder, digits or tfds:<name>
    config.task.path = ""  # folder: with one sub-folder for each class
    config.task.data_dir = ""  # tfds: folder where it was prepared
    config.task.targets = ""  # elpv: graded, soft or plain
    config.task.on_unreadable = ""  # folder: stop (default) or skip
    config.task.duplicates = ""  # folder: keep (default) or drop identical files
    config.task.val = 0.15  # share of the examples, if the dataset does not have this split
    config.task.test = 0.15
    config.task.per_class = 0  # label budget: training examples a class, val in proportion; 0: all

    config.cache = ".cache"  # folder for stored pixels and features; empty: none
    return config


def get_config() -> ml_collections.ConfigDict:
    config = subject()
    for name, value in settings.defaults().items():
        is_phase = isinstance(value, dict)
        config[name] = ml_collections.ConfigDict(value) if is_phase else value
    return config.lock()
