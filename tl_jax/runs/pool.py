"""Pieces of work done one after another, or by several processes, of which one may die.

Imports no JAX: a worker chooses its cores before JAX looks at them.
"""

import concurrent.futures
import contextlib
import functools
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection, wait
from typing import Any

import tqdm

from tl_jax import interrupt
from tl_jax.runs import cores

Work = Callable[[Any], Any]
Done = tuple[Any, Any]  # the item, and what came of it: a value, or the Exception

PAUSE = 0.2  # seconds between two looks at the signals


class WorkerDied(Exception):
    """The process that did this piece of work ended before it, twice."""

    def __init__(self):
        super().__init__("the worker process died, and so did the next: is memory short?")


def in_turn(work: Work, items: Sequence[Any]) -> Iterator[Done]:
    """Yield each item with what `work` makes of it, in order; an Exception does not stop the rest.
    """
    for item in items:
        interrupt.check()
        yield item, tried(work, item)


def in_processes(work: Work, items: Sequence[Any], *, workers: int) -> Iterator[Done]:
    """Yield each item with what `work` makes of it in one of several processes, as they finish.

    Each process has cores of its own and leaves Ctrl-C to this one. Where one dies, what was at
    work is done again, alone in a new process; WorkerDied stands for what kills that one too.
    Interrupted after a signal: what has finished is yielded before, the processes end at once.
    """
    return again_alone(functools.partial(_until_one_dies, work, workers=workers), items)


def again_alone(attempt: Callable[[list], Iterator[Done]], items: Sequence[Any]) -> Iterator[Done]:
    """Yield what `attempt` makes of the items; those that died with their worker get a second
    attempt, each alone.

    `attempt` takes items off the list that it is given, all or some of them, and yields each of
    these with what came of it: WorkerDied if its worker died.
    """
    left = list(items)
    while left:
        lost = []
        for item, found in attempt(left):
            if isinstance(found, WorkerDied):
                lost.append(item)
            else:
                yield item, found
        for item in lost:
            yield from attempt([item])


def tried(work: Work, item: Any) -> Any:
    """Return what `work` makes of the item, or the Exception that it raises."""
    try:
        return work(item)
    except interrupt.Interrupted:  # a signal is no failure of the work
        raise
    except Exception as error:
        return error


def error_of(error: BaseException) -> str:
    """What a row says of work that failed: one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:500]


def _until_one_dies(work: Work, left: list, *, workers: int) -> Iterator[Done]:
    """An attempt that ends when a process dies, and with it all that were at work."""
    running: dict[concurrent.futures.Future, Any] = {}
    broken = False
    with _executor(workers) as executor:
        while running or (left and not broken):
            interrupt.check()
            try:
                while left and len(running) < workers and not broken:
                    running[executor.submit(tried, work, left[0])] = left[0]
                    del left[0]
            except BrokenProcessPool:
                broken = True
            done, _ = concurrent.futures.wait(running, PAUSE, return_when="FIRST_COMPLETED")
            for future in done:
                error = future.exception()  # `tried` raises none, but results may not be picklable
                died = isinstance(error, BrokenProcessPool)
                broken |= died
                yield running.pop(future), WorkerDied() if died else error or future.result()


@contextlib.contextmanager
def _executor(workers: int) -> Generator[concurrent.futures.ProcessPoolExecutor]:
    """Yield an executor whose processes end at once if an exception leaves the block, and if this
    process dies. What they leave among the temporary files goes too.
    """
    context = multiprocessing.get_context("spawn")  # a fork of JAX's threads hangs
    leash, end = context.Pipe(duplex=False)
    with leash, end, tempfile.TemporaryDirectory(prefix="tl_jax_") as scratch:
        with concurrent.futures.ProcessPoolExecutor(
            workers, mp_context=context, initializer=_begin, initargs=(workers, leash, scratch)
        ) as executor:
            try:
                yield executor
            except BaseException:
                end.close()
                raise


def _begin(workers: int, leash: Connection, scratch: str) -> None:
    """Leave the worker its share of the cores, at least one, and Ctrl-C to its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cores.take(workers)
    tempfile.tempdir = scratch
    tqdm.tqdm.set_lock(threading.RLock())  # its own would be a semaphore, which outlives a kill
    threading.Thread(target=_end_with, args=(leash,), daemon=True).start()


def _end_with(leash: Connection) -> None:
    wait([leash])  # the other end is closed; nothing is ever sent
    os._exit(1)
