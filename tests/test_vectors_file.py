"""Files of word vectors: every form, and what is refused."""

import json
import logging
import struct

import numpy as np
import pytest
from refusals import refused

from tl_jax.weights import vectors_file
from tl_jax.weights.vectors_file import Vectors, read

WORDS = ("the", "naïve", "中文", "it's", "]", '"}', "back\\slash")
ROWS = np.random.default_rng(0).normal(size=(len(WORDS), 3)).astype(np.float32)


def lines(words=WORDS, rows=ROWS, *, end="\n"):
    return "".join(
        f"{word} {' '.join(repr(float(x)) for x in row)}{end}"
        for word, row in zip(words, rows, strict=True)
    )


def binary(words, rows, *, between=b"\n", header=None):
    head = header or f"{len(words)} {rows.shape[1]}\n".encode()
    return head + b"".join(
        word.encode() + b" " + struct.pack(f"<{len(row)}f", *row) + between
        for word, row in zip(words, rows, strict=True)
    )


def wink(words=WORDS, rows=ROWS, **changes):
    """As the package has it: numbers as words come first, whatever their place is."""
    order = sorted(range(len(words)), key=lambda place: words[place])
    about = {"precision": 8, "dimensions": rows.shape[1], "words": list(words)} | changes
    vectors = {words[n]: [*rows[n].tolist(), 1.5, n] for n in order}
    return json.dumps({**about, "vectors": vectors, "unkVector": [0, 0]}, separators=(",", ":"))


def same(found, words=WORDS, rows=ROWS):
    assert found.words == tuple(words) and found.rows.dtype == np.float32
    np.testing.assert_array_equal(found.rows, rows)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "vectors.txt"
    vectors_file.write(path, Vectors(WORDS, ROWS))
    found = read(path)
    assert found.words == WORDS and path.read_text("utf-8").startswith("7 3\nthe ")
    np.testing.assert_allclose(found.rows, ROWS, rtol=1e-5)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("glove.txt", lines()),
        ("windows.txt", "\ufeff" + lines(end="\r\n")),
        ("word2vec.txt", f"7 3\n{lines()}"),
        ("fasttext.vec", f"7 3\n{lines(end=' ' + chr(10))}"),  # with a space at each line's end
        ("google.bin", binary(WORDS, ROWS)),
        ("gensim.bin", binary(WORDS, ROWS, between=b"")),
        ("wink.json", wink()),
    ],
)
def test_every_form_is_read(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    same(read(path))


def test_json_is_read_in_parts_of_any_size(tmp_path, monkeypatch):
    path = tmp_path / "wink.json"
    path.write_text(wink(), "utf-8")
    for size in (1, 7, 100):
        monkeypatch.setattr(vectors_file, "CHUNK", size)
        same(read(path))


def test_words_with_a_space_are_read_and_of_repeated_ones_the_first(tmp_path, caplog):
    path = tmp_path / "glove.txt"
    path.write_text(lines(["the", ". . .", "the"], ROWS[:3]))
    with caplog.at_level(logging.WARNING):
        same(read(path), ("the", ". . ."), ROWS[:2])
    assert "1 words come again, such as 'the'" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b"\x1f\x8b\x08rest", "is compressed; unpack it first"),
        ("cc.en.300.bin", (793712314).to_bytes(4, "little"), "a whole model of fastText's; take"),
        ("a.txt", b"<!DOCTYPE html><html>", "is a web page"),
        ("a.txt", b"just some words\n", "is no file of vectors"),
        ("a.txt", b"900000 300\nthe 1 2 3\n", "900,000 words of 300 numbers each, which 21 bytes"),
        ("a.txt", b"99999999999999999 2\n", "at most 10,000,000 words"),
        ("a.txt", b"0 3\n", "says that it has 0 words"),
        ("a.txt", b"3 3\nthe 1 2 3\na 1 2 3\n" + b" " * 30, "line 4 has no word"),
        ("a.txt", b"2 3\nthe 1 2 3\n", "has 1 words, not the 2 that it says"),
        ("a.txt", b"1 3\nthe 1 2 3\na 1 2 3\n", "has 2 words, not the 1 that it says"),
        ("a.txt", b"the 1 2 3\na 1 2\n", "line 2 has no word with 3 numbers"),
        ("a.txt", b"the 1 2 3\na 1 2 x\n", "line 2 has no word with 3 numbers"),
        ("a.txt", b"the 1 2 3\na 1 nan 3\n", "the vector of 'a' is not finite"),
        ("a.txt", b"the 1 2 3\n\xff 1 2 3\n", "line 2, byte 1: 0xff is no UTF-8"),
        ("a.bin", b"the 1 2 3\n", "its first line has two whole numbers"),
        ("a.bin", binary(["a", "b"], ROWS[:2])[:-6], "ends within word 2 of 2"),
        ("a.bin", b"1 3\n" + b"x" * 5000, "word 1 does not end"),
        ("a.bin", b"900 900\n" + b"x" * 5000, "which 5,008 bytes cannot hold"),
        ("a.bin", binary(["a"], np.float32([[1, np.inf, 3]])), "of 'a' is not finite"),
        ("a.json", b'{"words": 3}', "it has no object 'vectors'"),
        ("a.json", wink(dimensions=9).encode(), "has no word with 9 numbers at"),
        ("a.json", wink(words=["the"], rows=ROWS[:1], dimensions="3").encode(), "are not such"),
        ("a.json", wink()[:-60].encode(), "ends within a word"),
        ("a.json", wink().replace('"words":["the",', '"words":["an",').encode(), "has 7 vectors"),
        ("a.json", wink().replace(",1.5", ",1.5,nul").encode(), "has no word with 3 numbers"),
    ],
)
def test_what_is_no_such_file_is_refused_in_a_line(tmp_path, name, content, why):
    path = tmp_path / name
    path.write_bytes(content)
    assert why in refused(read, path)
