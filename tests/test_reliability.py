"""Clocks that jump, folders that cannot be written, two versions on one cache, damaged records."""

import errno
import itertools
import json
import os
import pathlib
import time

import numpy as np
import pytest
import small
import tiny_study

from tl_jax.engine import prefix
from tl_jax.errors import UserError
from tl_jax.runs import folder
from tl_jax.studies import run as studies
from tl_jax.train.identity import changed_data, of_tasks


def test_no_duration_depends_on_a_clock_that_may_be_set_back(tmp_path, monkeypatch):
    hours = itertools.count(1e9, -3600)
    monkeypatch.setattr(time, "time", lambda: next(hours))
    config = tiny_study.config(tmp_path / "cache")
    result, _ = studies.run("scenarios", config, tmp_path / "run", name="clock")
    seconds = [row["seconds"] for row in result["rows"]]
    assert len(seconds) == 4 and all(0 < each < 600 for each in seconds)


def test_times_of_files_in_the_future_change_nothing(tmp_path):
    cache, read = tmp_path / "cache", []
    for when in (None, 2**33, 0):  # the year 2242, then 1970
        for path in cache.rglob("*") if when is not None else ():
            os.utime(path, (when, when))
        inputs = prefix.pixels(small.task(), small.PREPROCESSING, cache=cache)
        read.append(inputs.read(np.arange(4), np.zeros(4, int)))
    assert len(list(cache.iterdir())) == 1
    np.testing.assert_array_equal(read[0], read[1])
    np.testing.assert_array_equal(read[0], read[2])


def test_two_versions_on_one_cache_do_not_meet(tmp_path, monkeypatch):
    """Each finds its own rows, in turns."""
    keys = []
    for version in (prefix.VERSION, prefix.VERSION + 1, prefix.VERSION):
        monkeypatch.setattr(prefix, "VERSION", version)
        keys.append(prefix.pixels(small.task(), small.PREPROCESSING, cache=tmp_path).key)
    assert keys[0] == keys[2] != keys[1]
    assert {path.name for path in tmp_path.iterdir()} == set(keys)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_results_folder_that_cannot_be_written(tmp_path, monkeypatch, code):
    def refuse(path, *args, **options):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(pathlib.Path, "mkdir", refuse)
    line = f"workdir={tmp_path} cannot be written .{os.strerror(code)}.: take another"
    with pytest.raises(UserError, match=line), folder.claimed(tmp_path, {}):
        pass


def test_a_record_nested_too_deep_is_damaged(tmp_path):
    (tmp_path / "result.json").write_text("[" * 10**5)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="result.json is lost or damaged .it is nested too deep"):
        with folder.claimed(tmp_path, {}):
            pass


@pytest.mark.parametrize("damage", [
    lambda told: {"": {}}, lambda told: {"": []}, lambda told: {"": told[""] | {"classes": None}},
])  # fmt: skip
def test_a_damaged_record_of_the_data_is_a_difference(damage):
    told = json.loads(json.dumps(of_tasks({"": small.task()})))
    assert changed_data(told, told) == []
    assert changed_data(damage(told), told) == ["what was noted of them then is damaged"]
