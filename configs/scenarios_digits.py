"""A small study of scenarios: scikit-learn's digits, from EfficientNet-Lite0 at 32 pixels.

    python -m experiments.scenarios --config=configs/scenarios_digits.py

Plans are called as in configs/scenarios_elpv.py, so that `experiments.advise` reads both tables.
"""

from configs import scenarios

RATE = {"train_head": {"learning_rate": "log(1e-3, 3e-2)"}}
TUNE = {"tune": {"learning_rate": "log(3e-4, 1e-2)"}}


def get_config():
    config = scenarios.get_config()
    config.tasks.digits = {"name": "digits", "val": 0.2, "test": 0.25}
    config.bases.lite0 = scenarios.base("efficientnet_lite0", size=32, crop=1.0)
    config.budgets = (5, 20)
    config.settings = {"cut": "stage3_block2", "train_head": {"epochs": 5}, "batch_size": 32}
    config.settings.tune = {"epochs": 5, "batch_norm": "batch"}
    config.plans.pixels_svm = {"probe": "rbf_svm", "features": "pixels"}
    config.plans.logistic = {"probe": "logistic", "layer": "stage3_block2"}
    config.plans.head_only = scenarios.plan("head_only", RATE)
    config.plans.top = scenarios.plan(
        "head_then_fine_tune", RATE | TUNE, from_layer="stage2_block1"
    )
    config.plans.from_scratch = scenarios.plan("from_scratch", TUNE)
    return config.lock()
