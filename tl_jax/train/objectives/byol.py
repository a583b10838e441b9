"""BYOL: one view of an image predicts what the average of the network makes of another view.

Grill et al. 2020, Bootstrap Your Own Latent (arXiv:2006.07733).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Net
from tl_jax.chain.places import Known
from tl_jax.train.objective import Loss, Now, Objective, Term
from tl_jax.train.objectives.common import unit


@dataclasses.dataclass(frozen=True)
class TwoViews:
    """An augmentation that leaves `inputs` and adds two views of them, "a" and "b", of its own.

    `of`: an augmentation (key, batch) -> batch, as of `tl_jax.data.augment`.
    """

    of: Callable[[Any, Any], Any]

    def __call__(self, key: jax.Array, batch: Any) -> Any:
        made = (self.of(k, batch)["inputs"] for k in jax.random.split(key))
        return {**batch, **{name: Known(view) for name, view in zip("ab", made, strict=True)}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class BYOL(Objective):
    """Equation 2, both ways: 2 - 2 cos(`predicted` of a view, averaged `projected` of the other).

    The average moves by `rate` (1 - tau in the paper), which falls to 0 with a cosine. Layers: a
    tail `projected` on the place `output`, and `predicted` on that. Asks for views "a" and "b"
    (see `TwoViews`), and to be scored for "labels" (B,): predictions are the features at `output`
    (B, D), and `neighbour` is the accuracy of the nearest other one, by cosine.
    """

    output: str = "feature"
    projected: str = "projected"
    predicted: str = "predicted"
    rate: float = 0.004
    chosen_by = "last"

    def average(self, now: Now, step: Any) -> Any:
        """1 - tau, at this step of the phase."""
        return self.rate * (jnp.cos(jnp.pi * now.progress) + 1) / 2

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`loss`; logs `spread`: 1 where projections point everywhere, 0 where they collapsed."""
        total, count = 0.0, 0
        for own, other in (("a", "b"), ("b", "a")):
            predicted = unit(net(batch[own], self.predicted).astype(jnp.float32))
            target = net.at("average")(batch[other], self.projected).astype(jnp.float32)
            target = jax.lax.stop_gradient(unit(target))
            total, count = total + (2 - 2 * (predicted * target).sum(-1)).sum(), count + len(target)
        spread = target.std(0).mean() * target.shape[-1] ** 0.5
        return Loss({"loss": Term(total, count)}, memory, {"spread": Term(spread)})

    def predict(self, net: Net, batch: Any, carry: Any) -> tuple[jax.Array, Any]:
        """Features (B, D)."""
        return net(batch["inputs"], self.output, train=False).astype(jnp.float32), carry

    def score(self, predictions: jax.Array, batch: Any) -> dict[str, Term]:
        """`neighbour`, within the batch."""
        real, vectors = batch["real"], unit(predictions)
        likeness = vectors @ vectors.T - 3 * jnp.eye(len(vectors)) - 3 * (1 - real)
        right = batch["labels"][likeness.argmax(1)] == batch["labels"]
        return {"neighbour": Term((right * real).sum(), real.sum())}
