"""How transferable is each layer? The experiment of Yosinski et al. 2014 (arXiv:1411.1792).

Bases A and B are trained on two halves of a dataset, or on two datasets. For every n the first n
layers come from one of them; the layers above start from fresh weights and are trained on B's half:

    BnB, AnB      the first n layers from B itself ("selffer") or from A ("transfer"), frozen
    BnB+, AnB+    the same, but all layers are trained
    random        the first n layers with their initial weights, frozen

Base B minus BnB is the loss from separating layers that were trained together (co-adaptation). BnB
minus AnB is the loss because A's layers fit task A (specificity). AnB+ minus BnB+ is the gain from
A that remains after fine-tuning (generalisation).
"""

import pathlib
import time
from typing import Any

import flax.traverse_util
import numpy as np

from tl_jax import interrupt
from tl_jax.base.base import Base
from tl_jax.data.task import Task
from tl_jax.errors import UserError
from tl_jax.runs.journal import Journal
from tl_jax.runs.results import read_json, write_json
from tl_jax.runs.subject import task_of
from tl_jax.stats.paired import overlap
from tl_jax.studies.layer_transfer import resident, streamed
from tl_jax.studies.layer_transfer.net import Net
from tl_jax.studies.layer_transfer.subsets import SEED, Arm, Side, arms, require, source
from tl_jax.studies.layer_transfer.tables import Tables
from tl_jax.studies.layer_transfer.training import Trained, Trainer, Training, drawn_seed
from tl_jax.studies.layer_transfer.treatments import TREATMENTS, beginning, place
from tl_jax.whole import whole


def check(config: Any) -> None:
    """Raise UserError for an unknown base, layer, arm or setting, or budgets without epochs."""
    Net(config)
    require(config)
    if config.together and config.precision != "float32":
        raise UserError(f"precision={config.precision} is of streamed images: give together=False")
    for epochs in config.epochs:
        streamed.settings(config, epochs)


def data(config: Any) -> dict[str, Task]:
    """Return the tasks that a results folder belongs to, in the splits of one seed."""
    return {"": task_of(config, 0)} | ({"A": source(config, 0)} if "tasks" in config.arms else {})


def compute(config: Any, workdir: pathlib.Path) -> dict:
    """Train the bases and all treatments; store each finished training."""
    started = time.monotonic()
    net, sides = Net(config), arms(config)
    study = Study(config, net, workdir)
    study.require_given([arm.a for arm in sides if arm.a.weights])
    for budget_index in range(len(config.budgets)):
        for arm in sides:
            study.finish(arm, budget_index)
    pairs = [(arm.a.name, arm.b.name) for arm in sides]
    cuts = [(n, layer) for n, (layer, _) in net.cuts.items()]
    cells = study.journal.rows()
    overlaps = [overlap([subset.task.splits for subset in arm.b.subsets]) for arm in sides]
    tables = Tables(cells, pairs, config.budgets, cuts, overlaps)
    return {
        "arms": pairs,
        "cuts": cuts,
        "overlaps": overlaps,
        "cells": cells,
        "decomposition": tables.decomposition,
        "findings": tables.findings,
        "seconds": time.monotonic() - started,
    }


class Study:
    """The trainings of a config, stored in a results folder."""

    def __init__(self, config: Any, net: Net, workdir: pathlib.Path):
        self.config, self.net, self.workdir = config, net, workdir
        self.journal = Journal(workdir / "cells.jsonl")
        self.train: Trainer = (
            resident.trainer(config, net)
            if config.together
            else streamed.trainer(config, net, workdir / "training")
        )

    def finish(self, arm: Arm, budget_index: int) -> None:
        """Run an arm's trainings at a budget that are not finished; base A has all labels."""
        config, net = self.config, self.net
        budget, epochs = config.budgets[budget_index], config.epochs[budget_index]
        a, b = arm
        classes = len(b.subsets[0].classes)
        fresh = [net.fresh(classes, drawn_seed("fresh", seed)) for seed in range(config.seeds)]
        donors = {"A": self.base(a, 0), "B": self.base(b, budget_index), None: fresh}
        for n, (_, stop) in net.cuts.items():
            for name, treatment in TREATMENTS.items():
                sides = place((a.name, b.name), treatment)
                key = {"arm": sides, "budget": budget, "treatment": name, "n": n}
                if self._done(key):
                    continue
                initial = [
                    beginning(net.chain(classes), stop, donor=donor, fresh=start)[0]
                    for donor, start in zip(donors[treatment.donor], fresh, strict=True)
                ]
                frozen = stop if treatment.frozen else None
                training = Training(b.subsets, initial, frozen, budget, epochs, "fresh")
                self._keep(key, self.train(training))

    def given(self, side: Side) -> list[Base]:
        """Return the bases of a side that are there already, one for each seed."""
        names = [side.weights.replace(SEED, str(seed)) for seed in range(self.config.seeds)]
        return [self.net.given(name) for name in names]

    def require_given(self, sides: list[Side]) -> None:
        """UserError, before the first training, for bases that cannot be read or do not fit, and
        for others than those that the folder began with.
        """
        digests = {side.name: [base.digest for base in self.given(side)] for side in sides}
        path = self.workdir / "given.json"
        if digests and path.exists() and (then := read_json(path)) != digests:
            other = next(name for name in digests if digests[name] != then.get(name))
            raise UserError(
                f"the bases {other!r} were others when {self.workdir} began: take another folder "
                "(workdir=)"
            )
        if digests:
            write_json(path, digests)

    def base(self, side: Side, budget_index: int) -> list[dict]:
        """Return the variables of a side's base at a budget, one tree for each seed."""
        config, (name, subsets, weights) = self.config, side
        if weights:
            return [base.variables for base in self.given(side)]
        budget, epochs = config.budgets[budget_index], config.epochs[budget_index]
        file = self.workdir / "bases" / f"{name} {budget}.npz".replace("/", "_")
        key = {"arm": name, "budget": budget, "treatment": "base", "n": 0}
        if not self._done(key) or not file.exists():
            classes = len(subsets[0].classes)
            initial = [
                self.net.fresh(classes, drawn_seed(name, seed)) for seed in range(config.seeds)
            ]
            trained = self.train(Training(subsets, initial, None, budget, epochs, name))
            save(file, [one.variables for one in trained])
            self._keep(key, trained)
        return load(file)

    def _done(self, key: dict) -> bool:
        return all(self.journal.get(**key, seed=seed) for seed in range(self.config.seeds))

    def _keep(self, key: dict, trained: list[Trained]) -> None:
        for seed, one in enumerate(trained):
            self.journal.add(one.row, **key, seed=seed)
        mean = sum(one.row["test"] for one in trained) / len(trained)
        print(*key.values(), f"{100 * mean:.2f} %", flush=True)
        interrupt.check()


def save(file: pathlib.Path, trees: list[dict]) -> None:
    """Write trees of variables, one for each seed, to a file that appears whole or not at all."""
    flat = {}
    for seed, tree in enumerate(trees):
        leaves = flax.traverse_util.flatten_dict(tree, sep="/")
        flat |= {f"{seed}/{path}": leaf for path, leaf in leaves.items()}
    file.parent.mkdir(exist_ok=True)
    with whole(file) as partial, partial.open("wb") as opened:
        np.savez(opened, **flat)


def load(file: pathlib.Path) -> list[dict]:
    """Return the trees that `save` wrote."""
    with np.load(file) as flat:
        tree = flax.traverse_util.unflatten_dict(dict(flat), sep="/")
    return [{"batch_stats": {}, **tree[str(seed)]} for seed in range(len(tree))]
