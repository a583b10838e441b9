"""Judge several finished runs together: an ensemble, the mean of their probabilities.

    python -m experiments.ensemble runs/forward runs/backward

The runs are of the same data, splits and classes; base, plan and preprocessing may differ. Prints
what each has alone, and what they have together, on validation and test.
"""

from experiments import cli
from tl_jax.data.files import path_of
from tl_jax.errors import UserError


def main(argv: list[str]) -> None:
    from tl_jax.report.text import percent  # these import JAX, which --help does without
    from tl_jax.runs import ensemble, several

    runs = [path_of(run) for run in argv[1:]]
    if not runs:
        raise UserError("which runs? python -m experiments.ensemble runs/forward runs/backward")
    finished = several.of_same_data(runs, what="an ensemble")
    task = several.task_of(runs[0])
    columns = []
    for split in ("val", "test"):
        alone, together = ensemble.judged([one.base for one in finished], task, split)
        columns.append([percent(scores["accuracy"]) for scores in (*alone, together)])
    names = [*map(str, runs), f"ensemble of {len(runs)}"]
    for name, val, test in zip(names, *columns, strict=True):
        print(f"{name}\tval {val}\ttest {test}")


if __name__ == "__main__":
    cli.run(main)
