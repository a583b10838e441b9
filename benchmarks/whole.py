"""Measure a whole transfer with the output of its frozen layers stored, and without, in turns.

    python -m benchmarks.whole [--turns=3] -- --config=configs/reviews.py --config.plan=head_only

Each is a process of its own, with a folder of its own for results and for what is stored; seconds
are the run's own, from loading the task to the report, so that filling the store counts.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

from absl import flags

from benchmarks.measure import busy_cores, idle_note
from experiments import cli
from tl_jax.errors import UserError

_TURNS = flags.DEFINE_integer("turns", 3, "Number of measurements of each.", lower_bound=1)


def main(argv: list[str]) -> None:
    if not any(argument.startswith("--config=") for argument in argv[1:]):
        raise UserError("which transfer? python -m benchmarks.whole -- --config=configs/reviews.py")
    busy, seconds = busy_cores(), {"stored": [], "not stored": []}
    for _ in range(_TURNS.value):
        for name, found in seconds.items():
            found.append(_run(argv[1:], stored=name == "stored"))
    for name, found in seconds.items():
        print(f"{name}: {statistics.median(found):.1f} s ({min(found):.1f} to {max(found):.1f})")
    ratio = statistics.median(seconds["not stored"]) / statistics.median(seconds["stored"])
    print(f"{ratio:.2f} times as fast with the store{idle_note(busy)}")


def _run(arguments: list[str], *, stored: bool) -> float:
    """Return the seconds that a run took."""
    with tempfile.TemporaryDirectory() as folder:
        run, cache = f"{folder}/run", f"{folder}/cache" if stored else ""
        where = [f"--workdir={run}", f"--config.cache={cache}"]
        command = [sys.executable, "-m", "experiments.transfer", *arguments, *where]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        result = json.loads((pathlib.Path(run) / "result.json").read_text())
        return result["cost"]["total_seconds"]


if __name__ == "__main__":
    cli.run(main)
