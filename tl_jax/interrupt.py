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


@contextlib.contextmanager
def caught() -> Generator[None]:
    """Inside, SIGTERM, SIGINT and SIGHUP are noted for `check`; a second Ctrl-C acts at once.

    SIGHUP stays ignored where it is: `nohup` means a run to go on.
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


def requested() -> bool:
    """Whether a signal asked to stop."""
    return bool(_received)


def check() -> None:
    """Raise Interrupted if a signal asked to stop; call where leaving loses nothing."""
    if _received:
        raise Interrupted(_received[0])
