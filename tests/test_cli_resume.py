"""Runs that are stopped in every way, and end with the numbers of one that was not."""

import fcntl
import json
import re
import shutil
import signal
import struct

import programs
import pytest
from tensorboardX.proto.event_pb2 import Event

from experiments import cli

EPOCHS = [("head", 1), ("head", 2), ("fine_tune", 1), ("fine_tune", 2)]
SLOWLY = {"checkpoint_seconds": 0.0}  # a checkpoint after every batch


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_finished_run_is_shown(given, done, tmp_path, capsys):
    workdir = shutil.copytree(done, tmp_path / "run")
    before = programs.contents(workdir)
    assert programs.transferred(given, workdir) == 0
    out = capsys.readouterr().out
    accuracy = programs.found(done)[0]["test"]["accuracy"]
    assert re.search(rf"^accuracy .* {100 * accuracy:.1f} %$", out, re.MULTILINE)
    assert out.splitlines()[-1] == f"done before: {workdir}/report.html"
    assert programs.contents(workdir) == before


@pytest.mark.slow
def test_killed_at_every_stage(given, done, tmp_path):
    """`kill -9` as features are computed, in the first phase, in the second; then to the end."""
    cache, workdir = tmp_path / "cache", tmp_path / "run"
    cache.mkdir()
    (cache / "compiled").symlink_to(given["cache"] / "compiled")
    command = programs.flags(given | SLOWLY | {"cache": cache}, workdir)
    for stage in [
        lambda: any(path.stat().st_size > 1 for path in cache.glob("*/rows.jsonl")),
        lambda: programs.step(workdir) >= 3,
        lambda: programs.step(workdir) >= 13,
    ]:
        process = programs.start("transfer", *command)
        programs.wait_for(process, stage)
        process.kill()
        assert programs.ended(process).returncode == -signal.SIGKILL
    assert 13 <= programs.step(workdir) < 20
    assert programs.transferred(given | {"cache": cache}, workdir) == 0
    assert programs.found(workdir) == programs.found(done)
    assert [(row["phase"], row["epoch"]) for row in rows(workdir)] == EPOCHS


@pytest.mark.slow
def test_sigterm(given, done, tmp_path):
    command = programs.flags(given | SLOWLY, tmp_path)
    process = programs.start("transfer", *command)
    programs.wait_for(process, lambda: programs.step(tmp_path) >= 2)
    process.terminate()
    ended = programs.ended(process)
    assert ended.returncode == 128 + signal.SIGTERM
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("SIGTERM: saved; the same command resumes from here")
    assert "Traceback" not in ended.stderr
    assert 2 <= programs.step(tmp_path) < 20

    ended = programs.run("transfer", *command)
    assert ended.returncode == 0
    assert programs.found(tmp_path) == programs.found(done)
    assert ended.stdout.splitlines()[-1] == f"report: {tmp_path}/report.html"
    # What a user sees are our lines and progress bars, and nothing of the libraries'.
    assert not re.search(r"orbax|[IWE]\d{4} \d\d:|Warning", ended.stderr)


def test_ctrl_c(given, done, tmp_path, capsys):
    with programs.signal_after_epoch(signal.SIGINT, phase="head", epoch=1):
        assert programs.transferred(given, tmp_path) == 128 + signal.SIGINT
    assert "SIGINT: saved" in capsys.readouterr().err.splitlines()[-1]
    assert programs.step(tmp_path) == 6  # the signal had it written, one batch on
    assert programs.transferred(given, tmp_path) == 0
    assert programs.found(tmp_path) == programs.found(done)


def test_ctrl_c_where_nothing_catches_it(capsys):
    def main(argv):
        signal.raise_signal(signal.SIGINT)

    # A shell has what it starts in the background ignore Ctrl-C; these tests may be that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert cli.status(main, []) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err.startswith("stopped at once")


def test_one_process_a_folder(given, tmp_path):
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = programs.run("transfer", *programs.flags(given, tmp_path))
    assert ended.returncode == 2
    assert f"another process is at work in {tmp_path}" in programs.error_line(ended.stderr)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.slow
def test_two_processes_at_once(given, done, tmp_path):
    command = programs.flags(given | SLOWLY, tmp_path)
    first = programs.start("transfer", *command)
    programs.wait_for(first, lambda: programs.step(tmp_path) >= 1)
    second = programs.run("transfer", *command)
    assert second.returncode == 2
    assert "another process is at work" in programs.error_line(second.stderr)
    assert programs.ended(first).returncode == 0
    assert programs.found(tmp_path) == programs.found(done)


@pytest.mark.slow
def test_killed_at_any_moment(given, done, tmp_path):
    """The bigger network, killed after each of many steps, as a user's machine may be."""
    bigger = given | {"cut": "", "from_layer": "stage7_block1"}
    assert programs.transferred(bigger, tmp_path / "whole") == 0
    command = programs.flags(bigger | SLOWLY, tmp_path / "run")
    for step in range(2, 20, 3):
        process = programs.start("transfer", *command)
        programs.wait_for(process, lambda: programs.step(tmp_path / "run") >= step)  # noqa: B023
        process.kill()
        programs.ended(process)
    assert programs.run("transfer", *command).returncode == 0
    assert programs.found(tmp_path / "run") == programs.found(tmp_path / "whole")


def events(workdir):
    """(tag, step): value of every scalar in the TensorBoard files (TFRecord framing)."""
    found = {}
    for path in (workdir / "tensorboard").iterdir():
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            found |= {(v.tag, event.step): v.simple_value for v in event.summary.value}
            at += 12 + length + 4
    return found


def test_rows_and_curves_of_a_run_that_was_resumed(given, stopped, tmp_path):
    workdir = shutil.copytree(stopped, tmp_path / "run")
    assert programs.transferred(given, workdir) == 0
    assert [(row["phase"], row["epoch"]) for row in rows(workdir)] == EPOCHS
    curves = events(workdir)
    for row in rows(workdir):
        for name in ("val_loss", "train_loss", "learning_rate"):
            value = curves.pop((f"{row['phase']}/{name}", row["step"]))
            assert value == pytest.approx(row[name], rel=1e-6)
    assert not [tag for tag, _ in curves if tag.endswith("loss")]
