"""Two and four processes against one: the same numbers, one run on disk, resumed by any number."""

import contextlib
import functools
import os
import pathlib
import re
import shutil
import signal

import jax
import numpy as np
import programs
import pytest
import several
import small
from test_agreed import begun

from tl_jax import interrupt
from tl_jax.engine import processes
from tl_jax.engine.parallel import Parallel
from tl_jax.errors import UserError
from tl_jax.train import evaluate
from tl_jax.train import loop as train
from tl_jax.train.inputs import for_plan

EXAMPLES = 125  # which no number of processes shares evenly, nor full batches
PLAN = "head_then_fine_tune"


def run(folder: pathlib.Path, *, stop: int = 0) -> dict:
    """What a run finds, or goes on to find.

    With `stop`, a signal that the last process gets in the second phase: after which step it ended.
    """
    usual = small.settings(best_by="last", optimizer="sgd", batch_norm="batch")
    given = {"head": small.settings(views="flip"), "tune": usual, "task": small.task(EXAMPLES)}
    mine = small.problem(PLAN, chain=small.chain(frozen_dropout=0.0, dropout=0.5), **given)
    inputs_for = for_plan(mine, test_views="none", cache=folder / "cache", dtype="float32")
    rows: list[dict] = []

    def write(row: dict) -> None:
        rows.append(row)
        last = jax.process_index() == jax.process_count() - 1
        if stop and last and row["phase"] == "fine_tune":
            os.kill(os.getpid(), stop)

    try:
        with interrupt.caught():
            where = {"workdir": folder, "checkpoint_seconds": 0.0 if stop else 30.0}
            done = train.run(mine, small.variables(), inputs_for, write=write, **where)
    except interrupt.Interrupted as error:
        saved = sorted(path.name for path in (folder / "checkpoints").iterdir())
        return {"stopped": str(error), "after": rows[-1]["step"], "saved": saved[-1]}
    variables, progress, inputs = done
    found = evaluate.predictions(mine, variables, inputs, mine.task.splits["test"], "flip")
    figures = ("train_loss", "val_loss", "val_accuracy", "learning_rate", "step")
    numbers = [[row[name] for name in figures] for row in progress.history]
    return {"variables": jax.device_get(variables), "rows": np.array(numbers), "predicted": found}


def refused(folder: pathlib.Path) -> list[str]:
    """What is said of what several processes cannot do."""
    own = folder / f"own{jax.process_index()}"

    def wrong(call, *arguments) -> str:
        with pytest.raises(UserError) as said:
            call(*arguments)
        return str(said.value)

    processes.SEEN = 0.1
    return [
        wrong(processes.require_shared, own, "workdir="),  # each in another folder
        wrong(processes.require_same, {"images": jax.process_index()}, "the data"),
        wrong(Parallel, "pmap"),
    ]


def main(folder: pathlib.Path) -> dict:
    """In each of several processes: everything that is compared."""
    work, fixed, state = begun("streamed", batch_size=8)
    batch = next(iter(work.batches(0)))
    shared = work.problem.parallel.share(batch)
    processes.require_shared(folder, "workdir=")
    found = {
        "rows": np.asarray(batch["targets"]),
        "seen": work.problem.parallel.gathered(shared["targets"]),
        "program": work.step.lower(state, fixed, shared).compile().as_text(),
        "refused": refused(folder),
        "run": run(folder / "run"),
    }
    cache = (folder / "run/cache").glob("*/rows*.jsonl")
    found["stores"] = {path.name: path.read_text().count("sha256") for path in sorted(cache)}
    if (folder / "stopped").exists():
        return found | {"resumed": run(folder / "stopped")}
    return found | {"stopped": run(folder / "stopped", stop=signal.SIGTERM)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def two(folder):
    return several.found("test_processes", 2, folder)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run(tmp_path_factory.mktemp("one"))


def assert_same(found: dict, wanted: dict) -> None:
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, found, wanted)


def test_two_processes_find_what_one_finds(two, alone):
    for found in two:
        assert_same(found["run"], alone)
    assert len(alone["rows"]) == 4 and len(alone["predicted"]) == 25


def test_each_reads_its_own_rows_of_a_batch(two):
    whole, rows = two[0]["seen"], [found["rows"] for found in two]
    assert [len(part) for part in rows] == [4, 4]
    np.testing.assert_array_equal(np.concatenate(rows), whole)
    np.testing.assert_array_equal(two[1]["seen"], whole)


def test_each_computes_a_part_of_what_is_stored(two):
    assert two[0]["stores"] == two[1]["stores"]
    assert two[0]["stores"].keys() == {"rows.jsonl", "rows-1.jsonl"}


def test_no_step_scatters_sums_which_gloo_may_get_wrong(two):
    program = two[0]["program"]
    assert "all-reduce" in program and "reduce-scatter" not in program


def test_what_several_processes_cannot_do_is_refused_by_all_in_the_same_words(two):
    own, data, pmap = two[0]["refused"]
    assert two[1]["refused"] == [own.replace("own0", "own1"), data, pmap]
    assert own.startswith("workdir=") and "own0 is not shared: process 1, on " in own
    assert data.startswith("the data differ between process 0 and process 1, on ")
    assert pmap == "parallel=pmap runs in one process: take parallel=jit"


def test_a_signal_to_one_stops_both_after_the_same_step(two):
    first, second = (found["stopped"] for found in two)
    assert first == second
    assert (first["stopped"], first["after"]) == ("SIGTERM", 12)


def resumed(folder: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """A copy of what two processes left when a signal stopped them."""
    return pathlib.Path(shutil.copytree(folder / "stopped", target / "stopped"))


def test_one_process_goes_on_with_what_two_have_saved(two, folder, alone, tmp_path):
    assert_same(run(resumed(folder, tmp_path)), alone)


@pytest.mark.slow
def test_four_processes_go_on_with_what_two_have_saved(two, folder, alone, tmp_path):
    resumed(folder, tmp_path)
    for found in several.found("test_processes", 4, tmp_path):
        assert_same(found["run"], alone)
        assert_same(found["resumed"], alone)
        assert len(found["rows"]) == 2


def transfers(given: dict, workdir: pathlib.Path, count: int) -> list[list[str]]:
    """The command of each process of a run on the photos."""
    flags = programs.flags(given, workdir)
    where = f"--processes={several.address()},{count}"
    return [["-m", "experiments.transfer", *flags, f"{where},{n}"] for n in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize(("one", "how"), [(1, signal.SIGKILL), (0, signal.SIGKILL)])
def test_one_that_is_killed_ends_all_and_the_run_goes_on_to_the_same_numbers(
    given, done, tmp_path, one, how
):
    workdir, settings = tmp_path / "run", given | {"checkpoint_seconds": 0.0}
    with contextlib.ExitStack() as stack:
        both = several.started(stack, transfers(settings, workdir, 2), tmp_path)
        programs.wait_for(both[one], lambda: programs.step(workdir) >= 3)
        both[one].send_signal(how)
        ended = several.ended(both, tmp_path)
    assert ended[one].status == -how and ended[1 - one].status == 1
    assert f"process {one} of 2" in ended[1 - one].said
    assert "has ended without a word: was it killed?" in ended[1 - one].said
    assert not (workdir / "result.json").exists()
    assert [one.status for one in several.run(transfers(settings, workdir, 2), tmp_path)] == [0, 0]
    assert_same(numbers(programs.found(workdir)), numbers(programs.found(done)))


def numbers(found: tuple[dict, list]) -> list[float]:
    """The numbers among what a run found."""
    return [leaf for leaf in jax.tree.leaves(found) if isinstance(leaf, float)]


@pytest.mark.slow
def test_a_mistake_of_one_ends_all_with_its_line(given, tmp_path):
    commands = transfers(given, tmp_path / "run", 2)
    commands[1] += ["--config.seed=1"]
    first, second = several.run(commands, tmp_path)
    assert (first.status, second.status) == (2, 2)
    assert "the data differ between process 0 and process 1" in second.said


SLURM = {
    "SLURM_JOB_ID": "4097",
    "SLURM_STEP_NODELIST": "node[007-010]",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}


def test_a_scheduler_says_who_is_who(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    host, port, count, number, devices = processes._detected()
    assert (host, count, number, devices) == ("node007", 4, 2, [0])
    assert port == 61441  # JAX's choice: the job's number modulo 4096, from 61440 on


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("auto", "processes=auto finds no scheduler"),
        ("2", "processes=2 is neither auto nor HOST:PORT,COUNT,NUMBER"),
        ("host:80,2", "is neither auto nor"),
        ("host:80,2,2", "take a port below 65536, and a NUMBER below COUNT"),
        ("host:99999,2,0", "take a port below 65536"),
        (":80,2,0", "take a port below 65536"),
    ],
)
def test_what_says_no_processes_is_refused(how, said):
    with pytest.raises(UserError, match=re.escape(said)):
        processes.start(how)
    assert not processes.several()


def test_one_process_alone_is_the_first_and_does_all():
    assert processes.first() and processes.said({"a": 1}) == [{"a": 1}]
    assert processes.part([1, 2, 3]) == [1, 2, 3] and processes.named("rows", ".x") == "rows.x"
    processes.require_shared(pathlib.Path("/nowhere"), "workdir=")
    processes.leave(2, "nobody hears this")


def test_programs_that_run_in_one_process_say_so():
    done = programs.run("describe", "--base=vgg16", "--processes=localhost:1,2,0")
    assert done.returncode == 2
    said = "this program runs in one process: leave out --processes"
    assert programs.error_line(done.stderr) == said


CHILD = "import sys; sys.exit(3 * sys.argv[-1].endswith(',2,1'))"


def test_a_program_starts_processes_and_says_which_failed_first():
    done = programs.run("processes", "--count=2", "--", "-c", CHILD)
    assert done.returncode == 3
    assert done.stderr == "process 1 of 2 ended with 3: the others end too\n"
    done = programs.run("processes", "--count=1", "--", "-c", CHILD)
    assert (done.returncode, done.stderr) == (0, "")
