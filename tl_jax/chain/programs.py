"""Compiled programs: how many a process holds, and those that compute one place's value from
another's.
"""

import functools
import gc
import pathlib
from typing import Any

import jax

from tl_jax import ops
from tl_jax.chain.network import Network
from tl_jax.chain.variables import Variables

# Programs of a kind that a process holds. A study of scenarios goes from plan to plan and back, and
# each has a few; one that is dropped is traced again.
KEPT = 128
# Each program maps memory, and Linux gives a process 65,530 maps: without any left it crashes.
MAPS, MOST_MAPS = pathlib.Path("/proc/self/maps"), 30_000


def forward(
    network: Network,
    variables: Variables,
    x: jax.Array,
    *,
    start: str | None = None,
    stop: str | None = None,
) -> Any:
    """Return the output of `Network.apply` in inference mode, compiled per network and shape."""
    return forward_program(network, start, stop)(variables, x)


@functools.lru_cache(maxsize=KEPT)
def forward_program(network: Network, start: str | None, stop: str | None) -> ops.Inference:
    """Return the program, a function of variables and `x`, that `forward` calls."""

    def apply(variables, x):
        return network.apply(variables, x, start=start, stop=stop).output

    return ops.inference(apply)


def make_room() -> None:
    """Forget all compiled programs if the process has more than `MOST_MAPS` memory maps.

    A program that is asked for again is compiled again.
    """
    if MAPS.exists() and MAPS.read_text().count("\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()
