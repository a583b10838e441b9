"""Pieces of work done as tasks of a Ray cluster, by one machine or several (https://docs.ray.io).

Imports no JAX, like `pool`, and Ray only where it is used: it comes with the extra `ray`.
"""

import contextlib
import functools
import logging
import os
import pickle
import signal
import socket
import warnings
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from tl_jax import interrupt
from tl_jax.errors import UserError, unknown
from tl_jax.runs import cores, pool

KINDS = ("auto", "local")
GRACE = 2.0  # seconds in which tasks may clean up before their processes end


def require(kind: str) -> Any:
    """Return the module `ray`; UserError if it is not installed, or if there is no such `kind`."""
    if kind not in KINDS:
        raise unknown("cluster", kind, KINDS)
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise UserError("a cluster needs Ray: pip install 'tl_jax[ray]'") from None
    return ray


def in_ray(
    work: pool.Work, items: Sequence[Any], *, kind: str, workers: int = 1
) -> Iterator[pool.Done]:
    """Yield each item with what `work` makes of it in a task of a Ray cluster, as they finish.

    The cluster is the one that this machine belongs to (`auto`), or one of this machine alone, for
    as long as this takes (`local`). Its smallest machine does `workers` tasks at a time, a larger
    one more; each has cores of its own and works in this process's folder. A task whose process
    dies is done again, alone; WorkerDied stands for what dies twice. Interrupted after a signal:
    what has finished is yielded before, the tasks end at once.
    """
    ray = require(kind)
    with _connected(ray, kind):
        attempt = functools.partial(_all_at_once, ray, work, share=_share(ray, workers))
        yield from pool.again_alone(attempt, items)


def _all_at_once(
    ray: Any, work: pool.Work, left: list, *, share: dict[str, int]
) -> Iterator[pool.Done]:
    """An attempt at all items: Ray chooses when and where."""
    # Ray's own retries have no end where memory is short.
    task = ray.remote(max_retries=0, **share)(_done_there)
    here, cpus = os.getcwd(), share["num_cpus"]
    running = {task.remote(pickle.dumps((work, item)), here, cpus): item for item in left}
    left.clear()
    try:
        while running:
            interrupt.check()
            done, _ = ray.wait([*running], num_returns=len(running), timeout=pool.PAUSE)
            for reference in done:
                yield running.pop(reference), _found(ray, reference)
    finally:
        for reference in running:
            ray.cancel(reference)  # raises KeyboardInterrupt in it
        if running:
            ray.wait([*running], num_returns=len(running), timeout=GRACE)


def _done_there(packed: bytes, folder: str, num_cpus: int) -> Any:
    """In a worker process: return what the work makes of the item, or its Exception.

    Packed, because the work imports JAX, which must not look at the cores before.
    """
    _take_cores(num_cpus)
    try:
        os.chdir(folder)
    except OSError as error:
        raise UserError(
            f"{socket.gethostname()} cannot work in {folder} ({error.strerror}): every machine "
            "needs the same folder, with tl_jax and the data"
        ) from None
    work, item = pickle.loads(packed)
    return pool.tried(work, item)


@functools.cache
def _take_cores(num_cpus: int) -> None:
    cores.take(max(1, (os.cpu_count() or 1) // num_cpus))


def _found(ray: Any, reference: Any) -> Any:
    errors = ray.exceptions
    try:
        return ray.get(reference)
    except errors.RayTaskError as error:  # what the task raised, in Ray's wrapping
        return error.cause
    except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError):
        return pool.WorkerDied()
    except errors.RayError as error:
        return error


def _share(ray: Any, workers: int) -> dict[str, int]:
    """Return what a task takes of a machine: so many can run on the smallest that has cores."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    machines = [machine for machine in machines if machine.get("CPU", 0) >= 1]
    if not machines:
        raise UserError("the cluster has no machine with a core for tasks")
    least = {kind: min(int(one.get(kind, 0)) for one in machines) for kind in ("CPU", "GPU")}
    return {"num_cpus": max(1, least["CPU"] // workers), "num_gpus": least["GPU"] // workers}


@contextlib.contextmanager
def _connected(ray: Any, kind: str) -> Generator[None]:
    """Connect to the cluster, unless the caller has, and leave it; ours alone ends with that."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options = {"include_dashboard": False} if kind == "local" else {}
    handler = signal.getsignal(signal.SIGTERM)  # Ray puts its own there
    try:
        with warnings.catch_warnings():  # Ray forks to start programs only, which JAX cannot know
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
            ray.init(kind, log_to_driver=False, logging_level=logging.ERROR, **options)
    except ConnectionError as error:
        raise UserError(
            "this machine belongs to no Ray cluster: `ray start --head` begins one, "
            "`ray start --address=HOST:PORT` joins one, and --cluster=local needs none"
        ) from error
    except Exception as error:  # Ray raises many kinds: another version, token, no room
        raise UserError(f"the Ray cluster cannot be used: {error}") from error
    finally:
        if signal.getsignal(signal.SIGTERM) is not handler:
            signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        ray.shutdown()
