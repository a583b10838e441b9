"""Solar cells (ELPV) with all labels: would another plan be better than elpv.py's?

    python -m experiments.scenarios --config=configs/scenarios_flagship_plans.py --workers=2

At the inputs that `configs/scenarios_flagship.py` chose, what `configs/scenarios_regularised.py`
found best on validation. Its table has the plan of elpv.py itself, on the same splits.
"""

from configs import scenarios, scenarios_flagship

STOCHASTIC = {"tune": {"batch_norm": "stochastic"}}
AVERAGED = {"objective": "averaged(rate=0,since=0.5)"}
CROPS = {"tune": {"views": "crops"}, "test_views": "crops"}
PLANS = {
    "stochnorm": STOCHASTIC,
    "stochnorm_swa": STOCHASTIC | AVERAGED,
    "crops": CROPS,
    "longer": {"tune": {"epochs": 12}},
    "randaugment": {"tune": {"augment": "randaugment"}},
}


def get_config():
    config = scenarios_flagship.get_config().unlock()
    del config.bases.lite0_300, config.bases.lite2_260
    own = config.plans.elpv
    del config.plans.elpv
    for name, changes in PLANS.items():
        config.plans[name] = scenarios.plan(own.plan, from_layer=own.from_layer, **changes)
    config.reference = "stochnorm"
    return config.lock()
