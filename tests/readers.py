"""Every reader of a file from outside, each with small whole files of its kind.

`tests/fuzz.py` changes those files; `tests/test_outside.py` reads again whatever it once found.
"""

import functools
import gzip
import json
import shutil
import struct
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import keras_files
import numpy as np
import safetensors.numpy
import test_torch_file as torch
import whole_files as whole
from whole_files import W

from tl_jax.base import file, recognise, sources, tokenizer
from tl_jax.data import images, packaged, tables
from tl_jax.data.boxes import coco, voc
from tl_jax.data.tasks import fashion, plain
from tl_jax.data.texts.preprocessing import TextPreprocessing
from tl_jax.engine import store
from tl_jax.errors import UserError
from tl_jax.runs import folder, several
from tl_jax.runs.journal import Journal
from tl_jax.serving import server
from tl_jax.studies.compare import study as compare
from tl_jax.vectors import judge, learn
from tl_jax.weights import files, safetensors_file, vectors_file

SLOW = 5.0  # seconds of the processor's time, for files of some kilobytes


class Reader(NamedTuple):
    """Functions that read a file of this name, each of which returns or raises UserError."""

    name: str
    read: tuple[Callable[[Path], object], ...]
    whole: Callable[[], Iterable[bytes]]  # files to begin with, as they are before `packed`
    packed: Callable[[bytes], bytes] = bytes  # what a fuzzer changes lies in a container


def complaint(reader: Reader, content: bytes, scratch: Path) -> str:
    """What goes wrong as the file is read; empty if it is read, or refused in a line.

    `scratch` is emptied afterwards.
    """
    wrong, path = "", scratch / reader.name
    for read in reader.read:
        path.write_bytes(reader.packed(content))
        begun = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                read(path)
        except UserError as error:
            wrong = wrong or ("a refusal of several lines" if "\n" in str(error) else "")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            wrong = wrong or f"{type(error).__name__} in {last.name}: {str(error)[:60]!r}"
        if (took := time.process_time() - begun) > SLOW:
            wrong = wrong or f"{took:.1f} s"
        for left in scratch.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    return wrong


def _torch(path: Path) -> object:
    return recognise.recognised("resnet18", files.read(path))


def _shards(path: Path) -> object:
    safetensors.numpy.save_file({"w": W}, path.with_name("a.safetensors"))
    return files.read(path), files.digest(path)


def _all_rows(path: Path) -> object:
    with tables.opened(path) as opened:
        return list(tables.rows(opened, path.name))


def _cells(path: Path) -> object:
    return list(tables.cells(path, {"text": "text", "labels.1": "label"}, joined=";"))


def _tokenized(path: Path, *, rules: str = "", pad: int = 0) -> object:
    """The tokenizer that lies beside weights, and a text with it."""
    usual = TextPreprocessing("", 8, pad, rules)
    found = tokenizer.beside(path.with_name("model.safetensors"), usual)
    return found.tokenizer and (found(["a word, Ａ \ue000"]), found.words(), found.spans("a b"))


_of_fastai = functools.partial(_tokenized, rules="fastai", pad=1)


def _words_kept(path: Path) -> object:
    return learn._kept(path.parent, {"table": W})


def _vectors(path: Path) -> object:
    found = vectors_file.read(path)
    return judge.Space(found).neighbours(found.words[0], 2)


def _space() -> judge.Space:
    rows = np.arange(8, dtype="f4").reshape(4, 2)
    return judge.Space(vectors_file.Vectors(tuple("abcd"), rows))


def _unpack(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        outside = {p.name for p in path.parent.iterdir()}
        (inside := Path(scratch) / "inside").mkdir()
        try:
            packaged.unpack(path, inside)
        finally:
            assert {p.name for p in path.parent.iterdir()} == outside, "it wrote outside"
            assert [p.name for p in Path(scratch).iterdir()] == ["inside"], "it wrote outside"


# A run's own files, which a crash or a person may have changed


def _claim(path: Path) -> object:
    with folder.claimed(path.parent, {"seed": 0, "task": {"name": "a"}}) as result:
        return result


def _task_of(path: Path) -> object:
    return several.task_of(path.parent)


def _compare(path: Path) -> object:
    return compare.compute([path.parent])


def _journal(path: Path) -> object:
    journal = Journal(path)
    journal.add({"accuracy": 0.5}, layer="a", seed=0)
    return Journal(path).rows()


def _rows(path: Path) -> object:
    (path.parent / "data").write_bytes(bytes(range(70)))
    kept = store.Store(path.parent, (70, 1), np.uint8, "rows")
    found = store.build(kept, lambda first, last: np.arange(first, last)[:, None])
    assert found[:, 0].tolist() == list(range(70))
    return found


READERS = {
    "torch": Reader("a.pth", (_torch,), lambda: [
        whole.written(lambda path: torch.archive(path, torch.STATE)),
        whole.written(lambda path: torch.legacy(path, torch.STATE)),
    ]),
    "torch_pickle": Reader("a.pth", (files.read,), whole.pickles, whole.in_archive),
    "safetensors": Reader("a", (files.read, file.load, file.header), lambda: [
        safetensors.numpy.save({"w": W}), safetensors.numpy.save({"a": W[0], "b": W > 2})
    ]),
    "safetensors_header": Reader(
        "a", (files.read, file.load, safetensors_file.metadata), whole.headers, whole.behind_length
    ),
    "model_file": Reader("a", (file.load, file.header), whole.descriptions, whole.in_export),
    "keras": Reader("a.h5", (files.read,), lambda: [
        whole.written(keras_files.plain_legacy), whole.written(keras_files.plain_numbered)
    ]),
    "index": Reader("a.index.json", (_shards,), lambda: [
        json.dumps({"metadata": {}, "weight_map": {"w": "a.safetensors"}}).encode()
    ]),
    "timm_config": Reader("config.json", (sources._preprocessing,), lambda: [
        json.dumps({"pretrained_cfg": {
            "input_size": [3, 224, 224], "crop_pct": 0.9, "interpolation": "bicubic",
            "mean": [0.5, 0.5, 0.4], "std": [0.5, 0.5, 0.5], "crop_mode": "center",
        }}).encode()
    ]),
    "image": Reader(
        "a.png", (images.read_image, images.file_kind, images.size_at, images.open_colours),
        whole.pictures,
    ),
    "array_header": Reader("a.npy", (images.read_image, images.size_at), lambda: [
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (4, 4, 5), }\n",
        b"{'descr': '<u2', 'fortran_order': True, 'shape': (4, 4), }\n",
    ], whole.before_array),
    "csv": Reader("a.csv", (_all_rows, _cells), lambda: [
        b'text,label\n"one, two",x\r\nthree,y\n', "\ufefftext,label\né,x\n".encode()
    ]),
    "tsv": Reader("a.tsv", (_all_rows, _cells), lambda: [b"text\tlabel\none\tx\n"]),
    "json_lines": Reader("a.jsonl", (_all_rows, _cells), lambda: [
        b'{"text": "one", "label": ["x", "y"]}\n\n{"text": "two", "label": null}\n'
    ]),
    "parquet": Reader("a.parquet", (_all_rows, _cells), whole.parquet),
    "text": Reader("a.txt", (
        _all_rows, lambda path: plain.plain(path, seed=0),
    ), lambda: [b"one\n\ntwo\n\nthree\n"]),
    "tokenizer": Reader("tokenizer.json", (_tokenized,), whole.tokenizers),
    "vocabulary": Reader("vocab.txt", (_tokenized,), whole.vocabulary),
    "sentencepiece": Reader("a.model", (_tokenized,), lambda: (
        whole.pieces("<pad>", "<unk>")
    )),
    "fastai_words": Reader("itos.pkl", (_of_fastai,), whole.pickled_words),
    "fastai_pieces": Reader("a.model", (_of_fastai,), lambda: (
        whole.pieces("<unk>", "\u2581xxpad", "\u2581xxbos")
    )),
    "vectors": Reader("a.vec", (_vectors,), lambda: [b"2 2\na 1 2\nb 3 4\n", b"a 1 2\nb 3 4e1\n"]),
    "vectors_binary": Reader("a.bin", (_vectors,), lambda: [
        b"2 2\na " + struct.pack("<2f", 1, 2) + b"\nb " + struct.pack("<2f", 3, 4)
    ]),
    "vectors_json": Reader("a.json", (_vectors,), whole.wink),
    "pairs": Reader("a.txt", (lambda path: judge.similarity(_space(), path),), lambda: [
        b"# two words, a score\na b 1\na c 2\nb d 3\nc d 4\n", b"a,b,1\na,c,2\nb,d,3.5\n"
    ]),
    "analogies": Reader("a.txt", (lambda path: judge.analogies(_space(), path),), lambda: [
        b": one\na b c d\nb a d c\n: gram2\na d b c\n"
    ]),
    "idx": Reader("a.gz", (lambda path: fashion._idx(path, ()),), lambda: [
        struct.pack(">2I", 0x0801, 3) + b"\0\1\2"
    ], lambda content: gzip.compress(content, 1, mtime=0)),
    "idx_packed": Reader("a.gz", (lambda path: fashion._idx(path, ()),), lambda: [
        gzip.compress(struct.pack(">2I", 0x0801, 3) + b"\0\1\2", mtime=0)
    ]),
    "archive": Reader("a.zip", (_unpack,), whole.archives),
    "coco": Reader("a.json", (
        lambda path: coco.read({"": path}, "place", str(path.parent)),
    ), lambda: [
        json.dumps({
            "images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 8, "place": "x"}],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3.5, 4], "area": 14,
                 "iscrowd": 0}
            ],
        }).encode()
    ]),
    "voc": Reader("a.xml", (lambda path: voc.read(path.parent),), lambda: [
        b"<annotation><folder>x</folder><filename>a.jpg</filename><size><width>8</width>"
        b"<height>8</height></size><object><name>cat</name><difficult>0</difficult><bndbox>"
        b"<xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>"
    ]),
    "request": Reader("body", (lambda path: server._text(path.read_bytes()),), lambda: [
        b'{"text": "a word"}'
    ]),
    "config": Reader("config.json", (_claim, _task_of), lambda: [
        b'{"seed": 0, "task": {"name": "digits"}}'
    ]),
    "result": Reader("result.json", (_claim, _compare, several._read), lambda: [
        b'{"seed": 0, "config": {"seed": 0}, "val": {"accuracy": 1.0}, "test": {"accuracy": 0.5}}'
    ]),
    "journal": Reader("cells.jsonl", (_journal,), lambda: [
        b'{"key": {"layer": "a", "seed": 0}, "row": {"accuracy": 0.5}}\n'
    ]),
    "store": Reader("rows.jsonl", (_rows,), lambda: [
        b'{"first": 0, "last": 64, "sha256": "00"}\n{"first": 64, "last": 70, "sha256": "1"}\n'
    ]),
    "words_kept": Reader("words_step1.npz", (_words_kept,), lambda: [
        whole.written(lambda path: np.savez(path, losses=[0.5], table=W), "a.npz")
    ]),
}  # fmt: skip
