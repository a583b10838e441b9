"""Measure texts here and in PyTorch, in turns: an encoder's inference and fine-tuning, and the
training of a language model with a large vocabulary and with a small one.

    python -m benchmarks.language [--base=minilm_l6] [--batch=32] [--length=64] [--turns=7]

Each library has its own process; both prepare and warm up, then take turns. The peer is the better
of eager and by `torch.compile`: transformers' encoder, or AWD-LSTM on `torch.nn.LSTM`, of the same
size, with random weights. Texts are as long as they can be, so that no padding is computed. It
needs the extra `bench`.
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
LANGUAGE = {"base": "awd_lstm", "train": "language"}
WORDS = (30_000, 2_000)  # of vocabularies


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    busy = busy_cores()
    encoder, shared = {"base": _BASE.value}, {"length": _LENGTH.value, "batch": _BATCH.value}
    print("| texts/s | ours | eager | compiled | ratio |\n|---|---|---|---|---|")
    for name, train in (("inference", "none"), ("fine-tuning", "all")):
        cells = row("language_torch", encoder | shared | {"train": train})
        print(f"| {_BASE.value}, {name} | {cells} |", flush=True)
    for words in WORDS:
        cells = row("awd_lstm_torch", LANGUAGE | shared | {"words": words})
        print(f"| {LANGUAGE['base']}, {words:,} words | {cells} |", flush=True)
    what = f"batch {_BATCH.value}, {_LENGTH.value} tokens"
    print(f"{what}, median (least to greatest) of {_TURNS.value} turns{idle_note(busy)}")


def row(peer: str, spec: dict) -> str:
    """Return the cells: texts a second of each way, and the ratio to the better peer."""
    spec["threads"] = len(os.sched_getaffinity(0))
    ways = {
        "ours": ("language_ours", spec),
        "eager": (peer, spec | {"compile": False}),
        "compiled": (peer, spec | {"compile": True}),
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
