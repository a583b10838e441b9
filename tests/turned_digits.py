"""What each method of adaptation does on turned digits (docs/beyond/adaptation_methods.md).

    PYTHONPATH=. python tests/turned_digits.py
    PYTHONPATH=. python tests/turned_digits.py --seeds 0 --only coral mmd

From scikit-learn's digits to the same ones turned by 10 degrees, with noise. Prints a row a method
as soon as it is measured: the accuracy on the target's test split for each seed, and their mean.
"""

import argparse
from collections.abc import Iterator

import digits
import numpy as np

import tl_jax
from tl_jax.base.base import Base

TUNE = {"epochs": 6, "learning_rate": 1e-2, "clip": 0.0, "batch_norm": "batch", "best_by": "last"}
LESS = {**TUNE, "learning_rate": 1e-3}
ONCE = {**LESS, "epochs": 1}
KEPT = {"head": "kept", "plan": "features_only"}
# By objective: settings beyond those of all
BESIDE = {
    **dict.fromkeys(("self_training", "feature_norm", "jan", "mmd", "margin_disparity"), {}),
    **dict.fromkeys(("coral", "discrepancy", "class_confusion", "nuclear_norm"), {}),
    "conditional_adversarial(width=64, ceiling=0.1)": {},
    "domain_adversarial(width=64, ceiling=0.1)": {},
}
NORMS = {"leaves": "(^|/)norm/(scale|bias)$"}
AFTER = {  # from the model of source_only
    "adda(width=64)": {**KEPT, "tune": LESS},
    "tent(weight=0.0)": {**KEPT, "tune": {**ONCE, **NORMS}},
    "tent": {**KEPT, "tune": {**ONCE, **NORMS}},
    "adabn": {"head": "kept", "tune": {**ONCE, "batch_norm": "recalibrate"}},
    "shot": {**KEPT, "tune": LESS},
}
OTHER = {"discrepancy": "joint"}  # than `statistics` are by default; of all others "separate"


@tl_jax.register_base(preprocessing=digits.PREPROCESSING)
def turned_digits_net(classes: int):
    """The network of the tests: two convolutions with batch norm, 32 features."""
    assert classes
    return digits.network()


def adapted(base: Base, seed: int, objective: str, **settings) -> tuple[Base, float]:
    """The adapted base, and its accuracy on the target's test split."""
    sources = {"source": digits.source(), "target": digits.target()}
    if objective.partition("(")[0] in ("adabn", "tent", "shot"):
        sources = {}
    given = {"plan": "full", "tune": TUNE, "batch_size": 64, "dropout": 0.0, "cache": None}
    run = base.transfer(
        digits.target(), sources=sources, objective=objective, seed=seed, **given | settings
    )
    return run.base, run.test["accuracy"]


def measured(seed: int, only: list[str]) -> Iterator[tuple[str, float]]:
    """Yield what each method gives, by its name."""
    fresh = tl_jax.load_base("turned_digits_net", f"random:{seed}")
    source_only, accuracy = adapted(fresh, seed, "source_only")
    yield "source_only", accuracy
    for objective, settings in BESIDE.items():
        name, _, options = objective.rstrip(")").partition("(")
        if only and name not in only:
            continue
        other = ", ".join(filter(None, (options, f"statistics='{OTHER.get(name, 'separate')}'")))
        for way in (objective, f"{name}({other})"):
            base, accuracy = adapted(fresh, seed, way, **settings)
            yield way, accuracy
            yield f"{way}, then adabn", adapted(base, seed, "adabn", **AFTER["adabn"])[1]
    for objective, settings in AFTER.items():
        if not only or objective.partition("(")[0] in only:
            yield objective, adapted(source_only, seed, objective, **settings)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", default=[], help="Names of objectives.")
    given = parser.parse_args()
    print(f"| | {' | '.join(map(str, given.seeds))} | mean |")
    print("|---" * (len(given.seeds) + 2) + "|")
    for rows in zip(*(measured(seed, given.only) for seed in given.seeds), strict=True):
        found = [accuracy for _, accuracy in rows]
        figures = " | ".join(f"{accuracy:.3f}" for accuracy in (*found, np.mean(found)))
        print(f"| `{rows[0][0]}` | {figures} |", flush=True)


if __name__ == "__main__":
    main()
