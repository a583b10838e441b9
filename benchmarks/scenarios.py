"""Measure a study of scenarios beside a loop of independent runs: cells an hour, on ELPV.

    python -m benchmarks.scenarios [--times=3]

The study's cells share decoded images, stored outputs of frozen layers and compiled programs. Of
the independent runs each is a process, `python -m experiments.transfer` with a draw's settings, and
a cell is as many runs as it has draws. They have a cache each, as on machines of their own; or one
cache, which the library then shares between them: images, outputs and compiled programs on disk.
The study begins with an empty cache, and so does the loop.
"""

import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from absl import flags

from benchmarks.measure import busy_cores, idle_note
from experiments import cli
from tl_jax.runs.config import flat, load_config

_TIMES = flags.DEFINE_integer("times", 3, "Seeds of the study.", lower_bound=1)
PLANS = ("discriminative", "head_only", "top")
BUDGETS = (20, 80)
STUDY = """
from benchmarks.scenarios import grid
def get_config():
    return grid({seeds}, {cache!r})
"""
RUN = """
from configs import defaults
def get_config():
    config = defaults.get_config()
    config.update_from_flattened_dict({changes!r})
    return config
"""


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    busy = busy_cores()
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        config, study = grid(_TIMES.value, ""), 3600 / _study(root / "study")
        print("| how | cells an hour | study's ratio |\n|---|---|---|")
        print(f"| one study | {study:.0f} | |", flush=True)
        for name, cache in (("runs, a cache each", None), ("runs, one cache", root / "cache")):
            seconds = _runs(config, root / name.replace(" ", "_"), cache)
            cells = 3600 / (config.draws * statistics.mean(seconds))
            spread = f"{min(seconds):.0f} to {max(seconds):.0f} s a run"
            print(f"| {name} ({spread}) | {cells:.0f} | {study / cells:.1f} |", flush=True)
    print(f"{len(PLANS)} plans, budgets {BUDGETS}, {_TIMES.value} seeds{idle_note(busy)}")


def grid(seeds: int, cache: str):
    """Return the config of the study that is measured."""
    config = load_config("configs/scenarios_elpv.py")
    with config.unlocked():
        config.plans = {name: config.plans[name] for name in PLANS}
        config.budgets, config.seeds, config.least_steps = BUDGETS, seeds, 0
        config.reference, config.cache = "head_only", cache
        config.settings.tune.epochs = config.settings.train_head.epochs = 8
    return config


def _study(folder: pathlib.Path) -> float:
    """Return the seconds a cell of the study, its start included."""
    text = STUDY.format(seeds=_TIMES.value, cache=str(folder / "cache"))
    seconds = _timed("experiments.scenarios", text, folder)
    return seconds / (len(PLANS) * len(BUDGETS) * _TIMES.value)


def _runs(config, folder: pathlib.Path, cache: pathlib.Path | None) -> list[float]:
    """Return the seconds of a run of each plan at each budget, of the first draw's kind."""
    seconds = []
    for plan in PLANS:
        for budget in BUDGETS:
            settings = flat(config.settings.to_dict()) | flat(config.plans[plan].to_dict())
            changes = {k: v for k, v in settings.items() if not k.startswith("space")}
            changes |= flat(config.bases.lite0.to_dict())
            task = {f"task.{k}": v for k, v in config.tasks.elpv.items()}
            changes |= task | {"task.per_class": budget}
            workdir = folder / f"{plan}_{budget}"
            changes["cache"] = str(cache or workdir / "cache")
            seconds.append(_timed("experiments.transfer", RUN.format(changes=changes), workdir))
    return seconds


def _timed(program: str, text: str, workdir: pathlib.Path) -> float:
    """Return the seconds that a program takes with a config of this text."""
    workdir.mkdir(parents=True)
    path = workdir / "config.py"
    path.write_text(text)
    command = [sys.executable, "-m", program, f"--config={path}", f"--workdir={workdir / 'run'}"]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - started


if __name__ == "__main__":
    cli.run(main)
