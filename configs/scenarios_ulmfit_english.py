"""What the middle stage of ULMFiT gives: classifiers on the English model as it is.

    python -m experiments.language --config=configs/language_english.py
    python -m experiments.scenarios --config=configs/scenarios_ulmfit_english.py --workers=2

The ablation "no fine-tuning of the language model" (Howard & Ruder 2018, table 6). Tasks, splits,
labels and steps are those of configs/scenarios_ulmfit.py, whose model has learnt the task's texts
first; docs/text_ulmfit.csv has its rows.
"""

import ml_collections

from configs import scenarios_ulmfit
from configs.scenarios_ulmfit import PLANS, pretrained


def get_config():
    config = scenarios_ulmfit.get_config().unlock()
    config.bases = ml_collections.ConfigDict({"english": pretrained()})
    names = ("full", "freez_discr_stlr")
    config.plans = ml_collections.ConfigDict({name: PLANS[name] for name in names})
    config.reference = "full"
    return config.lock()
