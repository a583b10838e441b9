"""Solar cells (ELPV) from EfficientNet-Lite0: every family of plans at five label budgets.

    python -m experiments.scenarios --config=configs/scenarios_elpv.py
"""

from configs import scenarios

HEAD = {"train_head": {"learning_rate": "log(1e-3, 3e-2)"}}
TUNE = {"tune": {"learning_rate": "log(2e-4, 4e-3)"}}
TOP = "stage4_block1"


def get_config():
    config = scenarios.get_config()
    config.tasks.elpv = {"name": "elpv", "targets": "graded", "val": 0.2, "test": 0.25}
    config.bases.lite0 = scenarios.base("efficientnet_lite0", size=80, crop=1.0)
    config.budgets = (5, 20, 80, 200, 400)
    config.metric = "weighted_accuracy"
    config.least_steps = 60
    config.settings = {"train_head": {"epochs": 3, "learning_rate": 5e-3}, "cache_dtype": "float16"}
    config.settings.train_head.best_by = "last"
    config.settings.tune = {"epochs": 3, "schedule": "one_cycle", "weight_decay": 1e-2}
    config.settings.tune.update({"batch_norm": "batch", "views": "flips", "best_by": "last"})
    plans, plan = config.plans, scenarios.plan

    # Without training a network
    plans.pixels_svm = {"probe": "rbf_svm", "features": "pixels"}
    plans.hog_svm = {"probe": "linear_svm", "features": "hog"}
    plans.cnn_svm = {"probe": "linear_svm"}
    plans.logistic = {"probe": "logistic"}
    plans.neighbours = {"probe": "neighbours"}
    plans.class_means = {"probe": "class_means"}
    plans.head2toe = {"probe": "head2toe"}
    plans.head_only = plan("head_only", HEAD)

    # Fine-tuned: the upper half, everything, at rates by depth, from the top down, one block
    plans.top = plan("head_then_fine_tune", TUNE, from_layer=TOP)
    plans.full = plan("head_then_fine_tune", TUNE, from_layer="stem")
    plans.discriminative = plan("discriminative", TUNE, from_layer=TOP, factor=2.6)
    plans.gradual = plan("gradual_unfreezing", TUNE, from_layer=TOP, factor=2.6)
    plans.gradual.tune = {"schedule": "slanted_triangular", "epochs": 1}
    plans.middle_block = plan("one_block", TUNE, block="stage4")

    # Few parameters
    few = {"tune": {"learning_rate": "log(1e-3, 2e-2)"}}
    plans.norms_only = plan("norms_only", few)
    plans.lora = plan("adapters_only", few, adapters="lora(rank=4)")
    plans.lora.tune = {"batch_norm": "frozen"}

    # Without what was learned: only its scale, or nothing
    plans.redrawn = plan("redrawn", TUNE)
    plans.from_scratch = plan("from_scratch", TUNE)
    return config.lock()
