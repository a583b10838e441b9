"""Small whole files of every kind that is read from outside, as bytes, for `tests/readers.py`."""

import io
import json
import pickle
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet
import safetensors.numpy
import test_torch_file as torch

from tl_jax.base import tokenizer
from tl_jax.data import bands
from tl_jax.data.preprocessing import imagenet
from tl_jax.data.texts.rules import SPECIALS

W = np.arange(6, dtype="<f4").reshape(2, 3)


def written(write: Callable[[Path], object], name: str = "a") -> bytes:
    """The bytes of the file that a function writes at a path."""
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch) / name)
        return (Path(scratch) / name).read_bytes()


def in_archive(body: bytes) -> bytes:
    """A PyTorch archive with this pickle, uncompressed as torch.save writes it."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("net/data.pkl", body)
        archive.writestr("net/data/0", bytes(24))
    return made.getvalue()


def pickles() -> list[bytes]:
    parameter = torch.call(
        "torch._utils._rebuild_parameter", torch.WEIGHT, *map(torch.literal, (True, None))
    )
    beside = torch.ordered({"epoch": torch.literal(3), "net": torch.STATE, "w": parameter})
    return [b"\x80\x02" + body + b"." for body in (torch.STATE, beside)]


def behind_length(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text + bytes(28)


def headers() -> list[bytes]:
    one = {"dtype": "F32", "shape": [2, 3], "data_offsets": [4, 28]}
    two = {"dtype": "I32", "shape": [1], "data_offsets": [0, 4]}
    return [json.dumps({"w": one, "b": two, "__metadata__": {"tl_jax": "{}"}}).encode()]


def descriptions() -> list[bytes]:
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


def in_export(about: bytes) -> bytes:
    return safetensors.numpy.save({"w": W}, {"tl_jax": about.decode(errors="replace")})


def pixels(form: str, mode: str = "RGB", **options: object) -> bytes:
    made = io.BytesIO()
    PIL.Image.fromarray(np.arange(192, dtype="u1").reshape(8, 8, 3)).convert(mode).save(
        made, form, **options
    )
    return made.getvalue()


def pictures() -> list[bytes]:
    exif = PIL.Image.Exif()
    exif[274] = 6
    deep = io.BytesIO()
    PIL.Image.fromarray(np.arange(64, dtype="u2").reshape(8, 8) * 999).save(deep, "PNG")
    usual = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF")
    return [
        *(pixels(form) for form in usual),
        pixels("JPEG", exif=exif),
        pixels("PNG", "RGBA", exif=exif),
        pixels("GIF", "P", transparency=3),
        pixels("TIFF", compression="tiff_lzw"),
        deep.getvalue(),
        written(lambda path: np.save(path, np.zeros((4, 4, 5), "u1")), "a.npy"),
        written(lambda path: np.save(path, np.zeros((4, 4), "u2")), "a.npy"),
    ]


def before_array(header: bytes) -> bytes:
    return bands.NPY + b"\1\0" + struct.pack("<H", len(header)) + header + bytes(80)


def parquet() -> list[bytes]:
    table = pyarrow.table({"text": ["a", "b"], "label": [["x"], ["y", "z"]]})
    return [written(lambda path: pyarrow.parquet.write_table(table, path))]


def vocabulary() -> list[bytes]:
    return ["\n".join([*tokenizer.SPECIAL, "a", "##b", "word"]).encode()]


def tokenizers() -> list[bytes]:
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


def pieces(*first: str) -> list[bytes]:
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


def pickled_words() -> list[bytes]:
    return [pickle.dumps([*SPECIALS, "a", "word"], protocol=protocol) for protocol in (2, 4)]


def wink() -> list[bytes]:
    about = {"precision": 8, "dimensions": 2, "words": ["a", "b"]}
    vectors = {"a": [1, 2, 1.5, 0], "b": [3, 4, 1.5, 1]}
    whole = {**about, "vectors": vectors, "unkVector": [0, 0]}
    return [json.dumps(whole, separators=(",", ":")).encode()]


def tarred(files_in: dict[str, bytes], mode: str = "w") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:
        for name, content in files_in.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def archives() -> list[bytes]:
    inside = {"a/b.txt": b"one", "c": b"two"}
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in inside.items():
            archive.writestr(name, content)
    data = tarred(inside, "w:gz")
    head = b"data.tar.gz     0           0     0     100644  %-10d`\n" % len(data)
    kinds = ("w", "w:gz", "w:xz")
    return [
        zipped.getvalue(),
        *(tarred(inside, mode) for mode in kinds),
        b"!<arch>\n" + head + data,
    ]
