"""Files that appear whole or not at all, whatever stops the program."""

import contextlib
import pathlib
from collections.abc import Generator


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Generator[pathlib.Path]:
    """Yield the path of a file beside `path`; what the block has written there takes the name
    `path` at its end, and is deleted if the block fails.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
