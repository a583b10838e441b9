"""Writes golden.json: average precisions by pycocotools of detections with every hard case.

python -m venv VENV && VENV/bin/pip install pycocotools==2.0.11 numpy==2.4.6
VENV/bin/python tests/detection/make.py
"""

import contextlib
import io
import json
import pathlib

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

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


if __name__ == "__main__":
    cases = [case(seed) for seed in range(3)]
    with contextlib.redirect_stdout(io.StringIO()):
        cases = [{**one, "expected": judged(one)} for one in cases]
    path = pathlib.Path(__file__).with_name("golden.json")
    path.write_text(json.dumps(cases, separators=(",", ":")) + "\n")
