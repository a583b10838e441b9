"""Measure one row of the benchmark: a training step or inference, here and in PyTorch, in turns.

    python -m benchmarks.step --base=resnet50 --train=all --batch=16 --json=row.json

Each library has its own process; both prepare and warm up, then take turns. The peer is the better
of PyTorch eager (channels-last) and `torch.compile`. It needs the extra `bench`.
"""

import json
import pathlib

from absl import flags

from benchmarks.measure import line, measure
from benchmarks.rows import NETS, PRECISIONS, TRAINED
from experiments import cli

_BASE = flags.DEFINE_enum("base", "resnet50", sorted(NETS), "The base.")
_TRAIN = flags.DEFINE_enum("train", "all", TRAINED, "The layers to train; none: inference.")
_BATCH = flags.DEFINE_integer("batch", 16, "Images in a batch.", lower_bound=1)
_PRECISION = flags.DEFINE_enum("precision", "float32", PRECISIONS, "Precision of the activations.")
_TURNS = flags.DEFINE_integer("turns", 5, "Number of measurements of each.", lower_bound=2)
_JSON = flags.DEFINE_string("json", None, "Write the row there.")


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    row = measure(_BASE.value, _TRAIN.value, _BATCH.value, _PRECISION.value, turns=_TURNS.value)
    print(line(row))
    if _JSON.value:
        pathlib.Path(_JSON.value).write_text(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    cli.run(main)
