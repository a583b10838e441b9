"""What the readers of weight files have in common: a file that cannot be read is one clear line."""

import contextlib
import zipfile
from collections.abc import Generator
from pathlib import Path

from safetensors import SafetensorError

from tl_jax.errors import UserError

AGAIN = "fetch the file again"


@contextlib.contextmanager
def reading(path: Path) -> Generator[None]:
    """Whatever goes wrong within becomes a UserError in one line that begins with the path.

    That no such file is there is said first.
    """
    try:
        if not path.is_file():
            what = "is a directory" if path.is_dir() else "does not exist or is no regular file"
            raise UserError(f"{what}; give the path of a weight file")
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    # Whatever the libraries make of damaged bytes; pickletools warns of odd escapes in names.
    except (ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError,
            SafetensorError, TypeError, ValueError, Warning,
            zipfile.BadZipFile) as error:  # fmt: skip
        line = f"{path}: cannot be read, perhaps truncated or damaged ({error!r:.120}); {AGAIN}"
        raise UserError(line) from error
