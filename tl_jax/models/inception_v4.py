"""Inception-v4 (Szegedy et al. 2016, arXiv:1602.07261, section 3.1), with the parts it shares with
Inception-ResNet.

timm and the library `pretrainedmodels` have one net, with the same names.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn

from tl_jax import ops
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.data.preprocessing import Preprocessing, minus_one_to_one
from tl_jax.models.layers import ConvNorm, MaxPool, conv_norm, head, pool_and_head
from tl_jax.weights import published
from tl_jax.weights.convert import Rule

VARIANTS = {"inception_v4": ()}
EPSILON = 1e-3
TIMM = minus_one_to_one(299, 299 / 341, "bicubic")  # 341 is 299 / 0.875, rounded down

_conv = functools.partial(ConvNorm, epsilon=EPSILON)
Branch = tuple[nn.Module, ...]  # applied one after the other


class AvgPool(nn.Module):
    """3x3 average pooling with stride 1, which keeps the size and does not count padding."""

    def __call__(self, x):
        return ops.avg_pool(x, 3, 1, 1)


class Branches(nn.Module):
    """Branches side by side; the parameters of module j of branch i are at `branch_i_j`."""

    branch: tuple[Branch, ...]

    @nn.compact
    def __call__(self, x):
        return side_by_side(self.branch, x)


def side_by_side(branches: Sequence[Branch], x):
    """Run the branches on the same `x` (N, H, W, C) and concatenate their channels."""
    outputs = [functools.reduce(lambda y, step: step(y), steps, x) for steps in branches]
    return ops.concatenated(outputs)


def _stem() -> list[nn.Module]:
    """Figure 3."""
    return [
        _conv(32, 3, 2, "VALID"),
        _conv(32, 3, 1, "VALID"),
        _conv(64, 3),
        Branches(((MaxPool(3, 2),), (_conv(96, 3, 2, "VALID"),))),
        Branches(
            (
                (_conv(64), _conv(96, 3, 1, "VALID")),
                (_conv(64), _conv(64, (1, 7)), _conv(64, (7, 1)), _conv(96, 3, 1, "VALID")),
            )
        ),
        Branches(((_conv(192, 3, 2, "VALID"),), (MaxPool(3, 2),))),
    ]


def _inception_a() -> Branches:
    """Figure 4."""
    return Branches(
        (
            (_conv(96),),
            (_conv(64), _conv(96, 3)),
            (_conv(64), _conv(96, 3), _conv(96, 3)),
            (AvgPool(), _conv(96)),
        )
    )


def _reduction_a() -> Branches:
    """Figure 7, with the widths of table 1."""
    return Branches(
        (
            (_conv(384, 3, 2, "VALID"),),
            (_conv(192), _conv(224, 3), _conv(256, 3, 2, "VALID")),
            (MaxPool(3, 2),),
        )
    )


def _inception_b() -> Branches:
    """Figure 5."""
    wide, tall = (1, 7), (7, 1)
    twice = _conv(192, tall), _conv(224, wide), _conv(224, tall), _conv(256, wide)
    return Branches(
        (
            (_conv(384),),
            (_conv(192), _conv(224, wide), _conv(256, tall)),
            (_conv(192), *twice),
            (AvgPool(), _conv(128)),
        )
    )


def _reduction_b() -> Branches:
    """Figure 8."""
    return Branches(
        (
            (_conv(192), _conv(192, 3, 2, "VALID")),
            (_conv(256), _conv(256, (1, 7)), _conv(320, (7, 1)), _conv(320, 3, 2, "VALID")),
            (MaxPool(3, 2),),
        )
    )


def _inception_c() -> Branches:
    """Figure 6: two of the branches fork at their end."""

    def fork():
        return Branches(((_conv(256, (1, 3)),), (_conv(256, (3, 1)),)))

    return Branches(
        (
            (_conv(256),),
            (_conv(384), fork()),
            (_conv(384), _conv(448, (3, 1)), _conv(512, (1, 3)), fork()),
            (AvgPool(), _conv(256)),
        )
    )


def _features() -> list[Layer]:
    modules = [
        *_stem(),
        *(_inception_a() for _ in range(4)),
        _reduction_a(),
        *(_inception_b() for _ in range(7)),
        _reduction_b(),
        *(_inception_c() for _ in range(3)),
    ]
    names = ["conv1a", "conv2a", "conv2b", "mixed_3a", "mixed_4a"]
    for number, letters in ((5, "abcde"), (6, "abcdefgh"), (7, "abcd")):
        names += [f"mixed_{number}{letter}" for letter in letters]
    return [Layer(*named) for named in zip(names, modules, strict=True)]


def forms(name: str) -> tuple[str, ...]:
    return ("timm",)


def build(name: str, form: str, classes: int = 1000) -> Network:
    """Return the chain `conv1a`, `conv2a`, `conv2b`, `mixed_3a`, ..., `mixed_7d`, `pool`, `head`.

    The stem ends with `mixed_5a`; `mixed_6a` and `mixed_7a` are the paper's reductions.
    """
    return Network((*_features(), *pool_and_head(classes)))


def preprocessing(name: str, form: str) -> Preprocessing:
    return TIMM


def rules(name: str, form: str) -> list[Rule]:
    return [
        *(rule for n, layer in enumerate(_features()) for rule in _rules_of(n, layer.name)),
        *head("last_linear"),
    ]


def _rules_of(number: int, layer: str) -> list[Rule]:
    """Return rules for the file's module `features.<number>`, our `layer`."""
    # Beside a pooling, a convolution has no branch in its name.
    alone = {"mixed_3a": "mixed_3a/branch_1_0", "mixed_5a": "mixed_5a/branch_0_0"}
    forks = {None: "", "a": "/branch_0_0", "b": "/branch_1_0"}

    def in_branch(branch, step, fork):
        return branch_path(layer, branch, step) + forks[fork]

    module = rf"features\.{number}\."
    inner = module + r"conv\." if layer in alone else module
    branch = module + r"branch(\d)(?:[._](\d))?([ab])?\."
    return [
        *conv_norm(inner + "conv", inner + "bn", alone.get(layer, layer)),
        *conv_norm(branch + "conv", branch + "bn", in_branch),
    ]


def branch_path(layer: str, branch: int, step: int | None) -> str:
    """Return the path of a branch's module; files do not number the only module of a branch."""
    return f"{layer}/branch_{branch}_{step or 0}"


PUBLISHED = {
    "inception_v4": {
        "timm:tf_in1k": published.timm("inception_v4.tf_in1k", TIMM, 80.144, 94.982),
    }
}
