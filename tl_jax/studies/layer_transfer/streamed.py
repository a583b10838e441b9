"""Trainings one after the other, each streamed from disk, and what their steps cost."""

import functools
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.chain.network import Chain, select
from tl_jax.engine.parallel import Parallel
from tl_jax.plans.plan import Phase, Plan, Settings
from tl_jax.studies.layer_transfer.net import Net
from tl_jax.studies.layer_transfer.training import Trained, Trainer, Training
from tl_jax.studies.layer_transfer.treatments import layers_up_to
from tl_jax.train import evaluate
from tl_jax.train import loop as train
from tl_jax.train.inputs import for_plan
from tl_jax.train.state import Network, Problem, shapes


def trainer(config: Any, net: Net, folder: pathlib.Path) -> Trainer:
    """Return a trainer for the config; `folder` holds the checkpoints of a training meanwhile."""
    cache = pathlib.Path(config.cache) if config.cache else None

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
        inputs_for = for_plan(problem, test_views="none", cache=cache, dtype="float32")
        variables, progress, inputs = train.run(problem, variables, inputs_for, workdir=folder)
        row = {"loss": progress.history[-1]["train_loss"]}
        for split in ("val", "test"):
            rows = problem.task.splits[split]
            probabilities = evaluate.probabilities(problem, variables, inputs, rows)
            row[split] = float(np.mean(probabilities.argmax(1) == problem.task.labels[rows]))
        shutil.rmtree(folder)
        return Trained(variables, row)

    return lambda training: [one(training, seed) for seed in range(len(training.subsets))]


def _phase(config: Any, chain: Chain, stop: str | None, epochs: int) -> Phase:
    """Return the phase in which everything above `stop` learns for so many epochs."""
    frozen = layers_up_to(chain, stop)
    settings = Settings(epochs=epochs, best_by="last", batch_norm="batch", **config.train)
    return Phase("train", {n: float(n not in frozen) for n in chain.names}, settings)


def step_flops(config: Any, net: Net, classes: int, stop: str | None) -> float:
    """Count the floating-point operations of one compiled step for a batch, from shapes alone."""
    chain, shape = net.chain(classes), jax.ShapeDtypeStruct
    phase = _phase(config, chain, stop, 1)
    network = Network(chain, net.preprocessing, Parallel(), config.precision)
    step = functools.partial(train.train_step, train.recipe(network, phase, None))
    variables, _ = chain.shapes(net.preprocessing.input_shape)
    key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
    fixed = select(variables, [n for n in chain.names if n not in phase.trained])
    fixed |= {"key": key, "rates": shape((1000,), jnp.float32)}
    images = (config.batch_size, *net.preprocessing.input_shape[1:])
    batch = {
        "inputs": shape(images, jnp.uint8),
        "targets": shape((config.batch_size, classes), jnp.float32),
        "weights": shape((config.batch_size,), jnp.float32),
    }
    state = shapes(phase, variables)
    lowered = network.parallel.step(step).lower(state, fixed, batch)
    return lowered.compile().cost_analysis()["flops"]
