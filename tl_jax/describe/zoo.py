"""The whole zoo side by side: size, cost, and the best accuracy that publishers state."""

import math
from collections.abc import Iterable
from types import ModuleType
from typing import NamedTuple

from tl_jax import models
from tl_jax.chain.places import IMAGE
from tl_jax.describe.layers import layers


class Entry(NamedTuple):
    """One architecture, in its first form and at the input size of its best published weights."""

    name: str
    family: str  # the file in tl_jax.models; "" for a base that a user registered
    forms: tuple[str, ...]
    size: int  # the input's side in pixels, or tokens
    parameters: int
    macs: int  # multiply-accumulates for one input
    top1: float | None  # percent on ImageNet-1k; None if no published weights are known
    weights: str  # name of the weights with that accuracy; of texts, of the first
    reads: str = IMAGE  # or tokens


def entry(name: str) -> Entry:
    """Return what is known about the architecture `name`."""
    family = models.family(name)
    forms = family.forms(name)
    published = models.published(name)
    stated = {weights: p.top1 for weights, p in published.items() if p.top1 is not None}
    first = next(iter(published), "") if models.reads(name) != IMAGE else ""  # none has a top-1
    best = max(stated, key=stated.__getitem__, default=first)
    usual = published[best].preprocessing if best else family.preprocessing(name, forms[0])
    chain = family.build(name, forms[0])
    cut = models.usual_cut(name, chain)
    rows = layers(chain.cut(cut) if cut else chain, usual.example)
    return Entry(
        name,
        family.__name__.rpartition(".")[2] if isinstance(family, ModuleType) else "",
        tuple(forms),
        usual.size,
        sum(row.parameters for row in rows),
        sum(row.macs for row in rows),
        stated.get(best),
        best,
        models.reads(name),
    )


def ranked(entries: Iterable[Entry]) -> list[Entry]:
    """Sort entries by accuracy, the best first; entries without one come last, by name."""
    return sorted(entries, key=lambda e: (math.inf if e.top1 is None else -e.top1, e.name))
