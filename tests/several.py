"""Processes on this machine that train one run together, each a `main` of a module of tests."""

import contextlib
import os
import pathlib
import pickle
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

TESTS = pathlib.Path(__file__).parent
QUICK = {"JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu", "TL_JAX_RESTART": "off"}


class Ended(NamedTuple):
    """How a process ended."""

    status: int  # negative: the signal that killed it
    said: str  # on standard error


def address() -> str:
    """Of process 0, at a port that is free."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def started(
    stack: contextlib.ExitStack,
    commands: Sequence[Sequence[Any]],
    folder: pathlib.Path,
    program: Sequence[str] = (sys.executable,),
) -> list[subprocess.Popen]:
    """Start the `program` with each of the arguments; none outlives the stack."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    environment = os.environ | QUICK | {"PYTHONPATH": path}
    processes = []
    for number, command in enumerate(commands):
        said = stack.enter_context(open(folder / f"said{number}", "w"))
        process = subprocess.Popen(
            [*program, *map(str, command)], env=environment, cwd=TESTS.parent, stderr=said,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        processes.append(stack.enter_context(process))
        stack.callback(process.kill)
    return processes


def ended(processes: Sequence[subprocess.Popen], folder: pathlib.Path) -> list[Ended]:
    """Wait for processes that were started with this folder."""
    statuses = [process.wait(timeout=400) for process in processes]
    return [Ended(s, (folder / f"said{n}").read_text()) for n, s in enumerate(statuses)]


def run(
    commands: Sequence[Sequence[Any]],
    folder: pathlib.Path,
    program: Sequence[str] = (sys.executable,),
) -> list[Ended]:
    """Start the `program` with each of the arguments and wait for all."""
    with contextlib.ExitStack() as stack:
        return ended(started(stack, commands, folder, program), folder)


def found(module: str, count: int, folder: pathlib.Path) -> list[Any]:
    """What `main(folder)` of a module of tests returns in each of several processes, where every
    warning is an error.
    """
    code = (
        f"import pathlib, pickle, sys, {module}\n"
        "from tl_jax.engine import processes\n"
        "folder, how, number = pathlib.Path(sys.argv[1]), *sys.argv[2:]\n"
        "processes.start(how)\n"
        f"found = {module}.main(folder)\n"
        "(folder / f'found{number}').write_bytes(pickle.dumps(found))"
    )
    where = f"{address()},{count}"
    commands = [["-W", "error", "-c", code, folder, f"{where},{n}", n] for n in range(count)]
    for one in run(commands, folder):
        assert one.status == 0, one.said[-3000:]
    return [pickle.loads((folder / f"found{number}").read_bytes()) for number in range(count)]
