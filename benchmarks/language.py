"""Measure an encoder of text, here and in PyTorch, in turns: inference, and fine-tuning it all.

    python -m benchmarks.language [--base=minilm_l6] [--batch=32] [--length=64] [--turns=7]

Each library has its own process; both prepare and warm up, then take turns. The peer is the better
of transformers' model eager and by `torch.compile`, of the same size, with random weights. Texts
are as long as they can be, so that no padding is computed. It needs the extra `bench`.
"""

import os
import statistics

from absl import flags

from benchmarks.measure import busy_cores, idle_note, in_turns
from experiments import cli

_BASE = flags.DEFINE_string("base", "minilm_l6", "The base.")
_BATCH = flags.DEFINE_integer("batch", 32, "Texts in a batch.", lower_bound=1)
_LENGTH = flags.DEFINE_integer("length", 64, "Tokens of a text.", lower_bound=1)
_TURNS = flags.DEFINE_integer("turns", 7, "Number of measurements of each.", lower_bound=2)


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    busy = busy_cores()
    print("| step | ours | eager | compiled | ratio |\n|---|---|---|---|---|")
    for train in ("none", "all"):
        print(f"| {'inference' if train == 'none' else 'fine-tuning'} | {row(train)} |", flush=True)
    what = f"texts/s, {_BASE.value}, batch {_BATCH.value}, {_LENGTH.value} tokens"
    print(f"{what}, median (least to greatest) of {_TURNS.value} turns{idle_note(busy)}")


def row(train: str) -> str:
    """Return the cells: texts a second of each way, and the ratio to the better peer."""
    spec = {"base": _BASE.value, "batch": _BATCH.value, "length": _LENGTH.value, "train": train}
    spec["threads"] = len(os.sched_getaffinity(0))
    ways = {
        "ours": ("language_ours", spec),
        "eager": ("language_torch", spec | {"compile": False}),
        "compiled": ("language_torch", spec | {"compile": True}),
    }
    found = in_turns(ways, _TURNS.value)
    rates = {
        name: [_BATCH.value * found.steps[name] / turn["seconds"] for turn in turns]
        for name, turns in found.answers.items()
    }
    medians = {name: statistics.median(values) for name, values in rates.items()}
    cells = [
        f"{medians[name]:.1f} ({min(values):.1f} to {max(values):.1f})"
        for name, values in rates.items()
    ]
    ratio = medians["ours"] / max(medians["eager"], medians["compiled"])
    return " | ".join([*cells, f"{ratio:.2f}"])


if __name__ == "__main__":
    cli.run(main)
