"""How far does a pretrained encoder go, at 50 to 800 labels? MiniLM on sentences and messages.

    python -m experiments.scenarios --config=configs/scenarios_texts.py

Tasks, splits and budgets are those of configs/scenarios_ulmfit.py, so that cells are paired.
"""

from configs import scenarios, scenarios_ulmfit


def get_config():
    config = scenarios.get_config()
    config.tasks = scenarios_ulmfit.tasks()
    config.bases.minilm = scenarios.base("minilm_l6", size=48)  # tokens
    config.budgets, config.draws = scenarios_ulmfit.BUDGETS, 1
    config.least_steps = 120
    head = {"epochs": 5, "learning_rate": 1e-2, "best_by": "last"}
    tune = {"epochs": 3, "learning_rate": 2e-4, "best_by": "last", "schedule": "one_cycle"}
    config.settings = {"train_head": head, "tune": tune, "cache_dtype": "float16"}
    config.plans.class_means = {"probe": "class_means"}
    config.plans.logistic = {"probe": "logistic"}
    config.plans.head_only = scenarios.plan("head_only")
    config.plans.top = scenarios.plan("head_then_fine_tune", from_layer="block4")
    config.reference = "logistic"
    return config.lock()
