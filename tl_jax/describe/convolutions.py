"""What factorising a convolution saves, counted from the layers of `tl_jax.models.layers`.

Depthwise separable convolutions: MobileNet (Howard et al. 2017, arXiv:1704.04861, section 3.1).
Smaller and asymmetric ones: Inception v3 (Szegedy et al. 2015, arXiv:1512.00567, section 3).
"""

from typing import NamedTuple

from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.describe.layers import Row, layers
from tl_jax.models.layers import Conv


class Variant(NamedTuple):
    """A convolution, whole or factorised."""

    name: str
    rows: list[Row]

    @property
    def weights(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.rows)


class Comparison(NamedTuple):
    """Variants with the same input, output and receptive field; the first is the whole one."""

    title: str
    variants: tuple[Variant, ...]


def comparisons() -> list[Comparison]:
    """Return lecture 002's example, and lecture 003's factorisations for a pair of channels."""
    separable = (
        _variant("5x5", (12, 12, 3), Conv(256, 5, padding=0, bias=False)),
        _variant(
            "5x5 depthwise, then 1x1",
            (12, 12, 3),
            Conv(3, 5, padding=0, depthwise=True, bias=False),
            Conv(256, bias=False),
        ),
    )
    first = [
        Comparison("12x12x3 to 8x8x256, unpadded (lecture 002)", separable),
        _factorised((5, 5), (3, 3), (3, 3)),
    ]
    return first + [_factorised((n, n), (n, 1), (1, n)) for n in (3, 7)]


def _factorised(whole: tuple[int, int], *parts: tuple[int, int]) -> Comparison:
    title = "{}x{} for a pair of channels (lecture 003)".format(*whole)
    return Comparison(title, (_pair(whole), _pair(*parts)))


def _pair(*kernels: tuple[int, int]) -> Variant:
    """Return successive convolutions of one channel, on a map of 16 x 16."""
    name = ", then ".join("{}x{}".format(*kernel) for kernel in kernels)
    return _variant(name, (16, 16, 1), *(Conv(1, kernel, bias=False) for kernel in kernels))


def _variant(name: str, shape: tuple[int, int, int], *convs: Conv) -> Variant:
    chain = Network(tuple(Layer(f"conv{i}", conv) for i, conv in enumerate(convs, 1)))
    return Variant(name, layers(chain, (1, *shape)))
