"""Jobs of some seconds for `tests/kills.py` and `tests/full_disk.py`, each a process of its own."""

import json
import logging
import os
import pathlib
import sys
import time
import traceback
from collections.abc import Callable

import orbax.checkpoint  # noqa: F401 (imported before the fork, as the study is)

from configs import digits, language_small, layer_probes_digits
from experiments import cli
from tl_jax import interrupt
from tl_jax.runs import language
from tl_jax.runs import transfer as transfers
from tl_jax.studies import run as studies
from tl_jax.studies.layer_probes import page, study  # noqa: F401 (imported before the fork)

TOPICS = 12  # paragraphs of the language model's text


def transfer(workdir: pathlib.Path, cache: pathlib.Path) -> None:
    """Two phases on digits, above stored features, with a checkpoint after every step."""
    config = digits.get_config()
    config.update_from_flattened_dict({
        "base": "alexnet_small", "weights": "random:0", "size": 28, "cut": "fc5",
        "from_layer": "conv4", "task.per_class": 8, "train_head.epochs": 2, "tune.epochs": 2,
        "batch_size": 16, "checkpoint_seconds": 0.0, "cache": str(cache),
    })  # fmt: skip
    transfers.by_config(config, workdir, name="transfer")


def probes(workdir: pathlib.Path, cache: pathlib.Path) -> None:
    """A study of twelve cells: layers, probes, budgets, seeds."""
    config = layer_probes_digits.get_config()
    changed = {
        "base": "alexnet_small", "weights": "random:0", "size": 28, "layers": ("pool4", "fc5"),
        "budgets": (2.0, 5.0), "seeds": (0, 1, 2), "probes": ("class_means",), "cache": str(cache),
    }  # fmt: skip
    with config.unlocked():
        config.update(changed)
        config.task.per_class = 8
    studies.run("layer_probes", config, workdir, name="probes")


def texts(workdir: pathlib.Path, cache: pathlib.Path) -> None:
    """A language model of a part of Python's help, with a checkpoint after every step."""
    from pydoc_data import topics

    text = workdir.parent / "topics.txt"
    chosen = [topics.topics[name] for name in sorted(topics.topics)[:TOPICS]]
    text.write_text("\n\n".join(" ".join(one.split())[:400] for one in chosen))
    config = language_small.get_config()
    with config.unlocked():
        config.task.name, config.words, config.least = f"plain:{text}", 300, 2
    config.update_from_flattened_dict({
        "window": 10, "batch_size": 4, "tune.epochs": 2, "checkpoint_seconds": 0.0,
    })  # fmt: skip
    language.by_config(config, workdir, name="texts")


JOBS: dict[str, Callable[[pathlib.Path, pathlib.Path], None]] = {
    "transfer": transfer, "probes": probes, "texts": texts,
}  # fmt: skip


def attempt(
    job: str, workdir: pathlib.Path, folder: pathlib.Path, after: float | None, signum: int
) -> tuple[int, float]:
    """Exit status of a job in a process of its own, and how much of the processor's time it took.

    It gets the signal `after` so many seconds of that time, which no other work on the machine
    stretches. The process is a fork, so that it need not import again; JAX has not begun in this
    one. A negative status is the signal that it died of.
    """
    child = os.fork()
    if not child:
        (folder / "compiled").mkdir(parents=True, exist_ok=True)
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1), os.dup2(log, 2)
        logging.getLogger("tl_jax").setLevel(logging.INFO)
        status = 1
        try:
            status = cli.status(lambda argv: _caught(job, workdir, folder), [])
        except BaseException:
            traceback.print_exc()
        finally:  # whatever happened, this process must not go on with the caller's work
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(status)
    while after is not None and not _over(child):
        if _used(child) >= after:
            os.kill(child, signum)
            break
        time.sleep(0.01)
    _, status, usage = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime


def _over(child: int) -> bool:
    """Whether the process has ended; it can still be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _used(child: int) -> float:
    """Seconds of the processor's time that a process has used: fields 14 and 15 of proc(5)."""
    fields = pathlib.Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _caught(job: str, workdir: pathlib.Path, folder: pathlib.Path) -> None:
    import jax

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    cache = workdir / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    if not (cache / "compiled").is_symlink():  # the programs alone are shared
        (cache / "compiled").symlink_to(folder / "compiled")
    with interrupt.caught():
        JOBS[job](workdir, cache)


COSTS = (
    *("seconds", "train_seconds", "compile_seconds", "cost", "date", "config"),
    *("images", "steps", "name", "git"),  # a resumed run has done some of its steps before
)


def numbers(workdir: pathlib.Path) -> object:
    """What a finished folder found: result, rows of epochs and weights, without times and paths."""
    found = [_without(json.loads((workdir / "result.json").read_text()))]
    if (workdir / "metrics.jsonl").exists():
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
        found.append([_without(json.loads(line)) for line in lines])
    if (workdir / "model.safetensors").exists():
        found.append((workdir / "model.safetensors").read_bytes())
    return found


def _without(found: object) -> object:
    if isinstance(found, dict):
        return {key: _without(value) for key, value in found.items() if key not in COSTS}
    return [_without(value) for value in found] if isinstance(found, list) else found
