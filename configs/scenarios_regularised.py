"""What does each regulariser give? Solar cells (ELPV), EfficientNet-Lite0's upper half tuned.

    python -m experiments.scenarios --config=configs/scenarios_regularised.py

Always `head_then_fine_tune` from stage 4; each plan changes one thing, and `plain` nothing.
"""

from configs import scenarios, scenarios_elpv


def get_config():
    config = scenarios_elpv.get_config().unlock()
    config.budgets = (20, 200)
    config.reference = "plain"
    del config.plans
    config.plans = {}
    for name, changes in CHANGES.items():
        own = {"from_layer": scenarios_elpv.TOP, **changes}
        config.plans[name] = scenarios.plan("head_then_fine_tune", scenarios_elpv.TUNE, **own)
    return config.lock()


def _tune(**settings):
    return {"tune": settings}


CHANGES = {
    "plain": {},
    # Held to the start, or to what the base knew
    "l2_sp": {"objective": "cross_entropy+l2_sp(0.1)"},
    "delta": {"objective": "delta"},
    "bss": {"objective": "cross_entropy+bss"},
    "lwf": {"objective": "cross_entropy+lwf"},
    "co_tuning": {"objective": "co_tuning"},
    "stochnorm": _tune(batch_norm="stochastic"),
    "frozen_norms": _tune(batch_norm="frozen"),
    # Averaged
    "ema": {"objective": "averaged(rate=0.05)"},
    "swa": {"objective": "averaged(rate=0,since=0.5)"},
    "wise_ft": _tune(blend=0.5),
    # Noise and soft targets
    "smoothing": {"objective": "cross_entropy(smoothing=0.1)"},
    "dropout": {"dropout": 0.5},
    "stochastic_depth": {"stochastic_depth": 0.2},
    # Images
    "no_flips": _tune(views="none"),
    "crops": {"tune": {"views": "crops"}, "test_views": "crops"},
    "randaugment": _tune(augment="randaugment"),
    "mixup": _tune(augment="mixup"),
    "cutmix": _tune(augment="cutmix"),
    # Classes of unequal size
    "class_weights": {"class_weights": "balanced"},
    "balanced": _tune(sampling="balanced"),
}
