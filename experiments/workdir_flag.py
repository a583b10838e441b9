"""The flag that names a results folder, for programs that keep one."""

import pathlib

from absl import flags

from tl_jax.data.files import path_of

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run's results; default: runs/ and its name."
)


def workdir(name: str) -> pathlib.Path:
    """Return the folder for results of the run that is called `name`."""
    return path_of(_WORKDIR.value or f"runs/{name}")
