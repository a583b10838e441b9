"""Random augmentation inside a training step, by name: see `tl_jax.data.augment.base`."""

import ast
from collections.abc import Callable

from tl_jax import registry
from tl_jax.data.augment.base import Augmentation, Sequence
from tl_jax.data.augment.images import Crop, Erase, Flip, Jitter, RandAugment, Shift
from tl_jax.data.augment.pairs import CutMix, MixUp
from tl_jax.errors import UserError, takes

AUGMENTATIONS: dict[str, Callable[..., Augmentation]] = {
    "crop": Crop,
    "flip": Flip,
    "shift": Shift,
    "jitter": Jitter,
    "randaugment": RandAugment,
    "erase": Erase,
    "mixup": MixUp,
    "cutmix": CutMix,
}


def make(text: str) -> Augmentation | None:
    """The augmentation of a setting such as 'crop+flip+erase(0.25, most=0.2)'; '' is None.

    UserError if the text cannot be read, or has a name, option or value that there is not.
    """
    takes(isinstance(text, str), "augment=", "text, as 'crop+flip'", text)
    if not text.strip():
        return None
    try:
        terms = _terms(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UserError(
            f"augmentation {text[:80]!r} cannot be read; an example: 'crop+flip+erase(0.25)'"
        ) from None
    parts = []
    for term in terms:
        kind, options = registry.chosen("augmentation", ast.unparse(term), AUGMENTATIONS)
        parts.append(kind(**options))
    return parts[0] if len(parts) == 1 else Sequence(tuple(parts))


def _terms(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_terms(node.left), *_terms(node.right)]
    return [node]


__all__ = [
    "AUGMENTATIONS", "Augmentation", "Crop", "CutMix", "Erase", "Flip", "Jitter", "MixUp",
    "RandAugment", "Sequence", "Shift", "make",
]  # fmt: skip
