"""Fetching from a server that breaks off, lies, stalls, redirects or is not there."""

import concurrent.futures
import fcntl
import hashlib
import pathlib
import signal

import numpy as np
import programs
import pytest
import web

from tl_jax import interrupt
from tl_jax.errors import UserError
from tl_jax.weights import fetch as module
from tl_jax.weights.fetch import fetch, folder

CONTENT = np.random.default_rng(0).bytes(20_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ATTEMPTS = 4


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> pathlib.Path:
    """Where weights are kept; no pauses, small chunks."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TL_JAX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "PAUSES", (0,) * (ATTEMPTS - 1))
    monkeypatch.setattr(module, "CHUNK", 1000)
    return tmp_path / "home" / "weights"


@pytest.fixture
def server():
    with web.serving() as server:
        server.files["/models/net.pth"] = CONTENT
        yield server


def get(server, checksum=SHA256) -> pathlib.Path:
    return fetch(server.url("/models/net.pth"), checksum)


def refused(server, checksum=SHA256) -> str:
    with pytest.raises(UserError) as caught:
        get(server, checksum)
    (line,) = str(caught.value).splitlines()
    return line


def left(home) -> set[str]:
    return {p.name for p in home.iterdir()} - {"net.pth.lock"}


MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.mark.parametrize("checksum", [SHA256, SHA256[:8], MD5])
def test_fetched_once(server, home, checksum):
    path = get(server, checksum)
    assert path == home / "net.pth" and path.read_bytes() == CONTENT
    assert get(server, checksum) == path
    assert len(server.seen) == 1 and left(home) == {"net.pth"}


def test_folder(monkeypatch, tmp_path):
    assert folder() == tmp_path / "home" / "weights"
    assert folder(tmp_path / "cache") == tmp_path / "cache" / "weights"
    monkeypatch.delenv("TL_JAX_HOME")
    assert folder() == tmp_path / ".cache" / "tl_jax" / "weights"
    monkeypatch.setenv("TL_JAX_HOME", "~/mine")
    assert folder() == tmp_path / "mine" / "weights"


@pytest.mark.parametrize("length", ["honest", "unknown"])
def test_resumed_where_it_broke_off(server, length):
    """Without a length the break shows in nothing but the checksum, and nothing is resumed."""
    server.breaks = [5000, 7000]
    if length == "unknown":
        server.headers = {"Content-Length": ""}
        assert "sha256" in refused(server)
        assert server.ranges_seen() == [None]
    else:
        assert get(server).read_bytes() == CONTENT
        assert server.ranges_seen() == [None, "bytes=5000-", "bytes=12000-"]


def test_resumed_in_the_next_call(server, home):
    server.breaks = [1000] * ATTEMPTS
    assert "cannot be fetched" in refused(server)
    assert left(home) == {"net.pth.partial"}
    assert get(server).read_bytes() == CONTENT
    assert server.ranges_seen()[-1] == "bytes=4000-" and left(home) == {"net.pth"}


def test_resumed_after_a_signal(server, home):
    with interrupt.caught(), pytest.raises(interrupt.Interrupted):
        signal.raise_signal(signal.SIGTERM)
        get(server)
    assert left(home) == {"net.pth.partial"}
    assert get(server).read_bytes() == CONTENT


def test_from_the_start_if_the_server_knows_no_ranges(server):
    server.ranges, server.breaks = False, [5000]
    assert get(server).read_bytes() == CONTENT
    assert server.ranges_seen() == [None, "bytes=5000-"]


@pytest.mark.parametrize("size", [6000, 20_000, 30_000])
def test_from_the_start_if_the_rest_is_of_another_file(server, home, size):
    home.mkdir(parents=True)
    (home / "net.pth.partial").write_bytes(bytes(size))
    assert get(server).read_bytes() == CONTENT
    assert server.ranges_seen() == [f"bytes={size}-", None]


@pytest.mark.parametrize("checksum", ["0123abcd", "0" * 32, "0" * 64])
def test_wrong_checksum(server, home, checksum):
    error = refused(server, checksum)
    assert checksum in error and (MD5 if len(checksum) == 32 else SHA256) in error
    assert left(home) == set() and len(server.seen) == 1


def test_wrong_checksum_of_what_breaks_off_every_time(server, home):
    server.breaks = [5000, None] * 10
    assert SHA256 in refused(server, "0123abcd")
    assert left(home) == set() and len(server.seen) == 4


def test_damaged_later(server):
    path = get(server)
    path.write_bytes(CONTENT[:-1] + b"x")
    assert get(server).read_bytes() == CONTENT
    assert len(server.seen) == 2


def test_without_a_checksum(server, home, caplog):
    home.mkdir(parents=True)
    (home / "net.pth.partial").write_bytes(b"of some other day")
    assert get(server, "").read_bytes() == CONTENT
    assert SHA256 in caplog.text and server.ranges_seen() == [None]


@pytest.mark.parametrize(("status", "requests"), [(403, 1), (404, 1), (500, ATTEMPTS)])
def test_http_errors(server, home, status, requests):
    server.errors = [status] * 10
    error = refused(server)
    assert server.url("/models/net.pth") in error and f"HTTP status {status}" in error
    assert f"put it here as {home}/net.pth" in error
    assert len(server.seen) == requests


def test_a_passing_error(server):
    server.errors = [503]
    assert get(server).read_bytes() == CONTENT


def test_no_network_then_placed_by_hand(home):
    with web.serving() as server:
        pass  # nothing listens at its address any more
    error = refused(server)
    assert "ConnectionError" in error and f"put it here as {home}/net.pth" in error
    (home / "net.pth").write_bytes(CONTENT)
    assert get(server) == home / "net.pth"


def test_redirects(server, home):
    server.redirects["/latest/net.pth"] = server.url("/models/net.pth")
    assert fetch(server.url("/latest/net.pth"), SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/x", "/models/net.pth"])
def test_redirects_elsewhere(server, home, target):
    server.redirects["/models/net.pth"] = target
    assert "cannot be fetched" in refused(server)
    assert left(home) == set()


def test_more_than_the_disk_has_room_for(server, home):
    server.headers = {"Content-Length": str(10**17)}
    error = refused(server)
    assert f"no space left in {home}" in error and "needs 100000000000.0 MB" in error


def test_disk_full(server, home):
    with programs.disk_full_beyond(8000):
        error = refused(server)
    assert f"{home}/net.pth cannot be read or written" in error and "TL_JAX_HOME" in error


def test_no_folder(server, home):
    home.parent.write_text("a file, where the folder should be")
    assert f"{home}/net.pth cannot be read or written" in refused(server)


@pytest.mark.parametrize("claimed", [15_000, 30_000])
def test_length_that_is_not_the_length(server, home, claimed):
    server.headers = {"Content-Length": str(claimed)}
    server.ranges = False
    error = refused(server)
    assert (hashlib.sha256(CONTENT[:15_000]).hexdigest() in error) == (claimed == 15_000)
    assert "net.pth" not in left(home)


@pytest.mark.parametrize("length", ["many", "-1", "", "9" * 5000])
def test_length_that_is_none(server, length):
    server.headers = {"Content-Length": length}
    assert get(server).read_bytes() == CONTENT


def test_without_end(server, home, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 50_000)
    server.headers, server.endless = {"Content-Length": ""}, True
    assert "does not end after 50000 bytes" in refused(server)
    assert left(home) == set()


def test_a_server_that_stalls(server, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", (5, 0.2))
    server.breaks, server.stalls = [5000], True
    assert get(server).read_bytes() == CONTENT
    assert server.ranges_seen() == [None, "bytes=5000-"]


def test_two_at_once(server, home):
    """While another has the lock (as another process may), one waits; then the file is there."""
    home.mkdir(parents=True)
    with concurrent.futures.ThreadPoolExecutor() as pool, open(home / "net.pth.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = pool.submit(get, server)
        with pytest.raises(concurrent.futures.TimeoutError):
            second.result(timeout=0.3)
        (home / "net.pth").write_bytes(CONTENT)
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert second.result() == home / "net.pth"
    assert not server.seen
