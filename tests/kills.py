"""Kill runs at random moments, resume them to their end, and compare with runs that nothing ended.

    python tests/kills.py [--kills=34] [--signal=KILL] [--seed=0] [--folder=runs/kills] [job ...]

The jobs are a transfer, a study and a language model, each of some seconds. A job is begun again
and again, and gets the signal after a time drawn from 0 to what it takes in all, until it comes to
its end; its result must then be the first one's in every number. Checkpoints are written after
every step, so that many a kill meets one half written. Exit status 1 if a result differs.
"""

import argparse
import pathlib
import random
import shutil
import signal
import sys

from jobs import JOBS, attempt, numbers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jobs", nargs="*", choices=[[], *JOBS], help="all, if none is named")
    parser.add_argument("--kills", type=int, default=34, help="of each job")
    parser.add_argument("--signal", choices=["KILL", "TERM"], default="KILL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("runs/kills"))
    given = parser.parse_args()
    signum, chance = signal.Signals[f"SIG{given.signal}"], random.Random(given.seed)
    differ = 0
    for job in given.jobs or JOBS:
        folder = given.folder.absolute() / given.signal / job
        shutil.rmtree(folder, ignore_errors=True)
        differ += tried(job, folder, given.kills, signum, chance)
    return 1 if differ else 0


def tried(job: str, folder: pathlib.Path, kills: int, signum: int, chance: random.Random) -> int:
    """Kill a job so many times; return how many of its results differed."""
    status, _ = attempt(job, folder / "compiling", folder, None, signum)
    assert status == 0, f"{job} fails by itself"
    shutil.rmtree(folder / "compiling")
    status, whole = attempt(job, folder / "whole", folder, None, signum)
    expected, killed, runs, differ = numbers(folder / "whole"), 0, 0, 0
    while killed < kills:
        runs += 1
        workdir, resumed = folder / f"run{runs}", 0
        while True:
            after = chance.uniform(0, whole) if killed + resumed < kills else None
            status, _ = attempt(job, workdir, folder, after, signum)
            if status == 0:
                break
            assert status in (-signum, 128 + signum), f"{job} ended with {status}, see {folder}/log"
            resumed += 1
        killed += resumed
        same = numbers(workdir) == expected
        differ += not same
        said = "the same" if same else "DIFFERS"
        print(f"{job}: run {runs}, killed {resumed} times: {said}", flush=True)
        if same:
            shutil.rmtree(workdir)
    print(
        f"{job}: {killed} times {signal.Signals(signum).name} over {runs} runs of {whole:.1f} s of "
        f"the processor; {runs - differ} of {runs} with the numbers of the uninterrupted one",
        flush=True,
    )
    return differ


if __name__ == "__main__":
    sys.exit(main())
