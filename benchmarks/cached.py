"""Measure the cost of the stored prefix: epochs that read it, beside the trained layers alone.

    python -m benchmarks.cached --base=resnet50

It compares an epoch of `tl_jax.train` on the frozen layers' stored output, with reading, shuffling
and waiting, to as many steps of the trained layers on one batch that is on the device already. The
two take turns; the first epoch, which compiles, does not count.
"""

import pathlib
import statistics
import tempfile
import time

from absl import flags

from benchmarks.measure import busy_cores, idle_note
from benchmarks.rows import NETS
from experiments import cli

_BASE = flags.DEFINE_enum("base", "resnet50", sorted(NETS), "The base.")
_TRAIN = flags.DEFINE_enum("train", "last", ("head", "last"), "The layers to train.")
_BATCH = flags.DEFINE_integer("batch", 16, "Images in a batch.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 32, "Batches in an epoch.", lower_bound=2)
_TURNS = flags.DEFINE_integer("turns", 5, "Number of measured epochs.", lower_bound=2)
_DTYPE = flags.DEFINE_string("dtype", "float32", "Type of the stored numbers.")


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    import jax

    from benchmarks import ours
    from tl_jax.base.load import load_base
    from tl_jax.engine import prefix
    from tl_jax.train import loop as train
    from tl_jax.train import state
    from tl_jax.train.inputs import for_plan
    from tl_jax.train.work import PhaseRun

    busy, size = busy_cores(), NETS[_BASE.value].size
    spec = {"base": _BASE.value, "train": _TRAIN.value, "batch": _BATCH.value, "size": size}
    base = load_base(_BASE.value, "random:0").resized(size)
    problem, ready = ours.problem(base, spec | {"precision": "float32"}, batches=_STEPS.value)
    phase = problem.plan.phases[0]
    with tempfile.TemporaryDirectory() as folder:
        inputs_for = for_plan(
            problem, test_views="none", cache=pathlib.Path(folder), dtype=_DTYPE.value
        )
        stored = inputs_for(phase, ready.variables)
        resident = prefix.on_device(stored, problem.parallel)
        work = PhaseRun(problem, phase, 0, resident, ready.variables)
        initial = state.begin(work.recipe, work.survey, ready.variables)
        frozen = work.frozen(ready.variables, ready.variables, 0)
        initial, frozen = problem.parallel.place(initial), problem.parallel.place(frozen)
        streamed = PhaseRun(problem, phase, 0, stored, ready.variables)
        batch = problem.parallel.share(next(streamed.batches(0)))
        alone = work.step.lower(initial, frozen, batch).compile()
        epochs, steps = [], []
        for turn in range(_TURNS.value + 1):
            progress = state.Progress()
            fresh = jax.tree.map(lambda a: a.copy(), initial)
            _, cost = train.train_epoch(work, frozen, fresh, progress, lambda reached: None)
            fresh = jax.tree.map(lambda a: a.copy(), initial)
            started = time.perf_counter()
            for _ in range(cost["steps"]):
                fresh = alone(fresh, frozen, batch)
            jax.block_until_ready(fresh.sums)
            if turn:
                epochs.append(cost["train_seconds"] / cost["steps"])
                steps.append((time.perf_counter() - started) / cost["steps"])
    epoch, step = statistics.median(epochs), statistics.median(steps)
    print(
        f"{_BASE.value} {_TRAIN.value} x{_BATCH.value}: a step of an epoch on the stored prefix "
        f"{1e3 * epoch:.1f} ms ({1e3 * min(epochs):.1f} to {1e3 * max(epochs):.1f}), the trained "
        f"layers alone {1e3 * step:.1f} ms: {epoch / step:.2f} times{idle_note(busy)}"
    )


if __name__ == "__main__":
    cli.run(main, trains=True)
