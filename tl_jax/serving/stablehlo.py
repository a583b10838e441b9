"""A base as one StableHLO program with its weights inside, which `jax.export` writes and reads.

Beside it stands a description in JSON: what goes in, what comes out, the classes' names. Who reads
it needs JAX and flatbuffers, and nothing of this library:

    program = jax.export.deserialize(bytearray(open("model.stablehlo", "rb").read()))
    program.call(pixels)["probabilities"]  # pixels: uint8 (N, S, S, C), resized and cropped
"""

import dataclasses
import hashlib
import importlib.util
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from tl_jax import ops
from tl_jax.base.base import Base
from tl_jax.chain import answers
from tl_jax.data import views
from tl_jax.data.files import path_of
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.data.texts.preprocessing import TextPreprocessing
from tl_jax.errors import UserError
from tl_jax.report.html import put

FORMAT = 1  # of the description
SUFFIX = ".stablehlo"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export(base: Base, path: str | pathlib.Path) -> pathlib.Path:
    """Write a classifier as `path` (`.stablehlo`), its description as `.json` and, if it reads
    texts, its tokenizer as `.tokenizer.json` beside it; return the path.

    The program takes any number of images, uint8 (N, S, S, C), or of texts' tokens, int32 (N, T),
    and returns {"logits", "probabilities"}, float32 (N, classes), of a base of numbers {"logits",
    "numbers"}: normalisation is inside, and so is the mean over the base's views, that
    `Base.predict` takes. Its operations are XLA's own, on
    any platform. UserError for a base without a classifier, a detector, and a path that is none.
    """
    path = path_of(path)
    base.require_rows()
    if path.suffix != SUFFIX or not path.parent.is_dir():
        raise UserError(f"{path}: name a file {SUFFIX} in a folder that exists")
    if importlib.util.find_spec("flatbuffers") is None:
        raise UserError("jax.export needs flatbuffers: pip install 'tl_jax[export]'")
    with ops.portable():
        program = jax.export.export(jax.jit(_forward(base)), platforms=PLATFORMS)(_inputs(base))
    content = bytes(program.serialize())
    if isinstance(base.preprocessing, TextPreprocessing):
        put(path.with_suffix(".tokenizer.json"), base.preprocessing.tokenizer.encode())
    described = json.dumps(description(base, program, content), indent=1, ensure_ascii=False)
    put(path.with_suffix(".json"), f"{described}\n".encode())
    put(path, content)
    return path


def _forward(base: Base) -> Callable[[jax.Array], dict[str, jax.Array]]:
    """Return the function of what `preprocessing.read` gives, with the weights as constants."""
    variables, said = jax.tree.map(np.asarray, base.variables), answers.make(base.answers)

    def forward(rows):
        seen = [views.view(rows, number) for number in views.numbers(base.views)]
        logits = [
            base.chain.apply(variables, base.preprocessing.normalise(view)).output for view in seen
        ]
        every = jnp.stack([said(one) for one in logits])
        return {"logits": logits[0], _output(base): every.mean(0)}

    return forward


def _output(base: Base) -> str:
    """What the answers are called."""
    return "numbers" if answers.make(base.answers).asks == "numbers" else "probabilities"


def _inputs(base: Base) -> jax.ShapeDtypeStruct:
    """The input's shape, in which the number of examples, and of tokens, may be any."""
    if isinstance(base.preprocessing, Preprocessing):
        size, channels = base.preprocessing.size, base.preprocessing.channels
        shape = jax.export.symbolic_shape(f"N, {size}, {size}, {channels}")
        return jax.ShapeDtypeStruct(shape, jnp.uint8)
    most = base.preprocessing.size
    shape = jax.export.symbolic_shape("N, T", constraints=(f"T <= {most}",))
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def description(base: Base, program: jax.export.Exported, content: bytes) -> dict[str, Any]:
    """What a reader of the program has to know, as JSON-able data."""
    (given,) = program.in_avals
    return {
        "format": FORMAT,
        "base": base.name,
        "classes": list(base.classes),
        "input": {"shape": str(given.shape), "dtype": str(given.dtype), **_reading(base)},
        "output": {
            "logits": "of the input as it is",
            _output(base): f"the mean over the views {base.views!r}",
            "answers": base.answers,
        },
        "jax": jax.__version__,
        "calling_convention": program.calling_convention_version,
        "platforms": list(program.platforms),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _reading(base: Base) -> dict[str, Any]:
    """How an image or a text becomes the input, by the fields of its preprocessing."""
    fields = dataclasses.asdict(base.preprocessing)
    if isinstance(base.preprocessing, TextPreprocessing):
        told = f"the first {base.preprocessing.size} tokens; behind them the token `pad`"
        return {"text": told, **{k: v for k, v in fields.items() if k != "tokenizer"}}
    crop = (
        "the central square, of `crop` times the shorter side, resized to `size`"
        if base.preprocessing.crop_first
        else "the shorter side resized to `size` / `crop`, then the central square of `size`"
    )
    pixels = "RGB" if base.preprocessing.channels == 3 else f"{fields['channels']} channels"
    side = base.preprocessing.tile
    parts = f"each tile of {side} pixels is an input, and the mean of their outputs the answer; "
    told = f"{pixels}, pixels from 0 to 255: {parts if side else ''}{crop}"
    return {"image": told, "normalised": "inside: (pixels - mean) / std, in `order`", **fields}
