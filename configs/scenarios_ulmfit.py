r"""What each part of ULMFiT's classifier stage gives: its ablation, at 100 labels a class.

    python -m experiments.language --config=configs/language_english.py
    python -m experiments.scenarios --config=configs/scenarios_ulmfit.py --workers=2
    python -m experiments.scenarios --config=configs/scenarios_ulmfit.py \
        --config.budgets="(25, 400)" --workdir=runs/ulmfit_budgets

Howard & Ruder 2018, table 7. Every plan makes as many steps; of each task, seed and its splits, one
language model is fine-tuned on all training texts, whatever the budget of labels.
"""

import ml_collections

from configs import language, language_reviews, scenarios

EPOCHS = 6
TASKS = ("sms_spam", "vader_tweets", "vader_products", "vader_movies")
BUDGETS = (100,)  # labels a class
# Phases of five groups: the head, three recurrent layers, the embedding
GRADUAL = {"plan": "gradual_unfreezing", "from_layer": "embed", "by": "layer"}
# Of 0.004, 0.01 and 0.03 the best on validation (vader_products, 400 labels a class, two seeds):
# where all layers learn alike, and where each learns at 1 / 2.6 of the rate of the one above
SMALL, LARGE = 4e-3, 3e-2
STLR, COSINE = {"schedule": "slanted_triangular"}, {"schedule": "cosine"}


def get_config():
    config = scenarios.get_config()
    config.tasks = tasks()
    config.bases.tuned = pretrained(reviews=language_reviews.tuned(language.get_config()))
    config.budgets = BUDGETS
    config.draws = 1
    config.least_steps = 120
    config.settings = settings()
    for name, plan in PLANS.items():
        config.plans[name] = plan
    return config.lock()


def tasks():
    """The tasks, by name."""
    shares = {"val": 0.1, "test": 0.15, "duplicates": "drop"}
    named = {name: {"name": f"packaged:{name}", **shares} for name in TASKS}
    return ml_collections.ConfigDict(named)


def pretrained(**stages):
    """The language model of English, and those that are trained from it."""
    for stage in stages.values():
        stage.tune.epochs = 2  # there is one to train for every task and seed
    base = scenarios.base("runs/language_english", size=40, language=stages)
    return ml_collections.ConfigDict(base)


def settings():
    """What all plans share."""
    phase = {"batch_norm": "batch", "best_by": "last", "schedule": "constant"}
    head = {**phase, "epochs": 2, "learning_rate": 1e-2}
    tune = {**phase, "epochs": 1}
    own = {"cut": "lstm3", "head": "ulmfit", "drop_mult": 0.5, "cache_dtype": "float16"}
    return {**own, "train_head": head, "tune": tune}


def _tune(rate=SMALL, **changes):
    return {"tune": {"learning_rate": rate, **changes}}


ALL = {"plan": "full_discriminative", "factor": 2.6, "by": "layer"}
PLANS = {
    "from_scratch": {"plan": "from_scratch", **_tune(epochs=EPOCHS, **STLR)},
    "full": {"plan": "full", **_tune(epochs=EPOCHS)},
    "full_discr": {**ALL, **_tune(LARGE, epochs=EPOCHS)},
    "full_discr_stlr": {**ALL, **_tune(LARGE, epochs=EPOCHS, **STLR)},
    "last": {"plan": "head_only", "train_head": {"epochs": EPOCHS}},
    "chain_thaw": {"plan": "chain_thaw", "train_head": {"epochs": 1}, **_tune(1e-3)},
    "freez": {**GRADUAL, "factor": 1.0, **_tune()},
    "freez_discr": {**GRADUAL, "factor": 2.6, **_tune(LARGE)},
    "freez_stlr": {**GRADUAL, "factor": 1.0, **_tune(**STLR)},
    "freez_cos": {**GRADUAL, "factor": 1.0, **_tune(**COSINE)},
    "freez_discr_stlr": {**GRADUAL, "factor": 2.6, **_tune(LARGE, **STLR)},
}
