"""A base: a chain with its weights and the preprocessing they were trained with."""

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.errors
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import models
from tl_jax.base import file as export
from tl_jax.base import sources
from tl_jax.base.architecture import Architecture
from tl_jax.chain.network import Network
from tl_jax.chain.programs import forward
from tl_jax.chain.variables import merged, select
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.errors import UserError, unknown
from tl_jax.weights import convert, files, keras_file

logger = logging.getLogger(__name__)


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
        images = self._checked(images)
        try:
            return forward(self.chain, self.variables, images, stop=layer)
        except flax.errors.ScopeParamShapeError:
            raise self._misfit(images.shape) from None

    def features(self, images) -> jax.Array:
        """The bottleneck (N, D) of preprocessed images (N, H, W, C)."""
        found = self(images, layer=self.bottleneck)
        return found.mean((1, 2)) if found.ndim == 4 else found

    def resized(self, size: int | None = None, crop: float | None = None) -> "Base":
        """The base for inputs of another size or crop; the pixels' range stays the weights'."""
        changes = {k: v for k, v in (("size", size), ("crop", crop)) if v is not None}
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
        """Cut at the layer `cut` (default: the bottleneck), with a fresh head of `tl_jax.heads`.

        A head that the base was given before goes with what is above the cut.
        """
        cut = self._own(cut or self.architecture.cut or self.bottleneck)
        changes = {"classes": classes, "cut": cut, "head": head, "dropout": dropout}
        architecture = dataclasses.replace(self.architecture, **changes)
        ready = dataclasses.replace(self, architecture=architecture)
        kept = self.chain.cut(cut).names
        new = ready.chain.init(seed, ready.preprocessing.input_shape, ready.layers[len(kept) :])
        return dataclasses.replace(ready, variables=merged(select(self.variables, kept), new))

    def fresh(self, seed: int) -> dict[str, Any]:
        """Untrained variables of the same shapes (`Network.init`)."""
        return self.chain.init(seed, self.preprocessing.input_shape)

    def cut(self, layer: str) -> "Base":
        """The layers up to and with `layer`, without a head."""
        kept = select(self.variables, self.chain.cut(self._own(layer)).names)
        architecture = dataclasses.replace(self.architecture, cut=layer, head="")
        return dataclasses.replace(self, architecture=architecture, variables=kept)

    def _own(self, layer: str) -> str:
        """The layer, if it is the architecture's and not of a head that was put on top."""
        own = self.layers
        if self.architecture.head:
            own = own[: own.index(self.architecture.cut) + 1]
        if layer not in own:
            raise unknown("layer", layer, own)
        return layer

    def with_channels(self, channels: int) -> "Base":
        """The base for images of another number of channels: 1 is grey, 4 RGB and infrared, say.

        The first convolution's kernel becomes its mean over RGB times 3 / `channels` for each
        channel (for grey: the sum), so that equal normalised channels give what they gave before.
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
            jax.eval_shape(lambda x: self.chain.apply(self.variables, x).output, images)
        except flax.errors.ScopeParamShapeError:
            raise self._misfit(shape) from None

    def _misfit(self, shape: tuple[int, ...]) -> UserError:
        return UserError(
            f"the head {self.architecture.head!r} was made for inputs of another size than "
            f"{shape[1]} x {shape[2]}: call resized() before with_head()"
        )

    def _require_room(self, shape: tuple[int, ...]) -> None:
        """UserError, with the least size that would do, if images of `shape` are too small."""
        if complaint := _want_of_room(self.chain, shape):
            least = _least_size(self.chain, shape[-1])
            raise UserError(f"{complaint}; {self.name} needs {least} x {least} at least")


def load_base(
    name: str, weights: str | pathlib.Path | None = None, *, form: str | None = None
) -> Base:
    """The architecture `name` (`tl_jax.models.names()`) with `weights`:

    * a file: `.pth`, `.pt` or `.bin` (PyTorch), `.safetensors`, `.h5` (Keras), or what `Base.save`
      or a finished run wrote; the names inside tell whose it is;
    * `torchvision:IMAGENET1K_V1`, `keras:imagenet`, `timm:<tag>`: fetched once;
    * `pip:efficientnet-lite0`: a file that an installed package carries;
    * `random:<seed>`; None is `random:0`.

    Every array in the file and every parameter of the architecture must match, or a UserError lists
    both sides; only the number of classes is the file's own, and a file without a classifier gives
    a base that is cut below it. `form` says whose net it is where the names fit several.
    UserError, too, for weights that are not finite.
    """
    name = models.canonical(name)
    weights = "random:0" if weights is None else str(weights)
    if weights.startswith("random:"):
        return _random(name, weights)
    source = sources.resolve(name, weights)
    if files.is_export(source.path):
        base = _exported(name, weights, source.path)
    else:
        state = files.read(source.path)
        try:
            form = form or source.form
            base = from_state_dict(name, state, form=form, preprocessing=source.preprocessing)
        except UserError as error:
            raise UserError(f"{source.path}: {error}") from None
    _require_finite(source.path, base.variables)
    return dataclasses.replace(base, weights=weights)


def _require_finite(path: pathlib.Path, variables) -> None:
    """UserError that names an array with a NaN or infinity.

    Behind a convolution that takes its ReLU along they would not be seen: oneDNN makes 0 of a NaN.
    """
    for place, array in jax.tree_util.tree_leaves_with_path(variables):
        if not np.isfinite(array).all():
            name = "/".join(key.key for key in place)
            raise UserError(f"{path}: the weights {name} are not finite")


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
    expected, outputs = architecture.chain().shapes(preprocessing.input_shape)
    if cut := _cut_below_classifier(found, expected, outputs):
        architecture = dataclasses.replace(architecture, cut=cut)
        expected = select(expected, architecture.chain().names)
    variables = convert.fill(found, expected)
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
    family, state = models.family(name), keras_file.renumbered(convert.unwrapped(state))
    forms = [form] if form else family.forms(name)
    found = {f: convert.find(state, family.rules(name, f), keras=f == "keras") for f in forms}
    best = max(forms, key=lambda f: len(found[f].arrays))
    equal = [f for f in forms if found[f].arrays and found[f].names == found[best].names]
    if len(equal) > 1:
        logger.warning(
            "the names fit %s in the forms %s: taken for %s; say form= if it is another",
            name,
            " and ".join(equal),
            best,
        )
    return best, found[best]


def _cut_below_classifier(found: convert.Found, expected: Any, outputs: Any) -> str | None:
    """The layer at which the net of a file without a classifier ends; None if it has one."""
    there = {path.split("/")[1] for path in found.arrays}
    layers = list(outputs)
    missing = [n for n in layers if n in expected["params"] and n not in there]
    if not there or not missing:
        return None
    above = [n for n in layers[layers.index(missing[0]) :] if n in expected["params"]]
    if above != missing or outputs[missing[0]].ndim != 2:
        return None
    if found.surplus:
        raise UserError(
            f"all but the classifier is there, which has other names ({found.surplus[0]!r:.80}): "
            "remove it from the file to load the base without one"
        )
    cut = layers[layers.index(missing[0]) - 1]
    logger.warning("the weights have no %s: the base ends at %s", " and ".join(missing), cut)
    return cut


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
