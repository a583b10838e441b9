"""How detections are judged: against pycocotools, VOC's rule by hand, and properties."""

import csv
import json
import pathlib

import hypothesis
import numpy as np
import PIL.Image
import pytest
from hypothesis import strategies as st

import tl_jax
from tl_jax.errors import UserError
from tl_jax.report import detection
from tl_jax.runs import results
from tl_jax.stats.detection import RULES, average_precision, errors
from tl_jax.stats.detection.precision import matched, precisions
from tl_jax.stats.detection.shown import best_score, marks
from tl_jax.stats.detection.spread import intervals

GOLDEN = json.loads(pathlib.Path(__file__).parent.joinpath("detection/golden.json").read_text())
CLASSES = ("a", "b", "c", "d")


def arrays(images: int, rows: list[list], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Rows of image, box as left, top, width, height, class and what `names` says, padded."""
    own = [[row for row in rows if row[0] == image] for image in range(images)]
    width = max(1, max(map(len, own)))
    found = {name: np.zeros((images, width)) for name in names}
    found |= {"boxes": np.zeros((images, width, 4)), "classes": np.full((images, width), -1)}
    for image, of_image in enumerate(own):
        for place, (_, x, y, w, h, label, *rest) in enumerate(of_image):
            found["boxes"][image, place] = x, y, x + w, y + h
            found["classes"][image, place] = label
            for name, value in zip(names, rest, strict=True):
                found[name][image, place] = value
    return found


def truths(images: int, rows: list[list]) -> dict[str, np.ndarray]:
    found = arrays(images, rows, ("ignored", "areas"))
    return {**found, "ignored": found["ignored"].astype(bool)}


@pytest.mark.parametrize("case", GOLDEN["precision"])
def test_coco_rule_is_that_of_pycocotools(case):
    found = arrays(case["images"], case["found"], ("scores",))
    own = average_precision(found, truths(case["images"], case["truths"]), classes=CLASSES)
    expected = case["expected"]
    for name in ("map", "ap50", "ap75", "small", "medium", "large", "recall"):
        assert own[name] == pytest.approx(expected[name], abs=1e-9)
    assert [-1 if row["ap"] is None else row["ap"] for row in own["per_class"]] == pytest.approx(
        expected["per_class"], abs=1e-9
    )


TIDE = {"Cls": "classification", "Loc": "localisation", "Both": "both", "Dupe": "duplicate",
        "Bkg": "background", "Miss": "missed"}  # fmt: skip


@pytest.mark.parametrize("case", GOLDEN["errors"])
def test_errors_are_those_that_tide_counts(case):
    found = arrays(case["images"], case["found"], ("scores",))
    own = errors(found, truths(case["images"], case["truths"]), classes=CLASSES)
    expected = case["expected"]
    assert own["ap50"] == pytest.approx(expected["ap50"], abs=1e-9)
    by_kind = {row["kind"]: row for row in own["errors"]}
    for name, count, cost in expected["errors"]:
        assert by_kind[TIDE[name]]["count"] == count, name
        assert by_kind[TIDE[name]]["cost"] == pytest.approx(cost, abs=1e-9), name


def one_image(boxes, scores, true, ignored=None):
    """Detections and truths of one class in one image."""
    found = {"boxes": [boxes], "scores": [scores], "classes": [[0] * len(scores)]}
    areas = [[(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in true]]
    said = {"boxes": [true], "classes": [[0] * len(true)], "areas": areas}
    said["ignored"] = [ignored or [False] * len(true)]
    as_arrays = ({name: np.array(value) for name, value in each.items()} for each in (found, said))
    return tuple(as_arrays)


A, B = [0, 0, 10, 10], [1, 0, 11, 10]


@pytest.mark.parametrize(
    "found, true, ignored, expected",
    [
        # The second detection's best box is taken: wrong by VOC, the second best by COCO.
        (([A, [0.2, 0, 10.2, 10]], [0.9, 0.8]), [A, B], None, (0.5, 6 / 11, 1.0)),
        # An overlap of exactly 0.5 is enough for COCO alone.
        (([[0, 0, 5, 10]], [0.9]), [A], None, (0.0, 0.0, 1.0)),
        # Difficult: to find it, twice even, is neither right nor wrong; nor must it be found.
        (([B, B, [30, 30, 40, 40]], [0.9, 0.8, 0.7]), [B, [30, 30, 40, 40]], [True, False],
         (1.0, 1.0, 1.0)),
        # One right, one wrong before it: precision 1/2 up to recall 1/2.
        (([[50, 50, 60, 60], A], [0.9, 0.8]), [A, [70, 0, 80, 10]], None,
         (0.25, 0.5 * 6 / 11, 0.5 * 51 / 101)),
    ],
)  # fmt: skip
def test_rules_by_hand(found, true, ignored, expected):
    given = one_image(*found, true, ignored)
    voc, voc07 = (average_precision(*given, classes="a", rule=r)["map"] for r in ("voc", "voc07"))
    coco = average_precision(*given, classes="a")["ap50"]
    assert (voc, voc07, coco) == pytest.approx(expected)


def by_the_development_kit(found, true, ignored):
    """VOC's own procedure, on inclusive pixel numbers; of one class, in images by number."""
    right, wrong, taken = [], [], set()
    for image, (x1, y1, x2, y2), _ in sorted(found, key=lambda one: -one[2]):
        best, at = 0.0, None
        for number, (of, (a1, b1, a2, b2)) in enumerate(true):
            wide = min(x2, a2) - max(x1, a1) + 1
            tall = min(y2, b2) - max(y1, b1) + 1
            if of == image and min(wide, tall) > 0:
                both = (x2 - x1 + 1) * (y2 - y1 + 1) + (a2 - a1 + 1) * (b2 - b1 + 1) - wide * tall
                if wide * tall / both > best:
                    best, at = wide * tall / both, number
        hit = at is not None and best > 0.5
        if hit and ignored[at]:
            continue
        right.append(hit and at not in taken)
        wrong.append(not right[-1])
        taken |= {at} if hit else set()
    recall = np.cumsum(right) / max(1, ignored.count(False))
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    area = 0.0
    for step in range(len(right)):
        before = recall[step - 1] if step else 0.0
        area += (recall[step] - before) * precision[step:].max()
    eleven = [max(precision[recall >= t], default=0.0) for t in np.arange(0.0, 1.1, 0.1)]
    return area, float(np.mean(eleven))


@pytest.mark.parametrize("seed", range(8))
def test_voc_rule_is_that_of_its_development_kit_with_widths_of_one_more(seed):
    rng = np.random.default_rng(seed)
    true = [(int(i), corners(rng)) for i in rng.integers(0, 4, 12)]
    ignored = (rng.random(12) < 0.2).tolist()
    near = [
        (image, tuple(int(v) for v in np.array(box) + rng.integers(-3, 4, 4)), score)
        for (image, box), score in zip(true * 2, rng.permutation(24) / 24, strict=True)
    ]
    expected = by_the_development_kit(near, true, ignored)
    found = {"boxes": np.zeros((4, 24, 4)), "scores": np.zeros((4, 24))}
    found["classes"] = np.full((4, 24), -1)
    said = {"boxes": np.zeros((4, 12, 4)), "areas": np.ones((4, 12))}
    said |= {"classes": np.full((4, 12), -1), "ignored": np.zeros((4, 12), bool)}
    for number, (image, (x1, y1, x2, y2), score) in enumerate(near):
        found["boxes"][image, number] = x1 - 1, y1 - 1, x2, y2  # edges
        found["scores"][image, number], found["classes"][image, number] = score, 0
    for number, (image, (x1, y1, x2, y2)) in enumerate(true):
        said["boxes"][image, number] = x1 - 1, y1 - 1, x2, y2
        said["classes"][image, number], said["ignored"][image, number] = 0, ignored[number]
    own = [average_precision(found, said, classes="a", rule=r)["map"] for r in ("voc", "voc07")]
    assert own == pytest.approx(expected)


def corners(rng) -> tuple[int, int, int, int]:
    left, top = rng.integers(1, 60, 2).tolist()
    return left, top, left + int(rng.integers(5, 25)), top + int(rng.integers(5, 25))


def drawn(seed: int, images: int = 5, width: int = 6):
    """Detections of distinct scores and truths of 3 classes at random."""
    rng = np.random.default_rng(seed)

    def boxes(count):
        first = rng.uniform(0, 80, (images, count, 2))
        return np.concatenate([first, first + rng.uniform(5, 40, (images, count, 2))], -1)

    said = {"boxes": boxes(width), "classes": rng.integers(-1, 3, (images, width))}
    said |= {"ignored": rng.random((images, width)) < 0.1, "areas": np.full((images, width), 500.0)}
    found = {"boxes": np.concatenate([said["boxes"] + rng.normal(0, 2, (images, width, 4)),
                                      boxes(3)], 1)}  # fmt: skip
    found["classes"] = np.concatenate([said["classes"], rng.integers(-1, 3, (images, 3))], 1)
    scores = rng.permutation(images * (width + 3)).reshape(images, width + 3)
    return {**found, "scores": (scores + 1) / scores.size}, said


@hypothesis.given(st.integers(0, 10_000), st.sampled_from(sorted(RULES)))
@hypothesis.settings(max_examples=25, deadline=None)
def test_precision_is_a_share_and_does_not_depend_on_the_order_of_images(seed, rule):
    found, said = drawn(seed)
    own = average_precision(found, said, classes="abc", rule=rule)
    assert all(row["ap"] is None or 0 <= row["ap"] <= 1 for row in own["per_class"])
    order = np.random.default_rng(seed).permutation(5)
    other = [{name: array[order] for name, array in each.items()} for each in (found, said)]
    assert average_precision(*other, classes="abc", rule=rule) == own
    perfect = {**said, "scores": np.linspace(0.1, 1, said["classes"].size).reshape(5, 6)}
    right = average_precision(perfect, said, classes="abc", rule=rule)["map"]
    assert right is None or right == pytest.approx(1)
    # A wrong detection below all others changes nothing.
    far = {"boxes": np.full((5, 1, 4), [900.0, 900, 910, 910]), "classes": np.zeros((5, 1), int)}
    far["scores"] = np.zeros((5, 1))
    more = {name: np.concatenate([found[name], far[name]], 1) for name in found}
    after = average_precision(more, said, classes="abc", rule=rule)["map"]
    assert after is None or after == pytest.approx(own["map"])


def test_a_weight_of_an_image_is_its_repetition():
    found, said = drawn(3)
    times = np.array([2, 0, 1, 3, 1])
    rows = np.repeat(np.arange(5), times)
    again = [{name: array[rows] for name, array in each.items()} for each in (found, said)]
    for rule in RULES:
        weighed = matched(found, said, classes="abc", rule=rule)
        repeated = matched(*again, classes="abc", rule=rule)
        for one, other in zip(weighed, repeated, strict=True):
            assert precisions(one, rule, times) == pytest.approx(precisions(other, rule))


def test_intervals_hold_the_figure_and_are_narrower_with_more_images():
    widths = []
    for images in (8, 128):
        found, said = drawn(0, images)
        of_classes = matched(found, said, classes="abc", rule="voc")
        low, high = intervals(of_classes, "voc")["map"]
        assert low <= average_precision(found, said, classes="abc", rule="voc")["map"] <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2
    assert intervals(matched(*one_image([A], [1.0], [A]), classes="a"), "coco")["map"] is None


def test_what_a_picture_shows():
    found, said = one_image([A, [50, 50, 60, 60], [51, 50, 61, 60], [0, 30, 9, 39]],
                            [0.9, 0.8, 0.3, 0.1], [A, [70, 0, 80, 10], [50, 50, 60, 60]],
                            [False, False, True])  # fmt: skip
    assert best_score(matched(found, said, classes="a")) == 0.9
    marked = marks(found, said, 0.2)
    assert marked.right.tolist() == [[True, False, False, False]]
    assert marked.shown.tolist() == [[True, False, False, False]]  # the others find a crowd
    assert marked.mistakes(said).tolist() == [1]
    assert marks(found, said, 0.1).mistakes(said).tolist() == [2]


@pytest.mark.parametrize(
    "change, line",
    [
        ({"rule": "cocoa"}, "did you mean 'coco'?"),
        ({"classes": ""}, "detections have the class 0, and there are 0 classes"),
        ({"scores": [[np.nan]]}, "scores are finite"),
        ({"scores": [[0.5, 0.5]]}, "detections are boxes (N, K, 4) and (N, K)"),
        ({"scores": None}, "detections have no scores"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(change, line):
    found, said = one_image([A], [0.5], [A])
    if "scores" in change:
        value = change.pop("scores")
        found = {n: a for n, a in found.items() if n != "scores"}
        found |= {} if value is None else {"scores": np.array(value)}
    with pytest.raises(UserError) as error:
        average_precision(found, said, **{"classes": "a", **change})
    assert line in str(error.value) and "\n" not in str(error.value)


def test_the_page_has_figures_curves_errors_and_the_worst_images(tmp_path):
    task = tl_jax.load_task("composed:digits", count=60, size=64)
    test = task.splits["test"]
    said = {name: array[test] for name, array in task.truth.items()}
    found = {**said, "scores": np.linspace(0.2, 0.9, said["classes"].size)}
    found["scores"] = found["scores"].reshape(said["classes"].shape)
    found["classes"] = np.where(np.arange(len(test))[:, None] == 0, -1, said["classes"])
    result = results.provenance("detect")
    path = detection.write(tmp_path, detections=found, task=task, examples=test, result=result)
    page = path.read_text()
    missed = int((said["classes"][0] >= 0).sum())
    assert f"{task.ids[test[0]]}: {missed} mistakes" in page  # the first of the worst images
    with open(tmp_path / "errors.csv") as file:
        rows = {row["kind"]: row for row in csv.DictReader(file)}
    assert int(rows["missed"]["errors"]) == missed and int(rows["background"]["errors"]) == 0
    assert float(rows["missed"]["cost"]) > 0
    with PIL.Image.open(tmp_path / "worst_1.jpeg") as worst:
        assert worst.size == (64, 64)
    with pytest.raises(UserError, match="'digits' has no boxes"):
        digits = tl_jax.load_task("digits", per_class=2)
        detection.write(tmp_path, detections=found, task=digits, examples=test, result=result)
