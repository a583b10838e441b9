"""Measure the operations of `tl_jax.ops` beside XLA's own, one at a time, on shapes of the zoo.

    python -m benchmarks.ops [--batch=16] [--only=3x3]

It prints milliseconds of the forward pass, the input's gradient and the parameters' gradient, the
least of several turns. On a GPU or TPU both run the same program.
"""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks.measure import busy_cores, idle_note
from experiments import cli
from tl_jax import ops
from tl_jax.ops import plain

_BATCH = flags.DEFINE_integer("batch", 16, "Images in a batch.", lower_bound=1)
_TURNS = flags.DEFINE_integer("turns", 7, "Number of measurements of each.", lower_bound=1)
_ONLY = flags.DEFINE_string("only", "", "Only measure operations whose name contains this.")


class Op(NamedTuple):
    """An operation: its name, ours, XLA's, and the shapes of x (H, W, C) and kernel."""

    name: str
    ours: Callable
    stock: Callable
    x: tuple[int, int, int]
    kernel: tuple[int, ...] = ()


def convolution(side: int, inputs: int, outputs: int, kernel: int, stride: int = 1) -> Op:
    """Return a dense convolution, padded as in PyTorch's networks."""
    edges = ((kernel // 2, kernel // 2),) * 2
    return Op(
        f"{kernel}x{kernel} s{stride}, {side}, {inputs} to {outputs}",
        functools.partial(ops.conv, stride=stride, padding=edges),
        functools.partial(plain.conv, stride=stride, padding=edges),
        (side, side, inputs),
        (kernel, kernel, inputs, outputs),
    )


def depthwise(side: int, channels: int, kernel: int, stride: int = 1) -> Op:
    """Return a depthwise convolution, padded as in PyTorch's networks."""
    edges = ((kernel // 2, kernel // 2),) * 2
    return Op(
        f"depthwise {kernel}x{kernel} s{stride}, {side}, {channels}",
        functools.partial(ops.conv, stride=stride, padding=edges),
        functools.partial(plain.conv, stride=stride, padding=edges),
        (side, side, channels),
        (kernel, kernel, 1, channels),
    )


def max_pooling(side: int, channels: int, size: int, padding: int) -> Op:
    """Return max pooling with stride 2."""
    edges = ((padding, padding),) * 2
    return Op(
        f"max pooling {size}x{size} s2, {side}, {channels}",
        lambda x: ops.max_pool(x, size, 2, padding),
        lambda x: nn.max_pool(x, (size, size), (2, 2), edges),
        (side, side, channels),
    )


def batch_norm(side: int, channels: int) -> Op:
    """Return batch norm by the batch's statistics; the kernel is its scale."""

    def norm(module, x, scale):
        params = {"scale": scale, "bias": jnp.zeros(channels)}
        stats = {"mean": jnp.zeros(channels), "var": jnp.ones(channels)}
        variables = {"params": params, "batch_stats": stats}
        return module.apply(variables, x, mutable=["batch_stats"])[0]

    return Op(
        f"batch norm, {side}, {channels}",
        functools.partial(norm, ops.BatchNorm()),
        functools.partial(norm, nn.BatchNorm(False)),
        (side, side, channels),
        (channels,),
    )


OPS = (
    convolution(224, 3, 64, 7, 2),
    convolution(56, 64, 256, 1),
    convolution(14, 1024, 256, 1),
    convolution(56, 256, 512, 1, 2),
    convolution(112, 128, 128, 3),
    convolution(56, 64, 64, 3),
    convolution(28, 128, 128, 3),
    convolution(14, 256, 256, 3),
    convolution(56, 128, 128, 3, 2),
    depthwise(112, 32, 3),
    depthwise(56, 144, 3, 2),
    depthwise(14, 480, 5),
    max_pooling(112, 64, 3, 1),
    max_pooling(112, 128, 2, 0),
    batch_norm(112, 64),
    batch_norm(14, 1024),
)


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    busy = busy_cores()
    print("| operation, side, channels | " + " | ".join(PASSES) + " |\n|---" + "|---" * 3 + "|")
    for op in OPS:
        if _ONLY.value in op.name:
            print(
                f"| {op.name} | {' | '.join(cells(op, _BATCH.value, _TURNS.value))} |", flush=True
            )
    print(f"ms, ours / XLA's own; batch {_BATCH.value}, {jax.default_backend()}{idle_note(busy)}")


PASSES = ("forward", "input's gradient", "parameters' gradient")


def cells(op: Op, batch: int, turns: int) -> list[str]:
    """Return 'ours / XLA's own' in milliseconds for each pass; empty without parameters."""
    rng = np.random.default_rng(0)
    args = [rng.standard_normal((batch, *op.x), np.float32)]
    args += [rng.standard_normal(op.kernel, np.float32)] if op.kernel else []
    g = rng.standard_normal(jax.eval_shape(op.stock, *args).shape, np.float32)
    args, g = jax.device_put((args, g))

    def gradient(f, index, args, g):
        def of_one(arg):
            return f(*args[:index], arg, *args[index + 1 :])

        return jax.vjp(of_one, args[index])[1](g)

    texts = []
    for index in (None, *range(len(args))):
        calls = []
        for f in (op.ours, op.stock):
            if index is None:
                calls.append(functools.partial(jax.jit(f), *args))
            else:
                calls.append(functools.partial(jax.jit(gradient, static_argnums=(0, 1)), f, index))
                calls[-1] = functools.partial(calls[-1], args, g)
        ours, stock = least(calls, turns)
        texts.append(f"{ours:.1f} / {stock:.1f}")
    return texts + [""] * (len(PASSES) - len(texts))


def least(calls: list[Callable], turns: int) -> list[float]:
    """Run the calls in turns, and return the least milliseconds of each."""
    best = [float("inf")] * len(calls)
    for turn in range(turns + 1):  # the first turn compiles
        for number, call in enumerate(calls):
            started = time.perf_counter()
            jax.block_until_ready(call())
            if turn:
                best[number] = min(best[number], 1000 * (time.perf_counter() - started))
    return best


if __name__ == "__main__":
    cli.run(main)
