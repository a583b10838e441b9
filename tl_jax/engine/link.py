"""A link between the processes of a run: what one says reaches all, and so does its end.

JAX's own service aborts a process without naming the one that is missing, and a process that waits
in a collective for one that is stuck waits for ever. So every process has a TCP connection to a
hub, a thread of process 0. The hub gathers what all say, hears a process end because its connection
closes, and notices one that keeps the others waiting; then it tells all to end, and why.

Messages are JSON, never pickles. Anyone who reaches the port may send some, as with JAX's service:
the network must be the run's own.
"""

import contextlib
import dataclasses
import json
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Client, Connection, Listener, wait
from typing import Any, NoReturn

from tl_jax import interrupt
from tl_jax.errors import UserError

LIMIT = 300.0  # seconds that one process may keep the others waiting, or give no sign of life
GRACE = 3.0  # seconds in which others may end by themselves, with a reason of their own
BEAT = 1.0  # seconds between two signs of life
MOST = 2**24  # bytes of a message
NOTHING = object()


class Link:
    """A process's connection to the hub; the main thread alone calls its methods."""

    def __init__(self, host: str, port: int, count: int, number: int):
        self.hub = _Hub(_listener(host, port, count), count) if number == 0 else None
        if self.hub:
            self.hub.start()
        self.count, self.number, self.calls, self.left = count, number, 0, False
        self.connection = _connected(loopback(host) or "localhost" if number == 0 else host, port)
        self.lock = threading.Lock()
        self.answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._send({"number": number, "count": count, "host": socket.gethostname()})
        threading.Thread(target=self._listen, daemon=True).start()

    def said(self, value: Any) -> list[Any]:
        """Return what every process says in this call, by number; it waits for all."""
        self.calls += 1
        self._send({"said": value})
        return self.answers.get()

    def leave(self, status: int, why: str) -> None:
        """Tell the others that this process ends; with another status than 0 it ends here."""
        self.left = True
        with contextlib.suppress(OSError):
            self._send({"end": [status, why]})
        if status:
            time.sleep(2 * GRACE)  # the hub ends this process, after it has told the others
            _end(status, "")
        if self.hub:  # the others take its end for a kill until they have left as well
            self.hub.join(LIMIT)

    def _send(self, message: Any) -> None:
        with self.lock:
            _send(self.connection, message)

    def _listen(self) -> None:
        """Hand on what the hub sends, and tell it how far the main thread has come."""
        heard, sent = time.monotonic(), 0.0
        while True:
            try:
                if self.connection.poll(BEAT):
                    message, heard = _received(self.connection), time.monotonic()
                    if "end" in message:
                        _end(*message["end"])
                    if "all" in message:
                        self.answers.put(message["all"])
                if time.monotonic() - sent >= BEAT:
                    self._send({"at": [self.calls, interrupt.looks]})
                    sent = time.monotonic()
            except (EOFError, OSError, ValueError):
                if not self.left:
                    _end(1, _lost(0, self.count))
                return
            if time.monotonic() - heard > LIMIT:
                _end(1, f"process 0 of {self.count} has not been heard of for {LIMIT:.0f} s")


@dataclasses.dataclass
class _Peer:
    """What the hub knows of a process."""

    connection: Connection
    host: str
    said: Any = NOTHING
    at: Any = (0, 0)  # how many calls its main thread has made, and how often it looked for signals
    end: tuple[int, str] | None = None  # exit status, and why
    gone: bool = False
    heard: float = dataclasses.field(default_factory=time.monotonic)
    moved: float = dataclasses.field(default_factory=time.monotonic)  # when `at` changed

    def hear(self) -> None:
        """Take in the next message; a connection that closes ends the process."""
        try:
            message = _received(self.connection)
        except (EOFError, OSError, ValueError):
            self.gone = True
            return
        self.heard = time.monotonic()
        self.said = message.get("said", self.said)
        if message.get("at", self.at) != self.at:
            self.at, self.moved = message["at"], self.heard
        if "end" in message:
            self.end = tuple(message["end"])

    @property
    def left(self) -> bool:
        """Whether the process has ended as it should."""
        return self.end is not None and not self.end[0]


class _Hub(threading.Thread):
    """Process 0's thread that hears all processes and tells each what concerns it."""

    def __init__(self, listener: Listener, count: int):
        super().__init__(daemon=True)
        self.listener, self.count = listener, count
        self.peers: dict[int, _Peer] = {}
        self.told = 0.0  # when all last heard of this one
        self.arrived: queue.SimpleQueue[tuple[Any, Connection]] = queue.SimpleQueue()

    def run(self) -> None:
        status, why = self._gather()
        while not why and not all(peer.left for peer in self.peers.values()):
            self._hear()
            if all(peer.said is not NOTHING for peer in self.peers.values()):
                values = [self.peers[number].said for number in range(self.count)]
                for peer in self.peers.values():
                    peer.said = NOTHING
                self._tell({"all": values})
            status, why = self._failed()
        if why:
            self._end_all(status, why)

    def _gather(self) -> tuple[int, str]:
        """Wait for all processes; return a status and who is missing, or an empty text."""
        threading.Thread(target=self._accept, daemon=True).start()
        until = time.monotonic() + LIMIT
        while len(self.peers) < self.count:
            try:
                hello, connection = self.arrived.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                missing = sorted({*range(self.count)} - self.peers.keys())
                names = ", ".join(map(str, missing))
                late = f"these have not come in {LIMIT:.0f} s: {names}"
                return 2, f"of {self.count} processes, {late}"
            if hello["count"] != self.count or hello["number"] in self.peers:
                said = f"{hello['number']} of {hello['count']}"
                why = f"{hello['host']} has come as process {said}, but there are {self.count}"
                with contextlib.suppress(OSError):  # it may have ended
                    _send(connection, {"end": [2, f"{why}, each of another number"]})
                continue
            self.peers[hello["number"]] = _Peer(connection, hello["host"])
        return 0, ""

    def _accept(self) -> None:
        while True:
            with contextlib.suppress(EOFError, OSError, ValueError):
                connection = self.listener.accept()
                # A thread each, because a stranger may say nothing for ever.
                threading.Thread(target=self._greet, args=(connection,), daemon=True).start()

    def _greet(self, connection: Connection) -> None:
        with contextlib.suppress(EOFError, OSError, ValueError, AttributeError):  # not one of ours
            hello = _received(connection)
            if len(self.peers) == self.count:
                _send(connection, {"end": [2, f"all {self.count} processes are there already"]})
            elif {"number", "count", "host"} <= hello.keys():
                self.arrived.put((hello, connection))

    def _hear(self) -> None:
        present = [peer for peer in self.peers.values() if not peer.gone]
        spoken = wait([peer.connection for peer in present], BEAT)
        for peer in present:
            if peer.connection in spoken:
                peer.hear()
        if time.monotonic() - self.told >= BEAT:
            self._tell({"alive": True})
            self.told = time.monotonic()

    def _tell(self, message: Any) -> None:
        for peer in self.peers.values():
            with contextlib.suppress(OSError):
                _send(peer.connection, message)

    def _failed(self) -> tuple[int, str]:
        """Return an exit status for all and the process to blame, or an empty text."""
        now, most = time.monotonic(), max(p.at[0] for p in self.peers.values())
        waiting = max(p.moved for p in self.peers.values() if p.at[0] == most)
        for number, peer in self.peers.items():
            name = f"process {number} of {self.count}, on {peer.host},"
            if peer.end and peer.end[0]:
                return peer.end[0], f"{name} has stopped: {peer.end[1]}"
            if peer.gone and not peer.end:
                return 1, _lost(number, self.count, peer.host)
            if not peer.end and now - peer.heard > LIMIT:
                return 1, f"{name} has not been heard of for {LIMIT:.0f} s"
            if peer.at[0] < most and now - max(peer.moved, waiting) > LIMIT:
                return 1, f"{name} keeps the others waiting: it has done nothing for {LIMIT:.0f} s"
        return 0, ""

    def _end_all(self, status: int, why: str) -> None:
        """End every process: with a reason of its own if it has one, process 0 last."""
        until = time.monotonic() + GRACE / 2
        while time.monotonic() < until and not all(p.end or p.gone for p in self.peers.values()):
            self._hear()
        for number, peer in sorted(self.peers.items(), reverse=True):
            if number == 0:
                self._await_the_others()
            end = [peer.end[0], ""] if peer.end and peer.end[0] else [status, why]
            with contextlib.suppress(OSError):
                _send(peer.connection, {"end": end})

    def _await_the_others(self) -> None:
        """Process 0 ends JAX's service, at which JAX aborts the others with pages of its own."""
        until = time.monotonic() + GRACE / 2
        others = [peer for number, peer in self.peers.items() if number]
        while time.monotonic() < until and not all(peer.gone for peer in others):
            self._hear()


def _lost(number: int, count: int, host: str = "") -> str:
    where = f", on {host}," if host else ""
    return f"process {number} of {count}{where} has ended without a word: was it killed?"


def _end(status: int, why: str) -> NoReturn:
    """End this process at once: its main thread may wait where no exception reaches it."""
    if why:
        os.write(2, f"error: {why}\n".encode())
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status)


def _listener(host: str, port: int, count: int) -> Listener:
    """Return a listener at the port: of this machine alone if the host's name says so."""
    try:
        return Listener((loopback(host), port), backlog=count)
    except OSError as error:
        raise UserError(f"process 0 cannot listen at port {port}: {error.strerror}") from error


def loopback(host: str) -> str:
    """Return the host's name if it names this machine alone, or an empty text."""
    return host if host == "localhost" or host.startswith("127.") else ""


def _connected(host: str, port: int) -> Connection:
    until = time.monotonic() + LIMIT
    while True:
        try:
            return Client((host, port))
        except OSError as error:
            interrupt.check()
            if time.monotonic() > until:
                raise UserError(
                    f"process 0 has not come in {LIMIT:.0f} s: nothing answers at {host}:{port} "
                    f"({error.strerror or error})"
                ) from error
            time.sleep(BEAT / 5)


def _send(connection: Connection, message: Mapping[str, Any]) -> None:
    connection.send_bytes(json.dumps(message).encode())


def _received(connection: Connection) -> dict[str, Any]:
    return json.loads(connection.recv_bytes(MOST))
