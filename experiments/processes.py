"""Run a program in several processes of this machine, on its CPU; they train one run together.

    python -m experiments.processes --count=2 -- -m experiments.transfer --config=configs/digits.py

Every process gets the command and its number. When one of them fails, the others end too.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from absl import flags

from experiments import cli
from tl_jax import interrupt
from tl_jax.errors import UserError

_COUNT = flags.DEFINE_integer("count", 2, "Number of processes.", lower_bound=1)

PAUSE = 0.1  # seconds between two looks at the processes
GRACE = 15.0  # seconds in which the others end by themselves, with a reason


def main(argv: list[str]) -> int:
    """Start the processes; return the status of the first that failed, or 0."""
    if len(argv) < 2:
        raise UserError("which program? for example -- -m experiments.transfer --config=...")
    with interrupt.caught():
        processes = _started(argv[1:], _COUNT.value)
        try:
            return _ended(processes)
        finally:
            for process in processes:
                process.kill()  # nothing happens to those that have ended
                process.wait()


def _started(command: Sequence[str], count: int) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"} | os.environ
    flag = f"--processes=localhost:{port},{count}"
    return [
        subprocess.Popen([sys.executable, *command, f"{flag},{number}"], env=environment)
        for number in range(count)
    ]


def _ended(processes: Sequence[subprocess.Popen]) -> int:
    """Wait for all, and pass signals on; after a failure wait no longer than `GRACE`."""
    failed, passed, until = 0, False, float("inf")
    while any(process.poll() is None for process in processes) and time.monotonic() < until:
        if interrupt.requested() and not passed:
            passed = True
            for process in processes:
                process.send_signal(signal.SIGTERM)
        time.sleep(PAUSE)
        for number, process in enumerate(processes):
            if process.poll() and not failed:
                failed, until = process.returncode, time.monotonic() + GRACE
                _say(number, failed, len(processes))
    return 128 - failed if failed < 0 else failed


def _say(number: int, status: int, count: int) -> None:
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"
    print(f"process {number} of {count} {how}: the others end too", file=sys.stderr)


if __name__ == "__main__":
    cli.run(main)
