"""A process that measures on command, so that two libraries take turns and never share a process.

On standard input come the specification, as JSON, and then a number of steps a line; on standard
output go what was prepared, as JSON, and then what the steps took. Freed memory stays
with the process, as in all programs here: that is worth as much to PyTorch as to us.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

from tl_jax.ops.cpu import heap


def serve(prepare: Callable[[dict], tuple[Callable[[int], None], dict[str, Any]]]) -> None:
    """`prepare(specification)` gives a function that runs so many steps, and what to report."""
    heap.retain_freed_memory()
    out, sys.stdout = sys.stdout, sys.stderr  # what libraries print does not get in between
    started = time.perf_counter()
    run, said = prepare(json.loads(sys.stdin.readline()))
    said["first_step_seconds"] = time.perf_counter() - started
    print(json.dumps(said), file=out, flush=True)
    for line in sys.stdin:
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        run(int(line))
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
        answer = {
            "seconds": seconds,
            "system_seconds": after.ru_stime - before.ru_stime,  # of all cores: new memory, mostly
            "peak_bytes": after.ru_maxrss * 1024,
        }
        print(json.dumps(answer), file=out, flush=True)
