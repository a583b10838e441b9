"""Ours and PyTorch in turns, each in a process of its own."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.rows import NETS

SECONDS = 2.0  # that a turn is to take at least
IDLE = 0.1  # cores that others may keep busy


def measure(base: str, train: str, batch: int, *, cached: bool = False, turns: int = 5) -> dict:
    """Images a second of ours and the peer, median and spread of the turns, and their ratio."""
    spec = {
        "base": base,
        "train": train,
        "batch": batch,
        "size": NETS[base].size,
        "cached": cached,
        "threads": os.cpu_count(),
    }
    ways = {"ours": ("ours", spec)}
    ways |= {"eager": ("peer", spec | {"compile": False})}
    ways |= {"compiled": ("peer", spec | {"compile": True})}
    busy = busy_cores()
    with contextlib.ExitStack() as stack:
        workers, said = {}, {}
        for name, way in ways.items():  # one after the other: compiling takes every core
            workers[name] = stack.enter_context(started(*way))
            said[name] = json.loads(workers[name].stdout.readline())
        steps = {name: _steps(worker) for name, worker in workers.items()}
        seconds = {name: [] for name in workers}
        for _ in range(turns):
            for name, worker in workers.items():
                seconds[name].append(ask(worker, steps[name])["seconds"] / steps[name])
        peaks = {name: ask(worker, 1)["peak_bytes"] for name, worker in workers.items()}
    rates = {name: [batch / s for s in several] for name, several in seconds.items()}
    peer = max(("eager", "compiled"), key=lambda name: statistics.median(rates[name]))
    return {
        **{key: spec[key] for key in ("base", "train", "batch", "size", "cached")},
        "ours": statistics.median(rates["ours"]),
        "peer": statistics.median(rates[peer]),
        "peer_is": peer,
        "ratio": statistics.median(rates["ours"]) / statistics.median(rates[peer]),
        "spread": {name: [min(several), max(several)] for name, several in rates.items()},
        "peak_bytes": peaks,
        "said": said,
        "busy_cores_before": busy,
        "idle": busy <= IDLE,
    }


def line(row: dict) -> str:
    """The row as people read it."""
    what = f"{row['base']} {row['train']} x{row['batch']}" + " cached" * row["cached"]
    low, high = row["spread"]["ours"]
    note = "" if row["idle"] else f"; machine NOT idle: {row['busy_cores_before']:.1f} cores busy"
    return (
        f"{what}: ours {row['ours']:.2f} images/s ({low:.2f} to {high:.2f}), "
        f"PyTorch {row['peer_is']} {row['peer']:.2f}: ratio {row['ratio']:.2f}{note}"
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
    return max(1, round(SECONDS / ask(worker, 1)["seconds"]))


def busy_cores() -> float:
    """Cores kept busy by whatever runs besides, over a second."""
    import psutil

    return psutil.cpu_percent(interval=1.0) / 100 * psutil.cpu_count()
