"""Measure what `remat` costs: memory and time of a training step of every layer, with and without.

    python -m benchmarks.remat --base=resnet50 --batch=16

The memory is what the compiled step takes for its temporary values; both steps take turns.
"""

import dataclasses
import statistics
import time

from absl import flags

from benchmarks.measure import busy_cores, idle_note
from benchmarks.rows import NETS
from experiments import cli

_BASE = flags.DEFINE_enum("base", "efficientnet_lite0", sorted(NETS), "The base.")
_BATCH = flags.DEFINE_integer("batch", 16, "Images in a batch.", lower_bound=1)
_TURNS = flags.DEFINE_integer("turns", 5, "Number of measurements of each.", lower_bound=2)


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    from benchmarks import ours
    from tl_jax.base.load import load_base
    from tl_jax.engine import prefix

    busy, size = busy_cores(), NETS[_BASE.value].size
    spec = {"base": _BASE.value, "train": "all", "batch": _BATCH.value, "size": size}
    base = load_base(_BASE.value, "random:0").resized(size)
    problem, ready = ours.problem(base, spec | {"precision": "float32"})
    (phase,), runs, taken = problem.plan.phases, {}, {}
    for remat in ("", "."):
        settings = dataclasses.replace(phase.settings, remat=remat)
        plan = dataclasses.replace(
            problem.plan, phases=(dataclasses.replace(phase, settings=settings),)
        )
        changed = dataclasses.replace(problem, plan=plan)
        inputs = prefix.decoded(problem.task, ready.preprocessing)
        runs[remat], _, traced = ours.stepping(changed, ready.variables, inputs)
        taken[remat] = traced().lower().compile().memory_analysis().temp_size_in_bytes
        runs[remat](1)
    seconds = {remat: [] for remat in runs}
    for _ in range(_TURNS.value):
        for remat, run in runs.items():
            started = time.perf_counter()
            run(1)
            seconds[remat].append(time.perf_counter() - started)
    for remat, times in seconds.items():
        print(
            f"{_BASE.value} x{_BATCH.value}, remat={remat!r}: {taken[remat] / 2**20:,.0f} MiB, "
            f"{statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})"
        )
    ratio = statistics.median(seconds["."]) / statistics.median(seconds[""])
    print(f"{taken['.'] / taken['']:.2f} of the memory, {ratio:.2f} of the time{idle_note(busy)}")


if __name__ == "__main__":
    cli.run(main)
