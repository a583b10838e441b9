"""Tasks from datasets that TensorFlow Datasets has prepared on disk, read without TensorFlow."""

import difflib
import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from tl_jax.data import duplicates
from tl_jax.data.images import fingerprint, open_colours
from tl_jax.data.splits import divide
from tl_jax.data.task import SPLITS, Task
from tl_jax.data.tasks.arrays import unweighted
from tl_jax.data.tasks.derived import LABELS
from tl_jax.errors import UserError, takes, takes_whole, unknown

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
    text: str = "",
    label: str = "label",
    splits: Mapping[str, str] | None = None,
    names: Sequence[str] = (),
    white: int = 255,
) -> Task:
    """A TFDS dataset, `name[/config][:version]`, with its own splits train, validation and test.

    `splits` says others, such as {"train": "train[:800]", "val": "train[90%:]", "test": "test"}.
    `val` and `test` are taken out of train where there are none; without train they stay empty.
    `image` and `label` are the features to use, or `text`, if it is given, for a task of texts;
    `label` may also be one of `derived.LABELS`. `names` replace the classes' own, in their order;
    `white` is the largest pixel value. Only what is prepared in `data_dir` as array_record or
    parquet is read; nothing is downloaded (`prepare` does that). Labels and hashes cost one pass
    over the files, in which no image is decoded.
    """
    takes_whole(white, "white=", 1, 255)
    builder = _builder(name, data_dir)
    content = text or image
    _check(name, builder, content=content, kind="Text" if text else "Image", label=label)
    sources, rows, labels, digests = _examples(
        name, builder, _chosen(name, builder, splits), content=content, label=label
    )
    ids = tuple(f"{split}/{row}" for split, row in rows)
    classes = _classes(name, builder, label, names)
    given = _given(sources, rows, per_class)
    options = {"seed": seed, "val": val, "test": test, "per_class": per_class}
    mark = b"" if white == 255 else bytes([white])  # as other pixels, caches keep them apart

    divided = divide(given, np.array(classes)[labels], **options)
    noun = "texts" if text else "images"
    duplicates.warn(f"TFDS dataset {name!r}", digests, divided, noun=noun)

    def open_row(index: int) -> PIL.Image.Image:
        split, row = rows[index]
        file = io.BytesIO(sources[split][row][image])
        file.name = f"{name} {ids[index]}"
        opened = open_colours(file)
        return opened if white == 255 else opened.point(lambda value: value * 255 // white)

    return Task(
        name=name,
        classes=classes,
        ids=ids,
        open=None if text else open_row,
        texts=tuple(_texts(sources, rows, text)) if text else (),
        truth=unweighted(labels, len(classes)),
        splits=divided,
        fingerprint=fingerprint(ids, [digest + mark for digest in digests]),
    )


def _given(sources: dict, rows: list, per_class: int) -> dict[str, np.ndarray]:
    split_of = np.array([split for split, _ in rows])
    given = {split: np.flatnonzero(split_of == split) for split in sources}
    if "train" in given:
        return given
    takes(not per_class, "per_class=", "0 where there is no train split", per_class)
    return {split: given.get(split, np.array([], np.int64)) for split in SPLITS}


def _texts(sources: dict, rows: list, text: str) -> Iterator[str]:
    for split, row in rows:
        yield sources[split][row][text].decode(errors="replace")


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
        raise not_prepared(
            name, folder, tfds.list_builders(with_community_datasets=False)
        ) from error
    except Exception as error:  # a name that does not parse, damaged metadata, two data_dirs
        reason = str(error).splitlines()[0]
        raise UserError(f"TFDS dataset {name!r} cannot be read: {reason}") from error


def _needs(error: ModuleNotFoundError) -> UserError:
    return UserError(f"a TFDS task needs the package {error.name}: pip install {error.name}")


def not_prepared(name: str, folder: str, catalogue: list[str]) -> UserError:
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
        "prepare it where there is a network: with python -m experiments.prepare and the same "
        f"config, or from Python with tl_jax.data.tasks.prepared.prepare({name!r}, {folder!r})"
    )


def _check(name: str, builder, *, content: str, kind: str, label: str) -> None:
    import tensorflow_datasets as tfds

    info, of_label = builder.info, (label, tfds.features.ClassLabel)
    if label in LABELS:
        of_label = LABELS[label].feature, tfds.features.FeatureConnector
    for key, wanted in ((content, getattr(tfds.features, kind)), of_label):
        if key not in info.features:
            raise unknown(f"feature of TFDS dataset {name!r}", key, [*info.features, *LABELS])
        if not isinstance(info.features[key], wanted):
            raise UserError(f"feature {key!r} of TFDS dataset {name!r} is no {wanted.__name__}")
    if info.file_format.value not in ("array_record", "parquet"):
        raise UserError(
            f"TFDS dataset {name!r} is prepared as {info.file_format.value}, which only TensorFlow "
            "reads; prepare it with file_format='array_record' in another data_dir"
        )


def _chosen(name: str, builder, splits: Mapping[str, str] | None) -> dict[str, str]:
    """The dataset's split for each of ours; UserError for one that there is not."""
    own = builder.info.splits
    if splits is None:
        if "train" not in own:
            raise UserError(
                f"TFDS dataset {name!r} has no train split: {', '.join(own)}; to judge a run on "
                "it, say splits={'test': ...}"
            )
        return {SPLIT_NAMES[split]: split for split in own if split in SPLIT_NAMES}
    takes(bool(splits), "splits=", "one or more of train, val and test", splits)
    for split, expression in splits.items():
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        try:
            own[expression]  # TFDS parses it here
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"splits.{split}={expression!r} is no split of TFDS dataset {name!r}: {reason}"
            ) from error
    return dict(splits)


def _sources(builder, chosen: Mapping[str, str]) -> dict:
    """The splits by our names, as random-access sources of examples with encoded images."""
    import tensorflow_datasets as tfds

    encoded = {
        key: tfds.decode.SkipDecoding()
        for key, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.Image)
    }
    return {
        split: builder.as_data_source(expression, decoders=encoded)
        for split, expression in chosen.items()
    }


def _classes(name: str, builder, label: str, names: Sequence[str]) -> tuple[str, ...]:
    own = LABELS[label].classes if label in LABELS else builder.info.features[label].names
    if names and len(names) != len(own):
        raise UserError(f"TFDS dataset {name!r} has {len(own)} classes; got {len(names)} names=")
    return tuple(names or own)


def _examples(
    name: str, builder, chosen: Mapping[str, str], *, content: str, label: str
) -> tuple[dict, list, list, list]:
    """The sources, and `_read` them; UserError for damaged files and for examples unlabelled."""
    try:
        sources = _sources(builder, chosen)
        promised = sum(builder.info.splits[split].num_examples for split in chosen.values())
        rows, labels, digests = _read(sources, promised, content=content, label=label)
    except Exception as error:  # each format's reader has its own for missing and damaged files
        raise UserError(
            f"TFDS dataset {name!r} is damaged ({str(error).splitlines()[0]}); prepare it again"
        ) from error
    unlabelled = {split for (split, _), value in zip(rows, labels, strict=True) if value < 0}
    if unlabelled:
        raise UserError(f"TFDS dataset {name!r} has examples without a label: {unlabelled}")
    return sources, rows, labels, digests


def _read(sources: dict, promised: int, *, content: str, label: str) -> tuple[list, list, list]:
    """The (split, row), the label and the hash of every example, of which there are `promised`."""
    derived = LABELS.get(label)
    feature = derived.feature if derived else label
    rows, labels, digests = [], [], []
    for split, source in sources.items():
        for start in range(0, len(source), READ_AT_ONCE):
            chunk = range(start, min(start + READ_AT_ONCE, len(source)))
            for row, example in zip(chunk, source.__getitems__(list(chunk)), strict=True):
                if any(example[key] is None for key in (content, feature)):  # a block's boundary
                    raise ValueError(f"record {row} of {split} is empty")
                rows.append((split, row))
                labels.append(derived.number(example[feature]) if derived else example[label])
                digests.append(hashlib.sha256(example[content]).digest())
    # TFDS 4.9.10 writes but a part of any parquet file of more than 100 examples.
    if len(rows) != promised:
        raise ValueError(f"it holds {len(rows)} of {promised} examples")
    return rows, labels, digests
