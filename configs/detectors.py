"""What transfer gives a detector on your boxes: from a pretrained base, and from scratch.

    python -m experiments.detectors --config=configs/detectors.py --config.task.name=coco:mine.json

Every detector is trained by every plan at every budget of labelled images, for every seed, and for
as many steps at every budget.
"""

import ml_collections

from configs import defaults, detect

SCRATCH = {"plan": "from_scratch", "tune": {"learning_rate": 3e-3, "batch_norm": "batch"}}


def get_config():
    config = defaults.subject().unlock()
    run = detect.get_config()
    config.size, config.task = run.size, run.task.unlock()
    del config.task.labelled  # the study has budgets=
    config.settings = {"cut": run.cut, "batch_size": run.batch_size, "dropout": 0.0}
    config.settings.train_head = {"epochs": 1, "learning_rate": 3e-3}
    config.settings.tune = {"epochs": 1, "learning_rate": 1e-3}
    config.least_steps = 400  # of a training, over all its phases
    config.detectors = ml_collections.ConfigDict({"fcos": {"objective": "fcos", "head": run.head}})
    config.plans = ml_collections.ConfigDict()
    config.plans.head_only = {"plan": "head_only"}
    config.plans.fine_tuned = {"plan": "head_then_fine_tune", "from_layer": run.from_layer}
    config.plans.from_scratch = SCRATCH
    config.reference = "from_scratch"  # the plan that the others are compared with
    # Tasks of the same classes whose test splits are judged too: a name, and a task's settings
    config.shifts = ml_collections.ConfigDict()
    config.budgets = (20, 60, 0)  # labelled images to train on; 0: all
    config.seeds = (0, 1, 2)
    return config.lock()
