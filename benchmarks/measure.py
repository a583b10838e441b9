"""Ours and PyTorch in turns, each in a process of its own."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.rows import NETS

SECONDS = 1.5  # that a turn is to take at least
WARM = 4.0  # that a worker runs for before: its memory still grows in the first steps
IDLE = 0.1  # cores that others may keep busy


def measure(base: str, train: str, batch: int, precision: str, *, turns: int) -> dict:
    """Images a second of ours and the peer, median and spread of the turns, and their ratio.

    Where layers are frozen, ours is measured from their stored output too, as `cached`.
    """
    size, threads = NETS[base].size, len(os.sched_getaffinity(0))
    shared = {"base": base, "train": train, "batch": batch, "size": size, "precision": precision}
    spec = shared | {"threads": threads}
    ways = {"ours": ("ours", spec | {"cached": False})}
    if train in ("head", "last"):
        ways |= {"cached": ("ours", spec | {"cached": True})}
    ways |= {"eager": ("peer", spec | {"compile": False})}
    ways |= {"compiled": ("peer", spec | {"compile": True})}
    busy = busy_cores()
    with contextlib.ExitStack() as stack:
        workers, said = {}, {}
        for name, way in ways.items():  # one after the other: compiling takes every core
            workers[name] = stack.enter_context(started(*way))
            said[name] = json.loads(workers[name].stdout.readline())
        steps = {name: _steps(worker) for name, worker in workers.items()}
        answers = {name: [] for name in workers}
        for _ in range(turns):
            for name, worker in workers.items():
                answers[name].append(ask(worker, steps[name]))
        peaks = {name: ask(worker, 1)["peak_bytes"] for name, worker in workers.items()}
    rates = {
        name: [batch * steps[name] / answer["seconds"] for answer in several]
        for name, several in answers.items()
    }
    medians = {name: statistics.median(several) for name, several in rates.items()}
    peer = max(("eager", "compiled"), key=medians.get)
    row = {
        **shared,
        "ours": medians["ours"],
        "peer": medians[peer],
        "peer_is": peer,
        "ratio": medians["ours"] / medians[peer],
        "spread": {name: [min(several), max(several)] for name, several in rates.items()},
        "turns": [
            {"rate": rate, "system_seconds": answer["system_seconds"]}
            for rate, answer in zip(rates["ours"], answers["ours"], strict=True)
        ],
        "peak_bytes": peaks,
        "said": said,
        "busy_cores_before": busy,
        "idle": busy <= IDLE,
    }
    if "cached" in medians:
        row |= {"cached": medians["cached"], "cached_ratio": medians["cached"] / medians[peer]}
    return row


def line(row: dict) -> str:
    """The row as people read it."""
    low, high = row["spread"]["ours"]
    cached = f" ({row['cached']:.2f} from the stored prefix)" if "cached" in row else ""
    return (
        f"{row['base']} {row['train']} x{row['batch']}: ours {row['ours']:.2f} images/s "
        f"({low:.2f} to {high:.2f}){cached}, PyTorch {row['peer_is']} {row['peer']:.2f}: "
        f"ratio {row['ratio']:.2f}{idle_note(row['busy_cores_before'])}"
    )


@contextlib.contextmanager
def started(worker: str, spec: dict) -> Iterator[subprocess.Popen]:
    """A worker that prepares itself; it is gone when the block ends."""
    command = [sys.executable, "-m", f"benchmarks.{worker}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen(command, **pipes) as process:
        try:
            process.stdin.write(json.dumps(spec) + "\n")
            yield process
        finally:
            process.kill()


def ask(worker: subprocess.Popen, steps: int) -> dict:
    """The worker's answer after so many steps."""
    worker.stdin.write(f"{steps}\n")
    return json.loads(worker.stdout.readline())


def _steps(worker: subprocess.Popen) -> int:
    """How many a turn has, of a worker that is warm then."""
    warm = max(1, round(WARM / ask(worker, 1)["seconds"]))
    return max(1, round(SECONDS * warm / ask(worker, warm)["seconds"]))


def idle_note(busy: float) -> str:
    """What is said behind figures that were taken with so many cores busy before."""
    return "" if busy <= IDLE else f"; machine NOT idle: {busy:.1f} cores busy"


def busy_cores() -> float:
    """Cores kept busy by whatever runs besides, over a second."""
    import psutil

    return psutil.cpu_percent(interval=1.0) / 100 * psutil.cpu_count()
