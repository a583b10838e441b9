"""Measure the gradient of a depthwise 5 x 5 kernel in two parts, beside oneDNN's own.

    python -m benchmarks.depthwise [--batch=16]

For the kernels of EfficientNet-Lite0 it prints milliseconds, the least of several turns, and the
greatest difference as a share of the greatest value. Both run as one program on all cores.
"""

import functools

import numpy as np
from absl import flags

from benchmarks.measure import busy_cores, idle_note
from benchmarks.ops import least
from experiments import cli
from tl_jax.errors import UserError
from tl_jax.ops.cpu import onednn
from tl_jax.ops.cpu.onednn import depthwise, primitives
from tl_jax.ops.cpu.onednn.cases import KERNEL_GRADIENT, Convolution
from tl_jax.ops.cpu.onednn.lanes import lane

_SETTINGS = flags.FLAGS  # those of `benchmarks.ops`

KERNEL = 5
SHAPES = ((56, 144, 2), (28, 240, 1), (14, 480, 1), (14, 672, 1), (14, 672, 2), (7, 1152, 1))


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    if not onednn.available():
        raise UserError("oneDNN is not available: install the extra `onednn`")
    busy = busy_cores()
    print("| side, channels, stride | in parts | oneDNN's own | ratio | difference |")
    print("|---" * 5 + "|")
    for side, channels, stride in SHAPES:
        row = cells(gradient(_SETTINGS.batch, side, channels, stride), _SETTINGS.turns)
        print(f"| {side}, {channels}, {stride} | {' | '.join(row)} |", flush=True)
    print(f"ms; batch {_SETTINGS.batch}{idle_note(busy)}")


def gradient(batch: int, side: int, channels: int, stride: int) -> Convolution:
    """Return the gradient's case, with padding that gives an output of side / stride."""
    edges = ((KERNEL - stride) // 2, (KERNEL - stride + 1) // 2)
    x, y = ((batch, n, n, channels) for n in (side, side // stride))
    return Convolution(KERNEL_GRADIENT, x, (KERNEL, KERNEL, 1, channels), y, stride, (edges, edges))


def cells(case: Convolution, turns: int) -> list[str]:
    """Return both times, their ratio and the difference, as text."""
    rng = np.random.default_rng(0)
    x, g = (rng.standard_normal(shape, np.float32) for shape in (case.x, case.y))
    calls, results = [], []
    with lane() as mine:
        for make in (depthwise.kernel_gradient, primitives.convolution):
            results.append(np.empty(case.kernel, np.float32))
            addresses = [array.ctypes.data for array in (x, g, results[-1])]
            calls.append(functools.partial(make(case).run, addresses, mine))
        parts, whole = least(calls, turns)
    difference = np.abs(results[0] - results[1]).max() / np.abs(results[1]).max()
    return [f"{parts:.2f}", f"{whole:.2f}", f"{whole / parts:.2f}", f"{difference:.0e}"]


if __name__ == "__main__":
    cli.run(main)
