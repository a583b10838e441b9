"""Measure a program's restart: seconds to its first step, with compiled programs read from disk.

    python -m benchmarks.start [--nets=resnet50,densenet121] [--times=3]

A process trains every layer for one step and stores the compiled programs in a folder
(`JAX_COMPILATION_CACHE_DIR`); then other processes do the same with that folder. Their time counts
from the start of the process: importing, creating parameters (in brackets), tracing, reading the
program, the step.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from absl import flags

from benchmarks.measure import busy_cores, idle_note
from benchmarks.rows import NETS, checked
from experiments import cli
from tl_jax.ops.cpu import heap

_NETS = flags.DEFINE_list("nets", ["resnet50", "inception_v3", "densenet121"], "The bases.")
_BATCH = flags.DEFINE_integer("batch", 16, "Images in a batch.", lower_bound=1)
_TIMES = flags.DEFINE_integer("times", 3, "Number of restarts of each.", lower_bound=1)


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    busy = busy_cores()
    print("| net | first start, s | started again (parameters) |\n|---|---|---|")
    for name in checked(_NETS.value):
        print(f"| {name} | {' | '.join(cells(name))} |", flush=True)
    print(f"seconds, batch {_BATCH.value}{idle_note(busy)}")


def cells(name: str) -> list[str]:
    """Return the seconds of the first start, and of the others: median, least and greatest."""
    with tempfile.TemporaryDirectory() as folder:
        first, *others = (started(name, folder) for _ in range(1 + _TIMES.value))
    seconds, creating = ([start[key] for start in others] for key in ("step", "parameters"))
    median, parameters = statistics.median(seconds), statistics.median(creating)
    again = f"{median:.1f} ({parameters:.2f}), {min(seconds):.1f} to {max(seconds):.1f}"
    return [f"{first['step']:.1f}", again]


def started(name: str, folder: str) -> dict[str, float]:
    """Return the seconds from a process's start to its first step, and those for its parameters."""
    code = f"from benchmarks import start; start.first_step({name!r}, {_BATCH.value})"
    cache = {"JAX_COMPILATION_CACHE_DIR": folder}
    begun = time.perf_counter()
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=os.environ | cache, stdout=subprocess.PIPE) as process:
        line = process.stdout.readline()
        seconds = time.perf_counter() - begun
    if process.returncode:
        raise SystemExit(f"a step of {name} failed")
    return {"step": seconds, "parameters": json.loads(line)}


def first_step(name: str, batch: int) -> None:
    """Train every layer of a fresh base for one step; print the seconds for its parameters."""
    heap.retain_freed_memory()
    from benchmarks import ours
    from tl_jax.base.load import load_base

    begun, size = time.perf_counter(), NETS[name].size
    base = load_base(name, "random:0").resized(size)
    parameters = time.perf_counter() - begun
    spec = {"base": name, "train": "all", "batch": batch, "size": size, "cached": False}
    run, _ = ours.training(base, spec | {"precision": "float32"})
    run(1)
    print(json.dumps(parameters), flush=True)


if __name__ == "__main__":
    cli.run(main)
