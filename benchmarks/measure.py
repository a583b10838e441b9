"""Measure this library and PyTorch in turns, each in its own process."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.rows import NETS

SECONDS = 1.5  # of a turn, at least
WARM = 4.0  # seconds that a worker runs before: its memory grows in the first steps
IDLE = 0.1  # cores that other processes may keep busy


def measure(base: str, train: str, batch: int, precision: str, *, turns: int) -> dict:
    """Return images a second of ours and the peer, as median and spread of turns, and their ratio.

    If layers are frozen, it also measures ours on their stored output, as `cached`.
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
    steps, answers, reports, peaks = in_turns(ways, turns)
    rates = {
        name: [batch * steps[name] / turn["seconds"] for turn in turns_taken]
        for name, turns_taken in answers.items()
    }
    medians = {name: statistics.median(values) for name, values in rates.items()}
    peer = max(("eager", "compiled"), key=medians.get)
    row = {
        **shared,
        "ours": medians["ours"],
        "peer": medians[peer],
        "peer_is": peer,
        "ratio": medians["ours"] / medians[peer],
        "spread": {name: [min(values), max(values)] for name, values in rates.items()},
        "turns": [
            {"rate": rate, "system_seconds": answer["system_seconds"]}
            for rate, answer in zip(rates["ours"], answers["ours"], strict=True)
        ],
        "peak_bytes": peaks,
        "said": reports,
        "busy_cores_before": busy,
        "idle": busy <= IDLE,
    }
    if "cached" in medians:
        row |= {"cached": medians["cached"], "cached_ratio": medians["cached"] / medians[peer]}
    return row


class Turns(NamedTuple):
    """What workers answered, by the name of each."""

    steps: dict[str, int]  # of a turn
    answers: dict[str, list[dict]]  # a turn each
    reports: dict[str, dict]  # of their preparation
    peaks: dict[str, int]  # bytes


def in_turns(ways: dict[str, tuple[str, dict]], turns: int) -> Turns:
    """Let workers, each a module and its specification, take so many turns, one after the other."""
    with contextlib.ExitStack() as stack:
        workers, reports = {}, {}
        for name, way in ways.items():  # one after the other, since compiling takes every core
            workers[name] = stack.enter_context(started(*way))
            reports[name] = json.loads(workers[name].stdout.readline())
        steps = {name: _steps(worker) for name, worker in workers.items()}
        answers = {name: [] for name in workers}
        for _ in range(turns):
            for name, worker in workers.items():
                answers[name].append(ask(worker, steps[name]))
        peaks = {name: ask(worker, 1)["peak_bytes"] for name, worker in workers.items()}
    return Turns(steps, answers, reports, peaks)


def line(row: dict) -> str:
    """Return the row as a line of text."""
    low, high = row["spread"]["ours"]
    cached = f" ({row['cached']:.2f} from the stored prefix)" if "cached" in row else ""
    return (
        f"{row['base']} {row['train']} x{row['batch']}: ours {row['ours']:.2f} images/s "
        f"({low:.2f} to {high:.2f}){cached}, PyTorch {row['peer_is']} {row['peer']:.2f}: "
        f"ratio {row['ratio']:.2f}{idle_note(row['busy_cores_before'])}"
    )


@contextlib.contextmanager
def started(worker: str, spec: dict) -> Iterator[subprocess.Popen]:
    """Start a worker, which prepares itself; kill it when the block ends."""
    command = [sys.executable, "-m", f"benchmarks.{worker}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen(command, **pipes) as process:
        try:
            process.stdin.write(json.dumps(spec) + "\n")
            yield process
        finally:
            process.kill()


def ask(worker: subprocess.Popen, steps: int) -> dict:
    """Let the worker run `steps` steps, and return its answer."""
    worker.stdin.write(f"{steps}\n")
    return json.loads(worker.stdout.readline())


def _steps(worker: subprocess.Popen) -> int:
    """Warm the worker up, and return how many steps a turn has."""
    warm = max(1, round(WARM / ask(worker, 1)["seconds"]))
    return max(1, round(SECONDS * warm / ask(worker, warm)["seconds"]))


def idle_note(busy: float) -> str:
    """Return a note for figures that were measured while `busy` cores were busy."""
    return "" if busy <= IDLE else f"; machine NOT idle: {busy:.1f} cores busy"


def busy_cores() -> float:
    """Measure for a second how many cores other processes keep busy."""
    import psutil

    return psutil.cpu_percent(interval=1.0) / 100 * psutil.cpu_count()
