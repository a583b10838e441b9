"""Measure inference in one program on all cores, and in one program for each core.

    python -m benchmarks.frozen [--nets=mobilenet_v2,resnet50] [--batch=16]

It prints images a second, the median of several turns with least and greatest, for ways that take
turns. `whole` is one program. `parts` runs a part of the batch on each core and computes once what
depends on the weights alone (`tl_jax.ops.cpu.cores`). `pairs`, the library's default, also fuses
depthwise convolutions with the 1 x 1 ones before them. `bfloat16` is the same on such numbers, if
the CPU multiplies them.
"""

import itertools
import statistics
import time
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks.measure import busy_cores, idle_note
from benchmarks.rows import NETS, checked
from experiments import cli
from tl_jax import ops
from tl_jax.base.load import load_base
from tl_jax.errors import UserError
from tl_jax.ops.cpu import constants, onednn

_NETS = flags.DEFINE_list("nets", list(NETS), "The bases.")
_BATCH = flags.DEFINE_integer("batch", 16, "Images in a batch.", lower_bound=1)
_TURNS = flags.DEFINE_integer("turns", 7, "Number of measurements of each.", lower_bound=2)
SECONDS = 1.0  # of a turn, or longer if one batch takes longer


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    if onednn.cores() == 1:
        raise UserError("nothing to compare: this needs oneDNN (extra `onednn`) and several cores")
    busy = busy_cores()
    ways = ["whole", "parts", "pairs", *["bfloat16"] * ops.fast_in_bfloat16()]
    ratios = [f"{way} / {before}" for before, way in itertools.pairwise([ways[0], *ways[2:]])]
    print(f"| {' | '.join(['net', *ways, *ratios])} |\n|---" + "|---" * len(ways + ratios) + "|")
    for name in checked(_NETS.value):
        print(f"| {name} | {' | '.join(cells(name))} |", flush=True)
    print(f"images/s, batch {_BATCH.value}, {onednn.cores()} cores{idle_note(busy)}")


def cells(name: str) -> list[str]:
    """Return 'median (least to greatest)' of each way, and the ratios of `pairs` to `whole` and of
    `bfloat16` to `pairs`.
    """
    base = load_base(name, "random:0").resized(NETS[name].size)
    shape = (_BATCH.value, *base.preprocessing.input_shape[1:])
    x = jax.device_put(np.random.default_rng(0).standard_normal(shape, np.float32))
    variables = jax.device_put(base.variables)

    def forward(variables, x):
        return base.chain.apply(variables, x).output

    program = ops.inference(forward)
    alone, pairs = ops.inference(forward).of(variables), program.of(variables)
    with mock.patch.object(constants, "record_origin", lambda *_: None):  # so that nothing fuses
        jax.block_until_ready(alone(x))
    ways = [lambda x: program.whole(variables, x), alone, pairs]
    if ops.fast_in_bfloat16():
        narrow = x.astype(jnp.bfloat16)
        ways.append(lambda _: pairs(narrow))
    counts = [max(1, round(SECONDS / seconds(way, x, 2))) for way in ways]
    rates = [[] for _ in ways]
    for _ in range(_TURNS.value):
        for way, count, rates_of_way in zip(ways, counts, rates, strict=True):
            rates_of_way.append(_BATCH.value / seconds(way, x, count))
    medians = [statistics.median(rates_of_way) for rates_of_way in rates]
    texts = [
        f"{median:.1f} ({min(rates_of_way):.1f} to {max(rates_of_way):.1f})"
        for median, rates_of_way in zip(medians, rates, strict=True)
    ]
    compared = [medians[0], *medians[2:]]
    return [*texts, *(f"{b / a:.2f}" for a, b in itertools.pairwise(compared))]


def seconds(way, x, count: int) -> float:
    """Return the seconds that a batch takes, on average over `count` batches."""
    jax.block_until_ready(way(x))
    started = time.perf_counter()
    for _ in range(count):
        out = way(x)
    jax.block_until_ready(out)
    return (time.perf_counter() - started) / count


if __name__ == "__main__":
    cli.run(main)
