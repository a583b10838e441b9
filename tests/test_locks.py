"""Waiting for another process, which a signal ends."""

import fcntl
import logging
import os
import signal
import threading
import time

import programs
import pytest

from tl_jax import interrupt, locks


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_waiting(tmp_path, caplog, signum):
    path = tmp_path / "a" / "lock"
    path.parent.mkdir()
    with open(path, "w") as other, interrupt.caught():
        fcntl.flock(other, fcntl.LOCK_EX)
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signum))
        timer.start()
        with (
            pytest.raises(interrupt.Interrupted) as ended,
            locks.held(path, what="the work"),
        ):
            pytest.fail("held by two")
        timer.join()
    assert ended.value.signum == signum
    # Three attempts and more, and one line.
    assert caplog.messages == ["another process is at work on the work: waiting for it"]


def test_a_closed_terminal_stays_ignored_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupt.caught():
            signal.raise_signal(signal.SIGHUP)
            interrupt.check()
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(interrupt.Interrupted):
                interrupt.check()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_it_is_had_when_the_other_lets_go(tmp_path, caplog):
    path, order = tmp_path / "lock", []

    def other():
        with open(path, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            order.append("taken")
            time.sleep(0.3)
            order.append("given")

    thread = threading.Thread(target=other)
    thread.start()
    while not order:
        time.sleep(0.01)
    with locks.held(path, what="it"):
        order.append("had")
        with locks.held_if_free(path) as free:
            assert not free
    thread.join()
    assert order == ["taken", "given", "had"]


def test_a_lock_whose_folder_was_deleted_meanwhile_is_made_anew(tmp_path, monkeypatch):
    """Whoever waited for it would else hold a file that nobody finds."""
    path, flock, attempts = tmp_path / "store" / "lock", locks._try_lock, []

    def taken(descriptor):
        attempts.append(descriptor)
        if len(attempts) == 1:
            path.unlink()
            path.parent.rmdir()
        return flock(descriptor)

    monkeypatch.setattr(locks, "_try_lock", taken)
    with locks.held(path, what="it"):
        assert path.exists() and len(attempts) == 2


@pytest.mark.slow
def test_a_run_that_waits_for_a_store_is_stopped(given, done, tmp_path):
    """SIGTERM, while another process computes the decoded images: 143, saved, in one line."""
    stores = [path.parent for path in given["cache"].glob("*/rows.jsonl")]
    held = [open(folder / "lock", "w") for folder in stores]
    try:
        for lock in held:
            fcntl.flock(lock, fcntl.LOCK_EX)
        process = programs.start("transfer", *programs.flags(given, tmp_path / "run"))
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "waiting for it" in line:
                process.terminate()
                break
        ended = programs.ended(process)
    finally:
        for lock in held:
            lock.close()
    assert ended.returncode == 128 + signal.SIGTERM, lines
    assert ended.stderr.splitlines()[-1].startswith("SIGTERM: saved")
    assert logging.getLogger("tl_jax").name  # the line is the library's
