"""Pieces of work done one after another, or by several processes, of which one may die.

Imports no JAX: a worker chooses its cores before JAX looks at them.
"""

import concurrent.futures
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tl_jax import interrupt

Work = Callable[[Any], Any]
Done = tuple[Any, Any]  # the item, and what came of it: a value, or the Exception


class WorkerDied(Exception):
    """The process that did this piece of work ended before it, twice."""

    def __init__(self):
        super().__init__("the worker process died, and so did the next: is memory short?")


def in_turn(work: Work, items: Sequence[Any]) -> Iterator[Done]:
    """Yield each item with what `work` makes of it, in order; an Exception does not stop the rest.
    """
    for item in items:
        yield item, _tried(work, item)


def in_processes(work: Work, items: Sequence[Any], *, workers: int) -> Iterator[Done]:
    """Yield each item with what `work` makes of it in one of several processes, as they finish.

    Each process has cores of its own and leaves Ctrl-C to this one. Where one dies, what was at
    work is done again, alone in a new process; WorkerDied stands for what kills that one too.
    """
    left = list(items)
    while left:
        lost: list[Any] = []
        with _executor(workers) as executor:
            running: dict[Any, Any] = {}
            while (left or running) and not lost:
                while left and len(running) < workers:
                    item = left.pop(0)
                    running[executor.submit(_tried, work, item)] = item
                done, _ = concurrent.futures.wait(running, return_when="FIRST_COMPLETED")
                for future in done:
                    item = running.pop(future)
                    if isinstance(future.exception(), BrokenProcessPool):
                        lost.append(item)
                    else:
                        yield item, future.result()
            lost += running.values()
        yield from ((item, _alone(work, item)) for item in lost)


def _alone(work: Work, item: Any) -> Any:
    with _executor(1) as executor:
        try:
            return executor.submit(_tried, work, item).result()
        except BrokenProcessPool:
            return WorkerDied()


def _tried(work: Work, item: Any) -> Any:
    try:
        return work(item)
    except interrupt.Interrupted:  # a signal is no failure of the work
        raise
    except Exception as error:
        return error


def _executor(workers: int) -> concurrent.futures.ProcessPoolExecutor:
    # Spawned: a fork of a process in which JAX runs threads hangs.
    context = multiprocessing.get_context("spawn")
    numbers = context.SimpleQueue()
    for number in range(workers):
        numbers.put(number)
    return concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(numbers, workers)
    )


def _begin(numbers: Any, workers: int) -> None:
    """Leave the worker its share of the cores, at least one, and Ctrl-C to its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "sched_setaffinity") and not numbers.empty():
        cores = sorted(os.sched_getaffinity(0))
        number = numbers.get()
        os.sched_setaffinity(0, set(cores[number::workers] or cores))
