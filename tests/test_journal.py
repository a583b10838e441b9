"""The journal of a study: what is finished stays so, whatever happened to the process."""

from tl_jax.runs.journal import Journal


def test_what_was_added_is_there_again(tmp_path):
    journal = Journal(tmp_path / "cells.jsonl")
    assert journal.get(layer="conv1", seed=0) is None
    row = journal.add({"accuracy": 0.5, "loss": float("nan")}, layer="conv1", seed=0)
    assert row == {"layer": "conv1", "seed": 0, "accuracy": 0.5, "loss": None}
    again = Journal(tmp_path / "cells.jsonl")
    assert again.get(seed=0, layer="conv1") == row and again.rows() == [row]


def test_a_torn_line_is_not_there_and_spoils_no_other(tmp_path):
    path = tmp_path / "cells.jsonl"
    Journal(path).add({"accuracy": 0.5}, layer="conv1")
    whole = path.read_text()
    path.write_text(whole + whole[: len(whole) // 2])
    journal = Journal(path)
    assert len(journal.rows()) == 1
    journal.add({"accuracy": 0.7}, layer="conv2")
    assert [row["accuracy"] for row in Journal(path).rows()] == [0.5, 0.7]


def test_bytes_that_are_no_text_are_passed_over(tmp_path):
    path = tmp_path / "cells.jsonl"
    Journal(path).add({"accuracy": 0.5}, layer="conv1")
    path.write_bytes(b'\xff\xfe{"key": 1}\n[]\n' + path.read_bytes())
    assert Journal(path).get(layer="conv1")["accuracy"] == 0.5
