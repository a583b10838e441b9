r"""Defects of solar cells in electroluminescence images (ELPV), from EfficientNet-Lite0.

Claim: 88.76 % confidence-weighted accuracy on the test split, mean of seeds 0 to 4, each with
splits of its own (standard deviation 0.74; by seed 88.51, 87.56, 89.24, 89.12, 89.35), where
Deitsch et al. 2019 have 88.42 with VGG19 fine-tuned and 82.44 with an SVM, on one split.
Test figures of seeds 0 and 4 were seen while settings were chosen; seeds 1 to 3 alone give 88.64
(docs/studies.md). Plain accuracy 84.4 ± 1.2, F1 76.6 ± 1.5, AUC 92.1 ± 1.0.

    for s in 0 1 2 3 4; do
        python -m experiments.transfer --config=configs/elpv.py \
            --workdir=runs/elpv_$s --config.seed=$s
    done
    python -m experiments.compare runs/elpv_*

Cost: 13 to 16 minutes a seed on 2 CPU cores that were not idle (two seeds ran side by side),
0.67 GB of disk. Measured on 2026-11-22 with jax 0.10.2 and flax 0.12.8.

The head is trained on the frozen base, then everything from stage 4 up at a smaller rate with
batch norm in training mode, on flips (orientation is information here: the busbars lie one way),
and the last epoch of one cycle is kept: validation loss rises with confidence before accuracy
falls. Probabilities are averaged over the four flips.
"""

from configs import defaults


def get_config():
    config = defaults.get_config()
    config.crop = 1.0
    config.task.name = "elpv"
    config.task.targets = "graded"
    config.task.val = 0.05
    config.task.test = 0.25

    config.plan.name = "head_then_fine_tune"
    config.plan.from_layer = "0.3"  # of EfficientNet-Lite0: stage4_block1
    config.plan.head.epochs = 5
    config.plan.head.learning_rate = 3e-3
    config.plan.tune.epochs = 12
    config.plan.tune.learning_rate = 1e-3
    config.plan.tune.schedule = "one_cycle"
    config.plan.tune.weight_decay = 1e-2
    config.plan.tune.batch_norm = "batch"
    config.plan.tune.views = "flips"
    config.plan.tune.best_by = "last"

    config.test_views = "flips"
    config.cache_dtype = "float16"
    return config
