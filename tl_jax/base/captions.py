"""What a base tells of images in words."""

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from tl_jax import registry
from tl_jax.chain import programs
from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import IMAGE, Known
from tl_jax.data.texts.captions import told
from tl_jax.errors import UserError
from tl_jax.train.objectives.captions import Captions

if TYPE_CHECKING:
    from tl_jax.base.base import Base

BATCH = 16  # images at once


class Caption(NamedTuple):
    """What is told of an image, and the logarithm of its probability."""

    text: str
    log_p: float


def of_images(base: "Base", images: Any, **changes: Any) -> list[Caption]:
    """Return a caption for one image or each of several, as `Base.captions` says."""
    name = base.answers.partition("(")[0]
    if name != "captions":
        raise UserError(
            f"this {base.name} tells no captions: transfer it to a task of captions, with "
            "head=show_and_tell and objective=captions"
        )
    _, options = registry.chosen("answers", base.answers, {name: Captions})
    objective = dataclasses.replace(Captions(**options), **changes)
    tell, rows, found = _program(base.chain, objective), base.of_images.read(images), []
    for first in range(0, len(rows), BATCH):
        part = rows[first : first + BATCH]
        # Padded, so that one program serves any number of images.
        padded = np.concatenate([part, np.repeat(part[:1], BATCH - len(part), 0)])
        words, log_p = map(np.asarray, tell(base.variables, base.of_images.normalise(padded)))
        found += [
            Caption(" ".join(told(row, base.classes)), float(p))
            for row, p in zip(words[: len(part)], log_p[: len(part)], strict=True)
        ]
    return found


@functools.lru_cache(maxsize=programs.KEPT)
def _program(chain: Network, objective: Captions) -> Callable[[Any, Any], Any]:
    """Return the compiled search: (variables, images (N, S, S, C)) -> `Told`."""

    def tell(variables: Any, images: Any) -> Any:
        net = Net(chain, chain.combine(variables["params"]), variables["batch_stats"])
        return objective.tell(net, Known({IMAGE: images}))

    return jax.jit(tell)
