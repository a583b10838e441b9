"""Digits 5 to 9 from one or five examples of each, by a small net that has learnt 0 to 4.

    python -m experiments.few_shot --config=configs/few_shot_digits.py

With five shots, nearest means of random features have 78.5 %; of features that learnt 0 to 4 as
classes 71.2 ± 5.9 (over three trainings), on episodes 76.4 ± 10.9: five classes are too few to
learn from (2026-11-29, jax 0.10.2; docs/beyond/few_labels.md says more).

Cost: about 100 s of CPU time.
"""

from configs import few_shot


def get_config():
    config = few_shot.get_config().unlock()
    config.base, config.weights = "alexnet_small", "random:0"
    config.task.name = "digits"
    config.base_classes = tuple("01234")
    tune = {"epochs": 15, "learning_rate": 3e-3, "best_by": "last"}
    config.settings = {"plan": "from_scratch", "dropout": 0.0, "batch_size": 50, "tune": tune}
    config.trainings = {
        "untrained": {},
        "classes": {"head": "linear"},
        "cosines": {"head": "cosine"},
        "episodes": {"objective": "prototypes(shots=5)", "tune": {"sampling": "balanced"}},
    }
    config.methods = ("nearest_mean", "l2n", "cl2n", "linear", "cosine")
    config.seeds = (0, 1, 2)
    return config.lock()
