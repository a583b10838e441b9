"""DAN and JAN: source and target have the same mean in a space of kernels.

Long et al. 2015, Learning Transferable Features with Deep Adaptation Networks (arXiv:1502.02791);
Long et al. 2017, Deep Transfer Learning with Joint Adaptation Networks (arXiv:1605.06636).
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Net
from tl_jax.errors import UserError
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.domains import DOMAINS, Weighted, supervised

if TYPE_CHECKING:
    from tl_jax.train.problem import Problem

WIDTHS = (0.125, 0.25, 0.5, 1.0, 2.0)  # times the mean squared distance: each kernel's variance
OF_PREDICTIONS = 0.92  # the standard deviation of JAN's kernel of probabilities


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaximumMeanDiscrepancy(Weighted):
    """Cross entropy on the source, and weight times the squared MMD of features.

    k = sum over `WIDTHS` of exp(-|x - y|^2 / (2 width m)), where m is the mean of |x - y|^2 over
    both batches, through which no gradient flows. MMD^2 is the unbiased mean over all pairs,
    without those of an example with itself; with `linear` over neighbours in the batch: k(s_i,
    s_i+1) + k(t_i, t_i+1) - k(s_i, t_i+1) - k(s_i+1, t_i). The paper aligns several layers and
    learns the kernels' shares; here they are equal, as in TLlib, which adds 2 / (B - 1) to the
    value.
    """

    linear: bool = False
    coupled = True

    def check(self, problem: "Problem") -> None:
        """UserError also for a linear mean over batches of two sizes."""
        super().check(problem)
        tasks = problem.sources
        trains = [len(tasks[name].splits["train"]) for name in DOMAINS]
        ours, theirs = (problem.parallel.batch_size(problem.batch_size, n) for n in trains)
        if self.linear and ours != theirs:
            raise UserError(
                f"{type(self).__name__}: linear=True pairs the examples of batches of one size, "
                f"but the source's have {ours} and the target's {theirs}: take "
                f"batch_size={min(ours, theirs)}, or linear=False"
            )

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """The terms `loss` and `mmd`."""
        (ours, logits), (theirs, others) = self.seen(net, batch)
        kernel = self.kernel(jnp.concatenate([ours, theirs]), jnp.concatenate([logits, others]))
        gap = discrepancy(kernel, len(ours), linear=self.linear)
        return Loss({"loss": supervised(logits, batch), "mmd": Term(gap, 1.0, self.weight)}, memory)

    def kernel(self, features: jax.Array, logits: jax.Array) -> jax.Array:
        """The kernel of all pairs, (N, N), from features (N, D) and logits (N, C)."""
        squares = distances(features)
        mean = jnp.maximum(jax.lax.stop_gradient(squares.mean()), 1e-12)
        return sum((jnp.exp(-squares / (2 * w * mean)) for w in WIDTHS), jnp.zeros(()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class JointDiscrepancy(MaximumMeanDiscrepancy):
    """The kernel is the product of that of features and one of predicted probabilities: JAN.

    The kernel of probabilities has the standard deviation `OF_PREDICTIONS`, as in TLlib. The
    paper's adversarial variant is left out.
    """

    def kernel(self, features: jax.Array, logits: jax.Array) -> jax.Array:
        """The product of the kernels, (N, N)."""
        squares = distances(jax.nn.softmax(logits))
        return super().kernel(features, logits) * jnp.exp(-squares / (2 * OF_PREDICTIONS**2))


def distances(x: jax.Array) -> jax.Array:
    """Squared distances (N, N) of the rows of (N, D)."""
    products = x @ x.T
    norms = jnp.diagonal(products)
    return jnp.maximum(norms[:, None] + norms - 2 * products, 0)  # rounding goes below 0


def discrepancy(kernel: jax.Array, sources: int, *, linear: bool) -> jax.Array:
    """MMD^2 of a kernel (N, N), the first `sources` rows of which are the source's."""
    ours, theirs = kernel[:sources, :sources], kernel[sources:, sources:]
    across = kernel[:sources, sources:]
    if linear:
        pairs = jnp.arange(sources), (jnp.arange(sources) + 1) % sources
        return (ours[pairs] + theirs[pairs] - across[pairs] - across.T[pairs]).mean()
    means = ((k.sum() - jnp.trace(k)) / (len(k) * (len(k) - 1)) for k in (ours, theirs))
    return sum(means, jnp.zeros(())) - 2 * across.mean()
