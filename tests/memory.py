"""How resident memory grows over many epochs of a run, and over the cells of a study.

    python tests/memory.py [--epochs=200] [--cells=60] [--folder=runs/memory] [job ...]

Prints the slope of a line through the last three quarters of the measurements, with the 95 %
interval of least squares, in kilobytes an epoch or a cell. Each job has a process of its own.
"""

import argparse
import os
import pathlib
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from unittest import mock

import numpy as np

SKIPPED = 4  # of so many parts the first: programs of both phases are compiled, and pools fill


def resident() -> float:
    """Kilobytes of this process in memory."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024


def slope(sizes: list[float]) -> tuple[float, float]:
    """Slope of a line through the later sizes, and half its 95 % interval."""
    kept = np.array(sizes[len(sizes) // SKIPPED :])
    x = np.arange(len(kept)) - (len(kept) - 1) / 2
    found = (x @ kept) / (x @ x)
    rest = kept - kept.mean() - found * x
    return found, 1.96 * float(np.sqrt(rest @ rest / (len(kept) - 2) / (x @ x)))


def cached(workdir: pathlib.Path, count: int, note: Callable[[], None]) -> None:
    """A transfer above stored outputs of a frozen layer."""
    _transfer(workdir, count, note, cache=str(workdir / "cache"))


def uncached(workdir: pathlib.Path, count: int, note: Callable[[], None]) -> None:
    """The same, in which every image is decoded and goes through all layers in every epoch."""
    _transfer(workdir, count, note, cache="")


def streamed(workdir: pathlib.Path, count: int, note: Callable[[], None]) -> None:
    """The same with random augmentation, batch by batch from stored pixels."""
    _transfer(workdir, count, note, cache=str(workdir / "cache"), **{
        f"{phase}.augment": "crop+flip" for phase in ("train_head", "tune")
    })  # fmt: skip


def _transfer(workdir: pathlib.Path, count: int, note: Callable[[], None], **changes) -> None:
    from configs import digits
    from tl_jax.runs import log, transfer

    config = digits.get_config()
    config.update_from_flattened_dict({
        "base": "alexnet_small", "weights": "random:0", "size": 28, "cut": "fc5",
        "from_layer": "conv4", "task.per_class": 8, "train_head.epochs": 2,
        "tune.epochs": count - 2, "batch_size": 16, **changes,
    })  # fmt: skip
    writer = log.writer

    def noting(folder: pathlib.Path) -> Callable[[dict], None]:
        write = writer(folder)
        return lambda row: (write(row), note())

    with mock.patch.object(log, "writer", noting):
        transfer.by_config(config, workdir, name="memory")


def study(workdir: pathlib.Path, count: int, note: Callable[[], None]) -> None:
    """A study of scenarios, whose cells train networks in one process."""
    from configs import scenarios_digits
    from tl_jax.runs.journal import Journal
    from tl_jax.studies import run as studies

    config, add = scenarios_digits.get_config(), Journal.add
    with config.unlocked():
        small = {"weights": "random:0", "size": 28}
        config.bases = {"small": {**config.bases.lite0.to_dict(), "base": "alexnet_small", **small}}
        config.plans = {"from_scratch": config.plans.from_scratch.to_dict()}
        config.update({"budgets": (2,), "seeds": count, "cache": str(workdir / "cache")})
        config.settings = {"cut": "fc5", "batch_size": 16, "tune": {"epochs": 2}}

    def noting(journal: Journal, *given, **key) -> dict:
        note()
        return add(journal, *given, **key)

    with mock.patch.object(Journal, "add", noting):
        studies.run("scenarios", config, workdir, name="memory")


JOBS = {"cached": cached, "uncached": uncached, "streamed": streamed, "study": study}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jobs", nargs="*", help="all, if none is named")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("runs/memory"))
    given = parser.parse_args()
    if len(given.jobs) != 1:
        shared = [f"--{name}={getattr(given, name)}" for name in ("epochs", "cells", "folder")]
        for job in given.jobs or JOBS:
            subprocess.run([sys.executable, __file__, job, *shared], check=True)
        return 0
    (job,), sizes = given.jobs, []
    workdir = given.folder.absolute() / job
    shutil.rmtree(workdir, ignore_errors=True)
    count = given.cells if job == "study" else given.epochs
    with open(os.devnull, "w") as quiet, mock.patch.object(sys, "stderr", quiet):
        JOBS[job](workdir, count, lambda: sizes.append(resident()))
    (workdir / "kilobytes.txt").write_text("\n".join(f"{size:.0f}" for size in sizes))
    each, half = slope(sizes)
    what = "cell" if job == "study" else "epoch"
    print(
        f"{job}: {len(sizes)} {what}s, {sizes[0] / 1024:.0f} MB after the first, "
        f"{sizes[-1] / 1024:.0f} after the last; {each:+.1f} ± {half:.1f} kB a {what}",
        flush=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
