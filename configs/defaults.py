"""Every setting of a transfer run. `tl_jax.runs.settings` and `tl_jax.plans.plan.Settings` define
and explain them; the other configs change what they need.
"""

import ml_collections

from tl_jax.runs import settings


def subject() -> ml_collections.ConfigDict:
    """A base and a task: what every experiment is about."""
    config = ml_collections.ConfigDict()
    config.base = "efficientnet_lite0"  # any that `python -m experiments.describe --all` lists
    # A weight file, torchvision:..., timm:..., keras:..., pip:... or random:<seed>; empty: the
    # first that this base has by name
    config.weights = ""
    config.size = 0  # input in pixels; 0: the weights' own
    config.crop = 0.0  # central part of the image that is used; 0: the weights' own
    config.channels = 0  # of the images; 0: the weights' own, else the stem is adapted

    config.task = ml_collections.ConfigDict()
    # elpv, folder, table, digits, rendered, packaged:mnist or tfds:<name>; without labels: images;
    # of texts: text, text_folder or packaged:<name>
    config.task.name = "folder"
    config.task.path = ""  # folder, text_folder: one sub-folder a class; table, text: a table
    config.task.image = ""  # table: column of the files (default: image)
    config.task.text = ""  # text: column of the texts (default: text); tfds: feature of them
    config.task.label = ""  # table, text, tfds: column or feature of the classes (default: label)
    # table: instead of a class any of several labels: a column of names with `separator` (default:
    # ;) between them, or columns of 1 and 0; or numbers, columns of them
    config.task.labels = ()
    config.task.separator = ""
    config.task.numbers = ()
    config.task.further = ()  # table: columns of other classes, which truths= may name
    config.task.order = ()  # table: of the classes, where they are ranks; empty: sorted
    config.task.group = ""  # table: column of what stays in one split, such as patients
    config.task.split = ""  # table: column that says train, val or test
    config.task.root = ""  # table: folder of the files; empty: the table's own
    config.task.document = ""  # text: column of the documents that the texts are parts of
    config.task.language = ""  # packaged:debian_sections: en (default), de, fr or es
    config.task.data_dir = ""  # tfds: where it was prepared
    config.task.targets = ""  # elpv: graded, soft or plain
    config.task.on_unreadable = ""  # folder, table: stop (default) or skip
    # folder, table, and of texts: keep (default) or drop, of files and texts that are the same
    config.task.duplicates = ""
    config.task.only = ()  # the classes that are kept; empty: all
    # further classifications of the same examples, for several tasks at once: parity, random(2),
    # turned; elpv: cell, confidence; table: those of `further`
    config.task.truths = ()
    config.task.folds = 0  # of a cross-validation over all examples (experiments.folds); 0: none
    config.task.fold = 0  # which of them is tested, from 0
    config.task.tile = 0  # side in pixels of tiles that images are cut into; 0: they stay whole
    config.task.val = 0.15  # share of the examples, where the data have no such split themselves
    config.task.test = 0.15
    config.task.per_class = 0  # label budget: training examples a class, val in proportion; 0: all

    config.cache = ".cache"  # folder of what is computed once: pixels, features; empty: none
    return config


def get_config() -> ml_collections.ConfigDict:
    config = subject()
    # Language models that are trained first, by name (configs/ulmfit_reviews.py)
    config.language = ml_collections.ConfigDict()
    for name, value in settings.defaults().items():
        is_phase = isinstance(value, dict)
        config[name] = ml_collections.ConfigDict(value) if is_phase else value
    return config.lock()
