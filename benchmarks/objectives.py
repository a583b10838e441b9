"""Measure steps that are more than a supervised one: of domain-adversarial training (DANN) beside
its two supervised halves, and of SimCLR beside PyTorch, in turns.

    python -m benchmarks.objectives [--base=resnet18] [--size=64] [--batch=32] [--turns=7]

A step of DANN takes a batch of each domain; its halves are two steps of cross entropy, on a batch
each. SimCLR's peer is the better of eager and by `torch.compile`: torchvision's network with the
same projector. Both flip the views at random, and no more. It needs the extra `bench`.
"""

import os
import statistics

from absl import flags

from benchmarks.measure import busy_cores, idle_note, in_turns
from experiments import cli

_BASE = flags.DEFINE_enum("base", "resnet18", ("resnet18", "resnet50"), "The base.")
_SIZE = flags.DEFINE_integer("size", 64, "The images' side in pixels.", lower_bound=32)
_BATCH = flags.DEFINE_integer("batch", 32, "Images in a batch.", lower_bound=2)
_TURNS = flags.DEFINE_integer("turns", 7, "Number of measurements of each.", lower_bound=2)
PAIR = ("cross_entropy", "domain_adversarial")


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    busy = busy_cores()
    spec = {"base": _BASE.value, "size": _SIZE.value, "batch": _BATCH.value}
    spec["threads"] = len(os.sched_getaffinity(0))
    dann = seconds({name: ("objectives_ours", spec | {"objective": name}) for name in PAIR})
    half, both = (statistics.median(dann[name]) for name in PAIR)
    print(f"DANN: {both / (2 * half):.2f} of its two supervised halves\n{_lines(dann)}")
    simclr = seconds(
        {
            "ours": ("objectives_ours", spec | {"objective": "simclr"}),
            "eager": ("objectives_torch", spec | {"compile": False}),
            "compiled": ("objectives_torch", spec | {"compile": True}),
        }
    )
    ours, *peers = map(statistics.median, simclr.values())
    print(f"SimCLR: {min(peers) / ours:.2f} times as fast as PyTorch\n{_lines(simclr)}")
    what = f"{_BASE.value}, {_SIZE.value} pixels, batch {_BATCH.value}"
    print(f"{what}, median (least to greatest) of {_TURNS.value} turns{idle_note(busy)}")


def seconds(ways: dict[str, tuple[str, dict]]) -> dict[str, list[float]]:
    """Return the seconds of a step, of each turn, by way."""
    found = in_turns(ways, _TURNS.value)
    return {
        name: [turn["seconds"] / found.steps[name] for turn in turns]
        for name, turns in found.answers.items()
    }


def _lines(times: dict[str, list[float]]) -> str:
    return "\n".join(
        f"  {name}: {1000 * statistics.median(values):.1f} ms a step "
        f"({1000 * min(values):.1f} to {1000 * max(values):.1f})"
        for name, values in times.items()
    )


if __name__ == "__main__":
    cli.run(main)
