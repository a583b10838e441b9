"""Conversion accounts for every name on both sides."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from parity import fixtures

from tl_jax import models
from tl_jax.base.load import from_state_dict
from tl_jax.errors import UserError
from tl_jax.weights.convert import Rule, dense_after, dense_of_conv, fill, find, keras_depthwise

RULES = [
    Rule(r"stem\.conv", "conv"),
    Rule(r"stem\.(?:norm|bn)", "conv/norm"),
    Rule(r"block\.(\d+)", lambda n: f"block{n + 1}"),
    Rule(r"not_in_this_variant", "absent"),
    Rule(r"aux\..*", None),
]


def convert(state, expected=None):
    return fill(find(state, RULES, keras=False), expected or EXPECTED)


STATE = {
    "block.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "stem.conv.weight": np.arange(120, dtype=np.float64).reshape(2, 3, 4, 5),
    "stem.norm.weight": np.ones(2, np.float16),
    "stem.norm.num_batches_tracked": np.array(7),
    "stem.norm.running_mean": np.zeros(2, np.float32),
}
EXPECTED = {
    "params": {
        "conv": {"kernel": np.empty((4, 5, 3, 2)), "norm": {"scale": np.empty(2)}},
        "block1": {"kernel": np.empty((3, 2))},
    },
    "batch_stats": {"conv": {"norm": {"mean": np.empty(2)}}},
}
PATH = {
    "block.0.weight": "params/block1/kernel",
    "stem.conv.weight": "params/conv/kernel",
    "stem.norm.weight": "params/conv/norm/scale",
    "stem.norm.running_mean": "batch_stats/conv/norm/mean",
}


def test_layouts_order_and_type_become_flaxs():
    variables = convert(STATE)
    # Axes as torch.nn.Conv2d and torch.nn.Linear document them
    for o, i, h, w in np.ndindex(2, 3, 4, 5):
        assert variables["params"]["conv"]["kernel"][h, w, i, o] == ((o * 3 + i) * 4 + h) * 5 + w
    assert variables["params"]["block1"]["kernel"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert variables["params"]["conv"]["norm"]["scale"].dtype == np.float32
    assert list(variables["params"]) == ["conv", "block1"]


@pytest.mark.parametrize("name", models.names())
def test_every_form_has_rules_for_its_classifier(name):
    family = models.family(name)
    for form in family.forms(name):
        paths = [rule.path for rule in family.rules(name, form) if isinstance(rule.path, str)]
        assert any(path.startswith("head/") for path in paths), form


@pytest.mark.parametrize(
    ("name", "keras", "module", "layer"),
    # Numbered as torchvision's Sequential counts: VGG's norms, ReLUs and poolings have numbers too.
    [
        ("vgg16", False, "features.5", "conv2_1"),
        ("vgg16_bn", False, "features.40", "conv5_3"),
        ("inception_resnet_v2", True, "conv2d_0", "conv1a"),
    ],
)
def test_numbers_in_a_files_names_become_layers(name, keras, module, layer):
    rules = models.family(name).rules(name, "keras" if keras else "torchvision")
    array = {f"{module}/kernel" if keras else f"{module}.weight": np.zeros((3, 3, 3, 3))}
    (path,) = find(array, rules, keras=keras).arrays
    assert path.startswith(f"params/{layer}/")


def test_keras_layouts_become_ours():
    rules = [
        Rule("conv", "conv", keras_depthwise),
        Rule("bn", "conv/norm"),
        Rule("preds", "head", dense_of_conv),
    ]
    state = {
        "conv/depthwise_kernel": np.arange(18.0).reshape(3, 3, 2, 1),
        "bn/gamma": np.ones(2),
        "bn/moving_variance": np.full(2, 5.0),
        "preds/kernel": np.arange(6.0).reshape(1, 1, 2, 3),
    }
    found = find(state, rules, keras=True).arrays
    assert found["params/conv/kernel"].shape == (3, 3, 1, 2)
    assert found["params/conv/kernel"][1, 2, 0].tolist() == [10, 11]
    assert found["params/head/kernel"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["batch_stats/conv/norm/var"].tolist() == [5, 5]


def test_a_dense_kernel_on_flattened_maps_is_turned_to_channels_last():
    images = np.random.default_rng(0).normal(size=(2, 5, 3, 3))  # (N, C, H, W)
    kernel = np.random.default_rng(1).normal(size=(4, 45))
    wanted = images.reshape(2, -1) @ kernel.T
    got = images.transpose(0, 2, 3, 1).reshape(2, -1) @ dense_after(3)(kernel)
    np.testing.assert_allclose(got, wanted)
    np.testing.assert_array_equal(
        dense_after(3)(kernel.reshape(4, 5, 3, 3)), dense_after(3)(kernel)
    )


def test_auxiliary_heads_are_left_out_and_that_is_said(caplog):
    with caplog.at_level("INFO"):
        variables = convert(STATE | {"aux.fc.weight": np.ones((2, 2)), "aux.fc.bias": np.ones(2)})
    assert str(variables) == str(convert(STATE))
    assert "left out 2 arrays that the base has no use for, such as aux.fc.weight" in caplog.text


@pytest.mark.parametrize("array", [np.ones(()), np.ones(7), np.ones((1, 2, 3))])
def test_a_kernel_that_cannot_be_turned_is_of_another_shape(array):
    for turn in (dense_after(3), dense_of_conv):
        found = find({"fc.weight": array}, [Rule("fc", "head", turn)], keras=False)
        with pytest.raises(UserError, match="of another shape"):
            fill(found, {"params": {"head": {"kernel": np.empty((9, 2))}}, "batch_stats": {}})


def test_a_net_without_batch_norm_keeps_its_empty_collection():
    expected = {"params": {"block1": EXPECTED["params"]["block1"]}, "batch_stats": {}}
    variables = convert({"block.0.weight": STATE["block.0.weight"]}, expected)
    assert variables["batch_stats"] == {}


@hypothesis.given(st.permutations(list(STATE)), st.sets(st.sampled_from(list(PATH))))
def test_any_order_is_taken_and_every_missing_name_is_told(order, dropped):
    state = {name: STATE[name] for name in order if name not in dropped}
    if dropped:
        with pytest.raises(UserError, match="the file lacks") as error:
            convert(state)
        assert all((PATH[name] in str(error.value)) == (name in dropped) for name in PATH)
    else:
        assert str(convert(state)) == str(convert(STATE))


@pytest.mark.parametrize(
    ("name", "array", "complaint"),
    [
        ("extra.weight", np.zeros(2), "the file also has 'extra.weight'"),
        (f"block.{'7' * 5000}.weight", np.zeros(2), "also has 'block.7777"),
        # Known to the table, but not in this variant
        ("not_in_this_variant.weight", np.zeros(2), "also has 'not_in_this_variant.weight'"),
        # A second source for the same parameter
        ("stem.bn.weight", np.ones(2), "also has 'stem.bn.weight'"),
        # Patterns are of whole names
        ("my.stem.conv.weight", np.zeros((2, 3, 4, 5)), "also has 'my.stem.conv.weight'"),
        ("stem.norm.weight", np.ones(3, np.float32), r"scale float32\(3,\) instead of .*\(2,\)"),
        # So many values as wanted, in another shape
        ("block.0.weight", np.zeros((3, 2), np.float32), r"block1/kernel float32\(2, 3\) instead"),
        ("block.0.weight", np.zeros(6, np.float32), r"block1/kernel float32\(6,\) instead"),
        # Quantised weights mean nothing without their scale.
        ("stem.norm.weight", np.ones(2, np.int8), r"norm/scale int8\(2,\) instead"),
    ],
)
def test_what_does_not_fit_is_named(name, array, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        convert(STATE | {name: array})
    assert "lacks" not in str(error.value)


def test_a_long_list_is_cut_and_a_name_stays_on_its_line():
    surplus = {f"extra\n{i}" + "x" * 1000: np.zeros(1) for i in range(7)}
    with pytest.raises(UserError, match="and 2 more") as error:
        convert(STATE | surplus)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_a_deeper_variants_file_is_refused_and_so_is_a_shallower_ones():
    def refusal(file: str, base: str) -> str:
        meta = fixtures.load(f"torchvision-{file}-224-s0").meta
        state = {name: np.zeros(shape, np.float32) for name, shape in meta["entries"]}
        with pytest.raises(UserError, match="another architecture") as error:
            from_state_dict(base, state)
        return str(error.value)

    deeper = refusal("resnet34", "resnet18")
    assert "also has 'layer1.2.conv1.weight'" in deeper and "lacks" not in deeper
    shallower = refusal("resnet18", "resnet34")
    assert "lacks batch_stats/stage1_block3/conv1/norm/mean" in shallower
    assert "besides" not in shallower
