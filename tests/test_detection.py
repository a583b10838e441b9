"""How detections are judged: against pycocotools, VOC's rule by hand, and properties."""

import json
import pathlib

import numpy as np
import pytest

from tl_jax.stats.detection import average_precision

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


@pytest.mark.parametrize("case", GOLDEN)
def test_coco_rule_is_that_of_pycocotools(case):
    found = arrays(case["images"], case["found"], ("scores",))
    own = average_precision(found, truths(case["images"], case["truths"]), classes=CLASSES)
    expected = case["expected"]
    for name in ("map", "ap50", "ap75", "small", "medium", "large", "recall"):
        assert own[name] == pytest.approx(expected[name], abs=1e-9)
    assert [-1 if row["ap"] is None else row["ap"] for row in own["per_class"]] == pytest.approx(
        expected["per_class"], abs=1e-9
    )
