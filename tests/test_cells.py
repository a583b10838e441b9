"""Cells of a study: what is finished stays so, whatever happened to the process."""

from tl_jax.runs.cells import Cells


def test_what_was_added_is_there_again(tmp_path):
    cells = Cells(tmp_path / "cells.jsonl")
    assert cells.get(layer="conv1", seed=0) is None
    row = cells.add({"accuracy": 0.5, "loss": float("nan")}, layer="conv1", seed=0)
    assert row == {"layer": "conv1", "seed": 0, "accuracy": 0.5, "loss": None}
    again = Cells(tmp_path / "cells.jsonl")
    assert again.get(seed=0, layer="conv1") == row and again.rows() == [row]


def test_a_torn_line_is_not_there_and_spoils_no_other(tmp_path):
    path = tmp_path / "cells.jsonl"
    Cells(path).add({"accuracy": 0.5}, layer="conv1")
    whole = path.read_text()
    path.write_text(whole + whole[: len(whole) // 2])
    cells = Cells(path)
    assert len(cells.rows()) == 1
    cells.add({"accuracy": 0.7}, layer="conv2")
    assert [row["accuracy"] for row in Cells(path).rows()] == [0.5, 0.7]


def test_bytes_that_are_no_text_are_passed_over(tmp_path):
    path = tmp_path / "cells.jsonl"
    Cells(path).add({"accuracy": 0.5}, layer="conv1")
    path.write_bytes(b'\xff\xfe{"key": 1}\n[]\n' + path.read_bytes())
    assert Cells(path).get(layer="conv1")["accuracy"] == 0.5
