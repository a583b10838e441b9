"""What each stage before the classifier gives: no language model, one of English, the task's own.

    python -m experiments.language --config=configs/language_english.py
    python -m experiments.scenarios --config=configs/scenarios_ulmfit_bases.py --workers=2

Howard & Ruder 2018, tables 4 and 6. The classifier's recipe is the whole one of
configs/scenarios_ulmfit.py, with its tasks, splits and budgets.
"""

import ml_collections

from configs import language, language_reviews, scenarios_ulmfit
from configs.scenarios_ulmfit import PLANS, pretrained


def get_config():
    config = scenarios_ulmfit.get_config().unlock()
    config.plans = ml_collections.ConfigDict()
    for plan in ("from_scratch", "freez_discr_stlr"):
        config.plans[plan] = PLANS[plan]
    config.bases = ml_collections.ConfigDict()
    config.bases.english = pretrained()
    config.bases.task_alone = pretrained(reviews=_tuned())
    config.bases.task_alone.update({"base": "awd_lstm_medium", "weights": "random:0"})
    config.bases.full = pretrained(reviews=_tuned(factor=1.0, schedule="constant"))
    config.bases.discr = pretrained(reviews=_tuned(schedule="constant"))
    config.bases.discr_stlr = pretrained(reviews=_tuned())
    return config.lock()


def _tuned(*, factor: float = 2.6, schedule: str = "slanted_triangular"):
    """The stage of the task's texts, with or without its two parts."""
    stage = language_reviews.tuned(language.get_config())
    stage.factor, stage.tune.schedule = factor, schedule
    return stage
