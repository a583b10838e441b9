r"""Defects of solar cells in electroluminescence images (ELPV), from EfficientNet-Lite0.

Claim: 87.82 % confidence-weighted accuracy on the test split, the mean of seeds 5 to 9, each with
splits of its own (standard deviation 0.43; by seed 88.29, 88.23, 87.28, 87.73, 87.56). Deitsch et
al. 2019 have 88.42 with VGG19 fine-tuned and 82.44 with an SVM, on one split. The five splits
overlap: by the corrected t of Nadeau & Bengio 2003 the 95 % interval of the mean is 86.92 to 88.72
(2.776 x 0.4348 x sqrt(1/5 + 25/70); `tl_jax.stats.paired.corrected`), and the usual standard error,
0.19, is too small by a factor of 1.67. 88.42 lies inside the interval. Nothing was changed after
these figures were seen. Settings were chosen in part on seeds 0 to 4, which gave 88.76: too good to
be true (docs/studies.md). Seeds 5 to 9 have a plain accuracy of 84.4 ± 1.6, F1 of 76.8 ± 2.1 and
AUC of 92.1 ± 1.2.

On 2026-11-28 validation was asked for a better plan (docs/scenarios.md), found none, and this one
was run once on seeds 10 to 14: 88.72 (88.90, 88.46, 89.79, 88.73, 87.73; deviation 0.75, interval
87.17 to 90.27). The ten seeds 5 to 14 have 88.27 with a deviation of 0.75, interval 87.13 to 89.41.

    for s in 5 6 7 8 9 10 11 12 13 14; do
        python -m experiments.transfer --config=configs/elpv.py \
            --workdir=runs/elpv_$s --config.seed=$s
    done
    python -m experiments.compare runs/elpv_[5-9]
    python -m experiments.compare runs/elpv_1[0-4]

Cost: 9 min 35 s (seed 6) to 42 minutes (seed 8) a seed on 2 CPU cores, with little and with much
other work beside it, and 0.67 GB of disk; each run's report says its own cost. Measured on
2026-11-22 with jax 0.10.2 and flax 0.12.8.

The head is trained on the frozen base. Then everything from stage 4 up is trained at a smaller
rate, with batch norm in training mode, on flips (orientation is information here: the busbars lie
one way). The last epoch of one cycle is kept, because validation loss rises with confidence before
accuracy falls. Probabilities are averaged over the four flips.
"""

from configs import defaults


def get_config():
    config = defaults.get_config()
    config.crop = 1.0
    config.task.name = "elpv"
    config.task.targets = "graded"
    config.task.val = 0.05
    config.task.test = 0.25

    config.plan = "head_then_fine_tune"
    config.from_layer = "0.3"  # of EfficientNet-Lite0: stage4_block1
    config.train_head.epochs = 5
    config.train_head.learning_rate = 3e-3
    config.train_head.best_by = "val_loss"  # the default when this was measured
    config.tune.epochs = 12
    config.tune.learning_rate = 1e-3
    config.tune.schedule = "one_cycle"
    config.tune.weight_decay = 1e-2
    config.tune.batch_norm = "batch"
    config.tune.views = "flips"
    config.tune.best_by = "last"

    config.test_views = "flips"
    config.cache_dtype = "float16"
    return config
