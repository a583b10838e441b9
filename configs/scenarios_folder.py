"""A folder of your own images from EfficientNet-Lite 0, 1 and 2: which plan, from which base?

    python -m experiments.scenarios --config=configs/scenarios_folder.py \
        --config.tasks.images.path=my_photos
"""

from configs import scenarios

HEAD = {"train_head": {"learning_rate": "log(1e-3, 3e-2)"}}
TUNE = {"tune": {"learning_rate": "log(2e-4, 4e-3)"}}


def get_config():
    config = scenarios.get_config()
    config.tasks.images = {"name": "folder", "path": "", "val": 0.2, "test": 0.25}
    for number in range(3):
        config.bases[f"lite{number}"] = scenarios.base(f"efficientnet_lite{number}", size=96)
    config.budgets = (5, 15)
    config.least_steps = 60
    config.settings = {"train_head": {"epochs": 3, "best_by": "last"}, "cache_dtype": "float16"}
    config.settings.tune = {"epochs": 3, "schedule": "one_cycle", "batch_norm": "batch"}
    config.settings.tune.update({"views": "flip", "best_by": "last"})
    plans, plan = config.plans, scenarios.plan
    plans.pixels_svm = {"probe": "rbf_svm", "features": "pixels"}
    plans.hog_svm = {"probe": "linear_svm", "features": "hog"}
    plans.cnn_svm = {"probe": "linear_svm"}
    plans.cnn_aug_svm = {"probe": "linear_svm", "views": "crops"}
    plans.logistic = {"probe": "logistic"}
    plans.class_means = {"probe": "class_means"}
    plans.head2toe = {"probe": "head2toe"}
    plans.head_only = plan("head_only", HEAD)
    plans.top = plan("head_then_fine_tune", TUNE, from_layer="stage4_block1")
    plans.full = plan("head_then_fine_tune", TUNE, from_layer="stem")
    plans.from_scratch = plan("from_scratch", TUNE)
    return config.lock()
