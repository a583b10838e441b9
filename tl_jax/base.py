"""A base: a chain with its weights and the preprocessing they were trained with."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import export, models, sources
from tl_jax.architecture import Architecture
from tl_jax.chain import Chain, forward, merged, select
from tl_jax.errors import UserError
from tl_jax.preprocessing import Preprocessing
from tl_jax.pretrained import convert, files, keras_file


@dataclasses.dataclass(frozen=True, eq=False)
class Base:
    """Architecture, weights and preprocessing, which travel together."""

    architecture: Architecture
    weights: str  # where they are from: a path, a name such as `torchvision:IMAGENET1K_V1`
    # {"params": {layer: ...}, "batch_stats": {layer: ...}}, numpy
    variables: dict[str, Any] = dataclasses.field(repr=False)
    preprocessing: Preprocessing

    @property
    def name(self) -> str:
        return self.architecture.name

    @functools.cached_property
    def chain(self) -> Chain:
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
        images = self._checked(images)
        return forward(self.chain, self.variables, images, stop=layer)

    def features(self, images) -> jax.Array:
        """The bottleneck (N, D) of preprocessed images (N, H, W, C)."""
        found = self(images, layer=self.bottleneck)
        return found.mean((1, 2)) if found.ndim == 4 else found

    def resized(self, size: int | None = None, crop: float | None = None) -> "Base":
        """The base for inputs of another size or crop; the pixels' range stays the weights'."""
        changes = {k: v for k, v in (("size", size), ("crop", crop)) if v is not None}
        preprocessing = dataclasses.replace(self.preprocessing, **changes)
        if size is not None:
            self._require_room((1, size, size, preprocessing.channels))
        return dataclasses.replace(self, preprocessing=preprocessing)

    def with_head(
        self,
        classes: int,
        *,
        cut: str | None = None,
        head: str = "linear",
        dropout: float = 0.0,
        seed: int = 0,
    ) -> "Base":
        """Cut at the layer `cut` (default: the bottleneck), with a fresh head of `tl_jax.heads`."""
        if self.architecture.cut:
            raise UserError(f"{self.name} is cut already, at {self.architecture.cut!r}")
        cut = cut or self.bottleneck
        changes = {"classes": classes, "cut": cut, "head": head, "dropout": dropout}
        architecture = dataclasses.replace(self.architecture, **changes)
        ready = dataclasses.replace(self, architecture=architecture)
        kept = self.chain.cut(cut).names
        variables = merged(ready.fresh(seed), select(self.variables, kept))
        return dataclasses.replace(ready, variables=variables)

    def fresh(self, seed: int) -> dict[str, Any]:
        """Untrained variables of the same shapes (`Chain.init`)."""
        size = self.preprocessing.size
        return self.chain.init(seed, (1, size, size, self.preprocessing.channels))

    def cut(self, layer: str) -> "Base":
        """The layers up to and with `layer`, without a head."""
        if self.architecture.cut:
            raise UserError(f"{self.name} is cut already, at {self.architecture.cut!r}")
        kept = select(self.variables, self.chain.cut(layer).names)
        architecture = dataclasses.replace(self.architecture, cut=layer)
        return dataclasses.replace(self, architecture=architecture, variables=kept)

    def with_channels(self, channels: int) -> "Base":
        """The base for images of another number of channels: 1 is grey, 4 RGB and infrared, say.

        The first convolution's kernel becomes its mean over RGB times 3 / `channels` for each
        channel (for grey: the sum), so that equal channels give what they gave before.
        """
        preprocessing = self.preprocessing.with_channels(channels)
        if channels == self.preprocessing.channels:
            return self

        params = flax.traverse_util.flatten_dict(self.variables["params"])
        first = next(path for path in params if path[-1] == "kernel")
        one = params[first].sum(2, keepdims=True) / channels
        params[first] = np.repeat(one, channels, axis=2)
        params = flax.traverse_util.unflatten_dict(params)
        variables = self.variables | {"params": params}
        return dataclasses.replace(self, preprocessing=preprocessing, variables=variables)

    def save(self, path: str | pathlib.Path) -> None:
        """Write all of it into one safetensors file, which `load_base(name, path)` reads."""
        model = export.Model(self.architecture, self.variables, self.preprocessing)
        export.save(pathlib.Path(path), model)

    def _checked(self, images) -> jax.Array:
        expects = f"{self.name} takes preprocessed images, float32 (N, H, W, C), channels last"
        images = images if isinstance(images, jax.Array) else np.asarray(images)
        channels = self.preprocessing.channels
        if images.ndim != 4 or images.shape[-1] != channels:
            raise UserError(f"{expects} and {channels} of them; got an array {images.shape}")
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise UserError(f"{expects}; got {images.dtype}: base.preprocessing takes pixels")
        if min(images.shape[1:3]) < self.preprocessing.size:
            self._require_room((1, *images.shape[1:]))
        if not isinstance(images, jax.core.Tracer):
            _require_range(np.asarray(images), self.preprocessing.range, expects)
        return jnp.asarray(images)

    def _require_room(self, shape: tuple[int, ...]) -> None:
        """UserError, with the least size that would do, if images of `shape` are too small."""
        try:
            self.chain.shapes(shape)
        except UserError as error:
            least = _least_size(self.chain, shape[-1])
            raise UserError(f"{error}; {self.name} needs {least} x {least} at least") from None


def load_base(name: str, weights: str | pathlib.Path | None = None) -> Base:
    """The architecture `name` (`tl_jax.models.names()`) with `weights`:

    * a file: `.pth`, `.pt` or `.bin` (PyTorch), `.safetensors`, `.h5` (Keras), or what `Base.save`
      or a finished run wrote; the names inside tell whose it is;
    * `torchvision:IMAGENET1K_V1`, `keras:imagenet`, `timm:<tag>`: fetched once;
    * `pip:efficientnet-lite0`: a file that an installed package carries;
    * `random:<seed>`; None is `random:0`.

    Every array in the file and every parameter of the architecture must match, or a UserError lists
    both sides; only the number of classes is the file's own.
    """
    name = models.canonical(name)
    weights = "random:0" if weights is None else str(weights)
    if weights.startswith("random:"):
        return _random(name, weights)
    source = sources.resolve(name, weights)
    if files.is_export(source.path):
        return _exported(name, weights, source.path)
    state = files.read(source.path)
    try:
        base = from_state_dict(name, state, form=source.form, preprocessing=source.preprocessing)
    except UserError as error:
        raise UserError(f"{source.path}: {error}") from None
    return dataclasses.replace(base, weights=weights)


def from_state_dict(
    name: str,
    state: Mapping[str, np.ndarray],
    *,
    form: str | None = None,
    preprocessing: Preprocessing | None = None,
) -> Base:
    """The architecture `name` with arrays by the names that PyTorch's or Keras's nets have.

    The names tell the form, and the form the preprocessing, where they are not given.
    """
    name = models.canonical(name)
    form, found = recognised(name, state, form)
    architecture = Architecture(name, form, _classes(found))
    preprocessing = preprocessing or models.family(name).preprocessing(name, form)
    shape = (1, preprocessing.size, preprocessing.size, preprocessing.channels)
    variables = convert.fill(found, architecture.chain().shapes(shape)[0])
    return Base(architecture, "a state dict", variables, preprocessing)


def _random(name: str, weights: str) -> Base:
    seed = weights.removeprefix("random:")
    if not seed.isdecimal():
        raise UserError(f"weights {weights!r}: random: is followed by a seed, as in random:0")
    family = models.family(name)
    architecture = Architecture(name, family.forms(name)[0])
    base = Base(architecture, weights, {}, family.preprocessing(name, architecture.form))
    return dataclasses.replace(base, variables=base.fresh(int(seed)))


def _exported(name: str, weights: str, path: pathlib.Path) -> Base:
    model = export.load(path)
    if model.architecture.name != name:
        raise UserError(f"{path} is a {model.architecture.name}, not a {name}")
    return Base(model.architecture, weights, model.variables, model.preprocessing)


def recognised(
    name: str, state: Mapping[str, np.ndarray], form: str | None = None
) -> tuple[str, convert.Found]:
    """The form of the architecture whose names the arrays have the most of, and their places.

    A `form` that is known by other means is not questioned.
    """
    family, state = models.family(name), keras_file.renumbered(state)
    forms = [form] if form else family.forms(name)
    found = {f: convert.find(state, family.rules(name, f), keras=f == "keras") for f in forms}
    best = max(forms, key=lambda f: len(found[f].arrays))  # the first of equals
    return best, found[best]


def _classes(found: convert.Found) -> int:
    head = found.arrays.get(convert.HEAD)
    return head.shape[-1] if head is not None and head.ndim == 2 else 1000


def _require_range(images: np.ndarray, declared: tuple[float, float], expects: str) -> None:
    """UserError if the values cannot be images normalised to the declared range.

    Some values beyond it are let pass (noise, augmented colours), but not most of them.
    """
    low, high = declared
    if not np.isfinite(images).all():
        raise UserError(f"{expects}, and finite; got NaN or infinity")
    if images.size and ((images < low) | (images > high)).mean() > 0.5:
        raise UserError(
            f"{expects}, with values from {low:.4g} to {high:.4g}; got {images.min():.4g} to "
            f"{images.max():.4g}: base.preprocessing takes pixels"
        )


def _least_size(chain: Chain, channels: int) -> int:
    """The side of the smallest square input that every layer has room for."""
    below, enough = 0, 1
    while not _has_room(chain, enough, channels):
        below, enough = enough, 2 * enough
    while enough - below > 1:
        middle = (below + enough) // 2
        below, enough = (below, middle) if _has_room(chain, middle, channels) else (middle, enough)
    return enough


def _has_room(chain: Chain, size: int, channels: int) -> bool:
    try:
        chain.shapes((1, size, size, channels))
    except UserError:
        return False
    return True
