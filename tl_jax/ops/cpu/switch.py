"""The one switch for this folder: the environment variable TL_JAX_CPU, `fast` or `plain`."""

import functools
import os

from tl_jax.errors import unknown

VARIABLE = "TL_JAX_CPU"


@functools.cache  # compiled programs stay as they were traced, so the answer stays too
def fast() -> bool:
    """Whether what this folder holds is in use; UserError if TL_JAX_CPU is neither of the two."""
    return choice(VARIABLE, ("fast", "plain")) == "fast"


def choice(variable: str, choices: tuple[str, ...]) -> str:
    """The value of an environment variable, or the first of `choices` where it is not set.

    UserError, with the near miss, if the value is none of them.
    """
    value = os.environ.get(variable) or choices[0]
    if value not in choices:
        raise unknown(variable, value, choices)
    return value
