"""The worker of this library: the engine's own training step, or a base's forward pass."""

import time

from benchmarks import worker
from benchmarks.rows import NETS


def prepare(spec: dict):
    import jax

    from tl_jax.base.load import load_base

    imported = time.perf_counter()
    base = load_base(spec["base"], "random:0").resized(spec["size"])
    said = {"load_seconds": time.perf_counter() - imported, "jax": jax.__version__}
    run, traced = (_inference if spec["train"] == "none" else training)(base, spec)
    said |= _compiling(run)  # first: what is traced for the costs would not be traced again
    return run, said | _cost(*traced())


def _pixels(spec: dict):
    import numpy as np

    shape = (spec["batch"], spec["size"], spec["size"], 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _inference(base, spec: dict):
    import jax

    from tl_jax.chain.programs import forward_program

    variables = jax.device_put(base.variables)
    variables["params"] = jax.tree.map(lambda p: p.astype(spec["precision"]), variables["params"])
    x = jax.device_put(base.preprocessing.normalise(_pixels(spec))).astype(spec["precision"])
    program = forward_program(base.chain, None, None)
    forward = program.of(variables)

    def run(steps: int) -> None:
        for _ in range(steps):
            out = forward(x)
        jax.block_until_ready(out)

    return run, lambda: [program.whole.trace(variables, x)]


def problem(base, spec: dict, batches: int = 2):
    """A transfer of `spec["train"]` on noise, with so many batches an epoch, and its base."""
    import numpy as np

    from tl_jax.data.tasks.arrays import from_arrays
    from tl_jax.plans.plan import Settings
    from tl_jax.plans.strategies import make_plan
    from tl_jax.train.problem import Problem

    several = np.tile(_pixels(spec), (2 * batches, 1, 1, 1))  # half of them are trained on
    labels = np.arange(len(several)) % 2
    task = from_arrays("benchmark", several, labels, seed=0, val=0.25, test=0.25)
    ready = base.with_head(2)
    # The step of benchmarks.peer: neither decay nor clipping.
    bare = {"weight_decay": 0.0, "clip": 0.0}
    settings = Settings(epochs=1, learning_rate=1e-3, optimizer="sgd", batch_norm="batch", **bare)
    name = {"head": "head_only", "last": "fine_tune_top", "all": "full"}[spec["train"]]
    options = {"train_head": settings, "tune": settings, "from_layer": NETS[spec["base"]].last}
    plan = make_plan(name, ready.layers, new=("head",), options=options)
    network = ready.chain, ready.preprocessing
    sizes = {"batch_size": spec["batch"], "precision": spec["precision"]}
    return Problem(*network, task, plan, **sizes), ready


def training(base, spec: dict):
    """What runs so many steps of `tl_jax.train`, cut at the phase's prefix if `spec["cached"]`, and
    what traces the programs of one.
    """
    import numpy as np

    from tl_jax.chain.places import Known
    from tl_jax.chain.programs import forward, forward_program
    from tl_jax.engine import prefix
    from tl_jax.train import state
    from tl_jax.train.inputs import asked
    from tl_jax.train.work import PhaseRun

    mine, ready = problem(base, spec)
    phase = mine.plan.phases[0]
    inputs = prefix.decoded(mine.task, ready.preprocessing)
    targets = np.eye(2, dtype=np.float32)[np.arange(spec["batch"]) % 2]
    weights = np.ones(spec["batch"], np.float32)
    pixels = _pixels(spec)
    batch = {"inputs": Known(image=pixels), "targets": targets, "weights": weights}
    stored = next(iter(asked(mine, phase, ready.variables).places.found), None)
    if spec["cached"] and stored:
        inputs = inputs._replace(start=stored)
        x = ready.preprocessing.normalise(pixels)
        output = np.asarray(forward(ready.chain, ready.variables, x, stop=stored))
        batch["inputs"] = Known({stored: output})
    work = PhaseRun(mine, phase, 0, inputs, ready.variables)
    parallel = mine.parallel
    now = parallel.place(state.begin(work.recipe, work.survey, ready.variables))
    frozen = parallel.place(work.frozen(ready.variables, ready.variables, 0))
    below, batch = work.prefix(frozen), parallel.share(batch)

    def run(steps: int) -> None:
        nonlocal now
        for _ in range(steps):  # one at a time, as in `train.streamed`
            now = work.call(work.step, now, frozen, below(batch))
            work.finish(now)

    def traced():
        yield work.step.trace(now, frozen, below(batch))
        if work.start != inputs.start:
            prefix_alone = forward_program(ready.chain, None, work.start).whole
            yield prefix_alone.trace(ready.variables, ready.preprocessing.normalise(pixels))

    return run, traced


def _compiling(run) -> dict:
    """Run a first time, and report how long that took beyond a second time."""

    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        run(1)
        seconds.append(time.perf_counter() - started)
    return {"compile_seconds": seconds[0] - seconds[1]}


def _cost(*traced) -> dict:
    """Operations of XLA's own forms, and the bytes that the programs move (None: not known).

    In a program for the CPU there are calls of oneDNN, of which XLA knows neither.
    """
    import jax

    analyses = [t.lower(lowering_platforms=("tpu",)).cost_analysis() for t in traced]
    moved = None
    if jax.default_backend() != "cpu":
        moved = sum(t.lower().compile().cost_analysis()["bytes accessed"] for t in traced)
    return {"flops": sum(a["flops"] for a in analyses), "bytes": moved}


if __name__ == "__main__":
    worker.serve(prepare)
