"""A process that measures on command, so that two libraries take turns and never share a process.

On standard input come the specification, as JSON, and then a number of steps a line; on standard
output go what was prepared, as JSON, and then the seconds that the steps took. Freed memory stays
with the process, as in all programs here: that is worth as much to PyTorch as to us.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

from experiments import cli


def serve(prepare: Callable[[dict], tuple[Callable[[int], None], dict[str, Any]]]) -> None:
    """`prepare(specification)` gives a function that runs so many steps, and what to report."""
    cli.keep_memory()
    out, sys.stdout = sys.stdout, sys.stderr  # what libraries print does not get in between
    started = time.perf_counter()
    run, said = prepare(json.loads(sys.stdin.readline()))
    said["first_step_seconds"] = time.perf_counter() - started
    print(json.dumps(said), file=out, flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        run(int(line))
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak_bytes": peak}), file=out, flush=True)
