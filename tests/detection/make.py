"""Writes golden.json: average precisions by pycocotools of detections with every hard case.

python -m venv VENV && VENV/bin/pip install pycocotools==2.0.11 numpy==2.4.6
VENV/bin/python tests/detection/make.py
"""

import contextlib
import io
import json
import pathlib
import sys
from unittest.mock import MagicMock

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

DRAWN = "appdirs cv2 matplotlib matplotlib.pyplot matplotlib.lines pandas seaborn".split()
for name in DRAWN:
    sys.modules[name] = MagicMock()  # of figures, which nobody asks for
from tidecv import TIDE, Data  # noqa: E402

STATS = ("map", "ap50", "ap75", "small", "medium", "large")
CLASSES = 4  # of which the last has no boxes


def case(seed: int) -> dict:
    """Images with boxes, crowds, ties of scores, overlapping boxes, and none; one of 130 boxes."""
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for image in range(6):
        count = (0, 1, 5, 12, 130, 3)[image]
        corner = rng.integers(0, 300, (count, 2))
        size = rng.integers(4, 130, (count, 2))
        for (x, y), (w, h) in zip(corner.tolist(), size.tolist(), strict=True):
            label = 0 if image == 4 else int(rng.integers(CLASSES - 1))
            crowd = int(rng.random() < 0.15)
            truths.append([image, x, y, w, h, label, crowd, round(float(w * h * 0.7), 1)])
            for _ in range(int(rng.integers(0, 3))):
                dx, dy, dw, dh = rng.normal(0, 0.12, 4) * (w, h, w, h)
                box = [round(float(v), 2) for v in (x + dx, y + dy, max(1, w + dw), max(1, h + dh))]
                said = label if rng.random() < 0.8 else int(rng.integers(CLASSES))
                found.append([image, *box, said, round(float(rng.random()), 1)])  # ties
        for _ in range(4):
            x, y, w, h = (int(v) for v in rng.integers(5, 150, 4))
            found.append([image, x, y, w, h, int(rng.integers(CLASSES)), 0.5])
    return {"truths": truths, "found": found, "images": 6}


def judged(given: dict) -> dict:
    """What pycocotools says; its ids begin with 1, because it takes an annotation 0 for none."""
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(given["images"])],
        "categories": [{"id": c, "name": str(c)} for c in range(CLASSES)],
        "annotations": [
            {"id": n, "image_id": i, "bbox": [x, y, w, h], "category_id": c, "iscrowd": crowd,
             "area": area}
            for n, (i, x, y, w, h, c, crowd, area) in enumerate(given["truths"], 1)
        ],
    }  # fmt: skip
    coco.createIndex()
    rows = [[i, x, y, w, h, score, c] for i, x, y, w, h, c, score in given["found"]]
    evaluation = COCOeval(coco, coco.loadRes(np.array(rows)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    precision = evaluation.eval["precision"]  # (T, R, K, A, M)
    of_class = precision[:, :, :, 0, 2].mean((0, 1))
    return {
        **dict(zip(STATS, evaluation.stats[:6].tolist(), strict=True)),
        "recall": float(evaluation.stats[8]),
        "per_class": of_class.tolist(),
    }


def simple(seed: int) -> dict:
    """Like `case`, without crowds, ties, images of more than 100 detections, and what TIDE counts
    otherwise than COCO: a class without boxes (as 0), and images without (not at all).
    """
    given, rng = case(seed), np.random.default_rng(seed)
    truths = [[*row[:6], 0, row[7]] for row in given["truths"] if row[0] != 4]
    found = [[*row[:6], 0.0] for row in given["found"] if row[0] not in (0, 4) and row[5] < 3]
    for row, score in zip(found, rng.permutation(len(found)).tolist(), strict=True):
        row[-1] = round((score + 1) / (len(found) + 1), 6)
    return {"truths": truths, "found": found, "images": given["images"]}


def explained(given: dict) -> dict:
    """What TIDE says, in its own names of errors; the order is that of its paper."""
    truths, found = Data("truths"), Data("found")
    for data in (truths, found):
        for c in range(CLASSES - 1):
            data.add_class(c, str(c))
    for image, x, y, w, h, label, *_ in given["truths"]:
        truths.add_ground_truth(image, label, [x, y, w, h])
    for image, x, y, w, h, label, score in given["found"]:
        found.add_detection(image, label, score, [x, y, w, h])
    tide = TIDE()
    run = tide.evaluate(truths, found, mode=TIDE.BOX)
    costs, counts = run.fix_main_errors(), run.count_errors()
    return {
        "ap50": run.ap / 100,
        "errors": [[kind.short_name, counts[kind], costs[kind] / 100] for kind in costs],
    }


if __name__ == "__main__":
    cases = {"precision": [case(seed) for seed in range(3)]}
    cases["errors"] = [simple(seed) for seed in range(3)]
    with contextlib.redirect_stdout(io.StringIO()):
        for name, judge in (("precision", judged), ("errors", explained)):
            cases[name] = [{**one, "expected": judge(one)} for one in cases[name]]
    path = pathlib.Path(__file__).with_name("golden.json")
    path.write_text(json.dumps(cases, separators=(",", ":")) + "\n")
