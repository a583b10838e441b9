"""Download weight files: each once, and whole, verified by a checksum, or not at all."""

import hashlib
import logging
import pathlib
import re
import time
import urllib.parse

import requests
import tqdm

from tl_jax import interrupt, locks
from tl_jax.data.files import path_of
from tl_jax.data.home import ELSEWHERE, home, require_room
from tl_jax.errors import UserError

logger = logging.getLogger(__name__)

MAX_BYTES = 4 * 2**30
CHUNK = 2**20
TIMEOUT = (10, 30)  # seconds: for a connection, and for the next bytes
PAUSES = (1, 2, 4)  # seconds between attempts
TRANSIENT = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


def folder(cache: pathlib.Path | None = None) -> pathlib.Path:
    """Return the folder `weights` in `cache`, by default in TL_JAX_HOME or `~/.cache/tl_jax`."""
    return (home() if cache is None else path_of(cache)) / "weights"


def fetch(url: str, checksum: str, *, cache: pathlib.Path | None = None) -> pathlib.Path:
    """Fetch `url`, unless `folder(cache)` has the file already, and return the file's path.

    The file's name is the last part of the address. `checksum` is hexadecimal: the SHA-256 or its
    beginning, or 32 digits of MD5; empty if it is unknown. An interrupted download is resumed, in
    the next call if necessary. UserError if the file cannot be fetched, fails its checksum or does
    not fit on the disk.
    """
    path = folder(cache) / pathlib.PurePosixPath(urllib.parse.urlsplit(url).path).name
    try:
        if not _has(path, checksum):  # no lock here: the folder may be read-only
            with locks.held(path.with_name(path.name + ".lock"), what=str(path)):
                if not _has(path, checksum):
                    _download(url, path, checksum)
    except requests.RequestException as error:
        raise UserError(f"{url} cannot be fetched ({_reason(error)}); {_by_hand(path)}") from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be read or written ({error.strerror}); {ELSEWHERE}"
        ) from error
    return path


def _by_hand(path: pathlib.Path) -> str:
    return f"fetch it elsewhere and put it here as {path}"


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"HTTP status {error.response.status_code}"
    return type(error).__name__


def _has(path: pathlib.Path, checksum: str) -> bool:
    return path.exists() and _digest(path, checksum).startswith(checksum)


def _digest(path: pathlib.Path, checksum: str) -> str:
    """Return the file's digest, MD5 or SHA-256 as the checksum is."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, _kind(checksum)).hexdigest()


def _kind(checksum: str) -> str:
    return "md5" if len(checksum) == 32 else "sha256"


def _download(url: str, path: pathlib.Path, checksum: str) -> None:
    if path.exists():
        logger.warning("%s fails its checksum and is fetched again", path)
    partial = path.with_name(path.name + ".partial")
    if not checksum:  # nothing could tell whether the partial file is of the same file
        partial.unlink(missing_ok=True)
    for _ in range(2):
        resumed = _receive(url, partial)
        digest = _digest(partial, checksum)
        if digest.startswith(checksum):
            if not checksum:
                logger.warning("no checksum of %s is published; its SHA-256 is %s", url, digest)
            partial.replace(path)
            return
        partial.unlink()
        if not resumed:  # otherwise it may mix two files: fetch it again from the start
            break
    raise UserError(
        f"{url}: its {_kind(checksum)} is {digest} instead of {checksum}, so the file is damaged "
        f"or was altered, and was deleted; try again later, or {_by_hand(path)}"
    )


def _receive(url: str, partial: pathlib.Path) -> bool:
    """Fetch `url` into `partial`, after the bytes it has; return whether it had any."""
    for pause in PAUSES:
        try:
            return _attempt(url, partial)
        except requests.RequestException as error:
            if not _is_transient(error):
                raise
            logger.warning("%s: %s; next attempt in %g s", url, _reason(error), pause)
            time.sleep(pause)
    return _attempt(url, partial)


def _is_transient(error: requests.RequestException) -> bool:
    if error.response is not None:
        return error.response.status_code >= 500
    return isinstance(error, TRANSIENT)


def _attempt(url: str, partial: pathlib.Path) -> bool:
    have = partial.stat().st_size if partial.exists() else 0
    # Length and range of a compressed body would not be those of the file.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if have and response.status_code == 416:  # the server's file is shorter: another one
            partial.unlink()
            return _attempt(url, partial)
        response.raise_for_status()
        if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0
        length = response.headers.get("Content-Length", "")
        length = int(length) if re.fullmatch("[0-9]{1,18}", length) else None
        require_room(partial.parent, url, length or 0)
        logger.info("fetching %s", url)
        total = None if length is None else have + length
        bar = {"desc": partial.stem, "total": total, "initial": have, "leave": False}
        with (
            open(partial, "ab" if have else "wb") as file,
            tqdm.tqdm(**bar, unit="B", unit_scale=True) as progress,
        ):
            for chunk in response.iter_content(CHUNK):
                interrupt.check()
                progress.update(len(chunk))
                if progress.n > MAX_BYTES:
                    partial.unlink()
                    raise UserError(f"{url} does not end after {MAX_BYTES} bytes; it was deleted")
                file.write(chunk)
    return have > 0
