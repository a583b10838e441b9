"""Probes at every layer of EfficientNet-Lite0 on ELPV.

python -m experiments.layer_probes --config=configs/layer_probes.py
"""

from configs import defaults


def get_config():
    config = defaults.subject()
    config.weights = "pip:efficientnet-lite0"
    config.crop = 1.0
    config.task.name = "elpv"
    config.task.targets = "graded"
    config.task.val = 0.15
    config.task.test = 0.25
    config.layers = ()  # empty: every layer below the classifier
    config.pool = "mean"  # or adaptive:<most features>
    # Any of ridge, logistic, linear_svm, rbf_svm, neighbours, class_means
    config.probes = ("ridge", "logistic", "linear_svm", "rbf_svm", "neighbours", "class_means")
    # Up to 1 a share of train and val, from 2 on training examples of each class
    config.budgets = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 10.0, 100.0)
    config.seeds = (0, 1, 2, 3, 4)  # of splits and of what a budget leaves
    return config.lock()
