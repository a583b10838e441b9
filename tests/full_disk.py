"""Run jobs on a disk that is full again and again: a little more room each time, to their end.

    python tests/full_disk.py [--steps=20] [--folder=runs/full_disk] [job ...]      (as root)

A job of `tests/jobs.py` has its results and its cache on a tmpfs of a few kilobytes. Whenever that
is full the job must end with status 2 and one line that says so; then the disk gets some more, and
the same command goes on. The result must be that of a run with room, in every number.
"""

import argparse
import pathlib
import re
import shutil
import signal
import subprocess
import sys

from jobs import JOBS, attempt, numbers

LEAST = 2**14  # bytes to begin with


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jobs", nargs="*", help="all, if none is named")
    parser.add_argument("--steps", type=int, default=20, help="about so many full disks a job")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("runs/full_disk"))
    given = parser.parse_args()
    wrong = 0
    for job in given.jobs or JOBS:
        folder = given.folder.absolute() / job
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "disk").mkdir(parents=True)
        mount("tmpfs", "-osize=16k", "-ttmpfs", folder / "disk")
        try:
            wrong += tried(job, folder, given.steps)
        finally:
            subprocess.run(["umount", folder / "disk"], check=True)
    return 1 if wrong else 0


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def tried(job: str, folder: pathlib.Path, steps: int) -> int:
    """Run the job on the disk until it ends well; return how many of its endings were wrong."""
    status, _ = attempt(job, folder / "whole", folder, None, signal.SIGKILL)
    assert status == 0, f"{job} fails by itself, see {folder / 'log'}"
    used = sum(path.stat().st_blocks * 512 for path in (folder / "whole").rglob("*"))
    room, full, wrong = LEAST, 0, 0
    while True:
        mount(f"-oremount,size={room}", folder / "disk")
        (folder / "log").unlink()
        status, _ = attempt(job, folder / "disk" / "run", folder, None, signal.SIGKILL)
        if status == 0:
            break
        log = (folder / "log").read_text()
        last = log.splitlines()[-1]
        said = last.startswith("error: ") and re.search("no space|disk full", last, re.IGNORECASE)
        right = status == 2 and said and "Traceback" not in log
        wrong += not right
        full += 1
        if not right:
            print(f"{job}, {room} bytes: status {status}\n{log[-3000:]}")
        room += max(4096, used // steps)
        assert room < 4 * used + LEAST, f"{job} fails whatever room it has, see {folder / 'log'}"
    same = numbers(folder / "disk" / "run") == numbers(folder / "whole")
    end = "the same numbers" if same else "OTHER NUMBERS"
    print(f"{job}: full {full} times, {wrong} without one clear line; then {end}", flush=True)
    return wrong + (not same)


if __name__ == "__main__":
    sys.exit(main())
