"""`python -m experiments.cache`: what is there, and what is deleted of it."""

import fcntl
import os
import re
import time

import numpy as np
import programs
import pytest

from tl_jax.engine import store

DAY = 86400


@pytest.fixture
def cache(tmp_path):
    """Three stores of 1, 2 and 3 MB, used 40, 20 and 1 days ago; and what is no store."""
    for megabytes, days in ((1, 40), (2, 20), (3, 1)):
        built(tmp_path, megabytes)
        used = time.time() - days * DAY
        os.utime(tmp_path / f"store{megabytes}" / "lock", (used, used))
    (tmp_path / "compiled").mkdir()
    (tmp_path / "compiled" / "jit_step").write_bytes(bytes(2 * 10**6))
    (tmp_path / "mine").mkdir()
    for name in ("data", "rows.jsonl", "lock", "notes.txt"):  # a file more than a store has
        (tmp_path / "mine" / name).write_text("precious")
    return tmp_path


def built(cache, megabytes):
    """The array of a store that is there."""
    kept = store.Store(
        cache / f"store{megabytes}", (megabytes, 10**6), "uint8", f"{megabytes} of it"
    )
    return store.build(kept, lambda first, last: np.ones((last - first, 10**6), np.uint8))


def left(cache):
    return sorted(path.name for path in cache.iterdir())


def call(cache, *flags):
    return programs.run("cache", f"--cache={cache}", *flags)


def test_an_empty_name_is_no_folder(cache):
    done = call("", "--keep=0MB")
    assert done.returncode == 2 and "--cache=: there is no such folder" in done.stderr


def test_it_lists_and_deletes_nothing_unasked(cache):
    before = programs.contents(cache)
    out = programs.run("cache", "--cache=~", env={**os.environ, "HOME": str(cache)}).stdout
    found = re.findall(r"^ +([\d.]+) MB +([\d.]+) days  (\d of it)  ", out, re.MULTILINE)
    assert [(round(float(m)), float(d), w) for m, d, w in found] == [
        (1, 40.0, "1 of it"), (2, 20.0, "2 of it"), (3, 1.0, "3 of it"),
    ]  # fmt: skip
    assert out.splitlines()[-1].endswith("2.0 MB of compiled programs")
    assert programs.contents(cache) == before


@pytest.mark.parametrize(
    ("flags", "gone"),
    [
        (["--older=30d"], [1]),
        (["--older=2w"], [1, 2]),
        (["--keep=5.1MB"], [1]),
        (["--keep=0.003GB"], [1, 2, 3]),  # blocks of the disk make 3 MB a little more
        (["--older=30d", "--keep=4MB"], [1, 2]),
        (["--older=1000h"], []),
    ],
)
def test_it_deletes_the_oldest_and_no_more(cache, flags, gone):
    assert call(cache, *flags).returncode == 0
    stores = [f"store{n}" for n in (1, 2, 3) if n not in gone]
    assert left(cache) == ["compiled", "mine", *stores]
    assert (cache / "mine" / "notes.txt").read_text() == "precious"


def test_a_store_at_work_stays_and_a_use_makes_it_young(cache):
    with open(cache / "store1" / "lock", "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "stays: a process is building it" in call(cache, "--older=30d").stdout
    assert "store1" in left(cache)
    built(cache, 1)
    assert call(cache, "--older=30d").returncode == 0 and "store1" in left(cache)


def test_who_reads_a_store_goes_on_reading(cache):
    rows = built(cache, 2)
    assert all(store.remove(one) for one in store.kept(cache))
    assert rows.sum() == 2 * 10**6 and "store2" not in left(cache)


@pytest.mark.parametrize("flag", ["--older=30", "--keep=5", "--keep=5d", "--older=x", "--cache=no"])
def test_wrong_flags(tmp_path, flag):
    ended = call(tmp_path, flag)
    assert ended.returncode == 2 and flag in programs.error_line(ended.stderr)
