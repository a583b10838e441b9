"""Does it help to learn from the images without labels? Digits with 2, 4 and 10 labels a class.

    python -m experiments.scenarios --config=configs/scenarios_semi.py

The reference has the labelled images alone, as many steps and the weak augmentation; `strong` has
the strong one, without which nobody could tell what the unlabelled images give. Rates are the same
for all: with so few labels there is nothing to tune them by.
"""

from configs import scenarios

WEAK, STRONG = "shift(1)", "randaugment"
VIEWS = f"(weak='{WEAK}', strong='{STRONG}')"
PLANS = {
    "labelled": ("cross_entropy", WEAK),
    "strong": ("cross_entropy", STRONG),
    "pseudo_label": ("pseudo_label", WEAK),
    "pi_model": ("pi_model", WEAK),
    "mean_teacher": ("mean_teacher", WEAK),
    "fix_match": (f"fix_match{VIEWS}", ""),
    "flex_match": (f"flex_match{VIEWS}", ""),
}


def get_config():
    config = scenarios.get_config()
    config.tasks.digits = {"name": "digits", "val": 0.2, "test": 0.25}
    config.bases.lite0 = scenarios.base("efficientnet_lite0", size=16, crop=1.0)
    config.budgets = (2, 4, 10)
    config.draws = 1
    config.least_steps = 160
    config.reference = "labelled"
    config.settings = {"cut": "stage3_block2"}
    config.settings.tune = {"epochs": 1, "learning_rate": 3e-3, "best_by": "last"}
    config.settings.tune.batch_norm = "batch"
    for name, (objective, augment) in PLANS.items():
        tune = {"augment": augment}
        config.plans[name] = scenarios.plan("full", objective=objective, tune=tune)
    return config.lock()
