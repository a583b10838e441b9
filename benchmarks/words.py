"""Measure vectors of words, here and in gensim, in turns: an epoch of skip-gram, the same texts.

    python -m benchmarks.words [--task=packaged:debian_sections] [--texts=5000] [--turns=7]

Each library has its own process; both prepare and warm up, then take turns. The settings are the
same (100 numbers, window 5, 5 negatives, t 1e-3, words that occur 5 times), and so are the tokens.
gensim has as many threads as there are cores. It needs the extra `bench`.
"""

import os
import statistics

from absl import flags

from benchmarks.measure import busy_cores, idle_note, in_turns
from experiments import cli

_TASK = flags.DEFINE_string("task", "packaged:debian_sections", "Whose texts.")
_TEXTS = flags.DEFINE_integer("texts", 5000, "Texts at most.", lower_bound=10)
_TURNS = flags.DEFINE_integer("turns", 7, "Number of measurements of each.", lower_bound=1)


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    busy = busy_cores()
    spec = {"task": _TASK.value, "texts": _TEXTS.value, "threads": len(os.sched_getaffinity(0))}
    found = in_turns({"ours": ("words_ours", spec), "gensim": ("words_gensim", spec)}, _TURNS.value)
    tokens = found.reports["ours"]["tokens"]
    rates = {
        name: [tokens * found.steps[name] / turn["seconds"] for turn in turns]
        for name, turns in found.answers.items()
    }
    medians = {name: statistics.median(values) for name, values in rates.items()}
    cells = [
        f"{medians[name]:,.0f} ({min(values):,.0f} to {max(values):,.0f})"
        for name, values in rates.items()
    ]
    ratio = medians["ours"] / medians["gensim"]
    print("| ours | gensim | ratio |\n|---|---|---|")
    print(f"| {' | '.join(cells)} | {ratio:.2f} |")
    what = f"words/s of {tokens:,} in an epoch of skip-gram"
    print(f"{what}, median (least to greatest) of {_TURNS.value} turns{idle_note(busy)}")


if __name__ == "__main__":
    cli.run(main)
