"""A process that measures on command, so that two libraries take turns and never share a process.

It reads from standard input the specification, as JSON, and then a number of steps on each line; it
writes to standard output a report of its preparation, as JSON, and then the cost of the steps. The
process keeps freed memory, as all programs here do: PyTorch gains as much from that as we do.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

from tl_jax.ops.cpu import heap


def serve(prepare: Callable[[dict], tuple[Callable[[int], None], dict[str, Any]]]) -> None:
    """Answer commands; `prepare(specification)` returns a function of steps, and a report."""
    heap.retain_freed_memory()
    out, sys.stdout = sys.stdout, sys.stderr  # libraries' output must not mix with the answers
    started = time.perf_counter()
    run, report = prepare(json.loads(sys.stdin.readline()))
    report["first_step_seconds"] = time.perf_counter() - started
    print(json.dumps(report), file=out, flush=True)
    for line in sys.stdin:
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        run(int(line))
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
        answer = {
            "seconds": seconds,
            "system_seconds": after.ru_stime - before.ru_stime,  # all cores; mostly new memory
            "peak_bytes": after.ru_maxrss * 1024,
        }
        print(json.dumps(answer), file=out, flush=True)
