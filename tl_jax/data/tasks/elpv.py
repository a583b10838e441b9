"""ELPV: 2,624 solar cells in electroluminescence images, each rated for defects.

Buerhop-Lutz et al., "A Benchmark for Visual Identification of Defective Solar Cells in
Electroluminescence Imagery", EU PVSEC 2018; Deitsch et al., "Automatic classification of defective
photovoltaic module cells in electroluminescence images", Solar Energy 185 (2019) 455-468,
arXiv:1807.02894. The images (CC BY-NC-SA) come in the PyPI package elpv-dataset.
"""

import importlib.util
from pathlib import Path

import numpy as np

from tl_jax.data import duplicates
from tl_jax.data.images import digest, fingerprint, open_image
from tl_jax.data.splits import divide
from tl_jax.data.task import Task
from tl_jax.data.tasks.arrays import unweighted
from tl_jax.data.truths import one_hot
from tl_jax.errors import UserError, unknown

SOURCE = "Deitsch et al. 2019, Solar Energy 185, 455-468, arXiv:1807.02894"
# In percent, of a test set of a quarter, stratified as here but by the authors' own draw. They are
# weighted accuracies: 88.4228 % is 527/596, and no count of 656 test cells gives that.
PUBLISHED = (
    {"what": "SVM", "metric": "weighted_accuracy", "figure": 82.44, "source": SOURCE},
    {
        "what": "VGG19, fine-tuned",
        "metric": "weighted_accuracy",
        "figure": 88.42,
        "source": SOURCE,
    },
)


def elpv(
    *,
    seed: int,
    val: float = 0.1,
    test: float = 0.25,
    per_class: int = 0,
    targets: str = "graded",
    cells: str = "",
) -> Task:
    """Functional (0) or defective (1), from the raters' probability p of 0, 1/3, 2/3 or 1.

    `labels` are p > 1/2, and a budget counts by them. `graded_labels` are p > 0 with a doubtful
    cell's p for weight (Deitsch et al.: both are defective, with 33 % and 67 %). What is trained on
    is either of these, as `targets` says: 'graded', 'plain' (the labels), or 'soft' (p itself).
    Splits are stratified by p and by the cell's type, mono- or polycrystalline; `cells` keeps those
    of one type, 'mono' or 'poly'. Further truths: that type, `cell`, and `confidence`, whether the
    raters were sure (p is 0 or 1).
    """
    root, ids, p, types = _cells()
    if cells:
        if cells not in types:
            raise unknown("cells of ELPV", cells, types)
        kept = [row for row, kind in enumerate(types) if kind == cells]
        ids, p, types = tuple(ids[row] for row in kept), p[kept], (cells,) * len(kept)
    doubtful = (p > 0) & (p < 1)
    fields = unweighted(p > 0.5, 2)
    graded = unweighted(p > 0, 2)
    weights = np.where(doubtful, p, 1).astype(np.float32)
    trained_on = {
        "graded": {"targets": graded["targets"], "weights": weights},
        "soft": {"targets": np.stack([1 - p, p], axis=1).astype(np.float32)},
        "plain": {},
    }
    if targets not in trained_on:
        raise unknown("targets of ELPV", targets, trained_on)
    fields |= {"graded_labels": graded["labels"], "graded_weights": weights, **trained_on[targets]}
    classes = ("functional", "defective")
    names = np.array(classes)[fields["labels"]]
    strata = np.array([f"p = {x:.2f}, {kind}" for x, kind in zip(p, types, strict=True)])
    options = {"seed": seed, "val": val, "test": test, "per_class": per_class}
    splits = divide({"train": np.arange(len(ids))}, names, strata=strata, **options)
    digests = [digest(root / name) for name in ids]
    duplicates.warn("elpv", digests, splits)
    return Task(
        name="elpv",
        classes=classes,
        ids=ids,
        open=lambda index: open_image(root / ids[index]),
        truth=fields,
        splits=splits,
        fingerprint=fingerprint(ids, digests),
        channels=1,
        further={
            "cell": one_hot(np.array(types) == "poly", ("mono", "poly")),
            "confidence": one_hot(doubtful, ("sure", "doubtful")),
        },
        published=PUBLISHED,
    )


def _cells() -> tuple[Path, tuple[str, ...], np.ndarray, tuple[str, ...]]:
    """The package's folder of data; then of each cell its file, p, and type."""
    package = importlib.util.find_spec("elpv_dataset")
    if package is None or not package.submodule_search_locations:
        raise UserError("the task 'elpv' needs the package elpv-dataset: pip install tl_jax[elpv]")
    root = Path(package.submodule_search_locations[0]) / "data"
    try:
        rows = [line.split() for line in (root / "labels.csv").read_text().splitlines()]
        ids, p, types = zip(*((name, float(p), kind) for name, p, kind in rows), strict=True)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{str(root / 'labels.csv')!r} is missing or damaged ({error}); install it again: "
            "pip install --force-reinstall elpv-dataset"
        ) from error
    return root, ids, np.array(p), types
