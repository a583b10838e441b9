"""Tasks from datasets that TensorFlow Datasets has prepared on disk, read without TensorFlow."""

import difflib
import hashlib
import io
import os
import re
from pathlib import Path

import numpy as np
import PIL.Image

from tl_jax.data import duplicates
from tl_jax.data.images import fingerprint, open_image
from tl_jax.data.splits import divide
from tl_jax.data.task import Task
from tl_jax.data.tasks.arrays import unweighted
from tl_jax.errors import UserError, unknown

SPLIT_NAMES = {"train": "train", "validation": "val", "val": "val", "test": "test"}
READ_AT_ONCE = 256  # records; reading in bulk costs half of reading one by one


def from_tfds(
    name: str,
    *,
    seed: int,
    val: float = 0.1,
    test: float = 0.25,
    per_class: int = 0,
    data_dir: str | os.PathLike | None = None,
    image: str = "image",
    label: str = "label",
) -> Task:
    """A TFDS dataset, `name[/config][:version]`, with its own splits train, validation and test.

    `val` and `test` are taken out of train where the dataset has none. `image` and `label` are the
    features to use. Only what is prepared in `data_dir` as array_record or parquet is read; nothing
    is downloaded. Labels and hashes cost one pass over the files, in which no image is decoded.
    """
    builder = _builder(name, data_dir)
    _check(name, builder, image=image, label=label)
    try:
        sources = _sources(builder)
        rows, labels, digests = _read(builder, sources, image=image, label=label)
    except Exception as error:  # each format's reader has its own for missing and damaged files
        raise UserError(
            f"TFDS dataset {name!r} is damaged ({str(error).splitlines()[0]}); prepare it again"
        ) from error
    unlabelled = {split for (split, _), value in zip(rows, labels, strict=True) if value < 0}
    if unlabelled:
        raise UserError(f"TFDS dataset {name!r} has examples without a label: {unlabelled}")
    ids = tuple(f"{split}/{row}" for split, row in rows)
    classes = tuple(builder.info.features[label].names)
    split_of = np.array([split for split, _ in rows])
    given = {split: np.flatnonzero(split_of == split) for split in sources}
    options = {"seed": seed, "val": val, "test": test, "per_class": per_class}

    splits = divide(given, np.array(classes)[labels], **options)
    duplicates.warn(f"TFDS dataset {name!r}", digests, splits)

    def open_row(index: int) -> PIL.Image.Image:
        split, row = rows[index]
        file = io.BytesIO(sources[split][row][image])
        file.name = f"{name} {ids[index]}"
        return open_image(file)

    return Task(
        name=name,
        classes=classes,
        ids=ids,
        open=open_row,
        truth=unweighted(labels, len(classes)),
        splits=splits,
        fingerprint=fingerprint(ids, digests),
    )


def _builder(name: str, data_dir: str | os.PathLike | None):
    try:
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core import read_only_builder, registered

        folder = str(data_dir or tfds.core.constants.DATA_DIR)
    except ModuleNotFoundError as error:
        raise _needs(error) from error
    try:
        # Of all ways to a builder the one that reads files only: the others turn to the network.
        return read_only_builder.builder_from_files(name, data_dir=os.path.expanduser(folder))
    except ModuleNotFoundError as error:  # of the format's reader
        raise _needs(error) from error
    except registered.DatasetNotFoundError as error:
        raise _not_prepared(
            name, folder, tfds.list_builders(with_community_datasets=False)
        ) from error
    except Exception as error:  # a name that does not parse, damaged metadata, two data_dirs
        reason = str(error).splitlines()[0]
        raise UserError(f"TFDS dataset {name!r} cannot be read: {reason}") from error


def _needs(error: ModuleNotFoundError) -> UserError:
    return UserError(f"a TFDS task needs the package {error.name}: pip install {error.name}")


def _not_prepared(name: str, folder: str, catalogue: list[str]) -> UserError:
    stem = re.split("[/:]", name)[0]
    known = {*catalogue, *(p.name for p in Path(folder).expanduser().glob("[a-z]*/"))}
    if stem not in known and difflib.get_close_matches(stem, known):
        return unknown("TFDS dataset", stem, known)
    if stem not in known:
        return UserError(
            f"TFDS has no dataset {stem!r}, and none is prepared in {folder!r}; for the names see "
            "https://www.tensorflow.org/datasets/catalog/overview"
        )
    return UserError(
        f"TFDS dataset {name!r} is not prepared in {folder!r}; nothing is downloaded here, so "
        'prepare it where there is a network: python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', data_dir='{folder}', file_format='array_record')"
        '.download_and_prepare()"'
    )


def _check(name: str, builder, *, image: str, label: str) -> None:
    import tensorflow_datasets as tfds

    info = builder.info
    for key, kind in ((image, tfds.features.Image), (label, tfds.features.ClassLabel)):
        if key not in info.features:
            raise unknown(f"feature of TFDS dataset {name!r}", key, info.features)
        if not isinstance(info.features[key], kind):
            raise UserError(f"feature {key!r} of TFDS dataset {name!r} is no {kind.__name__}")
    if info.file_format.value not in ("array_record", "parquet"):
        raise UserError(
            f"TFDS dataset {name!r} is prepared as {info.file_format.value}, which only TensorFlow "
            "reads; prepare it with file_format='array_record' in another data_dir"
        )
    if "train" not in info.splits:
        raise UserError(f"TFDS dataset {name!r} has no train split: {', '.join(info.splits)}")


def _sources(builder) -> dict:
    """The splits by our names, as random-access sources of examples with encoded images."""
    import tensorflow_datasets as tfds

    encoded = {
        key: tfds.decode.SkipDecoding()
        for key, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.Image)
    }
    return {
        SPLIT_NAMES[split]: builder.as_data_source(split, decoders=encoded)
        for split in builder.info.splits
        if split in SPLIT_NAMES
    }


def _read(builder, sources: dict, *, image: str, label: str) -> tuple[list, list, list]:
    """The (split, row), the label and the hash of every example."""
    rows, labels, digests = [], [], []
    for split, source in sources.items():
        for start in range(0, len(source), READ_AT_ONCE):
            chunk = range(start, min(start + READ_AT_ONCE, len(source)))
            for row, example in zip(chunk, source.__getitems__(list(chunk)), strict=True):
                if example[image] is None or example[label] is None:  # cut at a block's boundary
                    raise ValueError(f"record {row} of {split} is empty")
                rows.append((split, row))
                labels.append(example[label])
                digests.append(hashlib.sha256(example[image]).digest())
    # TFDS 4.9.10 writes but a part of any parquet file of more than 100 examples.
    promised = sum(n.num_examples for s, n in builder.info.splits.items() if s in SPLIT_NAMES)
    if len(rows) != promised:
        raise ValueError(f"it holds {len(rows)} of {promised} examples")
    return rows, labels, digests
