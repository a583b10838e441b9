"""A base goes back under the names of the library that its architecture is from."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from parity import fixtures
from test_parity import ROWS, SMALLEST, kind

from tl_jax import models
from tl_jax.base.load import from_state_dict, load_base
from tl_jax.errors import UserError
from tl_jax.weights import convert

# torch.nn.BatchNorm2d counts in int64
COUNTER = np.asarray(7, np.int64)
QUICK = "torchvision-mobilenet_v2_width_mult0.35-64-s1"
ONE_OF_A_KIND = [
    pytest.param(*row, id=row[0], marks=[] if row[0] == QUICK else pytest.mark.slow)
    for row in ROWS
    if row[0] in SMALLEST[kind] and not row[0].startswith("keras-")
]


def reference(fixture: str, path) -> dict[str, np.ndarray]:
    """The weights as the reference has them, also in a file at the path."""
    state = fixtures.state_dict(fixtures.meta(fixture))
    state |= {name: COUNTER for name in state if name.endswith("num_batches_tracked")}
    safetensors.numpy.save_file(state, path)
    return state


def back(base, tmp_path, names) -> dict[str, np.ndarray]:
    base.save(tmp_path / "back.safetensors", names=names)
    return safetensors.numpy.load_file(tmp_path / "back.safetensors")


@pytest.mark.parametrize(("fixture", "variant", "form"), ONE_OF_A_KIND)
def test_what_was_read_is_written_under_its_names_in_its_layout(fixture, variant, form, tmp_path):
    state = reference(fixture, tmp_path / "theirs.safetensors")
    found = back(
        from_state_dict(variant, state, form=form), tmp_path, tmp_path / "theirs.safetensors"
    )
    rules = models.family(variant).rules(variant, form or models.family(variant).forms(variant)[0])
    left_out = [rule.pattern for rule in rules if rule.path is None]
    kept = {n: a for n, a in state.items() if not any(re.match(one, n) for one in left_out)}
    assert found.keys() == kept.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, kept[name], strict=True)


def test_a_kernel_after_maps_gets_the_shape_that_the_file_has():
    """As torchvision's classifier.0 (D, C * 3 * 3) and as timm's pre_logits.fc1 (D, C, 3, 3)."""
    rules = [convert.Rule("fc", "fc/Dense_0", convert.dense_after(3))]
    for shape in ((5, 18), (5, 2, 3, 3)):
        state = {"fc.weight": np.random.default_rng(0).random(shape, np.float32)}
        found = convert.find(state, rules, keras=False)
        (array,) = convert.named(found.arrays, found, state, rules).values()
        np.testing.assert_array_equal(array, state["fc.weight"], strict=True)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """Files of torchvision's and timm's MobileNet v2, 0.35 wide."""
    folder = tmp_path_factory.mktemp("theirs")
    names = {
        "torchvision": "torchvision-mobilenet_v2_width_mult0.35-64-s1",
        "timm": "timm-mobilenetv2_100_channel_multiplier0.35-65-s1",
    }
    for library, fixture in names.items():
        reference(fixture, folder / library)
    return folder


@pytest.fixture(scope="module")
def base(theirs):
    return load_base("mobilenet_v2_035", theirs / "torchvision").resized(32)


def test_a_tuned_base_has_its_own_head_and_its_classes_beside(base, theirs, tmp_path):
    tuned = dataclasses.replace(base.with_channels(1).with_head(3), classes=("a", "b", "c"))
    found = back(tuned, tmp_path, theirs / "torchvision")
    assert found["classifier.1.weight"].shape == (3, 1280)
    assert found["features.0.0.weight"].shape == (16, 1, 3, 3)
    kernel = tuned.variables["params"]["head"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(found["classifier.1.weight"], kernel.T)
    with safetensors.safe_open(tmp_path / "back.safetensors", "numpy") as file:
        about = file.metadata()
    assert about["format"] == "pt" and json.loads(about["classes"]) == ["a", "b", "c"]
    assert json.loads(about["preprocessing"])["size"] == 32


def test_one_net_goes_to_both_libraries(base, theirs, tmp_path):
    found = back(base.with_head(3), tmp_path, theirs / "timm")
    assert found["classifier.weight"].shape == (3, 1280)
    again = load_base("mobilenet_v2_035", tmp_path / "back.safetensors").variables
    jax.tree.map(np.testing.assert_array_equal, again, base.with_head(3).variables)


def test_a_base_below_its_classifier_gives_a_file_without_one(base, theirs, tmp_path):
    found = back(base.cut("pool"), tmp_path, theirs / "torchvision")
    whole = safetensors.numpy.load_file(theirs / "torchvision")
    assert found.keys() == whole.keys() - {"classifier.1.weight", "classifier.1.bias"}


REFUSED = {
    "a lower cut": (
        lambda base: base.with_head(3, cut="stage3_block1"),
        "is no longer the net of torchvision: it lacks params/stage3_block2/depthwise/kernel",
    ),
    "another head": (
        lambda base: base.with_head(3, cut="top", head="concat_pool"),
        "it has another params/head/Dense_0/kernel",
    ),
    "a wider one": (
        lambda base: base.widened("stage1_block1", 1.5),
        "it has another .*params/stage1_block1/project/kernel",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_library_has_no_place_for_is_refused(base, theirs, tmp_path, what):
    changed, message = REFUSED[what]
    with pytest.raises(UserError, match=message):
        back(changed(base), tmp_path, theirs / "torchvision")
    assert not list(tmp_path.iterdir())


def test_other_files_are_refused(base, theirs, tmp_path):
    base.save(tmp_path / "ours.safetensors")
    safetensors.numpy.save_file({"fc.weight": np.zeros(3)}, tmp_path / "other")
    state = safetensors.numpy.load_file(theirs / "torchvision")
    safetensors.numpy.save_file(state | {"extra.weight": np.zeros(3)}, tmp_path / "more")
    for names, message in {
        "ours.safetensors": "tl_jax's own names",
        "other": "does not have the names of this mobilenet_v2_035.* give a file of torchvision or",
        "more": "not of a mobilenet_v2_035 alone, it has extra.weight",
    }.items():
        with pytest.raises(UserError, match=message):
            back(base, tmp_path, tmp_path / names)
    with pytest.raises(UserError, match="unknown mobilenet_v2_035 weights"):
        back(base, tmp_path, "torchvision:IMAGENET")


@pytest.mark.slow
def test_nets_without_a_way_back_are_refused(theirs, tmp_path):
    for name, form, message in (
        ("mobilenet_v2_035", "keras", "this net is Keras's"),
        ("awd_lstm", None, "no way back"),
    ):
        other = load_base(name, "random:0", form=form)
        with pytest.raises(UserError, match=message):
            back(other, tmp_path, theirs / "torchvision")
