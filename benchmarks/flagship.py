"""Measure the flagship from end to end: this library's program, then a plain PyTorch script.

    python -m benchmarks.flagship --json=flagship.json

Both have the same splits, recipe and epochs (configs/demo.py, or another config of ELPV by
--config). It prints wall time and peak memory of the whole programs, which decode, compile and
test. It needs the extras `bench`, `elpv`, `weights` and `report`.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from absl import flags

from experiments import cli
from tl_jax.runs.config import load_config

_CONFIG = flags.DEFINE_string("config", "configs/demo.py", "A config whose task is ELPV.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of splits, heads and order.")
_JSON = flags.DEFINE_string("json", None, "Write the figures there.")


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    from benchmarks.measure import IDLE, busy_cores, idle_note

    busy = busy_cores()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "splits.json").write_text(json.dumps(recipe(_CONFIG.value, _SEED.value)))
        # The cache starts empty, so the time includes decoding and the frozen layers' forward pass.
        command = ["-m", "experiments.transfer", f"--config={_CONFIG.value}"]
        command += [f"--workdir={folder / 'run'}", f"--config.cache={folder / 'cache'}"]
        ours = timed([*command, f"--config.seed={_SEED.value}"])
        result = json.loads((folder / "run" / "result.json").read_text())
        theirs = timed(["-m", "benchmarks.flagship_torch", str(folder / "splits.json")])
    ours["weighted_accuracy"] = result["test"]["weighted_accuracy"]
    theirs |= json.loads(theirs.pop("output").splitlines()[-1]) | {"seconds": theirs["seconds"]}
    ours.pop("output")
    ratio = theirs["seconds"] / ours["seconds"]
    for name, row in {"ours": ours, "PyTorch": theirs}.items():
        print(
            f"{name}: {row['seconds']:.0f} s, {row['peak_bytes'] / 2**30:.2f} GiB, "
            f"weighted accuracy {row['weighted_accuracy']:.4f}"
        )
    print(f"{ratio:.2f} times as fast{idle_note(busy)}")
    if _JSON.value:
        figures = {"ours": ours, "peer": theirs, "ratio": ratio, "idle": busy <= IDLE}
        pathlib.Path(_JSON.value).write_text(json.dumps(figures, indent=1) + "\n")


def recipe(path: str, seed: int) -> dict:
    """Return what the plain script needs of a config: files, labels, weights, splits and phases."""
    from tl_jax import models
    from tl_jax.data.tasks.elpv import elpv
    from tl_jax.plans.plan import Settings
    from tl_jax.plans.strategies import fine_tune_top

    config = load_config(path)
    task = elpv(seed=seed, val=config.task.val, test=config.task.test, targets=config.task.targets)
    family = models.family("efficientnet_lite0")
    names = family.build("efficientnet_lite0", family.forms("efficientnet_lite0")[0]).names
    settings = Settings(**config.tune)
    tuned = fine_tune_top(names, tune=settings, from_layer=config.from_layer).phases[0]
    return {
        "files": task.ids,
        "labels": task.targets.argmax(1).tolist(),
        "weights": task.weights.tolist(),
        "splits": {name: rows.tolist() for name, rows in task.splits.items()},
        "seed": seed,
        "threads": len(os.sched_getaffinity(0)),
        "batch_size": config.batch_size,
        "stage": int(tuned.trained[0].removeprefix("stage")[0]),
        "head": config.train_head.to_dict(),
        "tune": config.tune.to_dict(),
    }


def timed(arguments: list[str]) -> dict:
    """Run a program; return its wall time, peak memory and output."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)} failed")
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_bytes": usage.ru_maxrss * 1024, "output": output}


if __name__ == "__main__":
    cli.run(main)
