"""Tasks from a table of images, against the same images in folders, and tables of every kind."""

import csv
import json
import pathlib

import numpy as np
import PIL.Image
import pytest

from tl_jax.data.tasks import load_task
from tl_jax.errors import UserError

COUNT = 48
CLASSES = ("cat", "dog", "hen")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> pathlib.Path:
    """Images in a folder a class, and nothing else yet."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(COUNT):
        name = CLASSES[number % 3]
        (folder / "images" / name).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (8, 8, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / "images" / file_of(number))
    return folder


def file_of(number: int) -> str:
    return f"{CLASSES[number % 3]}/{number:02d}.png"


def rows() -> list[dict]:
    """A row an image: its class, labels, two numbers, a group of four images and a split."""
    found = []
    for number in range(COUNT):
        labels = [name for bit, name in enumerate(("big", "old")) if number >> bit & 1]
        found.append(
            {
                "image": f"images/{file_of(number)}",
                "label": CLASSES[number % 3],
                "labels": ";".join(labels),
                "big": str(number & 1),
                "old": "" if number == 5 else str(number >> 1 & 1),
                "age": "" if number == 7 else str(number / 2),
                "height": str(100 - number),
                "patient": f"p{number // 4}",
                "part": ("train", "Training", "valid", "test")[number % 4],
                "grade": str(number % 12),
            }
        )
    return found


def written(place: pathlib.Path, name: str, changed: dict | None = None) -> str:
    """The path of a table of `rows`, of which the row of number 3 is `changed`."""
    path, found = place / name, rows()
    found[3] |= changed or {}
    with open(path, "w", newline="") as file:
        if path.suffix == ".jsonl":
            for row in found:
                several = {"labels": row["labels"].split(";") if row["labels"] else []}
                file.write(json.dumps(row | several) + "\n")
        else:
            tabs = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if path.suffix == ".tsv" else {}
            table = csv.DictWriter(file, found[0], **tabs)
            table.writeheader()
            table.writerows(found)
    return str(path)


def test_a_class_in_a_table_is_a_class_in_a_folder(place):
    table = load_task(f"table:{written(place, 'mine.csv')}", val=0.2, test=0.2)
    folder = load_task(f"folder:{place / 'images'}", val=0.2, test=0.2)
    assert (table.name, table.classes, table.asks) == ("mine", CLASSES, "classes")
    numbers = {name.removeprefix("images/"): row for row, name in enumerate(table.ids)}
    same = [numbers[name] for name in folder.ids]
    np.testing.assert_array_equal(table.labels[same], folder.labels)
    for row in (0, 20, 47):
        np.testing.assert_array_equal(table.open(same[row]), folder.open(row))
    sizes = {name: len(own) for name, own in table.splits.items()}
    assert sizes == {name: len(own) for name, own in folder.splits.items()}


def test_labels_are_named_in_one_column_or_have_a_column_each(place):
    path = written(place, "labels.csv")
    one = load_task(f"table:{path}", labels="labels")
    each = load_task(f"table:{path}", labels=["big", "old"])
    assert one.classes == each.classes == ("big", "old")
    assert (one.asks, each.asks) == ("labels", "labels")
    unknown = one.ids.index(f"images/{file_of(5)}")
    assert np.isnan(each.targets[unknown]).tolist() == [False, True]
    rest = np.delete(np.arange(COUNT), unknown)
    np.testing.assert_array_equal(one.targets[rest], each.targets[rest])
    np.testing.assert_array_equal(one.targets.sum(0), [COUNT / 2] * 2)
    by_list = load_task(f"table:{written(place, 'labels.jsonl')}", labels="labels")
    np.testing.assert_array_equal(by_list.targets, one.targets)
    with pytest.raises(UserError, match="asks for any of several labels, and this is for tasks"):
        _ = one.labels


def test_numbers_are_spread_over_the_splits(place):
    task = load_task(f"table:{written(place, 'n.tsv')}", numbers=["age", "height"], val=0.2)
    assert (task.classes, task.asks) == (("age", "height"), "numbers")
    unknown = task.ids.index(f"images/{file_of(7)}")
    assert np.isnan(task.targets[:, 0]).nonzero()[0].tolist() == [unknown]
    ages = task.targets[:, 0]
    np.testing.assert_allclose(np.nan_to_num(ages, nan=3.5) * 2, 100 - task.targets[:, 1])
    halves = [np.nanmean(ages[own] > np.nanmedian(ages)) for own in task.splits.values()]
    assert min(halves) > 0.25 and max(halves) < 0.75


def test_numbers_as_classes_come_in_their_order_or_in_a_given_one(place):
    path = f"table:{written(place, 'grades.csv')}"
    assert load_task(path, label="grade").classes == tuple(map(str, range(12)))
    assert load_task(path, order=["hen", "cat", "dog"]).classes == ("hen", "cat", "dog")


def test_other_columns_are_further_truths(place):
    path = f"table:{written(place, 'further.csv')}"
    task = load_task(path, further=["grade", "old"], truths=["grade", "old"])
    lines = {row["image"]: row for row in rows()}
    for name in ("grade", "old"):
        classes, said = task.further[name].classes, task.truth[name]
        for row, id_ in enumerate(task.ids):
            wanted = [float(one == lines[id_][name]) for one in classes]
            assert said[row].tolist() == wanted  # nothing where the cell is empty
    assert task.further["old"].classes == ("0", "1")


def test_a_group_stays_in_one_split_and_a_split_is_as_the_table_says(place):
    path = f"table:{written(place, 'groups.csv')}"
    task = load_task(path, group="patient", val=0.2, test=0.2)
    patients = {row["image"]: row["patient"] for row in rows()}
    of = [{patients[task.ids[row]] for row in own} for own in task.splits.values()]
    assert all(of) and not (of[0] & of[1] or of[0] & of[2] or of[1] & of[2])
    given = load_task(path, split="part", label="grade")
    parts = {row["image"]: row["part"] for row in rows()}
    for split, names in (("train", {"train", "Training"}), ("val", {"valid"}), ("test", {"test"})):
        assert {parts[given.ids[row]] for row in given.splits[split]} == names


def test_parquet_and_a_folder_elsewhere(place, tmp_path):
    import pyarrow
    import pyarrow.parquet

    few = [{"image": file_of(number), "age": float(number)} for number in range(COUNT)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(few), tmp_path / "few.parquet")
    root = str(place / "images")
    task = load_task(f"table:{tmp_path / 'few.parquet'}", numbers="age", root=root)
    np.testing.assert_array_equal(task.targets[:, 0], np.arange(COUNT))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and more that is none PAR1")
    with pytest.raises(UserError, match="bad.parquet is damaged or no Parquet file"):
        load_task(f"table:{tmp_path / 'bad.parquet'}")


@pytest.mark.parametrize(
    ("changed", "options", "said"),
    [
        ({}, {"label": "lable"}, "bad.csv, line 2: 'lable'; did you mean 'label'.*say label="),
        ({}, {"labels": ["big", "odl"]}, "'odl'; did you mean 'old'.*say labels="),
        ({}, {"labels": "big", "numbers": "age"}, "without numbers=: a task asks for one"),
        ({}, {"labels": ["big", "big"]}, "each column once"),
        ({}, {"labels": "label", "separator": ""}, "what is between two labels"),
        ({"label": ""}, {}, "line 5, has no label"),
        ({"image": ""}, {}, "line 5 names no image"),
        ({"image": "images/cat/00.png"}, {}, "line 5: 'images/cat/00.png' is in line 2 too"),
        ({"image": "images/none.png"}, {}, "1 of 48 files .* are not readable images"),
        ({"age": "old"}, {"numbers": "age"}, "line 5: 'old' is no number"),
        ({"age": "inf"}, {"numbers": "age"}, "line 5: 'inf' is no number"),
        ({"big": "2"}, {"labels": ["big", "old"]}, "line 5: '2' is neither 1 nor 0"),
        ({"part": "tets"}, {"split": "part"}, "bad.csv, line 5: 'tets'; did you mean 'test'"),
        ({"patient": ""}, {"group": "patient"}, "line 5: 'images/cat/03.png' is in no group"),
        ({}, {"order": ["cat", "dog"]}, "order= names cat, dog, and the classes are cat, dog, hen"),
        ({}, {"numbers": "age", "per_class": 3}, "per_class= takes no budget of numbers"),
        ({}, {"label": "image"}, "class 'images/cat/00.png' has 1 examples"),
        ({}, {"on_unreadable": "skp"}, "did you mean 'skip'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_with_its_place(place, changed, options, said):
    with pytest.raises(UserError, match=said) as error:
        load_task(f"table:{written(place, 'bad.csv', changed)}", **options)
    assert "\n" not in str(error.value)


def test_a_task_of_a_table_s_name_says_what_tables_there_are(place):
    with pytest.raises(UserError, match="a table of images is 'table:.*a table of texts is 'text:"):
        load_task(written(place, "mine.csv"))
