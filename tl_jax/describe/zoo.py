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
    family: str  # the file of tl_jax.models; "" of a base that was registered from outside
    forms: tuple[str, ...]
    size: int  # of the input's side, in pixels
    parameters: int
    macs: int  # of one image
    top1: float | None  # percent on ImageNet-1k; None: no published weights are known
    weights: str  # the name of the weights of that accuracy


def entry(name: str) -> Entry:
    """What is known of the architecture `name`."""
    family = models.family(name)
    forms = family.forms(name)
    published = models.published(name)
    stated = {weights: p.top1 for weights, p in published.items() if p.top1 is not None}
    best = max(stated, key=stated.__getitem__, default="")
    usual = published[best].preprocessing if best else family.preprocessing(name, forms[0])
    rows = layers(family.build(name, forms[0]), usual.input_shape)
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
    """The most accurate first; those without published accuracy at the end, by name."""
    return sorted(entries, key=lambda e: (math.inf if e.top1 is None else -e.top1, e.name))
