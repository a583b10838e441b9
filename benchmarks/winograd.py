"""Measure Winograd's form of a 3 x 3 convolution beside oneDNN's direct one: where is it faster?

    python -m benchmarks.winograd [--batch=16]

It prints milliseconds of the forward pass, the input's gradient and the kernel's, the least of
several turns, and the greatest difference between the two as a share of the greatest value. The
thresholds `WIDE` and `MANY` of `tl_jax.ops.cpu.onednn` decide when Winograd's form is used.
"""

import functools
import sys

import jax
import numpy as np
from absl import flags

from benchmarks.measure import busy_cores, idle_note
from benchmarks.ops import PASSES, least
from experiments import cli
from tl_jax import ops
from tl_jax.errors import UserError
from tl_jax.ops.cpu import onednn

_SETTINGS = flags.FLAGS  # those of `benchmarks.ops`

# Side, inputs and outputs, of VGG, ResNet, Inception and DenseNet.
SHAPES = (
    (224, 64, 64),
    (112, 128, 128),
    (56, 256, 256),
    (28, 512, 512),
    (14, 512, 512),
    (56, 64, 64),
    (28, 128, 128),
    (14, 256, 256),
    (7, 512, 512),
    (35, 96, 96),
    (14, 64, 64),
    (28, 128, 32),
)


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    if not onednn.available():
        raise UserError("oneDNN is not available: install the extra `onednn`")
    busy = busy_cores()
    print(f"| side, channels | {' | '.join(PASSES)} | difference |\n|---" + "|---" * 4 + "|")
    for side, inputs, outputs in SHAPES:
        shape = (_SETTINGS.batch, side, side, inputs)
        row = cells(shape, (3, 3, inputs, outputs), _SETTINGS.turns)
        print(f"| {side}, {inputs} to {outputs} | {' | '.join(row)} |", flush=True)
    print(f"ms, Winograd's / direct (ratio); batch {_SETTINGS.batch}{idle_note(busy)}")


def cells(shape, kernel, turns: int) -> list[str]:
    """Return 'Winograd's / direct (ratio)' of each pass, and the difference."""
    rng = np.random.default_rng(0)
    args = jax.device_put([rng.standard_normal(s, np.float32) for s in (shape, kernel)])
    g = jax.device_put(rng.standard_normal((*shape[:3], kernel[3]), np.float32))
    both = compiled(args, g, wide=0, many=0), compiled(args, g, wide=0, many=sys.maxsize)
    texts, worst = [], 0.0
    for calls in zip(*both, strict=True):
        fewer, direct = (np.asarray(call()) for call in calls)
        worst = max(worst, np.abs(fewer - direct).max() / np.abs(direct).max())
        ours, theirs = least(calls, turns)
        texts.append(f"{ours:.1f} / {theirs:.1f} ({theirs / ours:.2f})")
    return [*texts, f"{worst:.0e}"]


def compiled(args, g, *, wide: int, many: int) -> list:
    """Return the three passes, compiled with these thresholds."""

    def gradient(index, args, g):
        def of_one(arg):
            return ops.conv(*args[:index], arg, *args[index + 1 :])

        return jax.vjp(of_one, args[index])[1](g)[0]

    before = onednn.WIDE, onednn.MANY
    onednn.WIDE, onednn.MANY = wide, many
    try:
        calls = [functools.partial(jax.jit(lambda *a: ops.conv(*a)).lower(*args).compile(), *args)]
        for index in range(2):
            step = jax.jit(functools.partial(gradient, index)).lower(args, g).compile()
            calls.append(functools.partial(step, args, g))
        return calls
    finally:
        onednn.WIDE, onednn.MANY = before


if __name__ == "__main__":
    cli.run(main)
