import errno
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tl_jax import interrupt
from tl_jax.engine import store
from tl_jax.engine.store import Need, Store
from tl_jax.errors import UserError

ROWS, WIDTH = 5 * store.BLOCK + 7, 3  # six blocks, the last one short
BLOCK_BYTES = store.BLOCK * WIDTH * 4
BLOCKS = [(first, min(first + store.BLOCK, ROWS)) for first in range(0, ROWS, store.BLOCK)]
WANTED = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)


def build(folder, compute=None, **options):
    """The array and the blocks that had to be computed for it."""
    computed = []

    def noted(first, last):
        computed.append((first, last))
        return (compute or (lambda first, last: WANTED[first:last]))(first, last)

    rows = store.build(Store(folder, (ROWS, WIDTH), "float32", "numbers"), noted, **options)
    return rows, computed


@pytest.fixture
def built(tmp_path):
    rows, computed = build(tmp_path)
    assert computed == BLOCKS
    np.testing.assert_array_equal(rows, WANTED)
    return tmp_path


def rebuilds(folder, blocks):
    """What is damaged is computed again, the rest is not, and afterwards nothing is."""
    rows, computed = build(folder)
    assert computed == blocks
    np.testing.assert_array_equal(rows, WANTED)
    assert build(folder)[1] == []


def test_computed_once_then_mapped(built):
    rows, computed = build(built)
    assert computed == []
    assert isinstance(rows, np.memmap) and not rows.flags.writeable
    assert (rows.shape, rows.dtype, rows.nbytes) == ((ROWS, WIDTH), np.float32, WANTED.nbytes)
    np.testing.assert_array_equal(rows[[5, 300, 5]], WANTED[[5, 300, 5]])


def test_what_is_taken_is_the_rows_and_stays(built):
    rows, _ = build(built)
    numbers = np.array([5, ROWS - 1, 5])
    taken, again = store.take(rows, numbers), store.take(rows, numbers[:1])
    np.testing.assert_array_equal(taken, WANTED[numbers])
    np.testing.assert_array_equal(again, WANTED[numbers[:1]])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_was_read_of_a_store_is_no_memory_of_the_process(tmp_path):
    """In a process of its own: how much is mapped after it, and after a plain index."""
    code = (
        "import pathlib, re, sys, numpy as np\n"
        "from tl_jax.engine import store\n"
        "kept = store.Store(pathlib.Path(sys.argv[1]), (4096, 4096), 'uint8', 'x')\n"
        "rows = store.build(kept, lambda a, b: np.ones((b - a, 4096), 'uint8'))\n"
        "def mapped():\n"
        "    status = pathlib.Path('/proc/self/status').read_text()\n"
        "    return int(re.search(r'RssFile:\\s+(\\d+)', status)[1])\n"
        "before = mapped()\n"
        "store.take(rows, np.arange(4096)); after = mapped()\n"
        "rows[np.arange(4096)]; print(after - before, mapped() - before)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, tmp_path], check=True, capture_output=True)
    taken, indexed = map(int, ended.stdout.split())
    assert taken < 4096 and indexed >= 16384  # KiB, of 16 MiB


@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16"])
def test_other_types_and_shapes(tmp_path, dtype):
    import ml_dtypes  # noqa: F401  # numpy knows bfloat16 by it

    wanted = np.arange(100 * 2 * 3).reshape(100, 2, 3).astype(dtype)
    rows = store.build(Store(tmp_path, (100, 2, 3), dtype, "x"), lambda a, b: wanted[a:b])
    assert rows.dtype == wanted.dtype
    np.testing.assert_array_equal(rows, wanted)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, WANTED.nbytes - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_costs_its_block(built, at, bit):
    with open(built / "data", "r+b") as data:
        data.seek(at)
        old = data.read(1)[0]
        data.seek(at)
        data.write(bytes([old ^ 1 << bit]))
    rebuilds(built, [BLOCKS[at // BLOCK_BYTES]])


def test_damage_is_said(built, caplog):
    with open(built / "data", "r+b") as data:
        data.write(b"\xff\xff")
    build(built)
    assert "1 damaged blocks are computed again" in caplog.text


def cut(folder):
    os.truncate(folder / "data", 3 * BLOCK_BYTES + 1)


def swap(folder):
    content = (folder / "data").read_bytes()
    first, second = content[:BLOCK_BYTES], content[BLOCK_BYTES : 2 * BLOCK_BYTES]
    (folder / "data").write_bytes(second + first + content[2 * BLOCK_BYTES :])


def tear(folder):
    """As a kill in the middle of a line would."""
    log = folder / "rows.jsonl"
    os.truncate(log, log.stat().st_size - 20)


def noise(folder):
    lines = [*filter(None, (folder / "rows.jsonl").read_text().splitlines())]
    odd = ["null", "7", "[1, 2]", '{"first": 0}', '{"first": [], "last": {}, "sha256": 0}', "\x00{"]
    wrong = json.dumps(json.loads(lines[1]) | {"sha256": "0" * 64})
    (folder / "rows.jsonl").write_text("\n".join([*lines, *odd, wrong]) + "\n")


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (cut, BLOCKS[3:]),
        (swap, BLOCKS[:2]),
        (tear, BLOCKS[-1:]),
        (noise, BLOCKS[1:2]),
        (lambda folder: (folder / "data").unlink(), BLOCKS),
        (lambda folder: (folder / "rows.jsonl").unlink(), BLOCKS),
        (lambda folder: (folder / "data").write_bytes(b""), BLOCKS),
        (lambda folder: (folder / "lock").unlink(), []),
        (shutil.rmtree, BLOCKS),
    ],
)
def test_only_what_is_damaged_is_computed_again(built, damage, lost):
    damage(built)
    rebuilds(built, lost)


KILLED = """
import os, pathlib, sys, numpy as np
from tl_jax.engine import store
rows = np.load(sys.argv[1])
store.build(store.Store(pathlib.Path(sys.argv[2]), rows.shape, "float32", "numbers"),
            lambda a, b: rows[a:b] if a < 2 * store.BLOCK else os._exit(9))
"""


def test_what_is_killed_goes_on(tmp_path):
    np.save(tmp_path / "rows.npy", WANTED)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "rows.npy"), str(tmp_path / "store")]
    assert subprocess.run(command).returncode == 9
    rebuilds(tmp_path / "store", BLOCKS[2:])


def test_a_signal_ends_it_between_two_blocks(tmp_path, monkeypatch):
    received = []
    monkeypatch.setattr(interrupt, "_received", received)

    def signalled(first, last):
        if first == store.BLOCK:
            received.append(15)
        return WANTED[first:last]

    with pytest.raises(interrupt.Interrupted, match="SIGTERM"):
        build(tmp_path, signalled)
    received.clear()
    rebuilds(tmp_path, BLOCKS[2:])


def test_two_that_want_the_same_compute_it_once(tmp_path):
    begun, go_on = threading.Event(), threading.Event()
    counts, errors = [], []

    def slow(first, last):
        begun.set()
        go_on.wait(10)
        return WANTED[first:last]

    def want(compute):
        try:
            rows, computed = build(tmp_path, compute)
            np.testing.assert_array_equal(rows, WANTED)
            counts.append(len(computed))
        except BaseException as error:  # a thread's own would be lost
            errors.append(error)

    first = threading.Thread(target=want, args=(slow,))
    first.start()
    assert begun.wait(10)
    second = threading.Thread(target=want, args=(None,))
    second.start()
    go_on.set()
    first.join(10)
    second.join(10)
    assert not errors and sorted(counts) == [0, len(BLOCKS)]


def test_the_disk_it_takes_is_said_beforehand(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        build(tmp_path, progress=lambda todo, total: print(f"{total} of them") or todo)
    (line,) = caplog.messages
    assert line.startswith(f"numbers: {WANTED.nbytes / 1e6:.1f} MB on disk in {tmp_path.parent} (")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        build(tmp_path)
    assert not caplog.messages


def test_progress_sees_what_is_left_to_do(built):
    seen = []

    def progress(todo, total):
        for block in todo:
            seen.append((block, total))
            yield block

    cut(built)
    build(built, progress=progress)
    assert seen == [(block, 3) for block in BLOCKS[3:]]


def test_a_disk_too_small_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    small = SimpleNamespace(total=10**9, used=0, free=WANTED.nbytes - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: small)
    computed = []
    said = r"no space left in .*: 0.0 MB are needed .numbers: .*experiments\.cache .*cache="
    with pytest.raises(UserError, match=said):
        build(tmp_path, lambda a, b: computed.append(a))
    assert not computed
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=WANTED.nbytes))
    rebuilds(tmp_path, BLOCKS)


def test_several_together_are_refused_where_each_alone_would_do(tmp_path, monkeypatch, caplog):
    """What is there already is no need; a folder that is not there counts for the one above."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000_000))
    needs = [Need("a", tmp_path / "new" / "a", 3_000_000), Need("b", tmp_path / "b", 2_000_000)]
    caplog.set_level(logging.INFO)
    store.require_room(needs)
    said = "a: 3.0 MB, b: 2.0 MB; 5.0 MB on disk"
    assert caplog.messages == [f"{said} in {tmp_path / 'new'} (5.0 MB free)"]
    said = "6.0 MB are needed .a: 3.0 MB, b: 3.0 MB., 5.0 MB are free"
    with pytest.raises(UserError, match=said):
        store.require_room([needs[0], Need("b", tmp_path / "b", 3_000_000)])


def test_what_is_there_is_not_needed_again(built):
    whole = Store(built, (ROWS, WIDTH), "float32", "numbers")
    assert whole.need() == Need("numbers", built, 0)
    assert whole._replace(folder=built / "new").need().nbytes == WANTED.nbytes
    tear(built)  # the last block, of 7 rows
    assert whole.need().nbytes == 7 * WIDTH * 4


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_meanwhile(tmp_path, monkeypatch, code):
    def full(first, last):
        raise OSError(code, os.strerror(code))

    with pytest.raises(UserError, match=f"no space left in .*{os.strerror(code)}"):
        build(tmp_path, full)
    rebuilds(tmp_path, BLOCKS)


def test_other_errors_of_the_disk_keep_their_name(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        build(tmp_path / "file")


LIMITED = """
import resource, sys, pathlib, numpy as np
from tl_jax.engine import store
from tl_jax.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    store.build(store.Store(pathlib.Path(sys.argv[1]), (1000, 100), "uint8", "numbers"),
                lambda a, b: np.full((b - a, 100), 7, np.uint8))
except UserError as error:
    print(error)
"""


def test_a_limit_on_the_size_of_files_is_met_and_lifted(tmp_path):
    size = 10 * store.BLOCK * 100 + 1  # of 16 blocks, 10 fit
    command = [sys.executable, "-c", LIMITED, str(tmp_path), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "no space left in" in done.stdout and "File too large" in done.stdout
    assert (tmp_path / "data").stat().st_size == size
    computed = []

    def compute(first, last):
        computed.append(first // store.BLOCK)
        return np.full((last - first, 100), 7, np.uint8)

    rows = store.build(Store(tmp_path, (1000, 100), "uint8", "numbers"), compute)
    assert computed == list(range(10, 16)) and (rows == 7).all()


def test_a_whole_store_is_read_where_nothing_can_be_written(built, monkeypatch):
    before = {path.name: path.stat() for path in built.iterdir()}
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    rows, computed = build(built)
    assert computed == []
    np.testing.assert_array_equal(rows, WANTED)
    assert {path.name: path.stat() for path in built.iterdir()} == before


def test_what_cannot_be_written_is_said_before_it_is_computed(built, monkeypatch):
    tear(built)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for folder in (built, built / "new"):
        with pytest.raises(UserError, match=r"cannot be written.*numbers.*\(cache=\)"):
            build(folder, lambda first, last: pytest.fail("it was computed"))
