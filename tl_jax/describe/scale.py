"""What bounds a step of data-parallel training on many chips: on paper, from counted costs."""

from collections.abc import Sequence
from typing import NamedTuple

from tl_jax.describe.layers import Row

FORWARD_AND_BACKWARD = 3  # times the multiply-accumulates of a forward pass: two products back
BYTES = 4  # of a weight, a gradient and a moment: float32
COPIES = 4  # in a checkpoint: weights, AdamW's two moments, the best epoch's weights


class Machine(NamedTuple):
    """A kind of accelerator and of its network; rates in seconds, for one chip."""

    name: str
    flops: float  # at its peak; a multiply-accumulate is two
    reached: float  # part of the peak that a network is assumed to reach
    link: float  # bytes that a chip sends to its neighbours
    outside: float  # bytes that a chip sends to another pod: its share of the pod's network
    pod: int  # chips
    host: int  # chips


# https://docs.cloud.google.com/tpu/docs/v5e (2026): 197 TFLOPs in bfloat16; 400 GB/s both ways; 6.4
# Tbps of network and 256 chips a pod; 8 chips a host. Two fifths of the peak is an assumption.
V5E = Machine("TPU v5e", 197e12, 0.4, 200e9, 6.4e12 / 8 / 256, 256, 8)


class Bound(NamedTuple):
    """A step on so many chips; times in seconds."""

    chips: int
    images: int  # of a batch, for each chip
    compute: float
    reduce: float  # of the gradients, were nothing computed meanwhile
    sent: float  # bytes that a chip sends for it
    decode: float  # images a second that a host must deliver
    checkpoint: int  # bytes, which process 0 writes and every process reads


def bounds(rows: Sequence[Row], chips: int, *, batch: int, machine: Machine = V5E) -> Bound:
    """Return the costs of a step that trains all layers, whose `rows` are of one example.

    A ring sends 2 (p - 1) / p of the gradients through each of p chips (Patarasuk and Yuan 2009).
    Several pods add up what each chip of one pod holds, a p-th, with its fellows of the others.
    """
    parameters, statistics = sum(r.parameters for r in rows), sum(r.statistics for r in rows)
    images, gradients = -(-batch // chips), BYTES * parameters
    inside, pods = min(chips, machine.pod), -(-chips // machine.pod)
    flops = 2 * FORWARD_AND_BACKWARD * sum(row.macs for row in rows) * images
    near, far = _ring(inside) * gradients, _ring(pods) * gradients / inside
    compute = flops / machine.flops / machine.reached
    reduce = near / machine.link + far / machine.outside
    hosts = -(-chips // machine.host)
    return Bound(
        chips,
        images,
        compute,
        reduce,
        near + far,
        batch / max(compute, reduce) / hosts,
        BYTES * (COPIES * parameters + 2 * statistics),
    )


def _ring(count: int) -> float:
    return 2 * (count - 1) / count


def table(found: Sequence[Bound]) -> str:
    """Return the bounds as text, a line for each number of chips."""
    head = "chips  images a chip  compute, ms  all-reduce, ms  sent, MB  images/s a host  saved, MB"
    lines = [
        f"{b.chips:5}  {b.images:13}  {1e3 * b.compute:11.2f}  {1e3 * b.reduce:14.3f}  "
        f"{b.sent / 1e6:8.1f}  {b.decode:15,.0f}  {b.checkpoint / 1e6:9,.0f}"
        for b in found
    ]
    return "\n".join([head, *lines])
