"""The worker of this library for texts: an encoder's forward pass, or its training step."""

from benchmarks import ours, worker


def prepare(spec: dict):
    import numpy as np

    from tl_jax.base.load import load_base

    if spec["train"] == "language":
        return _language(spec), {}
    base = load_base(spec["base"], "random:0").resized(spec["length"])
    shape = (spec["batch"], spec["length"])
    tokens = np.random.default_rng(0).integers(1000, 20_000, shape, np.int32)
    return (_inference if spec["train"] == "none" else _training)(base, tokens), {}


def _inference(base, tokens):
    import jax

    from tl_jax.chain.programs import forward_program

    forward = forward_program(base.cut("pool").chain, None, None).of(jax.device_put(base.variables))
    tokens = jax.device_put(tokens)

    def run(steps: int) -> None:
        for _ in range(steps):
            out = forward(tokens)
        jax.block_until_ready(out)

    return run


def _language(spec: dict):
    """Return a function that runs SGD steps of a language model with all its dropout."""
    import dataclasses

    import numpy as np

    from tl_jax.base.load import load_base
    from tl_jax.train.objectives import LanguageModel

    base = load_base(spec["base"], "random:0")
    architecture = dataclasses.replace(base.architecture, words=spec["words"])
    ready = dataclasses.replace(base, architecture=architecture)
    ready = dataclasses.replace(ready, variables=ready.fresh(0))
    shape = spec["batch"], spec["length"] + 1
    text = np.random.default_rng(0).integers(9, spec["words"], shape, np.int32)
    truth = {"targets": text[:, 1:], "weights": np.ones(text[:, 1:].shape, np.float32)}
    return _steps(ready, text[:, :-1], truth, objective=LanguageModel(ar=2.0, tar=1.0))


def _training(base, tokens):
    """Return a function that runs SGD steps on all layers of a classifier."""
    import numpy as np

    from tl_jax.data.tasks.arrays import unweighted

    return _steps(base.with_head(2), tokens, unweighted(np.arange(len(tokens)) % 2, 2))


def _steps(ready, tokens, truth: dict, **objective):
    """Return a function that runs SGD steps on a batch, without decay and clipping."""
    import numpy as np

    from tl_jax.chain.places import Known
    from tl_jax.data.task import Task
    from tl_jax.engine import prefix
    from tl_jax.plans.plan import Settings
    from tl_jax.plans.strategies import make_plan
    from tl_jax.train.problem import Problem

    count, rows = len(tokens), np.arange(3 * len(tokens))
    splits = dict(zip(("train", "val", "test"), np.split(rows, 3), strict=True))
    thrice = {name: np.concatenate([each] * 3) for name, each in truth.items()}
    ids, arrays = tuple(map(str, rows)), {"tokens": np.tile(tokens, (3, 1))}
    ordered = bool(objective)  # a stream
    task = Task("benchmark", ids, splits, "noise", thrice, arrays=arrays, ordered=ordered)
    bare = {"weight_decay": 0.0, "clip": 0.0}
    settings = Settings(epochs=1, learning_rate=1e-3, optimizer="sgd", **bare)
    plan = make_plan("full", ready.layers, new=("head",), options={"tune": settings})
    network = ready.chain, ready.preprocessing
    problem = Problem(*network, task, plan, batch_size=count, **objective)
    inputs = prefix.decoded(task, ready.preprocessing)
    batch = {"inputs": Known(tokens=tokens)} | truth
    return ours.stepping(problem, ready.variables, inputs, batch)[0]


if __name__ == "__main__":
    worker.serve(prepare)
