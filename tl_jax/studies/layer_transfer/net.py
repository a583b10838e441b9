"""The network of a study, for any number of classes."""

import functools
from typing import Any

from tl_jax import models
from tl_jax.base.base import Base
from tl_jax.chain.network import Network
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.errors import UserError, unknown
from tl_jax.runs.subject import base_of
from tl_jax.studies.layer_transfer.treatments import cuts


class Net:
    """The config's architecture, its preprocessing, and the layers after which it is cut."""

    def __init__(self, config: Any):
        family, name = models.family(config.base), models.canonical(config.base)
        form = family.forms(name)[0]
        self._config, self._build = config, functools.partial(family.build, name, form)
        usual = family.preprocessing(name, form)
        if not isinstance(usual, Preprocessing):
            raise UserError(f"{name} reads texts, and this study is of bases that read images")
        usual = usual.with_channels(config.channels or usual.channels)
        self.preprocessing = usual.resized(config.size or None, config.crop or None)
        stops = cuts(self.chain(2), self.preprocessing.input_shape)
        for layer in config.layers:
            if layer not in stops:
                raise unknown("layer with parameters below the classifier", layer, stops)
        # by n: the n-th layer with parameters, and the last layer that belongs to it
        self.cuts = {
            n: (layer, stop)
            for n, (layer, stop) in enumerate(stops.items(), 1)
            if not config.layers or layer in config.layers
        }

    def chain(self, classes: int) -> Network:
        """Return the chain with a classifier for so many classes."""
        return self._build(classes)

    def fresh(self, classes: int, seed: int) -> dict[str, Any]:
        """Return fresh variables."""
        return self.chain(classes).init(seed, self.preprocessing.input_shape)

    def given(self, weights: str) -> Base:
        """Return a base in a file or by a name, such as `load_base` takes.

        UserError for one that lacks layers below the last cut, has others (it has grown), or reads
        images that are prepared in another way.
        """
        base = base_of(self._config, weights=weights)
        last = list(self.cuts.values())[-1][1]
        if last not in base.layers or base.chain.cut(last) != self.chain(2).cut(last):
            raise UserError(
                f"{weights} has not the layers of {base.name} up to {last} as the study builds "
                f"them: it has {', '.join(base.layers)}; one that is cut lower needs layers=, one "
                "that has grown cannot be compared"
            )
        if base.preprocessing != self.preprocessing:
            raise UserError(
                f"{weights} reads other images than the study: it has {base.preprocessing}, the "
                f"study {self.preprocessing}: set size=, crop= or channels="
            )
        return base
