"""Solar cells (ELPV) with all labels: would another base, or larger inputs, be better in elpv.py?

    python -m experiments.scenarios --config=configs/scenarios_flagship.py --workers=2

To be chosen by the validation column alone, on seeds that no claim uses. Each cell is
`configs/elpv.py` with half of its epochs of fine-tuning, and more images for validation.
"""

from configs import elpv, scenarios


def get_config():
    config = scenarios.get_config()
    config.tasks.elpv = {"name": "elpv", "targets": "graded", "val": 0.2, "test": 0.25}
    for name, size in (("lite0", 224), ("lite0", 300), ("lite2", 260)):
        config.bases[f"{name}_{size}"] = scenarios.base(f"efficientnet_{name}", size=size, crop=1.0)
    config.first_seed = 20
    config.seeds = 2
    config.draws = 1
    config.metric = "weighted_accuracy"
    config.reference = "elpv"
    own = elpv.get_config()
    config.settings = {name: own[name].to_dict() for name in ("train_head", "tune")}
    config.settings.tune.epochs = 6
    config.settings.update({"test_views": own.test_views, "cache_dtype": own.cache_dtype})
    config.plans.elpv = scenarios.plan(own.plan, from_layer=own.from_layer)
    return config.lock()
