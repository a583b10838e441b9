"""Jigsaw: in which order do the tiles of an image lie?

Noroozi & Favaro 2016, Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles
(arXiv:1603.09246).
"""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import IMAGE, Known, Layer
from tl_jax.chain.tails import ReluDense, Slots
from tl_jax.errors import takes_whole
from tl_jax.train.objective import Loss, Now
from tl_jax.train.objectives.self_supervised import SelfSupervised, told_apart

KEPT = 64 / 75  # of the side of a cell: gaps between tiles hide that lines go on


@functools.cache
def far_apart(tiles: int, count: int) -> np.ndarray:
    """Return (count, tiles) orders; each differs in as many places as can be from those before it.

    The first is the identity. The paper's algorithm 1 takes the farthest from all before; here that
    decides among those that are farthest from the nearest one.
    """
    every = np.array(list(itertools.permutations(range(tiles))), np.int8)
    chosen = [0]
    nearest = total = (every != every[0]).sum(1)
    while len(chosen) < count:
        chosen.append(int((nearest * tiles * count + total).argmax()))
        distance = (every != every[chosen[-1]]).sum(1)
        nearest, total = np.minimum(nearest, distance), total + distance
    return every[chosen]


def tile(side: int, grid: int) -> int:
    """Return the side of a tile of images of `side` pixels."""
    return max(1, round(side // grid * KEPT))


def tiles(key: jax.Array, images: jax.Array, grid: int) -> jax.Array:
    """Return (B, grid * grid, t, t, C), row by row: a random square of each cell, at the mean 128
    and deviation 64, so that brightness does not tell neighbours.
    """
    cell = images.shape[1] // grid
    side = tile(images.shape[1], grid)
    cells = cell * jnp.stack(jnp.divmod(jnp.arange(grid * grid), grid), 1)
    corners = cells + jax.random.randint(key, (len(images), *cells.shape), 0, cell - side + 1)

    def cut(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (*corner, 0), (side, side, image.shape[-1]))

    found = jax.vmap(jax.vmap(cut, (None, 0)))(images.astype(jnp.float32), corners)
    own = (2, 3, 4)
    found -= found.mean(own, keepdims=True)
    return 128 + 64 * found / (found.std(own, keepdims=True) + 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Jigsaw(SelfSupervised):
    """Cross entropy of the order, one of `permutations`, of an image's `grid` x `grid` tiles.

    Each tile runs through the network by itself. The tail `placed` makes of its features `hidden`
    values for every place that it may have; their sum over tiles is the paper's layer fc7 on all
    features side by side, and `order`, its ReLU and classifier, reads that.
    """

    grid: int = 3
    permutations: int = 100
    hidden: int = 512

    def __post_init__(self):
        takes_whole(self.grid, "jigsaw: grid", 2, 3)
        most = 24 if self.grid == 2 else 1000
        takes_whole(self.permutations, "jigsaw: permutations", 2, most)

    def seen(self, side: int) -> int:
        """The side of a tile."""
        return tile(side, self.grid)

    def tails(self, network: Network) -> tuple[Layer, ...]:
        """`placed` and `order`."""
        return (
            Layer("placed", Slots(self.grid**2, self.hidden), (self.output,)),
            Layer("order", ReluDense(self.permutations), ("placed",)),
        )

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`loss`; logs `told`, the share of orders that are told."""
        for_tiles, for_orders = jax.random.split(now.key)
        whole = tiles(for_tiles, batch["inputs"][IMAGE], self.grid)
        count, slots = whole.shape[:2]
        numbers = jax.random.randint(for_orders, (count,), 0, self.permutations)
        orders = jnp.asarray(far_apart(slots, self.permutations))[numbers]
        seen = jnp.take_along_axis(whole, orders[..., None, None, None], 1)
        placed = net(Known({IMAGE: seen.reshape(-1, *seen.shape[2:])}), "placed")
        logits = net(Known({"placed": side_by_side(placed, slots)}), "order")
        return told_apart(logits, numbers, memory)


def side_by_side(placed: jax.Array, slots: int) -> jax.Array:
    """Return (B, D) of (B * slots, slots, D): the sum of each row's own slot, in turn."""
    parts = placed.reshape(-1, slots, *placed.shape[1:])
    return jnp.einsum("bssd->bd", parts)
