"""Two network namespaces as two machines: one is killed, and both go on to what one machine finds.

Needs root on Linux and iproute2 to make the namespaces; nothing else of the machine changes.
"""

import contextlib
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import jax
import pytest
import several
from test_processes import assert_same, run

from tl_jax.engine import processes

pytestmark = pytest.mark.slow

NAMES = ("tl-jax-a", "tl-jax-b")
ADDRESSES = ("10.213.0.1", "10.213.0.2")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def machines() -> Iterator[None]:
    """Two namespaces, joined by a cable; each knows itself by its own name, as a machine does."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("making network namespaces takes root and iproute2")
    with contextlib.ExitStack() as stack:
        for name in NAMES:
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
        cable = ["veth", "peer", "tlj0", "netns", NAMES[1]]
        ip("link", "add", "tlj0", "netns", NAMES[0], "type", *cable)
        for name, address in zip(NAMES, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "tlj0")
            ip("-n", name, "link", "set", "tlj0", "up")
            ip("-n", name, "link", "set", "lo", "up")
            hosts = pathlib.Path("/etc/netns") / name  # `ip netns exec` binds its files over /etc's
            hosts.mkdir(parents=True)
            stack.callback(shutil.rmtree, hosts)
            lines = [f"{a} {n}\n" for a, n in zip(ADDRESSES, NAMES, strict=True)]
            (hosts / "hosts").write_text("127.0.0.1 localhost\n" + "".join(lines))
        yield


def main(folder: pathlib.Path, how: str, stop: int) -> None:
    """On each machine: a run that a signal to the second ends, or the same run to its end."""
    processes.start(how)
    found = run(folder / "run", stop=stop)
    (folder / f"found{jax.process_index()}").write_bytes(pickle.dumps(found))


def both(folder: pathlib.Path, *, stop: int = 0) -> list[several.Ended]:
    """How the two processes end, each on a machine with a name of its own."""
    code = "import sys, pathlib, test_namespaces as t; t.main(pathlib.Path(%r), %r, %d)"
    commands = []
    for number, name in enumerate(NAMES):
        inside = ["ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c"]
        named = f'hostname {name}; exec "$@"'
        python = [sys.executable, "-c", code % (str(folder), f"{NAMES[0]}:47011,2,{number}", stop)]
        commands.append([*inside, named, "sh", *python])
    return several.run(commands, folder, program=())


def test_two_machines_find_what_one_finds_after_one_of_them_was_lost(machines, tmp_path):
    first, second = both(tmp_path, stop=signal.SIGKILL)
    assert (first.status, second.status) == (1, -signal.SIGKILL)
    assert "process 1 of 2, on tl-jax-b, has ended without a word" in first.said
    again = both(tmp_path)
    assert [one.status for one in again] == [0, 0], again
    alone = run(tmp_path / "alone")
    for number in (0, 1):
        found = pickle.loads((tmp_path / f"found{number}").read_bytes())
        assert_same(found, alone)
