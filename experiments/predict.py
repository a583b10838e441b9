"""Classify images, or lines of text, with a finished run: a line each, with class and probability.

    python -m experiments.predict --run=runs/elpv photo.png folder/
    python -m experiments.predict --run=runs/reviews reviews.txt
    python -m experiments.predict --run=runs/detect_small photo.png --pictures=found/

A run on texts takes files with a text on each line. A run of several labels prints those it gives,
one of numbers the numbers, one of captions a caption with the logarithm of its probability, and a
detector a line for each thing, with its box in pixels; --pictures=FOLDER draws the boxes. --json
prints JSON lines, with the probability of every class.
"""

import json
import pathlib

from absl import flags

from experiments import cli, json_flag, run_flag
from experiments.json_flag import JSON
from experiments.run_flag import RUN
from tl_jax.data.files import path_of
from tl_jax.errors import UserError

flags.adopt_module_key_flags(json_flag)
flags.adopt_module_key_flags(run_flag)
_PICTURES = flags.DEFINE_string("pictures", None, "Folder for images with a detector's boxes.")


def main(argv: list[str]) -> int:
    """Print what is said of each image or text; return 2 if an image could not be read."""
    from tl_jax.base import load, predict  # these import JAX, which --help does without
    from tl_jax.data.texts.preprocessing import TOKENS
    from tl_jax.models import reads
    from tl_jax.report import found as pictures

    if not RUN.value or len(argv) < 2 or "" in argv[1:]:
        raise UserError("which run, and which images or texts? --run=runs/elpv photo.png folder/")
    base = load.load_base(pathlib.Path(RUN.value))
    if _PICTURES.value is not None and not base.answers.startswith("boxes"):
        raise UserError(f"--pictures= is of a detector, and {RUN.value} is none: leave it out")
    if reads(base.name) == TOKENS:
        for argument in argv[1:]:
            for text, row in predict.of_lines(base, path_of(argument)):
                print(_line("text", text, predict.said(base, row)))
        return 0
    files = [f for argument in argv[1:] for f in predict.files_at(path_of(argument))]
    failed = 0
    for path, image, answer in predict.of_files(base, files):
        if isinstance(answer, UserError):
            cli.complain(str(answer))
            failed += 1
        else:
            print(_line("path", str(path), predict.said(base, answer)))
            if _PICTURES.value is not None:
                pictures.keep(path, image, base.classes, answer, path_of(_PICTURES.value))
    return cli.BAD_INPUT if failed else 0


def _line(what: str, name: str, said: dict) -> str:
    """Class and probability, the labels with theirs, the numbers, or lines of things with their
    boxes; with --json everything.
    """
    from tl_jax.report.text import visible

    if JSON.value:
        return json.dumps({what: name} | said)
    if "caption" in said:
        return f"{visible(name)}\t{visible(said['caption'])}\t{said['log_p']:.2f}"
    if "objects" in said:
        each = ((visible(o["class"]), f"{o['score']:.4f}", str(o["box"])) for o in said["objects"])
        return "\n".join("\t".join([visible(name), *o]) for o in each) or f"{visible(name)}\t-"
    if "class" in said:
        return f"{visible(name)}\t{visible(said['class'])}\t{said['probability']:.4f}"
    told = said.get("numbers") or {one: said["probabilities"][one] for one in said["labels"]}
    return "\t".join([visible(name), *(f"{visible(n)} {x:.4f}" for n, x in told.items())])


if __name__ == "__main__":
    cli.run(main)
