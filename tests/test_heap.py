"""How programs start with another heap, and what they leave of it."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tl_jax.ops.cpu import heap
from tl_jax.runs import results

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc only")

PROGRAM = """
import json, os, pathlib, sys
print(os.getpid(), flush=True)
from tl_jax.ops.cpu import heap
heap.prepare(trains=os.environ.get("TRAINS") != "no")
first = pathlib.Path("/proc/self/environ").read_bytes().decode()
begun = "glibc.malloc.tcache_count=0" in first
assert begun == heap.restarted()
print(json.dumps([begun, os.environ["GLIBC_TUNABLES"], sys.argv[1:]]))
"""


def started(folder, given: str, **variables: str) -> list[str]:
    """The lines of the program, started with such tunables and these environment variables."""
    (folder / "program.py").write_text(PROGRAM)
    path = os.pathsep.join([str(folder), str(pathlib.Path(__file__).parent.parent)])
    command = [sys.executable, "-m", "program", "--a=b c", "d"]
    environment = os.environ | {"PYTHONPATH": path, "GLIBC_TUNABLES": given}
    environment |= variables
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return ended.stdout.splitlines()


@pytest.mark.parametrize("given", ["", "glibc.malloc.mxfast=64"])
def test_a_program_starts_again_without_caches_and_leaves_no_trace(tmp_path, given):
    first, again, said = started(tmp_path, given)
    assert first == again  # the same process
    assert json.loads(said) == [True, given, ["--a=b c", "d"]]


def test_who_has_set_the_caches_is_left_alone(tmp_path):
    given = "glibc.malloc.tcache_count=3"
    _, said = started(tmp_path, given)
    assert json.loads(said) == [False, given, ["--a=b c", "d"]]


@pytest.mark.parametrize("variable", ["TL_JAX_CPU=plain", "TL_JAX_RESTART=off", "TRAINS=no"])
def test_who_does_not_want_it_or_does_not_train_does_not_start_again(tmp_path, variable):
    lines = started(tmp_path, "", **dict([variable.split("=")]))
    assert len(lines) == 2  # the process's number once
    assert json.loads(lines[1])[0] is False


def test_plain_neither_retains_nor_waits(monkeypatch):
    monkeypatch.setattr(heap.switch, "fast", lambda: False)
    monkeypatch.setattr(heap, "_libc", lambda: pytest.fail("it looked for the C library"))
    heap.prepare(trains=True)
    monkeypatch.setattr(heap.time, "sleep", lambda seconds: pytest.fail("it waited"))
    heap.await_release()


@pytest.mark.parametrize("restarts", [[], [""]])
def test_results_say_whether_the_program_started_again(monkeypatch, restarts):
    monkeypatch.setattr(heap, "_restarts", restarts)
    found = results.provenance("transfer")
    assert found["heap"] == {"restarted": bool(restarts)}
    assert found["machine"]["cpu"] == "fast"
