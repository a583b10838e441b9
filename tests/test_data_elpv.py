import importlib.util
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tl_jax.data.tasks import load_task
from tl_jax.errors import UserError


@pytest.fixture(scope="module")
def table():
    """The package's labels.csv, read by numpy: path, p in thirds, type."""
    path = Path(importlib.util.find_spec("elpv_dataset").origin).parent / "data" / "labels.csv"
    rows = np.genfromtxt(path, dtype=str)
    return path.parent, rows[:, 0], np.rint(rows[:, 1].astype(float) * 3).astype(int), rows[:, 2]


@pytest.fixture(scope="module")
def elpv():
    return {kind: load_task("elpv", seed=0, targets=kind) for kind in ("graded", "soft", "plain")}


def test_cells_are_those_of_the_package(elpv, table):
    root, paths, _, _ = table
    task = elpv["graded"]
    assert (task.name, task.classes, task.skipped) == ("elpv", ("functional", "defective"), ())
    assert task.ids == tuple(paths)
    for index in (0, 1000, 2623):
        image = task.open(index)
        assert (image.mode, image.size) == ("L", (300, 300))
        with PIL.Image.open(root / paths[index]) as stored:
            np.testing.assert_array_equal(image, stored)


def test_counts_are_those_of_the_published_table(table):
    _, _, thirds, types = table
    counts = {kind: np.bincount(thirds[types == kind]).tolist() for kind in ("mono", "poly")}
    # Labels file of github.com/zae-bayern/elpv-dataset
    assert counts == {"mono": [588, 117, 56, 313], "poly": [920, 178, 50, 402]}


def test_labels_and_confidence_weights(elpv, table):
    _, _, thirds, _ = table
    task = elpv["graded"]
    np.testing.assert_array_equal(task.labels, thirds >= 2)
    np.testing.assert_array_equal(task.graded_labels, thirds >= 1)
    want = np.array([1, 1 / 3, 2 / 3, 1])[thirds]
    np.testing.assert_allclose(task.graded_weights, want, rtol=1e-6)
    weights = task.graded_weights.astype(float)
    # 2223 sure cells, 295 thirds and 106 two thirds
    assert weights.sum() == pytest.approx(2392)
    # What always answering "functional" scores: under the weights, and plainly
    assert weights[task.graded_labels == 0].sum() == pytest.approx(1508)
    assert 100 * 1508 / 2392 == pytest.approx(63.0, abs=0.05)
    assert np.count_nonzero(task.labels == 0) == 1803


def test_what_the_loss_is_trained_on(elpv, table):
    _, _, thirds, _ = table
    for task in elpv.values():
        assert task.targets.dtype == task.weights.dtype == np.float32
        np.testing.assert_array_equal(task.labels, elpv["plain"].labels)
        np.testing.assert_array_equal(task.graded_weights, elpv["plain"].graded_weights)
        np.testing.assert_array_equal(task.graded_labels, elpv["plain"].graded_labels)
    ones = np.ones(2624)
    for kind, defective, weights in (
        ("graded", thirds >= 1, elpv["graded"].graded_weights),
        ("soft", thirds / 3, ones),
        ("plain", thirds >= 2, ones),
    ):
        want = np.stack([1 - np.asarray(defective, float), defective], axis=1)
        np.testing.assert_allclose(elpv[kind].targets, want, rtol=1e-6)
        np.testing.assert_array_equal(elpv[kind].weights, weights)


def test_splits_are_three_quarters_to_one_and_stratified_by_rating_and_type(elpv, table):
    _, _, thirds, types = table
    splits = elpv["graded"].splits
    assert {k: len(v) for k, v in splits.items()} == {"train": 1706, "val": 262, "test": 656}
    for rating in range(4):
        for kind in ("mono", "poly"):
            stratum = (thirds == rating) & (types == kind)
            share = np.count_nonzero(stratum[splits["test"]])
            assert abs(share - stratum.sum() / 4) < 1


def test_published_figures_are_weighted_accuracies_in_percent(elpv):
    published = {row["what"]: row for row in elpv["graded"].published}
    # The paper's figures to ten digits, as fractions of the weight of a test set: in thirds, of 596
    for what, fraction in (("SVM", 737 / 894), ("VGG19, fine-tuned", 527 / 596)):
        assert published[what]["figure"] == round(100 * fraction, 2)
        assert published[what]["metric"] == "weighted_accuracy"
        assert "1807.02894" in published[what]["source"]


def test_a_budget_counts_the_labels():
    task = load_task("elpv", seed=0, per_class=5)
    np.testing.assert_array_equal(np.bincount(task.labels[task.splits["train"]]), [5, 5])
    np.testing.assert_array_equal(np.bincount(task.labels[task.splits["val"]]), [1, 1])
    assert len(task.splits["test"]) == 656


def test_unknown_targets_are_refused():
    with pytest.raises(UserError, match="did you mean 'graded'"):
        load_task("elpv", seed=0, targets="grade")


def test_a_missing_package_is_asked_for(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install tl_jax\[elpv\]"):
        load_task("elpv", seed=0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "labels.csv' is missing or damaged .*install it again"),
        ("images/a.png 1.0\n", "missing or damaged"),
        ("images/a.png certain mono\n", "missing or damaged"),
        ("", "missing or damaged"),
        ("".join(f"images/{i}.png 0 mono\n" for i in range(9)), r"cannot read .*images/0\.png"),
        ("images/a.png 1.0 mono\n" * 2, "class 'p = 1.00, mono' has 2 examples, but 3"),
    ],
)
def test_a_damaged_package_is_named(tmp_path, monkeypatch, labels, message):
    data = tmp_path / "elpv_dataset" / "data"
    data.mkdir(parents=True)
    (tmp_path / "elpv_dataset" / "__init__.py").touch()
    if labels is not None:
        (data / "labels.csv").write_text(labels)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=message):
        load_task("elpv", seed=0)


def test_cells_of_one_type_are_a_task_of_their_own(table):
    _, paths, thirds, types = table
    task = load_task("elpv", seed=0, cells="mono", targets="plain")
    assert task.ids == tuple(paths[types == "mono"]) and len(task.ids) == 1074
    np.testing.assert_array_equal(task.labels, thirds[types == "mono"] > 1)
    assert sum(map(len, task.splits.values())) == 1074
    assert task.fingerprint != load_task("elpv", seed=0, cells="poly").fingerprint
    with pytest.raises(UserError, match="unknown cells of ELPV 'monno'; did you mean 'mono'"):
        load_task("elpv", seed=0, cells="monno")
