"""The program that made torchvision_boxes.npz with torch 2.14.1 and torchvision 0.29.1:

    python tests/torchvision_boxes.py tests/torchvision_boxes.npz

Inputs, and what torchvision.ops makes of them; maps are NHWC here and NCHW there.
"""

import functools
import itertools
import sys

import numpy as np

ALIGNED = list(itertools.product((True, False), (1, 2, 3), (2, 7)))  # aligned, samples, size
THRESHOLDS = (0.3, 0.5, 0.7)


def inputs() -> dict[str, np.ndarray]:
    """Maps (2, 9, 12, 3), 10 boxes of each in pixels of an image 16 times as large, some outside
    it, some tiny; 40 boxes with scores, some of them equal, and classes.
    """
    draw = np.random.default_rng(0)
    corners = draw.uniform(-20, 180, (2, 10, 2))
    sides = draw.exponential(40, (2, 10, 2))
    sides[:, 0], corners[:, 1] = 0.5, (300, 10)
    many = draw.uniform(0, 60, (40, 2))
    many = np.concatenate([many, many + draw.uniform(10, 40, (40, 2))], -1)
    many[5] = many[4]
    return {
        "maps": draw.normal(size=(2, 9, 12, 3)),
        "boxes": np.concatenate([corners, corners + sides], -1),
        "many": many,
        "scores": np.round(draw.uniform(size=40), 1),
        "classes": draw.integers(0, 3, 40),
        "others": many[::-1] + draw.normal(size=(40, 4)) * 2,
    }


def main(path: str) -> None:
    import torch
    import torchvision.ops as ops

    given = {k: v.astype(np.float32) if v.dtype == float else v for k, v in inputs().items()}
    told = {name: torch.from_numpy(array) for name, array in given.items()}
    found = dict(given)
    boxes = list(told["boxes"])

    def of(name, function):
        maps = told["maps"].permute(0, 3, 1, 2).clone().requires_grad_()
        out = function(maps)
        found[name] = out.detach().permute(0, 2, 3, 1).reshape(2, 10, *out.shape[2:], 3).numpy()
        (out * torch.cos(torch.arange(out.numel()).reshape(out.shape))).sum().backward()
        found[f"{name}_gradient"] = maps.grad.permute(0, 2, 3, 1).numpy()

    for aligned, samples, size in ALIGNED:
        how = {"spatial_scale": 1 / 16, "sampling_ratio": samples, "aligned": aligned}
        align = functools.partial(ops.roi_align, boxes=boxes, output_size=size, **how)
        of(f"align_{aligned}_{samples}_{size}", align)
    for size in (2, 7):
        how = {"output_size": size, "spatial_scale": 1 / 16}
        of(f"max_{size}", functools.partial(ops.roi_pool, boxes=boxes, **how))
    for threshold in THRESHOLDS:
        args = told["many"], told["scores"]
        found[f"nms_{threshold}"] = ops.nms(*args, threshold).numpy()
        by_class = ops.batched_nms(*args, told["classes"], threshold)
        found[f"batched_nms_{threshold}"] = by_class.numpy()
    found["iou"] = ops.box_iou(told["many"], told["others"]).numpy()
    giou = ops.generalized_box_iou_loss(told["many"], told["others"])
    found["giou"] = 1 - giou.numpy()
    np.savez_compressed(path, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
