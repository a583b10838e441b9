"""Several processes that train one run together, each on devices of its own.

`start` comes before any computation. From then on every process makes the same calls: it reads its
own rows of each batch, and process 0 alone writes what a run keeps. Without `start` there is one
process, of number 0, and every function here is trivial.
"""

import atexit
import hashlib
import json
import pathlib
import secrets
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import jax

from tl_jax.engine import link
from tl_jax.errors import UserError

T = TypeVar("T")

STRIDE = 16  # steps: of a second each, still within the half minute that schedulers allow
SEEN = 10.0  # seconds after which a file must have appeared on all machines
_links: list[link.Link] = []


def start(how: str) -> None:
    """Join the processes of a run: `HOST:PORT,COUNT,NUMBER`, or `auto` where a scheduler says that.

    HOST:PORT is an address of process 0, free on its machine; numbers begin with 0. UserError if
    `how` says something else, or if a process does not come in `link.LIMIT` seconds.
    """
    host, port, count, number, devices = _detected() if how == "auto" else (*_parsed(how), None)
    mine = link.Link(host, port, count, number)
    _links.append(mine)
    atexit.register(_leave_at_exit)
    service = said(_free_port() if number == 0 else None)[0]
    # Ours: see `agreed`. JAX's also takes over SIGTERM, and its own limits name no process.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        f"{host}:{service}",
        count,
        number,
        local_device_ids=devices,
        initialization_timeout=round(link.LIMIT),
        heartbeat_timeout_seconds=round(link.LIMIT),
        shutdown_timeout_seconds=round(link.LIMIT),
        coordinator_bind_address=f"{host}:{service}" if link.loopback(host) else None,
    )


def several() -> bool:
    """Whether this process is one of several."""
    return bool(_links)


def first() -> bool:
    """Whether this is the process that writes: the only one, or number 0."""
    return not _links or _links[0].number == 0


def said(value: Any) -> list[Any]:
    """Return what each process says here, by number, as JSON-able data; one process hears itself.

    Each waits for all others. All must make the same calls, in the same order.
    """
    return _links[0].said(value) if _links else [value]


def together() -> None:
    """Wait until all processes have come to this call."""
    said(None)


def agreed(wish: int) -> int:
    """The greatest of all processes' wishes, the same on each; 0 and False wish for nothing.

    One process gets its own back. Each of several must ask after the same steps.
    """
    return max(said(int(wish)))


def stride() -> int:
    """After how many steps, batch by batch, all processes ask each other: save? stop?"""
    return STRIDE if _links else 1


def arrive() -> None:
    """Note that the main thread has come to work that it shares with the others' main threads."""
    if _links:
        _links[0].calls += 1


def part(items: Sequence[T]) -> Sequence[T]:
    """Return the share of the items that this process does alone; all, if it is the only one."""
    count, number = (_links[0].count, _links[0].number) if _links else (1, 0)
    return items[len(items) * number // count : len(items) * (number + 1) // count]


def named(stem: str, suffix: str) -> str:
    """Return the name of a file that each process has for itself: `rows.jsonl`, `rows-1.jsonl`."""
    return f"{stem}{suffix}" if first() else f"{stem}-{_links[0].number}{suffix}"


def require_same(value: Any, what: str) -> None:
    """UserError if the JSON-able `value` is not the same on all processes."""
    if not _links:
        return
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    answers = said([socket.gethostname(), digest])
    for number, (host, other) in enumerate(answers):
        if other != answers[0][1]:
            raise UserError(f"{what} differ between process 0 and process {number}, on {host}")


def require_shared(folder: pathlib.Path, setting: str) -> None:
    """UserError if not every process sees what process 0 writes in the folder."""
    if not _links:
        return
    mark = folder / ".shared"
    token = said(_written(mark) if first() else "")[0]
    if not token:  # nothing can be written there, so none of them needs what another writes
        return
    answers = said([socket.gethostname(), first() or _appears(mark, token)])
    if first():
        mark.unlink()
    for number, (host, seen) in enumerate(answers):
        if not seen:
            raise UserError(
                f"{setting}{folder} is not shared: process {number}, on {host}, does not see what "
                "process 0 writes there; take a folder on storage that all machines have"
            )


def leave(status: int, why: str) -> None:
    """Tell the other processes that this one ends; with a status other than 0 all of them do.

    Then this call ends the process, because an exit that waits for the others would never come.
    """
    if _links and not _links[0].left:
        _links[0].leave(status, why)


def linger() -> None:
    """Give the link time to end this process with a reason, after an error that another caused."""
    if _links:
        time.sleep(2 * link.GRACE)


def _leave_at_exit() -> None:
    """Tell the others how a program ended that has not called `leave`."""
    error = getattr(sys, "last_value", None)  # of an exception that nothing caught
    if error:
        linger()
    leave(1 if error else 0, f"{type(error).__name__}: {error}")


def _parsed(how: str) -> tuple[str, int, int, int]:
    try:
        address, count, number = how.split(",")
        host, port = address.rsplit(":", 1)
        found = host, int(port), int(count), int(number)
    except ValueError:
        raise UserError(f"processes={how} is neither auto nor HOST:PORT,COUNT,NUMBER") from None
    if not (host and 0 < found[1] < 2**16 and 0 <= found[3] < found[2]):
        raise UserError(f"processes={how}: take a port below 65536, and a NUMBER below COUNT")
    return found


def _detected() -> tuple[str, int, int, int, Sequence[int] | None]:
    """Return what the scheduler says: JAX knows Slurm, TPU pods, Open MPI and Kubernetes."""
    from jax._src import clusters  # the detection of `jax.distributed.initialize` has no other name

    unset = (None,) * 5
    address, count, number, devices = clusters.ClusterEnv.auto_detect_unset_distributed_params(
        *unset, round(link.LIMIT)
    )
    if address is None or count is None or number is None:
        raise UserError(
            "processes=auto finds no scheduler (Slurm, a TPU pod, Open MPI, Kubernetes) that says "
            "how many processes there are: take HOST:PORT,COUNT,NUMBER"
        )
    host, port = address.rsplit(":", 1)
    return host, int(port), count, number, devices


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return free.getsockname()[1]


def _written(mark: pathlib.Path) -> str:
    """Return what the file now holds; an empty text if it cannot be written."""
    token = secrets.token_hex(8)
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(token)
    except OSError:
        return ""
    return token


def _appears(mark: pathlib.Path, token: str) -> bool:
    """Whether the file comes to hold the token; storage may show it late to other machines."""
    until = time.monotonic() + SEEN
    while True:
        if mark.exists() and mark.read_text() == token:
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
