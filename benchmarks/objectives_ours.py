"""The worker of this library for objectives: steps of a transfer, or of a pretraining, on noise."""

from benchmarks import ours, worker


def prepare(spec: dict):
    from tl_jax.base.load import load_base
    from tl_jax.train.inputs import for_plan

    base = load_base(spec["base"], "random:0").resized(spec["size"])
    pose = _pretraining if spec["objective"] == "simclr" else _transfer
    posed = pose(base, _noise(spec), spec)
    problem, variables = posed.problem, posed.variables
    inputs = for_plan(problem, test_views="none", cache=None, dtype="float32")
    run, _, _ = ours.stepping(problem, variables, inputs(problem.plan.phases[0], variables))
    run(1)
    return run, {}


def _noise(spec: dict):
    """A task with a batch of noise in each split."""
    import numpy as np

    from tl_jax.data.tasks.arrays import from_arrays

    shape = (3 * spec["batch"], spec["size"], spec["size"], 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    labels = np.arange(len(images)) % 2
    return from_arrays("benchmark", images, labels, seed=0, val=1 / 3, test=1 / 3)


def _bare() -> dict:
    """A phase's settings: SGD with batch norm by the batch, without decay and clipping."""
    settings = {"optimizer": "sgd", "batch_norm": "batch", "weight_decay": 0.0, "clip": 0.0}
    return settings | {"epochs": 1, "learning_rate": 1e-3}


def _transfer(base, task, spec: dict):
    from tl_jax.runs import settings
    from tl_jax.runs.pose import posed

    given = {"plan": "full", "objective": spec["objective"], "batch_size": spec["batch"]}
    both = {} if spec["objective"] == "cross_entropy" else {"source": task, "target": task}
    return posed(base, task, *settings.divided(given | {"tune": _bare()}), sources=both)


def _pretraining(base, task, spec: dict):
    from configs import pretrain
    from tl_jax.runs.pretrain import posed

    config = pretrain.get_config()
    config.objective, config.batch_size = spec["objective"], spec["batch"]
    config.tune.update(_bare() | {"augment": "flip"})
    return posed(base, task, config)


if __name__ == "__main__":
    worker.serve(prepare)
