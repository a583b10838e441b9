"""Classify images with a finished run: one line for each image, with class and probability.

    python -m experiments.predict --run=runs/elpv photo.png folder/

--json prints JSON lines, with the probability of every class.
"""

import json
import pathlib

from absl import flags

from experiments import cli, json_flag
from experiments.json_flag import JSON
from tl_jax.data.files import path_of
from tl_jax.errors import UserError

flags.adopt_module_key_flags(json_flag)
_RUN = flags.DEFINE_string("run", None, "Folder of a finished run.")


def main(argv: list[str]) -> int:
    """Print a line for each image; return 2 if one could not be read."""
    from tl_jax.base import predict  # these import JAX, which --help does without
    from tl_jax.base.load import load_base

    if not _RUN.value or len(argv) < 2 or "" in argv[1:]:
        raise UserError("which run and which images? --run=runs/elpv photo.png folder/")
    base = load_base(pathlib.Path(_RUN.value))
    files = [f for argument in argv[1:] for f in predict.files_at(path_of(argument))]
    failed = 0
    for path, answer in predict.of_files(base, files):
        if isinstance(answer, UserError):
            cli.complain(str(answer))
            failed += 1
        else:
            print(_line(path, answer, base.classes))
    return cli.BAD_INPUT if failed else 0


def _line(path: pathlib.Path, row, classes: tuple[str, ...]) -> str:
    from tl_jax.report.text import visible

    best = int(row.argmax())
    if not JSON.value:
        return f"{visible(str(path))}\t{visible(classes[best])}\t{row[best]:.4f}"
    every = {name: round(float(p), 6) for name, p in zip(classes, row, strict=True)}
    answer = {"path": str(path), "class": classes[best], "probability": round(float(row[best]), 6)}
    return json.dumps(answer | {"probabilities": every})


if __name__ == "__main__":
    cli.run(main)
