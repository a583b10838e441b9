"""Every net of the zoo, in every form, against what its reference implementation answers.

The fixtures and where they are from: tests/parity/README.md.
"""

import functools
import pathlib
import re

import jax
import numpy as np
import pytest
from parity import fixtures

from tl_jax import models
from tl_jax.base.architecture import Architecture
from tl_jax.base.load import from_state_dict
from tl_jax.base.recognise import recognised
from tl_jax.chain.programs import forward

# Parameters as the reference implementations count them, auxiliary heads aside:
# https://pytorch.org/vision/stable/models.html; timm 1.0.31, Keras 3.15.1 and pretrainedmodels
# 0.7.4 for the others.
GOLDEN = {
    "alexnet": 61_100_840,
    "densenet121": 7_978_856,
    "densenet161": 28_681_000,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
    "efficientnet_lite3": 8_197_096,
    "efficientnet_lite4": 13_006_568,
    "inception_resnet_v2": 55_843_464,
    "inception_v1": 6_624_904,
    "inception_v2": 11_295_240,
    "inception_v3": 23_834_568,
    "inception_v4": 42_679_816,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v1_025": 470_072,
    "mobilenet_v1_050": 1_331_592,
    "mobilenet_v1_075": 2_585_560,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v2_035": 1_677_128,
    "mobilenet_v2_050": 1_968_680,
    "mobilenet_v2_075": 2_636_424,
    "mobilenet_v2_130": 5_386_792,
    "mobilenet_v2_140": 6_108_776,
    "mobilenet_v3_large": 5_483_032,
    "mobilenet_v3_small": 2_542_856,
    "resnet101": 44_549_160,
    "resnet101_v2": 44_577_896,
    "resnet152": 60_192_808,
    "resnet152_v2": 60_236_904,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet50_v2": 25_568_360,
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
    "wide_resnet101_2": 126_886_696,
    "wide_resnet50_2": 68_883_240,
}
# What the references call a variant, where it is something else
RENAMED = {
    "bninception": "inception_v2",
    "googlenet": "inception_v1",
    "inceptionresnetv2": "inception_resnet_v2",
    "inceptionv3": "inception_v3",
    "mobilenet": "mobilenet_v1",
    "mobilenetv1_100": "mobilenet_v1",
    "mobilenetv2": "mobilenet_v2",
    "mobilenetv2_050": "mobilenet_v2_050",
    "mobilenetv2_100": "mobilenet_v2",
    "mobilenetv2_140": "mobilenet_v2_140",
    "mobilenetv3_large_100": "mobilenet_v3_large",
    "mobilenetv3_small_100": "mobilenet_v3_small",
    "mobilenetv3large": "mobilenet_v3_large",
    "mobilenetv3small": "mobilenet_v3_small",
    "resnet50v2": "resnet50_v2",
    "resnet101v2": "resnet101_v2",
    "resnet152v2": "resnet152_v2",
}
LARGE = 6e6  # parameters
WIDTH = r"_(?:alpha|width_mult|channel_multiplier)"


def row(fixture: str) -> tuple[str, str, str | None]:
    """(fixture, variant, form); form None: the names of the weights tell."""
    source, arch, *_ = fixture.split("-")
    name, *width = re.split(WIDTH, arch.lower().removeprefix("tf_"))
    name = RENAMED.get(name, name) + "".join(f"_{round(100 * float(w)):03d}" for w in width)
    if arch.startswith("tf_"):
        return fixture, name, "timm_tf"
    return fixture, name, None


def kind(fixture: str) -> tuple:
    """Family, library, whether it is TensorFlow's form; `make test` has the smallest of a kind."""
    source, arch, *_ = fixture.split("-")
    return family(fixture), source, arch.startswith("tf_")


def family(fixture: str):
    return models.family(row(fixture)[1])


def grouped(items, key) -> dict:
    groups = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


@functools.cache
def size(fixture: str) -> tuple[int, int]:
    meta = fixtures.meta(fixture)
    return meta["parameters_without_aux"], meta["input_shape"][1]


ROWS = [row(fixture) for fixture in fixtures.names()]
SMALLEST = {
    by: {min(group, key=size) for group in grouped(fixtures.names(), by).values()}
    for by in (kind, family)
}
SLOW = ("keras-InceptionResNetV2", "pretrainedmodels-bninception", "timm-inception_v4")  # seconds
# Of nets whose weights take seconds to make, one of each family
QUICK = {n for n in SMALLEST[kind] if n in SMALLEST[family] or size(n)[0] < LARGE}
QUICK = {name for name in QUICK if not name.startswith(SLOW)}
MARKED = [
    pytest.param(*row, id=row[0], marks=[] if row[0] in QUICK else pytest.mark.slow)
    for row in ROWS
]


def close(got, wanted) -> bool:
    """Within 1e-4 of the largest absolute value: random weights make values of any size."""
    return np.abs(np.asarray(got) - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize(("fixture", "variant", "form"), MARKED)
def test_features_and_logits_are_the_references(fixture, variant, form):
    reference = fixtures.load(fixture)
    base = from_state_dict(variant, fixtures.state_dict(reference.meta), form=form)
    count = sum(leaf.size for leaf in jax.tree.leaves(base.variables["params"]))
    assert count == reference.meta["parameters_without_aux"]
    features = base.features(reference.inputs)
    assert close(features, reference.features)
    logits = forward(base.chain, base.variables, features, start=base.bottleneck)
    assert close(logits, reference.logits)


def test_every_variant_has_a_golden_size_and_every_form_a_parity_row():
    assert sorted(GOLDEN) == models.names()
    forms = {(name, form) for name in models.names() for form in models.family(name).forms(name)}
    shown = set()
    for fixture, name, form in ROWS:
        entries = fixtures.meta(fixture)["entries"]
        arrays = {array: np.broadcast_to(np.float32(0), shape) for array, shape in entries}
        shown.add((name, recognised(name, arrays, form)[0]))
    assert sorted(forms - shown) == []


@pytest.mark.parametrize("name", GOLDEN)
def test_parameter_count_is_the_published_one(name):
    architecture = Architecture(name, models.family(name).forms(name)[0])
    size = models.family(name).preprocessing(name, architecture.form).size
    variables, outputs = architecture.chain().shapes((1, size, size, 3))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == GOLDEN[name]
    assert outputs["head"].shape == (1, 1000)


def test_the_documented_zoo_has_every_variant_with_its_forms_and_size():
    document = pathlib.Path(__file__).parent.parent / "docs" / "bases.md"
    lines = {line.split()[0]: line for line in document.read_text().splitlines() if line.strip()}
    for name, parameters in GOLDEN.items():
        assert f" {', '.join(models.family(name).forms(name))} " in lines[name]
        assert f" {parameters:,} " in lines[name]
