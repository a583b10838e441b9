"""SIGTERM, Ctrl-C and a closed terminal end a run at the next safe place, with everything saved."""

import contextlib
import signal
from collections.abc import Generator


class Interrupted(Exception):
    """Raised at a safe place after a signal asked to stop; `signum` says which."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


_received: list[int] = []
looks = 0  # how often `check` was called: who looks for signals is at work


@contextlib.contextmanager
def caught() -> Generator[None]:
    """Note SIGTERM, SIGINT and SIGHUP for `check` while the block runs; a second Ctrl-C acts at
    once.

    SIGHUP stays ignored where it is: `nohup` means that a run goes on.
    """

    def note(signum, frame):
        if _received and signum == signal.SIGINT:
            raise KeyboardInterrupt
        _received.append(signum)

    asked = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        asked.append(signal.SIGHUP)
    before = {s: signal.signal(s, note) for s in asked}
    try:
        yield
    finally:
        _received.clear()
        for signum, handler in before.items():
            signal.signal(signum, handler)


def requested() -> int:
    """The signal that asked to stop; 0 while none did."""
    return _received[0] if _received else 0


def check() -> None:
    """Raise Interrupted if a signal asked to stop; call where leaving loses nothing."""
    global looks
    looks += 1
    if signum := requested():
        raise Interrupted(signum)
