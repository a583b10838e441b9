"""The metrics of finished runs of one config, over their seeds: mean, spread and every run.

    python -m experiments.compare runs/elpv_0 runs/elpv_1 runs/elpv_2
"""

import pathlib

from experiments import cli
from tl_jax.errors import UserError


def main(argv: list[str]) -> None:
    from tl_jax.studies.compare import page, study

    if len(argv) < 2:
        raise UserError("which runs? python -m experiments.compare runs/elpv_0 runs/elpv_1")
    print(page.table(*study.compute(map(pathlib.Path, argv[1:]))))


if __name__ == "__main__":
    cli.run(main)
