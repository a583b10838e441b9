"""What is here: `python -m tl_jax` lists programs, versions, devices and what the caches hold."""

import ast
import os
import pathlib
import sys
from collections.abc import Iterator

import jax

from tl_jax.data.home import home
from tl_jax.errors import UserError
from tl_jax.runs.results import versions

PROGRAMS = pathlib.Path(__file__).parent.parent / "experiments"  # in a checkout alone
NO_PROGRAMS = (
    "none: this is an installed package, and the programs come with a checkout of the sources.",
    "From Python, tl_jax.transfer, tl_jax.study and tl_jax.advise do what those of these names do.",
)
CACHE = pathlib.Path(".cache")  # the configs' default


def main(argv: list[str]) -> int:
    """Print all of it; return 2 for an argument."""
    if argv:
        print(f"error: unexpected argument {argv[0]!r}: there are none", file=sys.stderr)
        return 2
    try:
        sections = {
            "programs: python -m experiments.<name> --help": programs(),
            "versions": [f"{name:<18}{version}" for name, version in versions().items()],
            "devices": devices(),
            "caches": [cache(CACHE.absolute()), cache(home())],
        }
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for title, lines in sections.items():
        print(title, *(f"  {line}" for line in lines), "", sep="\n")
    return 0


def programs(folder: pathlib.Path = PROGRAMS) -> list[str]:
    """The name and the first line of each program in a folder, or where programs are."""
    lines = [f"{name:<18}{line}" for name, line in _programs(folder)]
    return lines or [*NO_PROGRAMS]


def _programs(folder: pathlib.Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        if '__name__ == "__main__"' in source:  # not imported, which would take seconds
            yield path.stem, (ast.get_docstring(ast.parse(source)) or "").split("\n")[0]


def devices() -> list[str]:
    """A line for each device of JAX's; UserError if JAX does not start."""
    try:
        found = jax.devices()
    except RuntimeError as error:
        why = f"JAX has no device ({str(error).splitlines()[0]})"
        raise UserError(f"{why}: unset JAX_PLATFORMS to have one chosen") from None
    return [f"{one.id}  {one.device_kind}" for one in found]


def cache(folder: pathlib.Path) -> str:
    """What a folder holds, in megabytes on disk."""
    if not folder.is_dir():
        return f"{'empty':>10}     {folder}"
    return f"{_nbytes(folder) / 1e6:10.1f} MB  {folder}"


def _nbytes(folder: pathlib.Path) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += 512 * os.lstat(os.path.join(where, name)).st_blocks
            except FileNotFoundError:  # a run deleted it in the meantime
                continue
    return total


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
