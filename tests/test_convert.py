"""Conversion accounts for every name on both sides."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from parity import fixtures

from tl_jax import models
from tl_jax.errors import UserError
from tl_jax.pretrained.convert import convert

TABLE = [
    (r"stem\.conv\.weight", "params/conv/kernel"),
    (r"stem\.norm\.(weight|gamma)", "params/conv/norm/scale"),
    (r"stem\.norm\.running_mean", "batch_stats/conv/norm/mean"),
    (r"block\.(\d)\.weight", r"params/block\1/kernel"),
    (r"not_in_this_variant\.weight", "params/absent/kernel"),
]
STATE = {
    "block.1.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
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
    "block.1.weight": "params/block1/kernel",
    "stem.conv.weight": "params/conv/kernel",
    "stem.norm.weight": "params/conv/norm/scale",
    "stem.norm.running_mean": "batch_stats/conv/norm/mean",
}


def test_layouts_order_and_type_become_flaxs():
    variables = convert(STATE, TABLE, EXPECTED)
    # Axes as torch.nn.Conv2d and torch.nn.Linear document them
    for o, i, h, w in np.ndindex(2, 3, 4, 5):
        assert variables["params"]["conv"]["kernel"][h, w, i, o] == ((o * 3 + i) * 4 + h) * 5 + w
    assert variables["params"]["block1"]["kernel"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert variables["params"]["conv"]["norm"]["scale"].dtype == np.float32
    assert list(variables["params"]) == ["conv", "block1"]


def test_a_net_without_batch_norm_keeps_its_empty_collection():
    expected = {"params": {"block1": EXPECTED["params"]["block1"]}, "batch_stats": {}}
    variables = convert({"block.1.weight": STATE["block.1.weight"]}, TABLE, expected)
    assert variables["batch_stats"] == {}


@hypothesis.given(st.permutations(list(STATE)), st.sets(st.sampled_from(list(PATH))))
def test_any_order_is_taken_and_every_missing_name_is_told(order, dropped):
    state = {name: STATE[name] for name in order if name not in dropped}
    if dropped:
        with pytest.raises(UserError, match="the file lacks") as error:
            convert(state, TABLE, EXPECTED)
        assert all((PATH[name] in str(error.value)) == (name in dropped) for name in PATH)
    else:
        assert str(convert(state, TABLE, EXPECTED)) == str(convert(STATE, TABLE, EXPECTED))


@pytest.mark.parametrize(
    ("name", "array", "complaint"),
    [
        ("extra.weight", np.zeros(2), "the file has besides 'extra.weight'"),
        # Known to the table, but not in this variant
        ("not_in_this_variant.weight", np.zeros(2), "besides 'not_in_this_variant.weight'"),
        # A second source for the same parameter
        ("stem.norm.gamma", np.ones(2), "besides 'stem.norm.gamma'"),
        # Patterns are of whole names
        ("my.stem.conv.weight", np.zeros((2, 3, 4, 5)), "besides 'my.stem.conv.weight'"),
        ("stem.norm.weight", np.ones(3, np.float32), r"scale float32\(3,\) instead of .*\(2,\)"),
        # So many values as wanted, in another shape
        ("block.1.weight", np.zeros((3, 2), np.float32), r"block1/kernel float32\(2, 3\) instead"),
        ("block.1.weight", np.zeros(6, np.float32), r"block1/kernel float32\(6,\) instead"),
        # Quantised weights mean nothing without their scale.
        ("stem.norm.weight", np.ones(2, np.int8), r"norm/scale int8\(2,\) instead"),
    ],
)
def test_what_does_not_fit_is_named(name, array, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        convert(STATE | {name: array}, TABLE, EXPECTED)
    assert "lacks" not in str(error.value)


def test_a_long_list_is_cut_and_a_name_stays_on_its_line():
    surplus = {f"extra\n{i}" + "x" * 1000: np.zeros(1) for i in range(7)}
    with pytest.raises(UserError, match="and 2 more") as error:
        convert(STATE | surplus, TABLE, EXPECTED)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_a_deeper_variants_file_is_refused_and_so_is_a_shallower_ones():
    def refusal(file: str, base: str) -> str:
        meta = fixtures.load(f"torchvision-{file}-224-s0").meta
        state = {name: np.zeros(shape, np.float32) for name, shape in meta["entries"]}
        family = models.family(base)
        expected, _ = family.build(base).shapes((1, 224, 224, 3))
        with pytest.raises(UserError, match="another architecture") as error:
            convert(state, family.names_in_file(base), expected)
        return str(error.value)

    deeper = refusal("resnet34", "resnet18")
    assert "besides 'layer1.2.conv1.weight'" in deeper and "lacks" not in deeper
    shallower = refusal("resnet18", "resnet34")
    assert "lacks batch_stats/stage1_block3/conv1/norm/mean" in shallower
    assert "besides" not in shallower
