"""Trainings one after the other, each streamed from disk, and the cost of their steps."""

import functools
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Network
from tl_jax.chain.places import Known
from tl_jax.chain.variables import select
from tl_jax.engine.parallel import Parallel
from tl_jax.engine.prefix import IMAGE
from tl_jax.plans.plan import Phase, Plan, Settings
from tl_jax.runs.transfer import trained
from tl_jax.studies.layer_transfer.net import Net
from tl_jax.studies.layer_transfer.training import BATCH_NORM, Trained, Trainer, Training
from tl_jax.studies.layer_transfer.treatments import layers_up_to
from tl_jax.train.inputs import for_plan
from tl_jax.train.objectives.cross_entropy import CrossEntropy
from tl_jax.train.problem import Problem, Setup
from tl_jax.train.state import shapes
from tl_jax.train.step import recipe, update
from tl_jax.train.survey import survey


def trainer(config: Any, net: Net, folder: pathlib.Path) -> Trainer:
    """Return a trainer for the config; during a training `folder` holds its checkpoints."""

    def one(training: Training, seed: int) -> Trained:
        subset, variables = training.subsets[seed], training.variables[seed]
        chain = net.chain(len(subset.classes))
        phase = _phase(config, chain, training.stop, training.epochs)
        problem = Problem(
            chain,
            net.preprocessing,
            subset.alone(per_class=training.budget, seed=seed),
            Plan("layer_transfer", (phase,)),
            seed=training.seeds[seed],
            batch_size=config.batch_size,
            precision=config.precision,
        )
        stores = {"cache": config.cache, "dtype": "float32", "workdir": folder}
        inputs_for = for_plan(problem, test_views="none", **stores)
        done = trained(problem, variables, inputs_for, workdir=folder)
        row = {split: scores["accuracy"] for split, scores in done.scores.items()}
        row["loss"] = done.progress.history[-1]["train_loss"]
        shutil.rmtree(folder)
        return Trained(done.variables, row)

    return lambda training: [one(training, seed) for seed in range(len(training.subsets))]


def settings(config: Any, epochs: int) -> Settings:
    """Return how all is trained; UserError for settings that are none."""
    return Settings(epochs=epochs, best_by="last", batch_norm=BATCH_NORM, **config.train)


def _phase(config: Any, chain: Network, stop: str | None, epochs: int) -> Phase:
    """Return the phase that trains everything above `stop` for so many epochs."""
    frozen = layers_up_to(chain, stop)
    multipliers = {n: float(n not in frozen) for n in chain.names}
    return Phase("train", multipliers, settings(config, epochs))


def step_flops(config: Any, net: Net, classes: int, stop: str | None) -> float:
    """Count the floating-point operations of one compiled step, from shapes alone."""
    chain, shape = net.chain(classes), jax.ShapeDtypeStruct
    phase = _phase(config, chain, stop, 1)
    setup = Setup(chain, CrossEntropy(), net.preprocessing, Parallel(), config.precision)
    of_steps = recipe(setup, phase)
    variables, _ = chain.shapes(net.preprocessing.example)
    count = config.batch_size
    images = shape((count, *net.preprocessing.input_shape[1:]), jnp.uint8)
    weights, labels = shape((count,), jnp.float32), shape((count,), jnp.int32)
    batch = {
        "inputs": Known({IMAGE: images}),
        "targets": shape((count, classes), jnp.float32),
        "weights": weights,
    }
    scored = {"labels": labels, "graded_labels": labels, "graded_weights": weights, "real": weights}
    state = shapes(of_steps, survey(of_steps, variables, batch, batch | scored), variables)
    fixed = select(variables, [n for n in chain.names if n not in phase.trained]) | {
        "key": jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))),
        "rates": shape((1000,), jnp.float32),
        "first": shape((), jnp.int32),
        "decay": shape((), jnp.float32),
    }
    step = setup.parallel.step(functools.partial(update, of_steps))
    cost: Any = step.lower(state, fixed, batch).compile().cost_analysis()
    return cost["flops"]
