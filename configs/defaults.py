"""Every setting of a transfer run, with what it means; the other configs change what they need."""

import ml_collections


def _phase(**changes) -> ml_collections.ConfigDict:
    phase = ml_collections.ConfigDict()
    phase.epochs = 10
    phase.learning_rate = 1e-3
    phase.optimizer = "adamw"  # adamw or sgd (Nesterov momentum 0.9)
    phase.schedule = "cosine"  # constant, cosine or one_cycle
    phase.weight_decay = 1e-4
    phase.clip = 1.0  # largest gradient norm; 0: no clipping
    phase.batch_norm = "frozen"  # of trained layers: frozen, batch or recalibrate
    phase.views = "none"  # augmentation: none, flip (2 views), flips (4), dihedral (8)
    # What the epoch is chosen by whose weights are kept: val_loss, val_accuracy,
    # val_weighted_accuracy or last
    phase.best_by = "val_loss"
    phase.patience = 0  # epochs without a better one before stopping; 0: never stop early
    phase.update(changes)
    return phase


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
    config.task.name = "folder"  # elpv, folder, digits or tfds:<name>
    config.task.path = ""  # folder: one sub-folder a class
    config.task.data_dir = ""  # tfds: where it was prepared
    config.task.targets = ""  # elpv: graded, soft or plain
    config.task.on_unreadable = ""  # folder: stop (default) or skip
    config.task.val = 0.15  # share of the examples, where the data have no such split themselves
    config.task.test = 0.15
    config.task.per_class = 0  # label budget: training examples of each class; 0: all

    config.cache = ".cache"  # folder of what is computed once: pixels, features; empty: none
    return config


def get_config() -> ml_collections.ConfigDict:
    config = subject()
    config.seed = 0  # of splits, fresh weights, order, views and dropout
    config.cut = ""  # the last layer kept; empty: the bottleneck, below the classifier

    config.head = ml_collections.ConfigDict()
    config.head.name = "linear"  # linear, zero, fc_pair or concat_pool
    config.head.dropout = 0.2

    config.plan = ml_collections.ConfigDict()
    # head_only, head_then_fine_tune, fine_tune_top, discriminative, full or from_scratch
    config.plan.name = "head_then_fine_tune"
    # The lowest layer that is unfrozen: its name, or the share of the layers below it, as in 0.3
    config.plan.from_layer = ""
    config.plan.factor = 3.0  # discriminative: how much smaller each earlier stage's rate is
    config.plan.head = _phase()
    config.plan.tune = _phase(learning_rate=1e-4)

    config.batch_size = 32
    config.test_views = "none"  # views over which the final probabilities are averaged
    config.precision = "float32"  # of activations: float32 or bfloat16
    config.parallel = "jit"  # over several devices: jit or pmap
    config.cache_dtype = "float32"  # float16 and bfloat16 take half the disk
    config.checkpoint_seconds = 30.0  # work that a kill may cost
    return config.lock()
