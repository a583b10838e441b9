"""The whole zoo side by side: size, cost, and the best accuracy that publishers state."""

import math
from collections.abc import Iterable
from types import ModuleType
from typing import NamedTuple

from tl_jax import models
from tl_jax.describe.layers import layers


class Entry(NamedTuple):
    """One architecture, in its first form and at the input size of its best published weights."""

    name: str
    family: str  # the file in tl_jax.models; "" for a base that a user registered
    forms: tuple[str, ...]
    size: int  # the input's side, in pixels
    parameters: int
    macs: int  # multiply-accumulates for one image
    top1: float | None  # percent on ImageNet-1k; None if no published weights are known
    weights: str  # name of the weights with that accuracy


def entry(name: str) -> Entry:
    """Return what is known about the architecture `name`."""
    family = models.family(name)
    forms = family.forms(name)
    published = models.published(name)
    stated = {weights: p.top1 for weights, p in published.items() if p.top1 is not None}
    best = max(stated, key=stated.__getitem__, default="")
    usual = published[best].preprocessing if best else family.preprocessing(name, forms[0])
    rows = layers(family.build(name, forms[0]), usual.example.shape)
    return Entry(
        name,
        family.__name__.rpartition(".")[2] if isinstance(family, ModuleType) else "",
        tuple(forms),
        usual.size,
        sum(row.parameters for row in rows),
        sum(row.macs for row in rows),
        stated.get(best),
        best,
    )


def ranked(entries: Iterable[Entry]) -> list[Entry]:
    """Sort entries by accuracy, the best first; entries without one come last, by name."""
    return sorted(entries, key=lambda e: (math.inf if e.top1 is None else -e.top1, e.name))
