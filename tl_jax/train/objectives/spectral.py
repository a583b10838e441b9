"""BSS: the weakest directions of a batch's features are suppressed, as they transfer worst.

Chen et al. 2019, Catastrophic Forgetting Meets Negative Transfer: Batch Spectral Shrinkage for Safe
Transfer Learning (NeurIPS), equation 4.
"""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp

from tl_jax.chain.network import Net
from tl_jax.errors import takes_whole
from tl_jax.train.objective import Term
from tl_jax.train.objectives.common import read_by


@dataclasses.dataclass(frozen=True)
class SpectralShrinkage:
    """A term for `CrossEntropy.also`: eta times the `k` least squared singular values of the
    features (B, D) that the layer `output` reads.
    """

    eta: float = 0.001
    k: int = 1
    output: str = "head"
    coupled: ClassVar[bool] = True  # the features of a batch are one matrix

    def __post_init__(self):
        takes_whole(self.k, "bss: k=", 1, 10**6)

    def __call__(self, net: Net, batch: Any) -> dict[str, Term]:
        """`bss`."""
        features = net(batch["inputs"], read_by(net.network, self.output)).astype(jnp.float32)
        if features.ndim == 4:
            features = features.mean((1, 2))
        # The smaller Gram matrix: of the larger, some eigenvalues are 0 whatever the features.
        small = len(features) <= features.shape[1]
        gram = features @ features.T if small else features.T @ features
        # Rounding makes eigenvalues of 0 slightly negative.
        least = jnp.maximum(jnp.linalg.eigvalsh(gram)[: self.k], 0)
        return {"bss": Term(least.sum(), 1.0, self.eta)}
