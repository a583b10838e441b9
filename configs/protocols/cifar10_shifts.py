"""The test sets of configs/protocols/lp_ft.py: CIFAR-10's classes in images from elsewhere.

    python -m experiments.judge --config=configs/protocols/cifar10_shifts.py --runs=runs/lp_ft

STL-10 (monkeys left out: CIFAR-10 has none, and STL-10 has no frogs) and CIFAR-10.1 v6, by TFDS.
The paper uses CIFAR-10.1 as well, and does not say which version.
"""

import ml_collections

CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
# STL-10's own are airplane, bird, car, ...: in the order of its labels, with CIFAR-10's names
STL10 = (
    *("airplane", "bird", "automobile", "cat", "deer"),
    *("dog", "horse", "monkey", "ship", "truck"),
)


def get_config():
    config = ml_collections.ConfigDict()
    config.tasks = ml_collections.ConfigDict()
    test = {"data_dir": "", "splits": {"test": "test"}}
    shared = tuple(name for name in STL10 if name in CIFAR10)
    config.tasks.stl10 = {"name": "tfds:stl10", "names": STL10, "only": shared, **test}
    config.tasks.cifar10_1 = {"name": "tfds:cifar10_1/v6", "names": CIFAR10, **test}
    return config.lock()
