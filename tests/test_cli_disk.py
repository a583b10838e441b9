"""Full disks, damaged checkpoints, a loss that is not finite."""

import errno
import shutil

import programs
import pytest

from experiments import cli


def test_disk_full_at_a_checkpoint(given, done, tmp_path, capsys):
    with programs.disk_full_beyond(50_000):
        assert programs.transferred(given, tmp_path) == 2
    error = programs.error_line(capsys.readouterr().err)
    assert f"no space left at {tmp_path}/checkpoints: free 2 MB" in error
    assert programs.step(tmp_path) == 10  # the head's was smaller, and stays
    assert programs.transferred(given, tmp_path) == 0
    assert programs.found(tmp_path) == programs.found(done)


def test_disk_full_at_the_cache(given, done, tmp_path, capsys):
    settings = given | {"cache": tmp_path / "cache"}
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "compiled").symlink_to(given["cache"] / "compiled")
    with programs.disk_full_beyond(100_000):
        assert programs.transferred(settings, tmp_path / "run") == 2
    error = programs.error_line(capsys.readouterr().err)
    assert f"no space left in {tmp_path}/cache" in error and "--config.cache" in error
    assert programs.transferred(settings, tmp_path / "run") == 0
    assert programs.found(tmp_path / "run") == programs.found(done)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_disk_full_anywhere_else(capsys, code):
    def main(argv):
        raise OSError(code, "of no interest")

    assert cli.status(main, []) == 2
    assert "no space left" in programs.error_line(capsys.readouterr().err)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def largest(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


@pytest.mark.parametrize("damage", [
    lambda folder: flip(largest(folder)),
    lambda folder: flip(folder / "record.json"),
    lambda folder: shutil.rmtree(folder / "state"),
])  # fmt: skip
def test_a_damaged_checkpoint(given, done, stopped, tmp_path, caplog, damage):
    workdir = shutil.copytree(stopped, tmp_path / "run")
    damage(programs.checkpoints(workdir)[-1])
    assert programs.transferred(given, workdir) == 0
    assert "step 16 is unreadable" in caplog.text and "using step 10" in caplog.text
    assert programs.found(workdir) == programs.found(done)


def test_no_checkpoint_is_whole(given, stopped, tmp_path, capsys):
    workdir = shutil.copytree(stopped, tmp_path / "run")
    for folder in programs.checkpoints(workdir):
        flip(largest(folder))
    before = programs.contents(workdir / "checkpoints")
    assert programs.transferred(given, workdir) == 2
    assert "no checkpoint in" in programs.error_line(capsys.readouterr().err)
    assert programs.contents(workdir / "checkpoints") == before


@pytest.mark.parametrize(("settings", "step"), [
    ({"train_head.learning_rate": 1e38}, 1),
    ({"train_head.learning_rate": 1e38, "batch_size": 42}, 1),  # of one step an epoch
    ({"tune.learning_rate": 1e38}, 11),
])  # fmt: skip
def test_a_loss_that_is_not_finite(given, tmp_path, capsys, settings, step):
    assert programs.transferred(given | settings, tmp_path) == 2
    error = programs.error_line(capsys.readouterr().err)
    assert f"not finite at step {step}" in error and "learning_rate" in error
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("name", ["result.json", "config.json"])
@pytest.mark.parametrize("content", ['{"seed": 0', "[]"])
def test_a_damaged_record_of_a_run(given, done, tmp_path, capsys, name, content):
    workdir = shutil.copytree(done, tmp_path / "run")
    (workdir / name).write_text(content)
    assert programs.transferred(given, workdir) == 2
    assert f"{workdir / name} is lost or damaged" in programs.error_line(capsys.readouterr().err)


def test_a_workdir_that_is_a_file(given, tmp_path, capsys):
    (tmp_path / "run").write_text("mine")
    assert programs.transferred(given, tmp_path / "run") == 2
    said = programs.error_line(capsys.readouterr().err)
    assert "run is a file, or lies in one: take another" in said
    assert (tmp_path / "run").read_text() == "mine"
