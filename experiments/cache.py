"""List what `.cache` holds, with size, age and kind, and delete old stores if asked to.

    python -m experiments.cache
    python -m experiments.cache --older=30d --keep=5GB

Only stores are deleted (decoded images, outputs of layers): first those that were not used for the
time --older, then, from the one used longest ago, until the rest is smaller than --keep. A run that
needs a deleted store computes it again; results folders are elsewhere. A store that a process is
building stays.
"""

import pathlib
import re
import time

from absl import flags

from experiments import cli
from tl_jax.data.files import path_of
from tl_jax.errors import UserError

_CACHE = flags.DEFINE_string("cache", ".cache", "The folder, as in --config.cache.")
_OLDER = flags.DEFINE_string("older", None, "Delete stores not used for this time: 12h, 30d, 8w.")
_KEEP = flags.DEFINE_string("keep", None, "Delete until the stores take no more: 500MB, 5GB.")

UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def amount(flag: str, text: str, units: str) -> float:
    """Return seconds or bytes; UserError if it is neither."""
    match = re.fullmatch(rf"(\d+(?:\.\d+)?)({units})", text.strip())
    if match is None:
        raise UserError(f"--{flag}={text}: give a number and one of {units.replace('|', ', ')}")
    return float(match[1]) * UNITS[match[2]]


def main(argv: list[str]) -> None:
    """Print the stores, and delete those that the flags select."""
    from tl_jax.engine import store

    cli.no_arguments(argv)
    older = None if _OLDER.value is None else amount("older", _OLDER.value, "h|d|w")
    most = None if _KEEP.value is None else amount("keep", _KEEP.value, "MB|GB|TB")
    folder, now = path_of(_CACHE.value), time.time()
    if not _CACHE.value or not folder.is_dir():
        raise UserError(f"--cache={_CACHE.value}: there is no such folder")
    stores = store.kept(folder)
    total = sum(one.nbytes for one in stores)
    for one in stores:
        too_old = older is not None and now - one.used > older
        fate = ""
        if too_old or (most is not None and total > most):
            deleted = store.remove(one)
            total -= one.nbytes * deleted
            fate = "  deleted" if deleted else "  stays: a process is building it"
        age = (now - one.used) / 86400
        print(f"{one.nbytes / 1e6:10.1f} MB  {age:6.1f} days  {one.what}  {one.folder}{fate}")
    print(f"{total / 1e6:10.1f} MB in stores; {compiled(folder) / 1e6:.1f} MB of compiled programs")


def compiled(folder: pathlib.Path) -> int:
    """Return the bytes of JAX's compiled programs, which are never deleted here."""
    return sum(path.stat().st_size for path in (folder / "compiled").glob("*") if path.is_file())


if __name__ == "__main__":
    cli.run(main)
