"""Every reader of a file from outside, each with small whole files of its kind.

`tests/fuzz.py` changes those files; `tests/test_outside.py` reads again whatever it once found.
"""

import gzip
import io
import json
import shutil
import struct
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import keras_files
import numpy as np
import PIL.Image
import safetensors.numpy
import test_torch_file as torch

from tl_jax.base import file, recognise, sources, tokenizer
from tl_jax.data import bands, images, packaged, tables
from tl_jax.data.boxes import coco, voc
from tl_jax.data.preprocessing import imagenet
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

W = np.arange(6, dtype="<f4").reshape(2, 3)
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


def written(write: Callable[[Path], object], name: str = "a") -> bytes:
    """The bytes of the file that a function writes at a path."""
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch) / name)
        return (Path(scratch) / name).read_bytes()


# Weights


def _torch(path: Path) -> object:
    return recognise.recognised("resnet18", files.read(path))


def _pickled(body: bytes) -> bytes:
    """A PyTorch archive with this pickle, uncompressed as torch.save writes it."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("net/data.pkl", body)
        archive.writestr("net/data/0", bytes(24))
    return made.getvalue()


def _bodies() -> list[bytes]:
    parameter = torch.call(
        "torch._utils._rebuild_parameter", torch.WEIGHT, *map(torch.literal, (True, None))
    )
    beside = torch.ordered({"epoch": torch.literal(3), "net": torch.STATE, "w": parameter})
    return [b"\x80\x02" + body + b"." for body in (torch.STATE, beside)]


def _shards(path: Path) -> object:
    safetensors.numpy.save_file({"w": W}, path.with_name("a.safetensors"))
    return files.read(path), files.digest(path)


def _long_header(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text + bytes(28)


def _entries() -> list[bytes]:
    one = {"dtype": "F32", "shape": [2, 3], "data_offsets": [4, 28]}
    two = {"dtype": "I32", "shape": [1], "data_offsets": [0, 4]}
    return [json.dumps({"w": one, "b": two, "__metadata__": {"tl_jax": "{}"}}).encode()]


def _about() -> list[bytes]:
    """What an export says of its model."""
    about = {
        "architecture": {"name": "resnet18", "form": "torchvision", "classes": 2, "cut": "stem"},
        "classes": ["cat", "dog"],
        "preprocessing": vars(imagenet(224, 256)),
        "views": "none",
        "answers": "classes",
        "checksum": "0",
    }
    text = {"tokenizer": '{"model": {"type": "WordLevel"}}', "size": 8}
    return [json.dumps(one).encode() for one in (about, {**about, "preprocessing": text})]


def _exported(about: bytes) -> bytes:
    return safetensors.numpy.save({"w": W}, {"tl_jax": about.decode(errors="replace")})


# Images


def _pixels(form: str, mode: str = "RGB", **options: object) -> bytes:
    made = io.BytesIO()
    PIL.Image.fromarray(np.arange(192, dtype="u1").reshape(8, 8, 3)).convert(mode).save(
        made, form, **options
    )
    return made.getvalue()


def _pictures() -> list[bytes]:
    exif = PIL.Image.Exif()
    exif[274] = 6
    deep = io.BytesIO()
    PIL.Image.fromarray(np.arange(64, dtype="u2").reshape(8, 8) * 999).save(deep, "PNG")
    usual = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF")
    return [
        *(_pixels(form) for form in usual),
        _pixels("JPEG", exif=exif),
        _pixels("PNG", "RGBA", exif=exif),
        _pixels("GIF", "P", transparency=3),
        _pixels("TIFF", compression="tiff_lzw"),
        deep.getvalue(),
        written(lambda path: np.save(path, np.zeros((4, 4, 5), "u1")), "a.npy"),
        written(lambda path: np.save(path, np.zeros((4, 4), "u2")), "a.npy"),
    ]


def _header_of_array(header: bytes) -> bytes:
    return bands.NPY + b"\1\0" + struct.pack("<H", len(header)) + header + bytes(80)


# Tables and texts


def _all_rows(path: Path) -> object:
    with tables.opened(path) as opened:
        return list(tables.rows(opened, path.name))


def _cells(path: Path) -> object:
    return list(tables.cells(path, {"text": "text", "labels.1": "label"}, joined=";"))


def _parquet() -> list[bytes]:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"text": ["a", "b"], "label": [["x"], ["y", "z"]]})
    return [written(lambda path: pyarrow.parquet.write_table(table, path))]


def _with_tokenizer(*, rules: str = "") -> tuple[Callable[[Path], object], ...]:
    """Read the tokenizer that lies beside weights, and a text with it."""

    def read(path: Path) -> object:
        usual = TextPreprocessing("", 8, 0 if not rules else 1, rules)
        found = tokenizer.beside(path.with_name("model.safetensors"), usual)
        return found.tokenizer and (found(["a word, Ａ \ue000"]), found.words(), found.spans("a b"))

    return (read,)


def _vocabulary() -> list[bytes]:
    return ["\n".join([*tokenizer.SPECIAL, "a", "##b", "word"]).encode()]


def _tokenizers() -> list[bytes]:
    words = {"[PAD]": 0, "[UNK]": 1, "a": 2, "word": 3}
    model = {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"}
    unigram = {"type": "Unigram", "unk_id": 1, "vocab": [[word, -1.0] for word in words]}
    pieces = {"type": "BPE", "vocab": words, "merges": [], "unk_token": "[UNK]"}
    around = {"type": "BertProcessing", "sep": ["a", 2], "cls": ["a", 2]}
    split = {"pre_tokenizer": {"type": "Whitespace"}, "post_processor": around}
    normal = {"normalizer": {"type": "NFKC"}, "decoder": None, "added_tokens": []}
    cut = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    whole = {"version": "1.0", "truncation": cut, "padding": None, **normal, **split}
    return [json.dumps({**whole, "model": one}).encode() for one in (model, unigram, pieces)]


def _models_of_pieces(*first: str) -> list[bytes]:
    """Models of SentencePiece of a few pieces, these ones first."""

    def field(number: int, value: bytes) -> bytes:
        return bytes([number << 3 | 2, len(value)]) + value

    kinds = {"<unk>": 2, "\u2581a": 1, "word": 4}
    pieces = [(piece, kinds.get(piece, 3)) for piece in (*first, "<s>", "</s>", *list(kinds)[1:])]
    made = b"".join(
        field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", -1.5) + bytes([24, kind]))
        for text, kind in pieces
    )
    return [made + field(2, b"\x18\x01") + field(3, b"\x18\x01\x20\x01")]


def _words() -> list[bytes]:
    import pickle

    from tl_jax.data.texts.rules import SPECIALS

    return [pickle.dumps([*SPECIALS, "a", "word"], protocol=protocol) for protocol in (2, 4)]


# Vectors of words


def _vectors(path: Path) -> object:
    found = vectors_file.read(path)
    return judge.Space(found).neighbours(found.words[0], 2)


def _wink() -> list[bytes]:
    about = {"precision": 8, "dimensions": 2, "words": ["a", "b"]}
    vectors = {"a": [1, 2, 1.5, 0], "b": [3, 4, 1.5, 1]}
    whole = {**about, "vectors": vectors, "unkVector": [0, 0]}
    return [json.dumps(whole, separators=(",", ":")).encode()]


def _space() -> judge.Space:
    rows = np.arange(8, dtype="f4").reshape(4, 2)
    return judge.Space(vectors_file.Vectors(tuple("abcd"), rows))


# Archives


def _tarred(files_in: dict[str, bytes], mode: str = "w") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:
        for name, content in files_in.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def _archives() -> list[bytes]:
    inside = {"a/b.txt": b"one", "c": b"two"}
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in inside.items():
            archive.writestr(name, content)
    data = _tarred(inside, "w:gz")
    head = b"data.tar.gz     0           0     0     100644  %-10d`\n" % len(data)
    kinds = ("w", "w:gz", "w:xz")
    return [
        zipped.getvalue(),
        *(_tarred(inside, mode) for mode in kinds),
        b"!<arch>\n" + head + data,
    ]


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
        written(lambda path: torch.archive(path, torch.STATE)),
        written(lambda path: torch.legacy(path, torch.STATE)),
    ]),
    "torch_pickle": Reader("a.pth", (files.read,), _bodies, _pickled),
    "safetensors": Reader("a", (files.read, file.load, file.header), lambda: [
        safetensors.numpy.save({"w": W}), safetensors.numpy.save({"a": W[0], "b": W > 2})
    ]),
    "safetensors_header": Reader(
        "a", (files.read, file.load, safetensors_file.metadata), _entries, _long_header
    ),
    "model_file": Reader("a", (file.load, file.header), _about, _exported),
    "keras": Reader("a.h5", (files.read,), lambda: [
        written(keras_files.plain_legacy), written(keras_files.plain_numbered)
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
        _pictures,
    ),
    "array_header": Reader("a.npy", (images.read_image, images.size_at), lambda: [
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (4, 4, 5), }\n",
        b"{'descr': '<u2', 'fortran_order': True, 'shape': (4, 4), }\n",
    ], _header_of_array),
    "csv": Reader("a.csv", (_all_rows, _cells), lambda: [
        b'text,label\n"one, two",x\r\nthree,y\n', "\ufefftext,label\né,x\n".encode()
    ]),
    "tsv": Reader("a.tsv", (_all_rows, _cells), lambda: [b"text\tlabel\none\tx\n"]),
    "json_lines": Reader("a.jsonl", (_all_rows, _cells), lambda: [
        b'{"text": "one", "label": ["x", "y"]}\n\n{"text": "two", "label": null}\n'
    ]),
    "parquet": Reader("a.parquet", (_all_rows, _cells), _parquet),
    "text": Reader("a.txt", (
        _all_rows, lambda path: plain.plain(path, seed=0),
    ), lambda: [b"one\n\ntwo\n\nthree\n"]),
    "tokenizer": Reader("tokenizer.json", _with_tokenizer(), _tokenizers),
    "vocabulary": Reader("vocab.txt", _with_tokenizer(), _vocabulary),
    "sentencepiece": Reader("a.model", _with_tokenizer(), lambda: (
        _models_of_pieces("<pad>", "<unk>")
    )),
    "fastai_words": Reader("itos.pkl", _with_tokenizer(rules="fastai"), _words),
    "fastai_pieces": Reader("a.model", _with_tokenizer(rules="fastai"), lambda: (
        _models_of_pieces("<unk>", "\u2581xxpad", "\u2581xxbos")
    )),
    "vectors": Reader("a.vec", (_vectors,), lambda: [b"2 2\na 1 2\nb 3 4\n", b"a 1 2\nb 3 4e1\n"]),
    "vectors_binary": Reader("a.bin", (_vectors,), lambda: [
        b"2 2\na " + struct.pack("<2f", 1, 2) + b"\nb " + struct.pack("<2f", 3, 4)
    ]),
    "vectors_json": Reader("a.json", (_vectors,), _wink),
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
    "archive": Reader("a.zip", (_unpack,), _archives),
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
    "words_kept": Reader("words_step1.npz", (lambda path: learn._kept(path.parent),), lambda: [
        written(lambda path: np.savez(path, losses=[0.5], table=W), "a.npz")
    ]),
}  # fmt: skip
