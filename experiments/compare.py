"""The metrics of finished runs of one config, over their seeds: mean, spread and every run.

    python -m experiments.compare runs/elpv_0 runs/elpv_1 runs/elpv_2
"""

import json
import pathlib
import statistics
from collections.abc import Sequence

from experiments import cli

METRICS = ("weighted_accuracy", "accuracy", "f1", "auc", "loss")


def main(argv: list[str]) -> None:
    from tl_jax.errors import UserError

    if len(argv) < 2:
        raise UserError("which runs? python -m experiments.compare runs/elpv_0 runs/elpv_1")
    print(table([_result(pathlib.Path(run)) for run in argv[1:]]))


def table(results: Sequence[dict]) -> str:
    """A line for each split and metric: mean, standard deviation, then each run by seed.

    UserError unless the runs differ in their seed alone.
    """
    from tl_jax.errors import UserError

    results = sorted(results, key=lambda r: r["seed"])
    seeds = [r["seed"] for r in results]
    if any(r["config"] | {"seed": 0} != results[0]["config"] | {"seed": 0} for r in results):
        raise UserError("these runs are not of one config: they differ in more than the seed")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"a seed is there twice: {seeds}")
    head = f"{'':22}{'mean':>8}{'sd':>8}" + "".join(f"{f'seed {s}':>9}" for s in seeds)
    return "\n".join([head, *(_row(results, s, m) for s in ("val", "test") for m in METRICS)])


def _row(results: Sequence[dict], split: str, metric: str) -> str:
    factor = 1 if metric == "loss" else 100
    values = [r[split][metric] for r in results]
    if None in values:
        return f"{split} {metric}: not defined in every run"
    values = [factor * v for v in values]
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    numbers = f"{statistics.mean(values):8.2f}{spread:8.2f}"
    return f"{f'{split} {metric}':22}" + numbers + "".join(f"{v:9.2f}" for v in values)


def _result(run: pathlib.Path) -> dict:
    from tl_jax.errors import UserError

    try:
        return json.loads((run / "result.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{run} is not a finished run: it has no readable result.json") from error


if __name__ == "__main__":
    cli.run(main)
