"""Programs for inference: compiled functions that take no gradient."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import jax

from tl_jax.ops.cpu import constants, onednn, switch
from tl_jax.ops.cpu.cores import PerCore

Value = TypeVar("Value")


class Inference:
    """`fn(fixed, batch) -> result`, jitted: batch and result are trees of arrays (B, ...).

    `fn` must process each example independently of the rest of the batch: on a CPU with oneDNN each
    core runs its own program on its part of the batch. Other platforms run `whole`; so does a CPU
    if the cores cannot share the batch equally, or if the batch is being traced.
    """

    def __init__(self, fn: Callable[[Any, Any], Any], **shardings: Any):
        self.whole = jax.jit(fn, **shardings)  # one program for the whole batch
        self._per_core = PerCore(fn) if switch.fast() else None

    def __call__(self, fixed: Any, batch: Any) -> Any:
        return self.of(fixed)(batch)

    def of(self, fixed: Any) -> Callable[[Any], Any]:
        """Return a function of the batch alone; it computes once what depends on `fixed` alone."""
        whole = functools.partial(self.whole, fixed)
        return self._per_core.of(fixed, whole) if self._per_core else whole


def inference(fn: Callable[[Any, Any], Any], **shardings: Any) -> Inference:
    """Compile `fn(fixed, batch)` into a program; `shardings` are those of `jax.jit`."""
    return Inference(fn, **shardings)


def fast_in_bfloat16() -> bool:
    """Whether inference is faster in bfloat16 than in float32 where JAX runs: on a CPU only with
    oneDNN and a processor that multiplies such numbers.
    """
    return jax.default_backend() != "cpu" or onednn.multiplies_bfloat16()


def materialise(value: Value) -> Value:
    """Return `value` and mark it as needed in full: no operation may fuse it away."""
    constants.materialise(value)
    return value


def portable() -> AbstractContextManager[None]:
    """Inside, operations are traced in their platform-neutral forms: see `switch.portable`."""
    return switch.portable()
