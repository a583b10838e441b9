"""A file is what it was until all of it is written."""

import pytest

from tl_jax.whole import whole


def test_a_file_changes_when_all_of_it_is_written(tmp_path):
    path = tmp_path / "told.txt"
    path.write_text("before")
    with whole(path) as partial:
        partial.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stopped", [OSError, KeyboardInterrupt])
def test_what_fails_leaves_the_file_and_nothing_beside_it(tmp_path, stopped):
    path = tmp_path / "told.txt"
    path.write_text("before")
    with pytest.raises(stopped), whole(path) as partial:
        partial.write_text("aft")
        raise stopped
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
