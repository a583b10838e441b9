"""Random augmentation inside a training step, by name: see `tl_jax.data.augment.base`."""

from collections.abc import Callable

from tl_jax import registry
from tl_jax.data.augment.base import Augmentation, OfSources, Sequence, TwoViews
from tl_jax.data.augment.frames import TwoFrames
from tl_jax.data.augment.images import Crop, Erase, Flip, Jitter, RandAugment, Shift
from tl_jax.data.augment.pairs import CutMix, MixUp
from tl_jax.errors import takes

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

    >>> [type(part).__name__ for part in make("crop+flip(0.5)+mixup(0.2)").parts]
    ['Crop', 'Flip', 'MixUp']
    """
    takes(isinstance(text, str), "augment=", "text, as 'crop+flip'", text)
    if not text.strip():
        return None
    parts = []
    for part in registry.summands("augmentation", text):
        kind, options = registry.chosen("augmentation", part, AUGMENTATIONS)
        parts.append(kind(**options))
    return parts[0] if len(parts) == 1 else Sequence(tuple(parts))


__all__ = [
    "AUGMENTATIONS", "Augmentation", "Crop", "CutMix", "Erase", "Flip", "Jitter", "MixUp",
    "OfSources", "RandAugment", "Sequence", "Shift", "TwoFrames", "TwoViews", "make",
]  # fmt: skip
