"""A base: a network with its weights and the preprocessing they were trained with."""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import flax.errors
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import ops
from tl_jax.base import captions, file, growth
from tl_jax.base import names as library_names
from tl_jax.base.architecture import MAX_CLASSES, Architecture
from tl_jax.base.detect import found_in
from tl_jax.chain import answers
from tl_jax.chain.network import Example, Network
from tl_jax.chain.programs import forward, forward_program
from tl_jax.chain.variables import merged, redrawn, select
from tl_jax.data import tiles, views
from tl_jax.data.boxes.found import Found
from tl_jax.data.expects import Expected
from tl_jax.data.files import path_of
from tl_jax.data.preprocessing import MAX_CHANNELS, MAX_SIZE, Preprocessing
from tl_jax.data.texts import lengths
from tl_jax.data.texts.preprocessing import TextPreprocessing
from tl_jax.errors import UserError, takes, takes_whole, unknown

if TYPE_CHECKING:
    from tl_jax.base.captions import Caption
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
    preprocessing: Expected
    classes: tuple[str, ...] = ()  # names, where they are known
    views: str = "none"  # over which its probabilities are averaged
    digest: str = ""  # the SHA-256 of the weight file, where one was read
    answers: str = "classes"  # what its outputs say (`tl_jax.chain.answers`)

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
    def of_images(self) -> Preprocessing:
        """The preprocessing; UserError for a base that reads texts."""
        if not isinstance(self.preprocessing, Preprocessing):
            raise UserError(f"{self.name} reads texts, and this is for bases that read images")
        return self.preprocessing

    @property
    def bottleneck(self) -> str:
        """The layer below the classifier, where one usually cuts; of a bare cut its last."""
        whole = not self.architecture.cut or self.architecture.head
        return self.layers[-2] if whole else self.layers[-1]

    @property
    def classifies(self) -> bool:
        """Whether it ends with a classifier; a bare cut does not, nor does a language model, nor
        what tells captions.
        """
        return self.layers[-1] == "head" and answers.make(self.answers).classifies

    def __call__(self, inputs, *, layer: str | None = None) -> jax.Array:
        """Logits (N, classes), or the output of `layer`, in inference mode.

        `inputs`: images, float32 (N, H, W, C), or tokens, int32 (N, T), preprocessed as the weights
        expect (`self.preprocessing` does that), of any size that the architecture admits. UserError
        for other shapes and types, and for values that were evidently not normalised so.
        """
        takes(layer is None or isinstance(layer, str), "layer=", "the name of a layer", layer)
        inputs = self._checked(inputs)
        try:
            return forward(self.chain, self.variables, inputs, stop=layer)
        except flax.errors.ScopeParamShapeError:
            raise self._misfit(inputs.shape) from None

    def features(self, inputs, *, layer: str | None = None) -> jax.Array:
        """The output of `layer` (default: the bottleneck), averaged over space or over the tokens
        of a text: (N, D).

        `inputs`: preprocessed images (N, H, W, C), or tokens (N, T).
        """
        return ops.mean_of_positions(self(inputs, layer=layer or self.bottleneck))

    def require_classes(self, classes: Sequence[str], what: str) -> None:
        """UserError, which `what` begins, unless it classifies by these classes, in this order, as
        far as it has names for its own.
        """
        if not self.classifies:
            raise UserError(f"{what}: this {self.name} ends at {self.layers[-1]!r}, without a head")
        if self.answers != "classes":
            kind = self.answers.split("(")[0]
            raise UserError(f"{what}: this {self.name} answers with {kind}, not with classes")
        count = self.architecture.classes
        if len(classes) != count or (self.classes and tuple(classes) != self.classes):
            own = ", ".join(self.classes) or f"{count} without names"
            raise UserError(
                f"{what}: this {self.name} has the classes {own:.60}, and the task "
                f"{', '.join(classes):.60}; they must be the same in the same order"
            )

    def predict(self, inputs) -> np.ndarray:
        """Class probabilities (N, C) of one image or text or several, whatever their size; or what
        else the base answers (`tl_jax.chain.answers`).

        Images as `preprocessing` takes them (PIL images, arrays), or paths of image files; texts as
        strings. The mean over the base's `views`, and over the tiles of an image where the base was
        trained on such (`Preprocessing.tile`); `classes` are the columns' names, where they are
        known. UserError for a base without a classifier, and for a file that cannot be read.
        """
        self.require_rows()
        if isinstance(self.preprocessing, Preprocessing) and self.preprocessing.tile:
            several = inputs if isinstance(inputs, list | tuple) else [inputs]
            return np.stack([self._mean_of_tiles(self.preprocessing, one) for one in several])
        return self._predicted(self.preprocessing.read(inputs))

    def require_rows(self) -> None:
        """UserError for a base without a classifier, and for a detector: `predict` gives a row for
        each input, of a fixed number of answers.
        """
        if answers.make(self.answers).asks == "boxes":
            raise UserError(f"this {self.name} finds boxes: take detect, or experiments.predict")
        if not self.classifies:
            raise UserError(f"this {self.name} ends at {self.layers[-1]!r}: it has no classifier")

    def detect(self, images) -> list[Found]:
        """The objects that a detector finds in one image or several, or files of these paths: see
        `tl_jax.base.detect.found_in`.
        """
        return found_in(self, images if isinstance(images, list | tuple) else [images])

    def _mean_of_tiles(self, expects: Preprocessing, image: Any) -> np.ndarray:
        """The mean probabilities (C,) of an image's tiles."""
        parts = tiles.cut(expects.opened(image), expects.tile)
        batches = iter(lambda: list(itertools.islice(parts, BATCH)), [])
        return np.concatenate([self._predicted(expects.fitted(b)) for b in batches]).mean(0)

    def _predicted(self, rows: np.ndarray) -> np.ndarray:
        """Probabilities (N, C) of what `preprocessing` has read (N, ...)."""
        forward = forward_program(self.chain, None, None).of(self.variables)
        numbers, parts = zip(*self._batches(rows), strict=True)
        found = np.concatenate([self._answers(forward, part) for part in parts])
        return found[np.argsort(np.concatenate(numbers))]

    def captions(
        self, images, *, beam: int | None = None, length: float | None = None
    ) -> list["Caption"]:
        """What a base that was trained on captions tells of one image or several: `text`, in lower
        case, and `log_p`, the logarithm of its probability.

        Images as `predict` takes them. `beam` captions are followed at a time, 1: the likeliest
        word each time; the best has the greatest log_p over the number of its words to the power
        `length`. None: as in training. UserError for a base that tells none.
        """
        given = {"beam": beam, "length": length}
        changes = {name: value for name, value in given.items() if value is not None}
        return captions.of_images(self, images, **changes)

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
        preprocessing = self.preprocessing.resized(size, crop)
        resized = dataclasses.replace(self, preprocessing=preprocessing)
        if size is not None:
            self._require_room(preprocessing.example)
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
        kept = self.chain.cut(cut).names
        architecture = dataclasses.replace(self.architecture.keeping(kept), **changes)
        plain = {"classes": (), "views": "none", "answers": "classes"}
        ready = dataclasses.replace(self, architecture=architecture, **plain)
        new = ready.chain.init(seed, ready.preprocessing.example, ready.layers[len(kept) :])
        return dataclasses.replace(ready, variables=merged(select(self.variables, kept), new))

    def fresh(self, seed: int) -> dict[str, Any]:
        """Untrained variables of the same shapes (`Network.init`)."""
        return self.chain.init(seed, self.preprocessing.example)

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
        kept = self.chain.cut(self._own(layer)).names
        architecture = dataclasses.replace(self.architecture.keeping(kept), cut=layer, head="")
        changes = {"architecture": architecture, "variables": select(self.variables, kept)}
        return dataclasses.replace(self, **changes, classes=(), views="none", answers="classes")

    def widened(
        self, place: str, factor: float = 1.5, *, noise: float = 0.01, seed: int = 0
    ) -> "Base":
        """The base with `factor` times as many channels at a layer, or a part of it, as in
        `stage1_block1/conv1`: see `tl_jax.base.growth.widened`. It computes what it did, but for
        the noise.
        """
        return growth.widened(self, place, factor, noise=noise, seed=seed).base

    def deepened(self, layer: str, examples: Any = None) -> "Base":
        """The base with one more layer like `layer` on top of it, which returns what it reads: see
        `tl_jax.base.growth.deepened`.
        """
        return growth.deepened(self, layer, examples)

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
        if preprocessing == self.preprocessing:
            return self
        params: dict[Any, Any] = flax.traverse_util.flatten_dict(self.variables["params"])
        first = next(path for path in params if path[-1] == "kernel")
        one = params[first].sum(2, keepdims=True) / channels
        params[first] = np.repeat(one, channels, axis=2)
        variables = self.variables | {"params": flax.traverse_util.unflatten_dict(params)}
        return dataclasses.replace(self, preprocessing=preprocessing, variables=variables)

    def save(
        self, path: str | pathlib.Path, *, names: str | pathlib.Path | None = None
    ) -> None:
        """Write all of it into one safetensors file, which `load_base(path)` reads.

        Or, with `names`, the weights as a state dict of another library's: under the names and in
        the layout of a weight file of this architecture, see `tl_jax.base.names`.
        """
        if names is not None:
            return file.put(path_of(path), *library_names.written(self, names))
        content = self.architecture, self.variables, self.preprocessing, self.classes, self.views
        file.save(path_of(path), file.Model(*content, self.answers))

    def _batches(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield what `preprocessing` has read in batches, with the rows' numbers."""
        if isinstance(self.preprocessing, TextPreprocessing):
            yield from lengths.batches(rows, pad=self.preprocessing.pad, size=BATCH)
            return
        for first in range(0, len(rows), BATCH):
            part = rows[first : first + BATCH]
            yield first + np.arange(len(part)), part

    def _answers(self, forward: Callable, rows: np.ndarray) -> np.ndarray:
        """The answers (n, C) to what `preprocessing` has read (n, ...), the mean over the views.

        Padded to `BATCH`, so that one program serves any number of them.
        """
        padded = np.concatenate([rows, np.repeat(rows[:1], BATCH - len(rows), 0)])
        seen = (views.view(padded, number) for number in views.numbers(self.views))
        logits = [forward(self.preprocessing.normalise(view)) for view in seen]
        said = answers.make(self.answers)
        return np.mean([said(x) for x in logits], 0)[: len(rows)]

    def _checked(self, inputs) -> jax.Array:
        inputs = inputs if isinstance(inputs, jax.Array) else np.asarray(inputs)
        self.preprocessing.require(self.name, inputs)
        if min(inputs.shape[1:3]) < self.preprocessing.size:
            self._require_room(jax.ShapeDtypeStruct((1, *inputs.shape[1:]), inputs.dtype))
        return jnp.asarray(inputs)

    def _require_fit(self) -> None:
        """UserError if a head that flattens maps was made for images of another size."""
        example = self.preprocessing.example
        try:
            jax.eval_shape(lambda v, x: self.chain.apply(v, x).output, self.variables, example)
        except flax.errors.ScopeParamShapeError:
            raise self._misfit(example.shape) from None

    def _misfit(self, shape: tuple[int, ...]) -> UserError:
        return UserError(
            f"the head {self.architecture.head!r} was made for inputs of another size than "
            f"{shape[1]} x {shape[2]}: set the size before the head is put on"
        )

    def _require_room(self, example: jax.ShapeDtypeStruct) -> None:
        """UserError, with the least size that would do, if images of this shape are too small."""
        if complaint := _want_of_room(self.chain, example):
            if len(example.shape) != 4:
                raise UserError(complaint)
            least = _least_size(self.chain, example.shape[-1])
            raise UserError(f"{complaint}; {self.name} needs {least} x {least} at least")


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
def _want_of_room(chain: Network, example: Example) -> str | None:
    """What is said of such inputs if there is no room for them; None if there is."""
    try:
        chain.shapes(example)
    except UserError as error:
        return str(error)
    return None
