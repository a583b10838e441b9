"""What each part of ULMFiT's classifier stage gives: its ablation, at 50 to 800 labels.

    python -m experiments.language --config=configs/language_english.py
    python -m experiments.scenarios --config=configs/scenarios_ulmfit.py --workers=2

Howard & Ruder 2018, table 7. Every plan makes as many steps; of each task, seed and its splits, one
language model is fine-tuned on all training texts, whatever the budget of labels.
"""

import ml_collections

from configs import language, language_reviews, scenarios

EPOCHS = 6
TASKS = ("vader_movies", "vader_products", "vader_tweets", "sms_spam")
# Phases of five groups: the head, three recurrent layers, the embedding
GRADUAL = {"plan": "gradual_unfreezing", "from_layer": "embed", "by": "layer"}
STLR, COSINE = {"schedule": "slanted_triangular"}, {"schedule": "cosine"}


def get_config():
    config = scenarios.get_config()
    for name in TASKS:
        config.tasks[name] = {"name": f"packaged:{name}", "val": 0.1, "test": 0.15}
        config.tasks[name]["duplicates"] = "drop"
    config.bases.tuned = pretrained(reviews=language_reviews.tuned(language.get_config()))
    config.budgets = (25, 100, 400)
    config.draws = 1
    config.least_steps = 120
    config.settings = settings()
    for name, plan in PLANS.items():
        config.plans[name] = plan
    return config.lock()


def pretrained(**stages):
    """The language model of English, and those that are trained from it."""
    base = scenarios.base("runs/language_english", size=40, language=stages)
    return ml_collections.ConfigDict(base)


def settings():
    """What all plans share."""
    phase = {"batch_norm": "batch", "best_by": "last", "schedule": "constant"}
    head = {**phase, "epochs": 2, "learning_rate": 1e-2}
    tune = {**phase, "epochs": 1, "learning_rate": 4e-3}
    own = {"cut": "lstm3", "head": "ulmfit", "drop_mult": 0.5, "cache_dtype": "float16"}
    return {**own, "train_head": head, "tune": tune}


def _tune(**changes):
    return {"tune": changes}


PLANS = {
    "from_scratch": {"plan": "from_scratch", **_tune(epochs=EPOCHS, **STLR)},
    "full": {"plan": "full", **_tune(epochs=EPOCHS)},
    "full_discr": {"plan": "full_discriminative", "factor": 2.6, "by": "layer"}
    | _tune(epochs=EPOCHS),
    "full_discr_stlr": {"plan": "full_discriminative", "factor": 2.6, "by": "layer"}
    | _tune(epochs=EPOCHS, **STLR),
    "last": {"plan": "head_only", "train_head": {"epochs": EPOCHS}},
    "chain_thaw": {"plan": "chain_thaw", "train_head": {"epochs": 1}, **_tune(learning_rate=1e-3)},
    "freez": {**GRADUAL, "factor": 1.0},
    "freez_discr": {**GRADUAL, "factor": 2.6},
    "freez_stlr": {**GRADUAL, "factor": 1.0, **_tune(**STLR)},
    "freez_cos": {**GRADUAL, "factor": 1.0, **_tune(**COSINE)},
    "freez_discr_stlr": {**GRADUAL, "factor": 2.6, **_tune(**STLR)},
}
