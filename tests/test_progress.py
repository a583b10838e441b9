"""What somebody who watches sees: a bar in a terminal, in a log a line now and then."""

import logging
import os
import pty
import subprocess
import sys
import termios
import time

import pytest

from tl_jax import progress

LONG = """
import sys, time
from tl_jax import progress
progress.LOG_SECONDS = {seconds}
with progress.bar("tune 1/2", total=40, unit="img") as bar:
    for _ in range(40):
        time.sleep(0.01)
        bar.update(1)
for _ in progress.over(range(5), "decode", total=5, unit="block"):
    time.sleep(0.01)
print("over", file=sys.stderr)
"""


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when it is told to."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_at_most_every_so_many_seconds(clock, capsys):
    with progress.bar("tune 1/2", total=100, unit="img") as bar:
        for _ in range(100):
            clock[0] += 1.0
            bar.update(1)
            bar.display()  # whenever tqdm would
    wanted = [f"tune 1/2: {done} of 100 img" for done in (30, 60, 90)]
    assert capsys.readouterr().err.splitlines() == wanted


def test_a_log_says_nothing_of_what_is_quick(clock, capsys):
    with progress.bar("head", total=100, unit="img") as bar:
        for _ in range(100):
            clock[0] += 0.1
            bar.update(1)
    assert list(progress.over("abc", "decode", total=3, unit="block")) == list("abc")
    assert capsys.readouterr().err == ""


def test_numbers_are_grouped_and_an_unknown_total_is_left_out(clock, capsys):
    bar = progress.bar("decode", total=0, unit="block")
    clock[0] += 31
    bar.update(12345)
    bar.display()
    bar.close()
    assert capsys.readouterr().err == "decode: 12,345 block\n"


@pytest.mark.parametrize(("seconds", "said"), [(0.1, True), (1e3, False)])
def test_no_carriage_return_is_written_to_a_log(seconds, said):
    command = [sys.executable, "-c", LONG.format(seconds=seconds)]
    done = subprocess.run(command, capture_output=True, check=True)
    assert b"\r" not in done.stderr and b"\x1b" not in done.stderr
    *lines, last = done.stderr.decode().splitlines()
    assert last == "over"
    assert bool(lines) == said  # how many says how busy the machine is
    assert all(line.startswith("tune 1/2: ") and line.endswith(" of 40 img") for line in lines)


def test_in_a_terminal_there_is_a_bar_that_vanishes():
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    command = [sys.executable, "-c", LONG.format(seconds=0.0)]
    with subprocess.Popen(command, stderr=theirs, env=os.environ | {"TERM": "xterm"}) as process:
        os.close(theirs)
        shown = b""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux says so when the other end is closed
                break
            if not part:
                break
            shown += part
        assert process.wait(60) == 0
    os.close(ours)
    assert b"\r" in shown and b"tune 1/2:" in shown and b"img/s" in shown
    last = shown.replace(b"\r\n", b"\n").split(b"\n")[-2].split(b"\r")[-1]
    assert last == b"over"  # on a line that was cleared


def test_a_line_is_said_once():
    is_new = progress.said_once()
    lines = [logging.makeLogRecord({"msg": "%d files", "args": (n,)}) for n in (1, 2, 1)]
    assert [is_new(line) for line in lines] == [True, True, False]
