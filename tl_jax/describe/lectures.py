"""Figures that the lectures on transfer learning state, compared with counts of this library."""

import functools
from collections.abc import Sequence

from tl_jax import models
from tl_jax.describe.layers import Row, layers
from tl_jax.weights.published import Published

SUBJECTS = {  # of lectures that state figures; lecture 001 states none
    0: "representation learning",
    2: "transfer learning, MobileNet",
    3: "Inception, transfer, multi-task learning",
    4: "transfer learning with few images",
}
# Lecture 003: parameters, top-1 and top-5 in percent. The last two share one line there,
# "Inception v4/Inception-ResNet".
INCEPTIONS = {
    "inception_v1": ("5M", 69.8, 89.9),
    "inception_v2": ("11.2M", 74.8, 92.2),
    "inception_v3": ("23.8M", 78.8, 94.4),
    "inception_v4": ("55.8M", 80.1, 95.1),
    "inception_resnet_v2": ("55.8M", 80.1, 95.1),
}
STATED = {"fc6": "37M", "fc7": "16M", "head": "4M"}  # lecture 004, of AlexNet
# AlexNet in two groups (Krizhevsky et al. 2012, figure 2): (kernel, inputs of a group, outputs) of
# the convolutions, then of the dense layers
GROUPED = ((11, 3, 96), (5, 48, 256), (3, 256, 384), (3, 192, 384), (3, 192, 256))
GROUPED_DENSE = ((6, 256, 4096), (1, 4096, 4096), (1, 4096, 1000))
CONV3_OF_2012 = 3 * 3 * 256 * 384  # the parameters of its kernel, without biases


def cite(lecture: int) -> str:
    """Return the lecture's number and subject."""
    return f"lecture {lecture:03d} ({SUBJECTS[lecture]})"


# timm's figures are from its results on ImageNet.
BEST = (
    f"{cite(3)}: the best on ImageNet has 480M parameters and 88.5 % / 98.7 %; it is not named. "
    "timm's tf_efficientnet_l2.ns_jft_in1k has 480.3M and 88.4 % / 98.7 %; it is not in this zoo"
)


def verdict(stated: str, counted: int) -> str:
    """Return 'agrees' if `stated` ("37M", "884K", "134,268,737") is `counted`, rounded or
    truncated; otherwise by how much it differs.
    """
    digits = stated.rstrip("KM")
    unit = {"": 1, "K": 10**3, "M": 10**6}[stated[len(digits) :]]
    last = unit / 10 ** len(digits.partition(".")[2])
    difference = round(float(digits.replace(",", "")) * unit) - counted
    if abs(difference) < last:
        return "agrees"
    share = 100 * abs(difference) / counted
    percent = f" ({share:.1f} %)" if share >= 0.05 else ""
    return f"{abs(difference):,} {'more' if difference > 0 else 'fewer'} than counted{percent}"


def notes(name: str, rows: Sequence[Row]) -> dict[str, str]:
    """Return what lectures state about single layers of the whole architecture `name`, by layer."""
    if name != "alexnet":
        return {}
    stated = {r.name: f"lecture 004: {STATED[r.name]}" for r in rows if r.name in STATED}
    return stated | {_as_conv3_of_2012(rows).name: "lecture 004: 884K"}


def remarks(name: str, rows: Sequence[Row]) -> list[str]:
    """Return what lectures state about the architecture `name`; `rows` are for 1000 classes."""
    if name == "vgg16":
        return _vgg16(rows)
    if name == "alexnet":
        return _alexnet(rows)
    return _inception(name, rows) if name in INCEPTIONS else []


def _vgg16(rows: Sequence[Row]) -> list[str]:
    stated = "134,268,737"
    one, two = _parameters("vgg16", 1), _parameters("vgg16", 2)
    drawn = two + next(r.parameters for r in rows if r.name == "conv3_3")
    return [
        f"{cite(2)}: {stated} parameters: {verdict(stated, two)} with 2 outputs ({two:,}); with "
        f"1 output there are {one:,}, so no number of outputs gives the lecture's",
        f"{cite(0)}: the VGG drawn has 14 convolutions (four of 256 channels), neither VGG16's 13 "
        f"nor VGG19's 16; with its 2 outputs: {drawn:,} parameters",
    ]


def _alexnet(rows: Sequence[Row]) -> list[str]:
    total, of_2012 = sum(r.parameters for r in rows), grouped_alexnet()
    conv = _as_conv3_of_2012(rows)
    dense = {r.name: verdict(STATED[r.name], r.parameters) for r in rows if r.name in STATED}
    return [
        f"{cite(4)}: 60M parameters: {verdict('60M', total)}; the net of 2012, in two groups, has "
        f"{of_2012:,} ({verdict('60M', of_2012)}), and this is torchvision's, without groups",
        f"{cite(4)}: fc6, fc7 and fc8 (here: head) with "
        + ", ".join(f"{STATED[name]} ({agrees})" for name, agrees in dense.items()),
        f"{cite(4)}: a layer with 1 % of the parameters (884K): {CONV3_OF_2012:,} is conv3 of the "
        f"net of 2012 without biases, {100 * CONV3_OF_2012 / of_2012:.1f} % of it; here "
        f"{conv.name} has as many, and {conv.output[-1]} biases",
    ]


def _as_conv3_of_2012(rows: Sequence[Row]) -> Row:
    return next(r for r in rows if r.parameters - r.output[-1] == CONV3_OF_2012)


def grouped_alexnet() -> int:
    """Return the number of parameters of the AlexNet of 2012, biases included."""
    return sum(k * k * i * o + o for k, i, o in GROUPED + GROUPED_DENSE)


def _inception(name: str, rows: Sequence[Row]) -> list[str]:
    stated, top1, top5 = INCEPTIONS[name]
    total = sum(r.parameters for r in rows)
    parameters = f"{cite(3)}: {stated} parameters: {verdict(stated, total)}"
    if name == "inception_v1":
        parameters += (
            f". Without the classifier there are {total - rows[-1].parameters:,}; the paper "
            "(arXiv:1409.4842, section 1) says 12 times fewer than AlexNet, and "
            f"{grouped_alexnet():,} / 12 is {grouped_alexnet() / 12e6:.1f}M"
        )
    if name == "inception_v4":
        other = _parameters("inception_resnet_v2")
        parameters += (
            f". It gives v4 and Inception-ResNet one figure: inception_resnet_v2 has {other:,} "
            f"({verdict(stated, other)})"
        )
    published = models.published(name)
    accuracies = [f"{weights} {_accuracy(p)}" for weights, p in published.items() if p.top1]
    accuracy = f"{cite(3)}: top-1 / top-5 {top1} % / {top5} %; published: {_list(accuracies)}"
    return [parameters, accuracy]


def _accuracy(p: Published) -> str:
    return " / ".join(f"{top:.4g} %" for top in (p.top1, p.top5) if top)


def _list(texts: Sequence[str]) -> str:
    return ", ".join(texts) or "none known"


@functools.cache
def _parameters(name: str, classes: int = 1000) -> int:
    """Return the number of parameters of an architecture's first form, for its usual input."""
    family = models.family(name)
    form = family.forms(name)[0]
    size = family.preprocessing(name, form).size
    return sum(r.parameters for r in layers(family.build(name, form, classes), (1, size, size, 3)))
