"""A small study of scenarios on texts: sentences of film reviews and short messages, from MiniLM.

    python -m experiments.scenarios --config=configs/scenarios_texts.py
"""

from configs import scenarios

RATE = {"train_head": {"learning_rate": "log(1e-3, 3e-2)"}}
TUNE = {"tune": {"learning_rate": "log(3e-5, 1e-3)"}}


def get_config():
    config = scenarios.get_config()
    config.tasks.reviews = {"name": "packaged:vader_movies", "val": 0.2, "test": 0.25}
    config.tasks.messages = {"name": "packaged:sms_spam", "val": 0.2, "test": 0.25}
    config.bases.minilm = scenarios.base("minilm_l6", size=48)  # tokens
    config.budgets = (10, 50)
    config.settings = {"train_head": {"epochs": 5}, "tune": {"epochs": 3}, "batch_size": 32}
    config.settings.tune.schedule = "one_cycle"
    config.plans.class_means = {"probe": "class_means"}
    config.plans.logistic = {"probe": "logistic"}
    config.plans.head_only = scenarios.plan("head_only", RATE)
    config.plans.top = scenarios.plan("head_then_fine_tune", RATE | TUNE, from_layer="block4")
    config.plans.from_scratch = scenarios.plan("from_scratch", TUNE)
    return config.lock()
