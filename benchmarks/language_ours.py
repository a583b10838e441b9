"""The worker of this library for texts: an encoder's forward pass, or its training step."""

from benchmarks import ours, worker


def prepare(spec: dict):
    import numpy as np

    from tl_jax.base.load import load_base

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


def _training(base, tokens):
    """Return a function that runs SGD steps on all layers, without decay and clipping."""
    import numpy as np

    from tl_jax.chain.places import Known
    from tl_jax.data.task import Task
    from tl_jax.data.tasks.arrays import unweighted
    from tl_jax.engine import prefix
    from tl_jax.plans.plan import Settings
    from tl_jax.plans.strategies import make_plan
    from tl_jax.train.problem import Problem

    count, rows = len(tokens), np.arange(3 * len(tokens))
    splits = dict(zip(("train", "val", "test"), np.split(rows, 3), strict=True))
    truth, texts = unweighted(rows % 2, 2), np.tile(tokens, (3, 1))
    ids = tuple(map(str, rows))
    task = Task("benchmark", ids, splits, "noise", truth, arrays={"tokens": texts})
    ready = base.with_head(2)
    bare = {"weight_decay": 0.0, "clip": 0.0}
    settings = Settings(epochs=1, learning_rate=1e-3, optimizer="sgd", **bare)
    plan = make_plan("full", ready.layers, new=("head",), options={"tune": settings})
    problem = Problem(ready.chain, ready.preprocessing, task, plan, batch_size=count)
    inputs = prefix.decoded(task, ready.preprocessing)
    known = {"inputs": Known(tokens=tokens), "weights": np.ones(count, np.float32)}
    batch = known | {"targets": truth["targets"][:count]}
    return ours.stepping(problem, ready, inputs, batch)[0]


if __name__ == "__main__":
    worker.serve(prepare)
