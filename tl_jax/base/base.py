"""A base: a network with its weights and the preprocessing they were trained with."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import flax.errors
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.base import file
from tl_jax.base.architecture import MAX_CLASSES, Architecture
from tl_jax.chain.network import Network
from tl_jax.chain.programs import forward, forward_program
from tl_jax.chain.variables import merged, redrawn, select
from tl_jax.data import views
from tl_jax.data.files import path_of
from tl_jax.data.images import open_image
from tl_jax.data.preprocessing import MAX_CHANNELS, MAX_SIZE, Preprocessing
from tl_jax.errors import UserError, takes, takes_whole, unknown

if TYPE_CHECKING:
    from tl_jax.data.task import Task
    from tl_jax.measure.probes.table import ProbeTable
    from tl_jax.runs.transfer import Run

BATCH = 16  # images that `predict` runs at once


@dataclasses.dataclass(frozen=True, eq=False)
class Base:
    """Architecture, weights and preprocessing, which travel together.

    >>> import PIL.Image
    >>> import tl_jax
    >>> base = tl_jax.load_base("efficientnet_lite0", "random:0").resized(32).cut("stage2_block2")
    >>> images = base.preprocessing([PIL.Image.new("RGB", (64, 48))])
    >>> base(images).shape, base.features(images, layer="stem").shape
    ((1, 8, 8, 24), (1, 32))
    >>> base.with_head(5).predict(PIL.Image.new("RGB", (64, 48))).shape
    (1, 5)
    """

    architecture: Architecture
    weights: str  # where they are from: a path, a name such as `torchvision:IMAGENET1K_V1`
    # {"params": {layer: ...}, "batch_stats": {layer: ...}}, numpy
    variables: dict[str, Any] = dataclasses.field(repr=False)
    preprocessing: Preprocessing
    classes: tuple[str, ...] = ()  # names, where they are known
    views: str = "none"  # over which its probabilities are averaged
    digest: str = ""  # the SHA-256 of the weight file, where one was read

    @property
    def name(self) -> str:
        return self.architecture.name

    @functools.cached_property
    def chain(self) -> Network:
        return self.architecture.chain()

    @property
    def layers(self) -> tuple[str, ...]:
        """Names in forward order."""
        return self.chain.names

    @property
    def bottleneck(self) -> str:
        """The layer below the classifier, where one usually cuts; of a bare cut its last."""
        whole = not self.architecture.cut or self.architecture.head
        return self.layers[-2] if whole else self.layers[-1]

    def __call__(self, images, *, layer: str | None = None) -> jax.Array:
        """Logits (N, classes), or the output of `layer`, in inference mode.

        `images`: float32 (N, H, W, C), preprocessed as the weights expect (`self.preprocessing`
        does that), of any size that the architecture admits. UserError for other shapes and types,
        and for values that were evidently not normalised so.
        """
        takes(layer is None or isinstance(layer, str), "layer=", "the name of a layer", layer)
        images = self._checked(images)
        try:
            return forward(self.chain, self.variables, images, stop=layer)
        except flax.errors.ScopeParamShapeError:
            raise self._misfit(images.shape) from None

    def features(self, images, *, layer: str | None = None) -> jax.Array:
        """The output of `layer` (default: the bottleneck), averaged over space: (N, D).

        `images`: preprocessed ones (N, H, W, C).
        """
        found = self(images, layer=layer or self.bottleneck)
        return found.mean((1, 2)) if found.ndim == 4 else found

    def predict(self, images) -> np.ndarray:
        """Class probabilities (N, C) of one image or several, whatever their size.

        Images as `preprocessing` takes them (PIL images, arrays), or paths of image files. The mean
        over the base's `views`; `classes` are the columns' names, where they are known. UserError
        for a base without a classifier, and for a file that cannot be read.
        """
        if self.architecture.cut and not self.architecture.head:
            raise UserError(f"this {self.name} ends at {self.layers[-1]!r}: it has no classifier")
        pixels = self._pixels(images)
        forward = forward_program(self.chain, None, None).of(self.variables)
        parts = [pixels[first : first + BATCH] for first in range(0, len(pixels), BATCH)]
        return np.concatenate([self._probabilities(forward, part) for part in parts])

    def probe(self, what, labels=None, **options) -> "ProbeTable":
        """What simple classifiers make of each layer's features: see `tl_jax.probe`.

        `what`: a task, or images (N, H, W, C) with `labels` (N,).
        """
        import tl_jax  # the door, above this floor

        return tl_jax.probe(self, what, labels, **options)

    def transfer(self, task: "Task", **settings) -> "Run":
        """Transfer this base to a task: see `tl_jax.transfer`."""
        import tl_jax  # the door, above this floor

        return tl_jax.transfer(self, task, **settings)

    def resized(self, size: int | None = None, crop: float | None = None) -> "Base":
        """The base for inputs of another size or crop; the pixels' range stays the weights'."""
        if size is not None:
            takes_whole(size, "size=", 1, MAX_SIZE)
        takes(crop is None or isinstance(crop, int | float), "crop=", "a share up to 1", crop)
        given = (("size", size), ("crop", crop))
        changes: dict[str, Any] = {k: v for k, v in given if v is not None}
        preprocessing = dataclasses.replace(self.preprocessing, **changes)
        resized = dataclasses.replace(self, preprocessing=preprocessing)
        if size is not None:
            self._require_room(preprocessing.input_shape)
            if self.architecture.head:
                resized._require_fit()
        return resized

    def with_head(
        self,
        classes: int,
        *,
        cut: str | None = None,
        head: str = "linear",
        dropout: float = 0.0,
        seed: int = 0,
    ) -> "Base":
        """Cut at the layer `cut` (default: the bottleneck), with a fresh head of `chain.heads`.

        Any head added earlier is removed together with the layers above the cut.
        """
        takes_whole(classes, "classes=", 1, MAX_CLASSES)
        takes(isinstance(head, str) and head != "", "head=", "the name of a head", head)
        cut = self._own(cut or self.architecture.cut or self.bottleneck)
        changes = {"classes": classes, "cut": cut, "head": head, "dropout": dropout}
        architecture = dataclasses.replace(self.architecture, **changes)
        ready = dataclasses.replace(self, architecture=architecture, classes=(), views="none")
        kept = self.chain.cut(cut).names
        new = ready.chain.init(seed, ready.preprocessing.input_shape, ready.layers[len(kept) :])
        return dataclasses.replace(ready, variables=merged(select(self.variables, kept), new))

    def fresh(self, seed: int) -> dict[str, Any]:
        """Untrained variables of the same shapes (`Network.init`)."""
        return self.chain.init(seed, self.preprocessing.input_shape)

    def started(self, start: str, seed: int) -> "Base":
        """The base with weights that are not pretrained: "fresh" or "redrawn" (`Plan.start`)."""
        fresh = self.fresh(seed)
        if start == "fresh":
            return dataclasses.replace(self, variables=fresh, weights=f"random:{seed}")
        kept = self.chain.cut(self.architecture.cut).names if self.architecture.cut else self.layers
        params = redrawn(select(self.variables, kept)["params"], seed)
        variables = merged(fresh, {"params": params, "batch_stats": {}})
        return dataclasses.replace(
            self, variables=variables, weights=f"redrawn:{seed} like {self.weights}"
        )

    def cut(self, layer: str) -> "Base":
        """The layers up to and with `layer`, without a head."""
        kept = select(self.variables, self.chain.cut(self._own(layer)).names)
        architecture = dataclasses.replace(self.architecture, cut=layer, head="")
        changes = {"architecture": architecture, "variables": kept}
        return dataclasses.replace(self, **changes, classes=(), views="none")

    def _own(self, layer: str) -> str:
        """The layer, if it is the architecture's and not of a head that was put on top."""
        own = self.layers
        if self.architecture.head:
            own = own[: own.index(self.architecture.cut) + 1]
        takes(isinstance(layer, str), "a cut", "the name of a layer", layer)
        if layer not in own:
            whole = not self.architecture.cut
            raise unknown("layer", layer, own[:-1] if whole else own, ordered=True)
        return layer

    def with_channels(self, channels: int) -> "Base":
        """The base for images of another number of channels: 1 is grey, 4 RGB and infrared, say.

        The first convolution's kernel becomes its mean over RGB times 3 / `channels` for each
        channel (for grey: the sum), so that equal normalised channels give what they gave before.
        """
        takes_whole(channels, "channels=", 1, MAX_CHANNELS)
        preprocessing = self.preprocessing.with_channels(channels)
        if channels == self.preprocessing.channels:
            return self
        params: dict[Any, Any] = flax.traverse_util.flatten_dict(self.variables["params"])
        first = next(path for path in params if path[-1] == "kernel")
        one = params[first].sum(2, keepdims=True) / channels
        params[first] = np.repeat(one, channels, axis=2)
        variables = self.variables | {"params": flax.traverse_util.unflatten_dict(params)}
        return dataclasses.replace(self, preprocessing=preprocessing, variables=variables)

    def save(self, path: str | pathlib.Path) -> None:
        """Write all of it into one safetensors file, which `load_base(path)` reads."""
        content = self.architecture, self.variables, self.preprocessing, self.classes, self.views
        file.save(path_of(path), file.Model(*content))

    def _probabilities(self, forward: Callable, pixels: np.ndarray) -> np.ndarray:
        """(n, C) of fitted images (n, S, S, 1 or channels), the mean over the views.

        Padded to `BATCH`, so that one program serves any number of images.
        """
        padded = np.concatenate([pixels, np.repeat(pixels[:1], BATCH - len(pixels), 0)])
        seen = (views.view(padded, number) for number in views.numbers(self.views))
        logits = [forward(self.preprocessing.normalise(view)) for view in seen]
        return np.mean([jax.nn.softmax(x) for x in logits], 0)[: len(pixels)]

    def _pixels(self, images) -> np.ndarray:
        """Fitted images (N, size, size, 1 or channels), uint8."""
        several = images if isinstance(images, list | tuple) else [images]
        opened = [
            open_image(path_of(image), self.preprocessing.grey_range)
            if isinstance(image, str | os.PathLike)
            else image
            for image in several
        ]
        return self.preprocessing.fitted(opened)

    def _checked(self, images) -> jax.Array:
        expects = f"{self.name} takes preprocessed images, float32 (N, H, W, C), channels last"
        images = images if isinstance(images, jax.Array) else np.asarray(images)
        channels = self.preprocessing.channels
        if images.ndim != 4 or images.shape[-1] != channels:
            raise UserError(f"{expects} and {channels} of them; got an array {images.shape}")
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise UserError(f"{expects}; got {images.dtype}: base.preprocessing takes pixels")
        if not len(images):
            raise UserError(f"{expects}; got none")
        if min(images.shape[1:3]) < self.preprocessing.size:
            self._require_room((1, *images.shape[1:]))
        if not isinstance(images, jax.core.Tracer):
            _require_range(np.asarray(images), self.preprocessing.range, expects)
        return jnp.asarray(images)

    def _require_fit(self) -> None:
        """UserError if a head that flattens maps was made for images of another size."""
        shape = self.preprocessing.input_shape
        images = jax.ShapeDtypeStruct(shape, jnp.float32)
        try:
            jax.eval_shape(lambda v, x: self.chain.apply(v, x).output, self.variables, images)
        except flax.errors.ScopeParamShapeError:
            raise self._misfit(shape) from None

    def _misfit(self, shape: tuple[int, ...]) -> UserError:
        return UserError(
            f"the head {self.architecture.head!r} was made for inputs of another size than "
            f"{shape[1]} x {shape[2]}: set the size before the head is put on"
        )

    def _require_room(self, shape: tuple[int, ...]) -> None:
        """UserError, with the least size that would do, if images of `shape` are too small."""
        if complaint := _want_of_room(self.chain, shape):
            least = _least_size(self.chain, shape[-1])
            raise UserError(f"{complaint}; {self.name} needs {least} x {least} at least")


def _require_range(images: np.ndarray, declared: tuple[float, float], expects: str) -> None:
    """UserError if the values cannot be images normalised to the declared range.

    Some values beyond it are let pass (noise, augmented colours), but not most of them.
    """
    low, high = declared
    if not np.isfinite(images).all():
        raise UserError(f"{expects}, and finite; got NaN or infinity")
    raw = images.min() >= 0 and images.max() > high
    if raw or ((images < low) | (images > high)).mean() > 0.5:
        raise UserError(
            f"{expects}, with values from {low:.4g} to {high:.4g}; got {images.min():.4g} to "
            f"{images.max():.4g}: base.preprocessing takes pixels"
        )


def _least_size(chain: Network, channels: int) -> int:
    """The side of the smallest square input that every layer has room for."""
    below, enough = 0, 1
    while _want_of_room(chain, (1, enough, enough, channels)):
        below, enough = enough, 2 * enough
    while enough - below > 1:
        middle = (below + enough) // 2
        wanting = _want_of_room(chain, (1, middle, middle, channels))
        below, enough = (middle, enough) if wanting else (below, middle)
    return enough


@functools.lru_cache  # tracing takes as long as a small batch, and sizes come again
def _want_of_room(chain: Network, shape: tuple[int, ...]) -> str | None:
    """What is said of images of `shape` if they are too small; None if there is room."""
    try:
        chain.shapes(shape)
    except UserError as error:
        return str(error)
    return None
