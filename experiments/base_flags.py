"""The flags that name a base, for programs that take no config."""

from typing import TYPE_CHECKING

from absl import flags

from tl_jax.errors import UserError

if TYPE_CHECKING:
    from tl_jax.base.base import Base

BASE = flags.DEFINE_string("base", None, "The architecture.")
WEIGHTS = flags.DEFINE_string("weights", None, "Its weights: a name, or a file.")
INPUT = flags.DEFINE_integer("input", None, "Pixels of its input's side, or tokens of a text.")


def resized(base: "Base") -> "Base":
    """Return the base for inputs of --input pixels or tokens; UserError if that is no size."""
    try:
        return base.resized(INPUT.value)
    except UserError as error:
        raise UserError(str(error).replace("size=", "--input=")) from error
