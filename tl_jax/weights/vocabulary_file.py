"""A reader of pickled vocabularies, as lie beside fastai's weights, that runs nothing."""

import io
from pathlib import Path

from tl_jax.errors import UserError
from tl_jax.weights.reading import AGAIN, reading
from tl_jax.weights.torch_pickle import unpickle

_MAX_BYTES = 2**24  # fastai's vocabularies have 60,000 words


def read_vocabulary(path: str | Path) -> tuple[str, ...]:
    """Return the words of a pickled list (`itos_wt103.pkl`), by their ids.

    UserError if the file is anything else than a list of strings, or is longer than 16 MiB.
    """
    path = Path(path)
    with reading(path), path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise UserError(f"is longer than {_MAX_BYTES} bytes, and so no vocabulary")
        try:
            words, _ = unpickle(io.BytesIO(content), len(content))
        except UserError:
            words = None
        if not (isinstance(words, list) and words and all(isinstance(w, str) for w in words)):
            raise UserError(f"is no pickled list of words (nothing was run); {AGAIN}")
        return tuple(words)
