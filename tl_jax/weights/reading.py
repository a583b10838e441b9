"""The errors that all readers of weight files share: one clear line for each unreadable file."""

import contextlib
import struct
import zipfile
from collections.abc import Generator
from pathlib import Path

from safetensors import SafetensorError

from tl_jax.errors import UserError

AGAIN = "fetch the file again"


@contextlib.contextmanager
def reading(path: Path, *, cure: str = AGAIN) -> Generator[None]:
    """Turn every error inside the block into a UserError of one line that begins with the path and
    ends with what to do about a damaged file.

    UserError at once if `path` is not a regular file.
    """
    try:
        if not path.is_file():
            fault = "is a directory" if path.is_dir() else "does not exist or is no regular file"
            raise UserError(f"{fault}; give the path of a weight file")
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    # Libraries raise any of these for damaged bytes; pickletools warns of odd escapes in names.
    except (ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError,
            SafetensorError, TypeError, ValueError, Warning,
            struct.error, zipfile.BadZipFile) as error:  # fmt: skip
        line = f"{path}: cannot be read, perhaps truncated or damaged ({error!r:.120}); {cure}"
        raise UserError(line) from error
