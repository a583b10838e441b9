"""The worker of this library: its training step, or a base's forward pass."""

import time

from benchmarks import worker
from benchmarks.rows import NETS, PRECISIONS


def prepare(spec: dict):
    import jax

    from tl_jax.base.load import load_base

    if jax.default_backend() != "cpu":
        jax.config.update("jax_default_matmul_precision", PRECISIONS[spec["precision"]].products)
    imported = time.perf_counter()
    base = load_base(spec["base"], "random:0").resized(spec["size"])
    report = {"load_seconds": time.perf_counter() - imported, "jax": jax.__version__}
    run, traced = (_inference if spec["train"] == "none" else training)(base, spec)
    report |= _compiling(run)  # first, because programs traced for their cost are not traced again
    return run, report | _cost(*traced())


def _pixels(spec: dict):
    import numpy as np

    shape = (spec["batch"], spec["size"], spec["size"], 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _inference(base, spec: dict):
    import jax

    from tl_jax.chain.programs import forward_program

    dtype, variables = PRECISIONS[spec["precision"]].dtype, jax.device_put(base.variables)
    x = jax.device_put(base.preprocessing.normalise(_pixels(spec))).astype(dtype)
    program = forward_program(base.chain, None, None)
    forward = program.of(variables)

    def run(steps: int) -> None:
        for _ in range(steps):
            out = forward(x)
        jax.block_until_ready(out)

    return run, lambda: [program.whole.trace(variables, x)]


def problem(base, spec: dict, batches: int = 2):
    """Return a transfer of `spec["train"]` on noise, with that many batches, and its base."""
    import numpy as np

    from tl_jax.data.tasks.arrays import from_arrays
    from tl_jax.plans.plan import Settings
    from tl_jax.plans.strategies import make_plan
    from tl_jax.train.problem import Problem

    images = np.tile(_pixels(spec), (2 * batches, 1, 1, 1))  # half of them are in train
    labels = np.arange(len(images)) % 2
    task = from_arrays("benchmark", images, labels, seed=0, val=0.25, test=0.25)
    ready = base.with_head(2)
    # As in benchmarks.peer, a step neither decays weights nor clips gradients.
    bare = {"weight_decay": 0.0, "clip": 0.0}
    settings = Settings(epochs=1, learning_rate=1e-3, optimizer="sgd", batch_norm="batch", **bare)
    name = {"head": "head_only", "last": "fine_tune_top", "all": "full"}[spec["train"]]
    options = {"train_head": settings, "tune": settings, "from_layer": NETS[spec["base"]].last}
    plan = make_plan(name, ready.layers, new=("head",), options=options)
    network = ready.chain, ready.preprocessing
    sizes = {"batch_size": spec["batch"], "precision": PRECISIONS[spec["precision"]].dtype}
    return Problem(*network, task, plan, **sizes), ready


def training(base, spec: dict):
    """Return a function that runs steps of `tl_jax.train`, and one that traces a step's programs.

    With `spec["cached"]` the steps start from the phase's stored prefix.
    """
    import numpy as np

    from tl_jax.chain.places import Known
    from tl_jax.chain.programs import forward, forward_program
    from tl_jax.engine import prefix
    from tl_jax.train.inputs import asked

    transfer, ready = problem(base, spec)
    phase = transfer.plan.phases[0]
    inputs = prefix.decoded(transfer.task, ready.preprocessing)
    targets = np.eye(2, dtype=np.float32)[np.arange(spec["batch"]) % 2]
    weights = np.ones(spec["batch"], np.float32)
    pixels = _pixels(spec)
    batch = {"inputs": Known(image=pixels), "targets": targets, "weights": weights}
    stored = next(iter(asked(transfer, phase, ready.variables).places.found), None)
    if spec["cached"] and stored:
        inputs = inputs._replace(start=stored)
        x = ready.preprocessing.normalise(pixels)
        output = np.asarray(forward(ready.chain, ready.variables, x, stop=stored))
        batch["inputs"] = Known({stored: output})
    run, work, step = stepping(transfer, ready.variables, inputs, batch)

    def traced():
        yield step()
        if work.start != inputs.start:
            prefix_alone = forward_program(ready.chain, None, work.start).whole
            yield prefix_alone.trace(ready.variables, ready.preprocessing.normalise(pixels))

    return run, traced


def stepping(problem, variables, inputs, batch=None):
    """Return a function that runs steps of the first phase on the batch (None: the first one of the
    inputs), the phase's work, and what traces a step.
    """
    from tl_jax.train import fold, state
    from tl_jax.train.work import PhaseRun

    work = PhaseRun(problem, problem.plan.phases[0], 0, inputs, variables)
    batch = next(work.batches(0)) if batch is None else batch
    parallel = problem.parallel
    memory = fold.first_memory(work, variables, variables)
    current = parallel.place(state.begin(work.recipe, work.survey, variables, memory))
    frozen = parallel.place(work.frozen(variables, variables, 0))
    prefix_fn, batch = work.prefix(frozen), parallel.share(batch)

    def run(steps: int) -> None:
        nonlocal current
        for _ in range(steps):  # one at a time, as in `train.streamed`
            current = work.call(work.step, current, frozen, prefix_fn(batch))
            work.finish(current)

    return run, work, lambda: work.step.trace(current, frozen, prefix_fn(batch))


def _compiling(run) -> dict:
    """Run twice, and report how much longer the first time took."""
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        run(1)
        seconds.append(time.perf_counter() - started)
    return {"compile_seconds": seconds[0] - seconds[1]}


def _cost(*traced) -> dict:
    """Return the floating-point operations of XLA's own operations, and the bytes that move.

    XLA knows neither of oneDNN's calls, so operations are counted in the program for a TPU, and
    bytes are None on a CPU.
    """
    import jax

    analyses = [t.lower(lowering_platforms=("tpu",)).cost_analysis() for t in traced]
    moved = None
    if jax.default_backend() != "cpu":
        moved = sum(t.lower().compile().cost_analysis()["bytes accessed"] for t in traced)
    return {"flops": sum(a["flops"] for a in analyses), "bytes": moved}


if __name__ == "__main__":
    worker.serve(prepare)
