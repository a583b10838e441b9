"""What is said of arguments that a function does not take: one line with what it takes."""

import functools
import re

import numpy as np
import pytest
import safetensors.numpy
from parity import fixtures

import tl_jax
from tl_jax import models
from tl_jax.base.load import from_state_dict, load_base
from tl_jax.chain.variables import fingerprint
from tl_jax.errors import UserError
from tl_jax.weights.torch_file import sha256


@functools.cache
def small():
    """ResNet-18 for inputs of 64 pixels."""
    return load_base("resnet18", "random:1").resized(64)


def line(function) -> str:
    with pytest.raises(UserError) as error:
        function()
    (line,) = str(error.value).splitlines()
    return line


IMAGES = np.zeros((1, 64, 64, 3), np.float32)
WHOLE = "takes a whole number, at least "


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: load_base("resnet18", ""), "weights= takes a file, or a name such as .*; got ''"),
        (lambda: load_base("resnet18", 3), "weights= takes a file, or a name .*; got 3"),
        (lambda: load_base(None), "load_base takes the name of an architecture.*; got None"),
        (lambda: load_base(""), "load_base takes the name of an architecture, or the path"),
        (lambda: load_base("resnet18", f"random:{2**63}"), f"a seed {WHOLE}0 .*; got {2**63}"),
        (lambda: load_base("resnet18", "random:" + "9" * 5000), "weights 'random:9+: .* a seed"),
        (lambda: small().cut(None), "a cut takes the name of a layer; got None"),
        (lambda: small()(IMAGES, layer=3), "layer= takes the name of a layer; got 3"),
        (lambda: small().features(IMAGES, layer=3), "layer= takes the name of a layer; got 3"),
        (lambda: small().with_head("3"), f"classes= {WHOLE}1 and at most 100000; got '3'"),
        (lambda: small().with_head(True), f"classes= {WHOLE}1 .*; got True"),
        (lambda: small().with_head(5.0), f"classes= {WHOLE}1 .*; got 5.0"),
        (lambda: small().with_head(np.ones(3, int)), f"classes= {WHOLE}1 .*; got array"),
        (lambda: small().with_head(5, seed=-1), f"a seed {WHOLE}0 and at most {2**63 - 1}; got -1"),
        (lambda: small().with_head(5, seed=2**63), f"a seed {WHOLE}0 .*; got {2**63}"),
        (lambda: small().with_head(5, seed="1"), f"a seed {WHOLE}0 .*; got '1'"),
        (lambda: small().with_head(5, cut=3), "a cut takes the name of a layer; got 3"),
        (lambda: small().with_head(5, head=3), "head= takes the name of a head; got 3"),
        (lambda: small().with_head(5, dropout="1"), "dropout= takes a share from 0 .*; got '1'"),
        (lambda: small().with_channels("1"), f"channels= {WHOLE}1 and at most 1024; got '1'"),
        (lambda: small().resized("224"), f"size= {WHOLE}1 and at most 4096; got '224'"),
        (lambda: small().resized(224.0), f"size= {WHOLE}1 .*; got 224.0"),
        (lambda: small().resized(crop="1"), "crop= takes a share up to 1; got '1'"),
    ],
)
def test_what_an_argument_takes_is_said(call, said):
    assert re.match(said, line(call))


def test_whole_numbers_of_numpy_are_whole_numbers():
    base = small().with_head(np.int64(3), seed=np.uint32(1))
    assert fingerprint(base.variables) == fingerprint(small().with_head(3, seed=1).variables)
    assert small().with_head(3, seed=2**63 - 1).architecture.classes == 3
    assert small().resized(np.int32(65)).preprocessing.size == 65


def test_the_form_is_checked_whatever_the_weights_are(tmp_path):
    assert load_base("resnet50", "random:0", form="keras").architecture.form == "keras"
    assert load_base("resnet50", "random:0").architecture.form == "torchvision"
    small().save(tmp_path / "base.safetensors")
    state = fixtures.state_dict(fixtures.load("torchvision-resnet18-224-s0").meta)
    safetensors.numpy.save_file(state, tmp_path / "plain.safetensors")
    for weights in ("random:0", tmp_path / "base.safetensors", tmp_path / "plain.safetensors"):
        assert load_base("resnet18", weights, form="torchvision").architecture.form == "torchvision"
        for form in ("torchvison", "pip", 3):
            said = line(lambda w=weights, f=form: load_base("resnet18", w, form=f))
            assert said.startswith(f"unknown form of resnet18 '{form}'; ")
            assert "'torchvision'" in said or "known: " in said
    assert "unknown form" in line(lambda: from_state_dict("resnet18", state, form="pip"))
    load_base("resnet50", "random:0").save(tmp_path / "fifty.safetensors")
    said = line(lambda: load_base("resnet18", f"{tmp_path / 'base.safetensors'}#ema"))
    assert "which holds one net, takes no '#'; got 'ema'" in said
    for name in ((tmp_path / "fifty.safetensors",), ("resnet50", tmp_path / "fifty.safetensors")):
        said = line(lambda n=name: load_base(*n, form="keras"))
        assert "is a resnet50 of the form 'torchvision', not 'keras'" in said


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("mobilenetv2_100", "mobilenet_v2"),
        ("mobilenetv2_140", "mobilenet_v2_140"),
        ("mobilenetv3_large_100.ra_in1k", "mobilenet_v3_large"),
        ("tf_mobilenetv3_small_100", "mobilenet_v3_small"),
        ("tf_efficientnet_lite0", "efficientnet_lite0"),
        ("inceptionv3", "inception_v3"),
        ("InceptionV3", "inception_v3"),
        ("InceptionResNetV2", "inception_resnet_v2"),
        ("ResNet50", "resnet50"),
        ("ResNet50V2", "resnet50_v2"),
        ("MobileNet", "mobilenet_v1"),
        ("MobileNetV3Large", "mobilenet_v3_large"),
        ("DenseNet121", "densenet121"),
        ("vgg16.tv_in1k", "vgg16"),
        ("resnet18.a1_in1k", "resnet18"),
    ],
)
def test_what_timm_and_keras_call_an_architecture_is_answered_with_our_name(theirs, ours):
    said = line(lambda: load_base(theirs, "random:0"))
    assert said == f"unknown base {theirs!r}; did you mean {ours!r}?"
    assert ours in models.names()


def test_layers_that_differ_by_a_number_are_named_in_forward_order():
    blocks = [f"stage{s}_block{b}" for s in (1, 2, 3, 4) for b in (1, 2)]
    for call in (lambda: small().cut("stage9"), lambda: small()(IMAGES, layer="stage9")):
        said = line(call)
        assert said == f"unknown layer 'stage9'; did you mean {' or '.join(map(repr, blocks))}?"
    said = line(lambda: small().cut("zzz"))
    assert said.endswith("known: " + ", ".join(["stem", *blocks, "pool"]))  # not the classifier
    assert "'head'" not in line(lambda: small().cut("heads"))
    bare = small().with_head(3, cut="stage2_block1").cut("stage2_block1")
    for base in (bare, small().with_head(3, cut="stage2_block1")):
        wanted = ["stem", *blocks[:3]]
        assert line(lambda b=base: b.cut("zzz")).endswith("known: " + ", ".join(wanted))


def test_a_batch_for_the_preprocessing_is_a_list_of_images():
    batch = np.zeros((2, 9, 9, 3), np.uint8)
    said = line(lambda: small().preprocessing(batch))
    assert said == "several images are a list of images; got one array (2, 9, 9, 3)"
    assert small().preprocessing(list(batch)).shape == (2, 64, 64, 3)


def test_an_adapted_stem_is_not_to_be_adapted():
    pixels = np.zeros((1, 64, 64, 3), np.uint8)
    said = line(lambda: small().with_channels(4).preprocessing.normalise(pixels))
    assert "adapt its stem" not in said
    assert "images of 3 channels for a base of 4" in said and "config.channels" in said
    said = line(lambda: small().preprocessing.normalise(pixels[..., :2]))
    assert said.endswith("adapt its stem, channels=2 (Base.with_channels)")


def test_the_digest_of_the_weight_file_stays_with_the_base(tmp_path):
    assert small().digest == ""
    small().save(tmp_path / "base.safetensors")
    digest = sha256(tmp_path / "base.safetensors")
    for args in ((tmp_path / "base.safetensors",), ("resnet18", tmp_path / "base.safetensors")):
        base = tl_jax.load_base(*args)
        assert base.digest == base.with_head(3).resized(65).cut("stem").digest == digest
