"""What is counted from shapes, against published figures, by hand, and by running the network."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import models
from tl_jax.chain.heads import Classifier
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.chain.programs import forward
from tl_jax.data.preprocessing import imagenet
from tl_jax.describe import layers, lectures, zoo
from tl_jax.describe.convolutions import comparisons
from tl_jax.errors import UserError
from tl_jax.models.layers import Conv, GlobalPool, MaxPool
from tl_jax.ops.cpu import onednn


def rows(name, form=None, size=None):
    family = models.family(name)
    form = form or family.forms(name)[0]
    size = size or family.preprocessing(name, form).size
    return layers(family.build(name, form), (1, size, size, 3))


def fields(name, form=None):
    """(layer, receptive field) of the layers that have positions."""
    return [(r.name, r.field[0]) for r in rows(name, form) if len(r.output) == 3]


# (parameters, GMACs) at the usual size: torchvision 0.29.2's metadata, `num_params` and `_ops`
TORCHVISION = {
    "alexnet": (61_100_840, 0.714),
    "vgg11": (132_863_336, 7.609),
    "vgg16": (138_357_544, 15.470),
    "vgg19_bn": (143_678_248, 19.632),
    "resnet18": (11_689_512, 1.814),
    "resnet34": (21_797_672, 3.664),
    "resnet50": (25_557_032, 4.089),
    "resnet152": (60_192_808, 11.514),
    "mobilenet_v2": (3_504_872, 0.301),
    "mobilenet_v3_large": (5_483_032, 0.217),
    "mobilenet_v3_small": (2_542_856, 0.057),
    "inception_v1": (6_624_904, 1.498),
    "densenet121": (7_978_856, 2.834),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_parameters_and_macs_of_torchvision(name):
    parameters, gmacs = TORCHVISION[name]
    found = rows(name, "torchvision")
    assert sum(r.parameters for r in found) == parameters
    assert sum(r.macs for r in found) / 1e9 == pytest.approx(gmacs, abs=0.0006)


# (million parameters, GMACs): timm's benchmark tables; the MobileNets: TF-slim's
OTHERS = {
    ("inception_v3", 299): (23.83, 5.73),
    ("inception_v4", 299): (42.68, 12.28),
    ("inception_resnet_v2", 299): (55.84, 13.18),
    ("mobilenet_v1", 224): (4.23, 0.569),
    ("mobilenet_v1", 128): (4.23, 0.186),
    ("mobilenet_v1_050", 224): (1.33, 0.150),
    ("mobilenet_v1_025", 224): (0.47, 0.041),
}


@pytest.mark.parametrize(("name", "size"), OTHERS)
def test_parameters_and_macs_of_others(name, size):
    millions, gmacs = OTHERS[name, size]
    found = rows(name, size=size)
    assert sum(r.parameters for r in found) / 1e6 == pytest.approx(millions, abs=0.006)
    assert sum(r.macs for r in found) / 1e9 == pytest.approx(gmacs, rel=0.015)


# Keras's table of applications, which counts running means and variances too
KERAS = {"resnet50": 25_636_712, "mobilenet_v1": 4_253_864, "inception_v3": 23_851_784}


@pytest.mark.parametrize("name", KERAS)
def test_parameters_and_statistics_of_keras(name):
    found = rows(name, "keras")
    assert sum(r.parameters + r.statistics for r in found) == KERAS[name]


# The README of google-research/receptive_field, for the nets of TF-slim
RECEPTIVE = {
    "vgg16": [3, 5, 6, 10, 14, 16, 24, 32, 40, 44, 60, 76, 92, 100, 132, 164, 196, 212],
    "alexnet": [11, 19, 51, 67, 99, 131, 163, 195],
    "mobilenet_v1": [3, 7, 11, 19, 27, 43, 59, 91, 123, 155, 187, 219, 251, 315],
    "inception_v2": [7, 11, 11, 19, 27, 59, 91, 123, 187, 251, 315, 379, 443, 571, 699],
    "inception_v3": [
        3, 7, 11, 15, 15, 23, 31, 63, 95, 127, 159, 351, 543, 735, 927, 1055, 1183, 1311
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", RECEPTIVE)
def test_published_receptive_fields(name):
    found = [field for _, field in fields(name)]
    assert found == RECEPTIVE[name]
    assert rows(name)[len(found) - 1].stride == (32, 32)


@pytest.mark.parametrize(("name", "field"), [("inception_v4", 2071), ("inception_resnet_v2", 3039)])
def test_published_receptive_field_of_the_last_map(name, field):
    assert fields(name)[-1][1] == field


def test_receptive_fields_of_the_resnet_with_strides_where_slim_has_them():
    """Keras's v2 has the stride in a stage's last block, as TF-slim has; torchvision has not."""
    found = dict(fields("resnet50_v2"))
    ends = ("stage1_block3", "stage2_block4", "stage3_block6", "stage4_block3")
    assert [found[name] for name in ends] == [35, 99, 291, 483]
    assert fields("resnet50")[-1] == ("stage4_block3", 427)


# Deep enough for joined branches and every kind of window, shallow enough to be run
PREFIXES = [
    ("alexnet", "pool1"),
    ("resnet18", "stage1_block2"),
    ("resnet50_v2", "stage1_block3"),
    ("efficientnet_lite0", "stage2_block2"),
    ("densenet121", "block1_layer2"),
    ("inception_v3", "conv4a"),
]


@pytest.mark.parametrize(("name", "layer"), PREFIXES)
def test_receptive_field_and_stride_by_what_reaches_the_output(monkeypatch, name, layer):
    """Rows of which one pixel is NaN make NaN of exactly the positions that see them."""
    monkeypatch.setattr(onednn, "available", lambda: False)  # its ReLU and maxima pass over NaN
    family = models.family(name)
    chain = family.build(name, family.forms(name)[0]).cut(layer)
    height = 96
    last = layers(chain, (1, height, 32, 3))[-1]
    x = np.ones((height, height, 32, 3), np.float32)
    x[range(height), range(height), 16] = np.nan  # image i has it in its row i
    found = np.asarray(forward(chain, chain.init(0, x.shape), jnp.asarray(x)))
    seen = np.isnan(found).any((2, 3))  # (row of the input, row of the output)
    extent = [np.ptp(np.flatnonzero(column)) + 1 for column in seen.T]
    middle = seen.shape[1] // 2
    assert last.field[0] < height / 2 and extent[middle] == last.field[0]
    first = [np.flatnonzero(column)[0] for column in seen.T[middle : middle + 2]]
    assert first[1] - first[0] == last.stride[0]


def test_a_gate_lets_every_position_see_all_but_no_convolution_does():
    found = {r.name: r for r in rows("mobilenet_v3_small")}
    gated = next(r for r in found.values() if r.field[0] == np.inf and len(r.output) == 3)
    assert gated.name == "stage1_block1" and gated.stride == (4, 4)  # the first with a gate
    assert gated.convs == (7, 7)  # 3, then 3x3 at stride 2


class Crossed(nn.Module):
    """What a receptive field cannot be told of."""

    def __call__(self, x):
        return x.transpose(0, 3, 1, 2)


def conv(features, kernel, stride=1, padding=0, **options):
    return Conv(features, kernel, stride, padding, bias=False, **options)


def text_rows(name, tokens):
    family = models.family(name)
    chain = family.build(name, family.forms(name)[0])
    return {row.name: row for row in layers(chain, jax.ShapeDtypeStruct((1, tokens), np.int32))}


def test_bert_as_its_paper_has_it():
    """109,482,240 parameters with the pooler, a dense layer that this chain has not."""
    t, d, words, positions = 100, 768, 30_522, 512
    rows = text_rows("bert_base", t)
    assert sum(r.parameters for r in rows.values()) - rows["head"].parameters == (
        109_482_240 - d * (d + 1)
    )
    assert rows["embed"].parameters == (words + positions + 2 + 2) * d and rows["embed"].macs == 0
    attention, dense = 4 * t * d * d + 2 * t * t * d, 2 * t * d * 4 * d
    assert rows["block12"].macs == attention + dense
    assert rows["block12"].output == (t, d) and rows["pool"].field == rows["pool"].stride == ()
    assert rows["head"].macs == d * 1000


def test_awd_lstm_as_fastai_builds_it():
    """With one bias a gate, 60,000 words, and a decoder that has nothing but its bias."""
    t, words, steps = 10, 60_000, [(400, 1152), (1152, 1152), (1152, 400)]
    rows = text_rows("awd_lstm", t)
    recurrent = [rows[f"lstm{number}"] for number in (1, 2, 3)]
    assert sum(r.parameters for r in recurrent) == 20_262_464
    assert sum(r.parameters for r in rows.values()) == 20_262_464 + words * 400 + words
    assert [r.macs for r in recurrent] == [t * 4 * h * (d + h) for d, h in steps]
    assert rows["decode"].macs == t * 400 * words and rows["decode"].parameters == words


def test_by_hand():
    chain = Network(
        (
            Layer("wide", conv(4, (1, 7))),
            Layer("pool", MaxPool(3, 2)),
            Layer("depthwise", conv(4, 3, depthwise=True)),
            Layer("global", GlobalPool()),
            Layer("head", Classifier(5)),
        )
    )
    wide, pool, depthwise, everything, head = layers(chain, (1, 20, 27, 3))
    assert wide.output == (20, 21, 4) and wide.macs == 20 * 21 * 4 * 7 * 3
    assert wide.field == wide.convs == (1, 7) and wide.stride == (1, 1)
    assert pool.output == (9, 10, 4) and pool.macs == pool.parameters == 0
    assert pool.field == (3, 9) and pool.convs == (1, 7) and pool.stride == (2, 2)
    assert depthwise.output == (7, 8, 4) and depthwise.macs == 7 * 8 * 4 * 9
    assert depthwise.field == (7, 13) and depthwise.convs == (5, 11)
    assert everything.field == head.convs == (np.inf, np.inf) and head.stride == (0, 0)
    assert head.macs == 4 * 5 and head.parameters == 25
    twice = layers(chain, (2, 20, 27, 3))
    assert [r.macs for r in twice] == [2 * r.macs for r in layers(chain, (1, 20, 27, 3))]


def test_what_cannot_be_told_is_not_guessed():
    with pytest.raises(NotImplementedError, match="transpose"):
        layers(Network((Layer("crossed", Crossed()),)), (1, 8, 8, 3))


def test_too_small_an_input():
    with pytest.raises(UserError, match="15 x 15 pixels are too small: .* 'pool2'"):
        rows("alexnet", size=15)


def test_separable_convolution_as_computed_in_the_lecture():
    whole, parts = comparisons()[0].variants
    assert whole.macs == 8 * 8 * 256 * 5 * 5 * 3 == 1_228_800
    assert [r.macs for r in parts.rows] == [4_800, 49_152]
    # Howard et al. 2017, section 3.1: 1 / outputs + 1 / kernel area
    assert parts.macs / whole.macs == pytest.approx(1 / 256 + 1 / 25)
    assert whole.rows[-1].output == parts.rows[-1].output == (8, 8, 256)


def test_factorisations_keep_output_and_receptive_field():
    weights = []
    for _, (whole, parts) in comparisons()[1:]:
        assert whole.rows[-1].output == parts.rows[-1].output
        assert whole.rows[-1].field == parts.rows[-1].field
        weights.append((whole.weights, parts.weights))
    assert weights == [(25, 18), (9, 6), (49, 14)]


VERDICTS = [
    ("37M", 37_752_832, "agrees"),  # cut
    ("38M", 37_752_832, "agrees"),  # rounded
    ("884K", 884_736, "agrees"),
    ("11.2M", 11_295_240, "agrees"),
    ("60M", 61_100_840, "1,100,840 fewer than counted (1.8 %)"),
    ("55.8M", 42_679_816, "13,120,184 more than counted (30.7 %)"),
    ("134,268,737", 134_268_737, "agrees"),
    ("134,268,737", 134_268_738, "1 fewer than counted"),
]


@pytest.mark.parametrize(("stated", "counted", "said"), VERDICTS)
def test_verdict_on_a_stated_figure(stated, counted, said):
    assert lectures.verdict(stated, counted) == said


# Figures that were worked out by hand from the layers' shapes
REMARKS = {
    "vgg16": ["1 fewer than counted with 2 outputs (134,268,738)", "134,264,641", "134,858,818"],
    "alexnet": ["1,100,840 fewer", "60,965,224 (agrees)", "884,736 is conv3", "here conv4"],
    "inception_v1": ["1,624,904 fewer than counted (24.5 %)", "69.78 %", "5,599,904"],
    "inception_v2": ["11.2M parameters: agrees"],
    "inception_v3": ["23.8M parameters: agrees", "timm:gluon_in1k 78.81 %"],
    "inception_v4": ["13,120,184 more", "has 55,843,464 (agrees)", "80.14 % / 94.98 %"],
    "inception_resnet_v2": ["55.8M parameters: agrees"],
    "resnet18": [],
}


@pytest.mark.parametrize("name", REMARKS)
def test_what_lectures_say(name):
    said = lectures.remarks(name, rows(name))
    assert all(figure in " ".join(said) for figure in REMARKS[name])
    assert bool(said) == bool(REMARKS[name])


def test_layers_that_a_lecture_names():
    said = lectures.notes("alexnet", rows("alexnet"))
    assert {layer: text.split()[-1] for layer, text in said.items()} == {
        "conv4": "884K", "fc6": "37M", "fc7": "16M", "head": "4M"
    }  # fmt: skip


def test_a_registered_base_can_be_an_entry_of_the_zoo(monkeypatch):
    resnet = models.family("resnet18").build("resnet18", "torchvision")
    own = models.Registered(lambda classes: resnet, imagenet(64, 64), ())
    monkeypatch.setitem(models._families(), "own_net", own)
    entry = zoo.entry("own_net")
    assert (entry.family, entry.forms, entry.size, entry.top1) == ("", ("own",), 64, None)
    assert entry.parameters == zoo.entry("resnet18").parameters


def test_an_entry_of_the_zoo_is_of_its_best_weights():
    entry = zoo.entry("resnet50")
    assert (entry.weights, entry.top1) == ("torchvision:IMAGENET1K_V2", 80.858)
    assert entry.size == 224 and entry.macs / 1e9 == pytest.approx(4.089, abs=0.0006)
    assert entry.family == "resnet" and entry.forms[0] == "torchvision"


def test_ranking():
    def entry(name, top1):
        return zoo.Entry(name, "f", ("timm",), 224, 1, 1, top1, "")

    entries = [entry("b", None), entry("c", 70.0), entry("a", None), entry("d", 71.5)]
    assert [e.name for e in zoo.ranked(entries)] == ["d", "c", "a", "b"]
