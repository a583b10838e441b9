"""Processes that start, end, die and stop answering, without JAX: what the others say of them."""

import contextlib
import os
import pathlib
import signal
import socket
import time

import pytest
import several

from tl_jax import interrupt
from tl_jax.engine import link

LIMIT = 2.0  # seconds that one may keep the others waiting, once all are there
CODE = "import sys, test_link; test_link.main(*sys.argv[1:])"


def main(does: str, coming: str, host: str, port: str, count: str, number: str) -> None:
    """Join the others, say something, then do what a test asks of this process."""
    link.LIMIT, link.GRACE, link.BEAT = float(coming), 1.0, 0.2
    mine = link.Link(host, int(port), int(count), int(number))
    assert mine.said(int(number) ** 2) == [n**2 for n in range(int(count))]
    link.LIMIT = LIMIT
    if does == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if does == "stops":
        mine.leave(2, "its disk is full")
    if does == "freezes":
        time.sleep(1.0)  # until the hub, which freezes as well, has answered the others
        os.kill(os.getpid(), signal.SIGSTOP)
    if does == "dawdles":
        time.sleep(60)
    if does == "works":  # and looks for signals meanwhile
        for _ in range(30):
            time.sleep(0.1)
            interrupt.check()
    for _ in range(3):
        assert mine.said("done") == ["done"] * int(count)
    mine.leave(0, "")


def ended(folder: pathlib.Path, *do: str) -> list[several.Ended]:
    """How processes end of which each does something."""
    return several.run(commands(*do), folder)


def commands(*do: str, coming: int = 60) -> list[list[object]]:
    """The command of each of the processes; they wait so many seconds until all are there."""
    where = several.address().split(":")
    return [["-c", CODE, does, coming, *where, len(do), number] for number, does in enumerate(do)]


def test_each_hears_what_all_say_and_all_end(tmp_path):
    assert ended(tmp_path, "goes on", "goes on", "goes on") == [(0, "")] * 3


@pytest.mark.parametrize("dead", [0, 1, 2])
def test_others_end_with_the_number_of_one_that_was_killed(tmp_path, dead):
    do = ["goes on"] * 3
    do[dead] = "dies"
    for number, (status, said) in enumerate(ended(tmp_path, *do)):
        if number == dead:
            assert (status, said) == (-signal.SIGKILL, "")
        else:
            assert status == 1 and said.count("\n") == 1
            assert f"error: process {dead} of 3" in said and "has ended without a word" in said


@pytest.mark.parametrize("one", [0, 1])
def test_others_end_with_the_reason_of_one_that_stops(tmp_path, one):
    do = ["goes on", "goes on"]
    do[one] = "stops"
    found = ended(tmp_path, *do)
    assert found[one] == (2, "")  # it has said why by itself
    status, said = found[1 - one]
    assert status == 2 and f"process {one} of 2" in said
    assert said.endswith(" has stopped: its disk is full\n")


@pytest.mark.slow
@pytest.mark.parametrize("one", [0, 1])
def test_one_that_keeps_the_others_waiting_is_named_within_the_limit(tmp_path, one):
    do = ["goes on", "goes on", "goes on"]
    do[one] = "dawdles"
    started = time.monotonic()
    for status, said in ended(tmp_path, *do):
        assert status == 1 and said.count("\n") == 1
        assert f"process {one} of 3" in said
        assert said.endswith(" keeps the others waiting: it has done nothing for 2 s\n")
    assert LIMIT < time.monotonic() - started < 60


@pytest.mark.slow
def test_one_that_is_at_work_may_keep_the_others_waiting(tmp_path):
    assert ended(tmp_path, "works", "goes on") == [(0, ""), (0, "")]


@pytest.mark.slow
def test_one_that_answers_no_more_is_named(tmp_path):
    with contextlib.ExitStack() as stack:
        frozen, other = several.started(stack, commands("freezes", "goes on"), tmp_path)
        assert other.wait(60) == 1
        assert frozen.poll() is None
    assert "process 0 of 2 has not been heard of for 2 s" in (tmp_path / "said1").read_text()


def test_missing_processes_are_named_within_the_limit(tmp_path):
    first, second, *_ = commands(*["goes on"] * 4, coming=5)
    for status, said in several.run([first, second], tmp_path):
        assert status == 2
        assert said == "error: of 4 processes, these have not come in 5 s: 2, 3\n"


def test_without_process_0_the_others_say_where_it_is_missing(tmp_path):
    _, second = commands("goes on", "goes on", coming=2)
    ((status, said),) = several.run([second], tmp_path)
    assert status == 1 and "UserError: process 0 has not come in 2 s: nothing answers at " in said
    assert said.endswith("(Connection refused)\n")


@pytest.mark.slow
def test_one_of_two_processes_of_the_same_number_is_told(tmp_path):
    first, second, _ = commands(*["goes on"] * 3, coming=5)
    _, *twice = found = several.run([first, second, second], tmp_path)
    assert [status for status, _ in found] == [2] * 3
    assert sum("each of another number" in said for _, said in twice) == 1
    assert sum("these have not come in 5 s: 2" in said for _, said in found) == 2


@pytest.mark.parametrize(
    "said", [b"", b"\0\0\0\x02{}", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x05[1,2]"]
)
def test_what_is_no_process_of_the_run_disturbs_nothing(tmp_path, said):
    first, second = commands("goes on", "goes on")
    host, port = first[4:6]
    with contextlib.ExitStack() as stack:
        (waiting,) = several.started(stack, [first], tmp_path)
        stranger = stack.enter_context(connected(host, int(port)))
        stranger.sendall(said)
        (tmp_path / "second").mkdir()
        assert several.run([second], tmp_path / "second") == [(0, "")]
        assert waiting.wait(60) == 0


def connected(host: str, port: int) -> socket.socket:
    """A connection to what will listen there soon."""
    for _ in range(600):
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection((host, port))
        time.sleep(0.1)
    raise AssertionError("nothing listens")
