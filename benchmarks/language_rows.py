"""The rows of texts: this library and PyTorch, eager and compiled, in turns."""

import os
import statistics

from benchmarks.measure import in_turns

LANGUAGE = {"base": "awd_lstm", "train": "language"}
HEAD = "| texts/s | ours | eager | compiled | ratio |\n|---|---|---|---|---|"


def row(peer: str, spec: dict, *, turns: int) -> str:
    """Return the cells: texts a second of each way, and the ratio to the better peer."""
    spec["threads"] = len(os.sched_getaffinity(0))
    ways = {
        "ours": ("language_ours", spec),
        "eager": (peer, spec | {"compile": False}),
        "compiled": (peer, spec | {"compile": True}),
    }
    found = in_turns(ways, turns)
    rates = {
        name: [spec["batch"] * found.steps[name] / turn["seconds"] for turn in taken]
        for name, taken in found.answers.items()
    }
    medians = {name: statistics.median(values) for name, values in rates.items()}
    cells = [
        f"{medians[name]:.1f} ({min(values):.1f} to {max(values):.1f})"
        for name, values in rates.items()
    ]
    ratio = medians["ours"] / max(medians["eager"], medians["compiled"])
    return " | ".join([*cells, f"{ratio:.2f}"])
