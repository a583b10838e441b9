"""Classify images with a finished run: one line an image, with class and probability.

    python -m experiments.predict --run=runs/elpv photo.png folder/
"""

import json
import pathlib
from collections.abc import Iterator

from absl import flags

from experiments import cli

_RUN = flags.DEFINE_string("run", None, "Folder of a finished run.")
_JSON = flags.DEFINE_bool("json", False, "One JSON object a line, with every class's probability.")

BATCH = 16


def main(argv: list[str]) -> int:
    from tl_jax.base import file as export
    from tl_jax.errors import UserError

    if not _RUN.value or len(argv) < 2:
        raise UserError("which run and which images? --run=runs/elpv photo.png folder/")
    model = export.load(pathlib.Path(_RUN.value) / "model.safetensors")
    files = [file for argument in argv[1:] for file in _images(pathlib.Path(argument))]
    failed = 0
    for first in range(0, len(files), BATCH):
        good, pixels = _read(files[first : first + BATCH], model.preprocessing)
        failed += min(BATCH, len(files) - first) - len(good)
        for file, row in zip(good, _probabilities(model, pixels), strict=True):
            print(_line(file, row, model.classes))
    return cli.BAD_INPUT if failed else 0


def _images(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """The file itself, or every file below a folder in sorted order, hidden ones aside."""
    from tl_jax.errors import UserError

    if path.is_file():
        yield path
        return
    if not path.is_dir():  # nothing there, or a pipe, which one would wait on
        raise UserError(f"no such image or folder: {path}")
    inside = [p for p in sorted(path.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    if not inside:
        raise UserError(f"no images in {path}")
    yield from inside


def _read(files: list[pathlib.Path], preprocessing):
    """The readable files and their pixels (n, S, S, 3); the others are named on standard error."""
    import numpy as np

    from tl_jax.data.images import open_image
    from tl_jax.errors import UserError

    good, pixels = [], []
    for file in files:
        try:
            image = preprocessing.fit(open_image(file))
        except UserError as error:
            cli.complain(str(error))
            continue
        good.append(file)
        pixels.append(np.broadcast_to(image, (*image.shape[:2], 3)))
    return good, np.stack(pixels) if good else np.empty((0, 1, 1, 3), np.uint8)


def _probabilities(model, pixels):
    """(n, C): the mean over the model's views, padded so that one program serves every batch."""
    import jax
    import numpy as np

    from tl_jax.chain.programs import forward_program
    from tl_jax.data import views

    if not len(pixels):
        return []
    padded = np.concatenate([pixels, np.repeat(pixels[:1], BATCH - len(pixels), 0)])
    several = [views.view(padded, v) for v in range(views.count(model.views))]
    inputs = [model.preprocessing.normalise(view) for view in several]
    forward = forward_program(model.chain, None, None).of(model.variables)
    logits = [forward(x) for x in inputs]
    return np.mean([jax.nn.softmax(x) for x in logits], 0)[: len(pixels)]


def _line(file: pathlib.Path, row, classes: tuple[str, ...]) -> str:
    from tl_jax.report.text import visible

    best = int(row.argmax())
    if not _JSON.value:
        return f"{visible(str(file))}\t{visible(classes[best])}\t{row[best]:.4f}"
    every = {name: round(float(p), 6) for name, p in zip(classes, row, strict=True)}
    answer = {"path": str(file), "class": classes[best], "probability": round(float(row[best]), 6)}
    return json.dumps(answer | {"probabilities": every})


if __name__ == "__main__":
    cli.run(main)
