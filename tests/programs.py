"""The programs as a user meets them: run in a process of their own, or in this one."""

import contextlib
import hashlib
import json
import pathlib
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from unittest import mock

import jax
from jax.experimental.compilation_cache import compilation_cache

from experiments import cli, config_flag, transfer
from tl_jax import interrupt
from tl_jax.runs import log
from tl_jax.runs.config import load_config

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = "configs/folder.py"
# A cut so low that everything compiles in a second or two.
SMALL = {
    "size": 32,
    "cut": "stage2_block1",
    "from_layer": "stage2_block1",
    "train_head.epochs": 2,
    "train_head.learning_rate": 1e-2,
    "tune.epochs": 2,
    "test_views": "flip",
    "batch_size": 8,
}
COMPILED = {"jax_persistent_cache_min_compile_time_secs": 0, "jax_compilation_cache_dir": None}


def flags(settings: dict, workdir: pathlib.Path) -> list[str]:
    """The command line that says the same as `SMALL` and `settings`."""
    changed = [f"--config.{key}={value}" for key, value in (SMALL | settings).items()]
    return [f"--config={CONFIG}", *changed, f"--workdir={workdir}"]


def start(program: str, *arguments: object, **popen) -> subprocess.Popen:
    """`python -m experiments.<program>`, its output caught, at work when this returns."""
    command = [sys.executable, "-m", f"experiments.{program}", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, **pipes, **popen)


def run(program: str, *arguments: object, **popen) -> subprocess.CompletedProcess:
    """The same, to its end."""
    return ended(start(program, *arguments, **popen))


def ended(process: subprocess.Popen) -> subprocess.CompletedProcess:
    """A process that was started, at its end."""
    with process:
        out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def wait_for(process: subprocess.Popen, happened: Callable[[], object]) -> None:
    """Return at the moment that something has happened, if the process is still at work."""
    while not happened():
        assert process.poll() is None, "it ended before"
        time.sleep(0.005)


def transferred(settings: dict, workdir: pathlib.Path) -> int:
    """The exit status of such a transfer in this process; signals are caught as there."""
    config = load_config(str(ROOT / CONFIG))
    changed = {k: str(v) if isinstance(v, pathlib.Path) else v for k, v in settings.items()}
    config.update_from_flattened_dict(SMALL | changed)

    def main(argv: list[str]) -> None:
        with interrupt.caught(), config_flag.naming_flags(config):
            transfer.transfer(config, workdir, "folder")

    with _compiled_kept():
        return cli.status(main, [])


@contextlib.contextmanager
def _compiled_kept() -> Iterator[None]:
    """Inside, JAX looks again where compiled programs are to be kept; keeps quick ones as well."""
    before = {name: getattr(jax.config, name) for name in COMPILED}
    try:
        for name, value in COMPILED.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


@contextlib.contextmanager
def signal_after_epoch(signum: int, *, phase: str, epoch: int) -> Iterator[None]:
    """Inside, a transfer in this process gets the signal at the end of this epoch."""
    writer = log.writer

    def stopping(workdir: pathlib.Path) -> Callable[[dict], None]:
        write = writer(workdir)

        def write_and_raise(row: dict) -> None:
            write(row)
            if (row["phase"], row["epoch"]) == (phase, epoch):
                signal.raise_signal(signum)

        return write_and_raise

    with mock.patch.object(log, "writer", stopping):
        yield


@contextlib.contextmanager
def disk_full_beyond(size: int) -> Iterator[None]:
    """Inside, no file can grow beyond `size` bytes: to a program, the disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def error_line(stderr: str) -> str:
    """The error, after assuring that it is one line, the last, and that no traceback is there."""
    assert "Traceback" not in stderr
    lines = stderr.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    return lines[-1].removeprefix("error: ")


def found(workdir: pathlib.Path) -> tuple[dict, list]:
    """What a finished run found, without what it cost: its metrics, and its epochs'."""
    result = json.loads((workdir / "result.json").read_text())
    epochs = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    kept = ("phase", "epoch", "step", "train_loss", "val_loss", "val_accuracy", "learning_rate")
    return {s: result[s] for s in ("val", "test")}, [{k: e[k] for k in kept} for e in epochs]


def contents(folder: pathlib.Path) -> dict[str, str]:
    """A hash of every file below."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def checkpoints(workdir: pathlib.Path) -> list[pathlib.Path]:
    """The run's checkpoints, the oldest first."""
    folders = (workdir / "checkpoints").glob("*_step*")
    return sorted(p for p in folders if p.name.split("_step")[1].isdecimal())


def step(workdir: pathlib.Path) -> int:
    """The newest checkpoint's step; 0 without one."""
    return max((int(p.name.split("_step")[1]) for p in checkpoints(workdir)), default=0)
