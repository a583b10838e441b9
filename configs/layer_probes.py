"""Probes at every layer of EfficientNet-Lite0 on ELPV, five seeds, nine label budgets.

    python -m experiments.layer_probes --config=configs/layer_probes.py

Claim: with all labels, the best layer and probe by validation is an RBF SVM on stage5_block1, which
gives 84.1 ± 0.8 % confidence-weighted accuracy on test; logistic regression on stage6_block1 gives
83.5 ± 1.0. Deitsch et al. 2019 have 82.44 with an SVM on hand-made features, and fine-tuning
(configs/elpv.py) gives 87.8. Figures are mean and deviation over the seeds, each with splits of its
own. For logistic regression, pool is 0.8 points below stage6_block1; five seeds cannot tell the two
apart.

Measured on 2026-11-28 with jax 0.10.2, scikit-learn 1.9.1. Cost, on 2026-11-26: 165 s on 2 CPU
cores, with other work beside it, once the features are there; computing them takes 50 s.
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
    config.cache_precision = "float32"  # of activations; bfloat16 is faster where it is allowed
    config.pool = "mean"  # or adaptive:<most features>
    config.views = "none"  # or flip, flips, dihedral, crops: learn from all, decide by their mean
    # Any of ridge, logistic, linear_svm, rbf_svm, neighbours, class_means
    config.probes = ("ridge", "logistic", "linear_svm", "rbf_svm", "neighbours", "class_means")
    # Up to 1 a share of train and val, from 2 on training examples of each class
    config.budgets = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 10.0, 100.0)
    config.seeds = (0, 1, 2, 3, 4)  # of splits and of what a budget leaves
    return config.lock()
