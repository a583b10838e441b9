"""Files from outside that a fuzzer made (`tests/fuzz.py`), given to their readers again."""

import pathlib
import zipfile

import pytest
import readers

CORPUS = pathlib.Path(__file__).parent / "corpus"


def kept(name: str) -> dict[str, bytes]:
    """The inputs of a reader that are kept, by name: what went wrong once, or what is reached."""
    with zipfile.ZipFile(CORPUS / f"{name}.zip") as archive:
        return {one: archive.read(one) for one in archive.namelist()}


def test_every_reader_has_a_corpus():
    assert {path.stem for path in CORPUS.iterdir()} == readers.READERS.keys()


@pytest.mark.parametrize("name", readers.READERS)
def test_each_file_is_read_or_refused_in_a_line(name, tmp_path):
    reader, scratch = readers.READERS[name], tmp_path / "scratch"
    scratch.mkdir()
    wrong = {
        one: said
        for one, content in kept(name).items()
        if (said := readers.complaint(reader, content, scratch))
    }
    assert not wrong


@pytest.mark.parametrize("name", readers.READERS)
def test_whole_files_are_read(name, tmp_path):
    """So that a corpus is no list of refusals."""
    reader = readers.READERS[name]
    read = []
    for content in reader.whole():
        (tmp_path / reader.name).write_bytes(reader.packed(content))
        read.append([_reads(one, tmp_path / reader.name) for one in reader.read])
    assert all(map(any, read))


def _reads(read, path: pathlib.Path) -> bool:
    try:
        read(path)
    except readers.UserError:
        return False
    return True
