"""Change small whole files at random, guided by coverage, and give them to their readers.

    pip install atheris==3.0.0
    python tests/fuzz.py [--seconds=60] [--folder=runs/fuzz] [reader ...]
    python tests/fuzz.py --keep [--folder=runs/fuzz] [reader ...]

Each reader must read what it gets, or refuse it with one UserError of one line, in bounded time and
memory. Inputs for which it does not are kept in `<folder>/<reader>/found`; those that reach new
code in `<folder>/<reader>/corpus`, from which the next call goes on. With --keep, what was found
and the smallest of the others go into `tests/corpus`, which `tests/test_outside.py` reads.
"""

import argparse
import hashlib
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time
import zipfile

INSTRUMENTED = ["tl_jax", "pickletools", "zipfile", "tarfile", "json", "csv", "PIL", "gzip"]
LONGEST = 2**14  # bytes of an input
ROOM = 3000  # bytes of a reader's corpus in the tests, beyond what was found
CORPUS = pathlib.Path(__file__).parent / "corpus"
MEMORY = 2**31  # bytes beyond those of an idle process
OPTIONS = ("-timeout=120", "-print_final_stats=1", "-rss_limit_mb=6000", f"-max_len={LONGEST}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", help="all of them, if none is named")
    parser.add_argument("--seconds", type=int, default=60, help="for each reader")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("runs/fuzz"))
    parser.add_argument("--keep", action="store_true", help="fill tests/corpus")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return fuzzed(given.readers[0], given.folder.absolute(), given.seconds)
    from readers import READERS

    total = 0
    for name in given.readers or READERS:
        if given.keep:
            keep(name, given.folder / name)
            continue
        count, found = in_a_process(name, given.folder, given.seconds)
        line = f"{name:20}{count:>12,} inputs{len(found):>5} found"
        print("\n  ".join([line, *found]), flush=True)
        total += count
    print(f"{total:,} inputs in all" if total else "kept")
    return 0


def in_a_process(name: str, folder: pathlib.Path, seconds: int) -> tuple[int, list[str]]:
    """Number of inputs tried, and what was found; a reader that crashes is begun again."""
    count, until, kept = 0, time.monotonic() + seconds, folder / name / "found"
    kept.mkdir(parents=True, exist_ok=True)
    (folder / name / "corpus").mkdir(exist_ok=True)
    while (left := int(until - time.monotonic())) > 0:
        command = [sys.executable, __file__, name, f"--folder={folder}", f"--seconds={left}"]
        done = subprocess.run([*command, "--child"], stderr=subprocess.PIPE, text=True)
        (folder / name / "log").write_text(done.stderr)
        told = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        count += int(told[1]) if told else 0
        if told is None and not list(kept.glob("crash*")):
            sys.exit(f"{name} does not start:\n{done.stderr[-2000:]}")
    return count, sorted(path.name for path in kept.iterdir())


def fuzzed(name: str, folder: pathlib.Path, seconds: int) -> int:
    """Let libFuzzer call the reader until the time is over; does not return."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        import readers
    import PIL.Image

    PIL.Image.MAX_IMAGE_PIXELS = 2**20  # so that what is read by design is small too
    reader, corpus, kept = readers.READERS[name], folder / name / "corpus", folder / name / "found"
    for whole in reader.whole():
        (corpus / hashlib.sha256(whole).hexdigest()[:16]).write_bytes(whole)
    scratch = pathlib.Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    known = {path.name for path in kept.iterdir()}

    def one(content: bytes) -> None:
        if wrong := readers.complaint(reader, content, scratch):
            label = re.sub(r"\W+", "_", wrong)[:100]
            if label not in known:
                known.add(label)
                (kept / label).write_bytes(content)

    for whole in reader.whole():  # imports what is imported late, and takes what is taken once
        one(whole)
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    os.chdir(kept)
    argv = [sys.argv[0], *OPTIONS, f"-max_total_time={seconds}", f"-artifact_prefix={kept}/"]
    atheris.Setup([*argv, str(corpus)], one)
    atheris.Fuzz()
    return 0


def keep(name: str, folder: pathlib.Path) -> None:
    """Add to a reader's corpus what was found, and fill it up with the smallest of the others."""
    path, found = CORPUS / f"{name}.zip", {}
    if path.exists():
        with zipfile.ZipFile(path) as archive:
            found = {one: archive.read(one) for one in archive.namelist() if one[:5] == "found"}
    for one in sorted((folder / "found").glob("*")):
        if not one.name.startswith("timeout"):
            found[f"found_{one.name}"] = one.read_bytes()
    others = {p.name[:16]: p.read_bytes() for p in sorted((folder / "corpus").glob("*"))}
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for one, content in [*found.items(), *sorted(others.items(), key=lambda o: len(o[1]))]:
            if one in found or archive.fp.tell() < ROOM:
                archive.writestr(zipfile.ZipInfo(one), content, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    sys.exit(main())
