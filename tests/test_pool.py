"""Pieces of work spread over processes and over tasks of a Ray cluster."""

import csv
import json
import os
import pathlib
import signal
import sys
import threading
import time
from functools import partial
from types import SimpleNamespace

import pool_work
import programs
import pytest
import tiny_study

from tl_jax import interrupt
from tl_jax.errors import UserError
from tl_jax.runs import cluster, pool
from tl_jax.studies import run as studies
from tl_jax.studies.scenarios import study

PROCESSES = partial(pool.in_processes, workers=2)
IN_RAY = partial(cluster.in_ray, kind="local", workers=2)
SPREADS = [PROCESSES, pytest.param(IN_RAY, marks=pytest.mark.slow)]


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    """What the workers find: this folder's modules, and where they leave word."""
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parent))
    monkeypatch.setenv("TL_JAX_TEST_ONCE", str(tmp_path / "once"))


def noted(file: pathlib.Path) -> int:
    """The process that notes its id in the file, once it has."""
    while not (file.exists() and file.read_text()):
        time.sleep(0.01)
    return int(file.read_text())


def is_alive(process: int) -> bool:
    stat = pathlib.Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_failure_does_not_stop_the_others():
    found = dict(pool.in_turn(lambda item: 1 / item, [1, 0, 2]))
    assert found[1] == 1 and found[2] == 0.5 and isinstance(found[0], ZeroDivisionError)


@pytest.mark.parametrize("spread", SPREADS)
def test_a_worker_that_dies_costs_nothing_but_its_own_work(spread, tmp_path):
    """13 ends every process that takes it, 7 only the first."""
    items = [1, 2, 7, 4, 0, 13, 8]
    done = list(spread(pool_work.work, items))
    assert sorted(item for item, _ in done) == sorted(items)
    found = dict(done)
    assert isinstance(found[13], pool.WorkerDied) and isinstance(found[0], ZeroDivisionError)
    assert {item: found[item] for item in (1, 2, 4, 7, 8)} == {i: 1 / i for i in (1, 2, 4, 7, 8)}


def test_what_cannot_be_sent_back_is_a_failure_of_its_own_work():
    found = dict(pool.in_processes(pool_work.unsendable, [0, 1, 0], workers=1))
    assert isinstance(found[0], TypeError) and found[1] == 1


def test_a_worker_may_die_while_another_ones_work_is_being_noted(tmp_path):
    found = {}
    for item, value in PROCESSES(pool_work.work, [1, 7, 2, 4]):
        found[item] = value
        while not (tmp_path / "once").exists():
            time.sleep(0.01)
        time.sleep(0.3)  # for the pool to see it
    assert found == {item: 1 / item for item in (1, 2, 4, 7)}


@pytest.mark.parametrize("spread", SPREADS)
def test_a_signal_ends_the_workers_at_once_and_loses_nothing_done(spread, tmp_path):
    file, found, handler = tmp_path / "id", [], signal.getsignal(signal.SIGTERM)

    def stop():
        noted(file)
        while len(found) < 3:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    stopping = threading.Thread(target=stop, daemon=True)
    with interrupt.caught(), pytest.raises(interrupt.Interrupted):
        stopping.start()
        for item, _ in spread(pool_work.slow, ["", str(file), "", ""]):
            found.append(item)
    stopping.join()
    assert found == ["", "", ""] and not is_alive(noted(file))
    assert signal.getsignal(signal.SIGTERM) is handler


def test_workers_end_when_their_driver_is_killed(tmp_path):
    file = tmp_path / "id"
    code = (
        "import pool_work; from tl_jax.runs import pool\n"
        f"list(pool.in_processes(pool_work.slow, [{str(file)!r}], workers=1))"
    )
    driver = programs.subprocess.Popen([sys.executable, "-c", code], cwd=programs.ROOT)
    worker = noted(file)
    driver.kill()
    driver.wait()
    while is_alive(worker):  # or until the work is done, which the file would then not tell
        time.sleep(0.05)
    assert time.time() - file.stat().st_mtime < 50


def test_workers_have_cores_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where no other pool has taken cores
    cores = sorted(os.sched_getaffinity(0))
    found = sorted(found for _, found in PROCESSES(pool_work.cores, [0, 1]))
    assert found == sorted([cores[0::2], cores[1::2] or cores])


# A cluster


def test_a_task_takes_its_part_of_the_smallest_machine_that_works():
    def share(machines, workers):
        nodes = [{"Alive": alive, "Resources": resources} for alive, resources in machines]
        return cluster._share(SimpleNamespace(nodes=lambda: nodes), workers)

    head, dead = (True, {"memory": 1e9}), (False, {"CPU": 2.0})
    both = [head, dead, (True, {"CPU": 16.0, "GPU": 4.0}), (True, {"CPU": 64.0, "GPU": 8.0})]
    assert share(both, 1) == {"num_cpus": 16, "num_gpus": 4}
    assert share(both, 3) == {"num_cpus": 5, "num_gpus": 1}
    assert share([(True, {"CPU": 2.0})], 8) == {"num_cpus": 1, "num_gpus": 0}
    with pytest.raises(UserError, match="no machine with a core"):
        share([head, dead], 1)


def test_a_cluster_that_is_none_is_refused():
    with pytest.raises(UserError, match="unknown cluster 'lokal'; did you mean 'local'?"):
        cluster.require("lokal")


def test_without_ray_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"a cluster needs Ray: pip install 'tl_jax\[ray\]'"):
        cluster.require("auto")


def table(workdir: pathlib.Path) -> list[dict]:
    """The study's table, without what it cost."""
    with open(workdir / "cells.csv") as file:
        rows = list(csv.DictReader(file))
    assert rows and all("seconds" in row for row in rows)
    return [{key: row[key] for key in row if "seconds" not in key} for row in rows]


@pytest.mark.slow
def test_a_study_in_a_cluster_of_which_a_worker_is_killed_gives_the_same_table(
    tmp_path, monkeypatch
):
    config = tiny_study.config(tmp_path / "cache")
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    studies.run("scenarios", config, alone, name="tiny")

    killing = threading.Thread(
        target=lambda: os.kill(noted(tmp_path / "once"), signal.SIGKILL), daemon=True
    )
    monkeypatch.setattr(study, "row", pool_work.row)
    killing.start()
    how = {"workers": 2, "cluster": "local"}
    studies.run("scenarios", config, spread, name="tiny", **how)
    killing.join()
    keys = [json.loads(line)["key"] for line in (spread / "cells.jsonl").read_text().splitlines()]
    assert len(keys) == 4 == len({json.dumps(key) for key in keys})
    assert table(spread) == table(alone)
