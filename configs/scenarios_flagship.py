"""Solar cells (ELPV) with all labels: which base, inputs and plan are better than elpv.py's?

    python -m experiments.scenarios --config=configs/scenarios_flagship.py:bases --workers=2
    python -m experiments.scenarios --config=configs/scenarios_flagship.py:plans --workers=2

Chosen by the validation column alone, on seeds that no claim uses. Each cell is `configs/elpv.py`
with half of its epochs of fine-tuning, and more images for validation. `bases` compares bases and
sizes; `plans`, at 224 pixels, what `configs/scenarios_regularised.py` found best on validation.
"""

from configs import elpv, scenarios

BASES = {"lite0_224": 224, "lite0_300": 300, "lite2_260": 260}
STOCHASTIC = {"tune": {"batch_norm": "stochastic"}}
AVERAGED = {"objective": "averaged(rate=0,since=0.5)"}
PLANS = {"stochnorm": STOCHASTIC, "stochnorm_swa": STOCHASTIC | AVERAGED}


def get_config(varied="bases"):
    config = scenarios.get_config()
    config.tasks.elpv = {"name": "elpv", "targets": "graded", "val": 0.2, "test": 0.25}
    for name in BASES if varied == "bases" else ["lite0_224"]:
        base = f"efficientnet_{name.split('_')[0]}"
        config.bases[name] = scenarios.base(base, size=BASES[name], crop=1.0)
    config.first_seed = 20
    config.seeds = 2
    config.draws = 1
    config.metric = "weighted_accuracy"
    config.reference = "elpv" if varied == "bases" else "stochnorm"
    own = elpv.get_config()
    config.settings = {name: own[name].to_dict() for name in ("train_head", "tune")}
    config.settings.tune.epochs = 6
    config.settings.update({"test_views": own.test_views, "cache_dtype": own.cache_dtype})
    for name, changes in {"elpv": {}}.items() if varied == "bases" else PLANS.items():
        config.plans[name] = scenarios.plan(own.plan, from_layer=own.from_layer, **changes)
    return config.lock()
