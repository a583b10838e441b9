"""The library `tokenizers`, which is asked for where a text is met."""

import contextlib
from collections.abc import Generator
from typing import Any

from tl_jax.errors import UserError


def tokenizers() -> Any:
    """Return the library; UserError where it is not installed."""
    try:
        import tokenizers
    except ModuleNotFoundError:
        raise UserError("texts need the package tokenizers: pip install 'tl_jax[text]'") from None
    return tokenizers


@contextlib.contextmanager
def refusing(what: str) -> Generator[None]:
    """Turn what the library refuses inside the block into a UserError of one line.

    It has no class of its own for that. A table that leads out of itself, as in a damaged file,
    makes it panic, which is no `Exception`.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise UserError(f"{what} ({error!s:.200})") from None
        raise


def read(described: str) -> Any:
    """Return the tokenizer that is described in JSON; UserError if it cannot be read."""
    known = tokenizers()
    with refusing("the tokenizer cannot be read"):
        return known.Tokenizer.from_str(described)
