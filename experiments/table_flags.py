"""The flag that names a table's file, for programs that print a table."""

import pathlib

from absl import flags

from tl_jax.errors import UserError

CSV = flags.DEFINE_string("csv", None, "Write the table to this file, all digits; -: print that.")

SUFFIXES = {"--csv": ".csv", "--png": ".png", "--latex": ".tex"}


def require_places(files: dict[str, str | None]) -> None:
    """UserError for a flag whose file cannot be written, before anything is computed."""
    for flag, file in files.items():
        if file is None or (flag, file) == ("--csv", "-"):
            continue
        if file in ("", "-"):
            example = f"{flag}=table{SUFFIXES[flag]}"
            raise UserError(f"{flag}={file} names no file; give one, as in {example}")
        if pathlib.Path(file).is_dir():
            raise UserError(f"{flag}: {file!r} cannot be written: it is a folder; name a file")
        if not pathlib.Path(file).parent.is_dir():
            raise UserError(f"{flag}: {file!r} cannot be written: there is no such folder")
