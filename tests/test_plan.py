import dataclasses
import itertools
import subprocess
import sys

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_jax import models
from tl_jax.errors import UserError
from tl_jax.plans import strategies
from tl_jax.plans.plan import Phase, Plan, Settings
from tl_jax.plans.strategies import make_plan

NAMES = ("stem", "stage1_block1", "stage1_block2", "stage2_block1", "stage3_block1", "pool", "head")
NEW = ("head",)
HEAD, TUNE = Settings(epochs=3), Settings(epochs=5, learning_rate=1e-4)
OPTIONS = {"train_head": HEAD, "tune": TUNE, "from_layer": "stage1_block2", "factor": 4.0}
OPTIONS |= {"block": "stage2"}
HEAD_PHASE = ("head", (0, 0, 0, 0, 0, 0, 1), HEAD)
NORMS = dataclasses.replace(TUNE, leaves=r"^head/|(^|/)norm/(scale|bias)$")
BIASES = dataclasses.replace(TUNE, leaves=r"^head/|(^|/)bias$")

# strategy: (name, multiplier of each layer, settings) of its phases
WANTED = {
    "head_only": [HEAD_PHASE],
    "head_then_fine_tune": [HEAD_PHASE, ("fine_tune", (0, 0, 1, 1, 1, 1, 1), TUNE)],
    "fine_tune_top": [("fine_tune", (0, 0, 1, 1, 1, 1, 1), TUNE)],
    "discriminative": [HEAD_PHASE, ("fine_tune", (0, 0, 1 / 256, 1 / 64, 1 / 16, 1 / 4, 1), TUNE)],
    "gradual_unfreezing": [
        HEAD_PHASE,
        ("unfreeze_pool", (0, 0, 0, 0, 0, 1 / 4, 1), TUNE),
        ("unfreeze_stage3", (0, 0, 0, 0, 1 / 16, 1 / 4, 1), TUNE),
        ("unfreeze_stage2", (0, 0, 0, 1 / 64, 1 / 16, 1 / 4, 1), TUNE),
        ("unfreeze_stage1", (0, 0, 1 / 256, 1 / 64, 1 / 16, 1 / 4, 1), TUNE),
    ],
    "one_block": [HEAD_PHASE, ("fine_tune", (0, 0, 0, 1, 0, 0, 1), TUNE)],
    "chain_thaw": [
        HEAD_PHASE,
        *((f"thaw_{n}", tuple(int(n == m) for m in NAMES), TUNE) for n in NAMES[:-1]),
        ("full", (1, 1, 1, 1, 1, 1, 1), TUNE),
    ],
    "norms_only": [HEAD_PHASE, ("fine_tune", (1, 1, 1, 1, 1, 1, 1), NORMS)],
    "biases_only": [HEAD_PHASE, ("fine_tune", (1, 1, 1, 1, 1, 1, 1), BIASES)],
    "adapters_only": [HEAD_PHASE, ("adapters", (0, 0, 0, 0, 1, 0, 1), TUNE)],
    "features_only": [("features", (0, 0, 1, 1, 1, 1, 0), TUNE)],
    "full": [("full", (1, 1, 1, 1, 1, 1, 1), TUNE)],
    "full_discriminative": [("full", (1 / 1024, 1 / 256, 1 / 256, 1 / 64, 1 / 16, 1 / 4, 1), TUNE)],
    "redrawn": [("redrawn", (1, 1, 1, 1, 1, 1, 1), TUNE)],
    "from_scratch": [("from_scratch", (1, 1, 1, 1, 1, 1, 1), TUNE)],
}


def made(name, names=NAMES, new=NEW, **changes):
    given = {"adapters": ("stage3_block1",)} if name == "adapters_only" else {}
    return make_plan(name, names, new=new, **given, options=OPTIONS | changes)


def multipliers(found: Phase) -> tuple[float, ...]:
    return tuple(found.multipliers.values())


@pytest.mark.parametrize("name", strategies.STRATEGIES)
def test_a_strategy_is_these_phases(name):
    found = made(name)
    assert found.name == name
    assert [(p.name, multipliers(p), p.settings) for p in found.phases] == WANTED[name]
    assert all(tuple(p.multipliers) == NAMES for p in found.phases)
    starts = {"from_scratch": "fresh", "redrawn": "redrawn"}
    assert found.start == starts.get(name, "pretrained")


@pytest.mark.parametrize("name", strategies.STRATEGIES)
def test_a_strategy_is_a_function_of_its_arguments_alone(name):
    names, new, options = list(NAMES), list(NEW), dict(OPTIONS)
    given = {"adapters": ("stage3_block1",)} if name == "adapters_only" else {}
    first = make_plan(name, names, new=new, **given, options=options)
    assert first == made(name) == made(name)
    assert (names, new, options) == (list(NAMES), list(NEW), OPTIONS)


def test_phases_know_what_is_trained():
    head, tune = made("head_then_fine_tune").phases
    assert (head.trained, tune.trained) == (("head",), NAMES[2:])
    (full,) = made("full").phases
    assert full.trained == NAMES
    gap = Phase("gap", dict(zip(NAMES, (0, 0.5, 0, 0, 0, 0, 1), strict=True)), TUNE)
    assert gap.trained == ("stage1_block1", "head")


def test_features_are_adapted_in_all_layers_unless_from_one_up():
    (phase,) = made("features_only", from_layer="").phases
    assert phase.trained == NAMES[:-1]


def test_phases_of_one_name_are_refused():
    phases = made("head_then_fine_tune").phases
    with pytest.raises(UserError, match=r"different names; repeated: \['head'\]"):
        Plan("twice", (*phases, phases[0]))


def test_a_head_of_several_layers_learns_whole():
    names, new = (*NAMES, "head2"), ("head", "head2")
    rates = {phase.name: multipliers(phase) for phase in made("discriminative", names, new).phases}
    assert rates["head"] == (0, 0, 0, 0, 0, 0, 1, 1)
    assert rates["fine_tune"][-3:] == (1 / 4, 1, 1)


@given(
    stages=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    factor=st.floats(1.01, 10),
    data=st.data(),
)
def test_discriminative_rates_fall_by_the_factor_from_stage_to_stage(stages, factor, data):
    base = [f"stage{s}_block{b}" for s, n in enumerate(stages) for b in range(n)]
    lowest = data.draw(st.integers(0, len(base) - 1))
    found = made("discriminative", (*base, "head"), factor=factor, from_layer=base[lowest])
    rates = found.phases[1].multipliers
    assert rates["head"] == 1
    assert all(rates[name] == 0 for name in base[:lowest])
    for below, above in zip(base[lowest:], [*base[lowest + 1 :], "head"], strict=True):
        same_stage = below.split("_")[0] == above.split("_")[0]
        assert rates[above] / rates[below] == pytest.approx(1 if same_stage else factor)


@given(count=st.integers(2, 9), lowest=st.integers(0, 7), factor=st.sampled_from([2.6, 3.0, 1.5]))
def test_discriminative_rates_may_fall_from_layer_to_layer(count, lowest, factor):
    """As Howard & Ruder 2018 (arXiv:1801.06146), section 3.2, do with a factor of 2.6."""
    base = [f"stage1_block{number}" for number in range(count)]
    lowest = min(lowest, count - 1)
    options = {"factor": factor, "by": "layer", "from_layer": base[lowest]}
    rates = made("discriminative", (*base, "head"), **options).phases[1].multipliers
    wanted = [0.0] * lowest + [factor ** (number - count) for number in range(lowest, count)]
    assert list(rates.values()) == pytest.approx([*wanted, 1.0])


@pytest.mark.parametrize(
    ("name", "cut", "wanted"),
    [
        ("resnet50", "pool", {"pool": 1, "stage4_block1": 1 / 3, "stage3_block6": 1 / 9}),
        ("vgg16", "pool5", {"pool5": 1, "conv5_3": 1 / 3, "pool4": 1 / 3, "conv4_3": 1 / 9}),
        ("vgg16", "fc7", {"fc7": 1 / 3, "fc6": 1 / 9, "conv5_1": 1 / 27, "conv4_3": 1 / 81}),
    ],
)
@pytest.mark.slow
def test_pools_of_real_nets_spend_no_factor(name, cut, wanted):
    family = models.family(name)
    chain = family.build(name, family.forms(name)[0]).cut(cut)
    shapes = jax.eval_shape(lambda: chain.init(0, (1, 224, 224, 3)))["params"]
    weightless = [layer for layer in chain.names if not shapes.get(layer)]
    assert any(layer.startswith("pool") for layer in weightless)
    options = OPTIONS | {"from_layer": 0, "factor": 3.0}
    names = (*chain.names, "head")
    found = make_plan("discriminative", names, new=NEW, weightless=weightless, options=options)
    rates = found.phases[1].multipliers
    assert {layer: rates[layer] for layer in wanted} == pytest.approx(wanted)


@given(factor=st.floats().filter(lambda f: not f > 1))
def test_other_factors_are_refused(factor):
    with pytest.raises(UserError, match="factor is above 1: .*; got"):
        made("discriminative", factor=factor)


def test_an_unknown_grouping_is_refused_with_the_near_miss():
    with pytest.raises(UserError, match="unknown by 'layers'; did you mean 'layer'"):
        made("discriminative", by="layers")


def unfrozen(**changes):
    """The layer that each phase after the head's adds, and the rates of the last one."""
    found = made("gradual_unfreezing", factor=1.0, **changes).phases
    added = [set(b.trained) - set(a.trained) for a, b in itertools.pairwise(found)]
    return added, multipliers(found[-1])


def test_unfreezing_goes_down_from_the_top_or_out_from_the_middle():
    whole = {"from_layer": 0, "by": "layer"}
    added, rates = unfrozen(**whole)
    assert added == [{name} for name in reversed(NAMES[:-1])] and set(rates) == {1.0}
    added, _ = unfrozen(**whole, order="middle")
    assert [NAMES.index(name) for (name,) in added] == [3, 4, 2, 5, 1, 0]
    with pytest.raises(UserError, match="unknown order 'botom'"):
        unfrozen(order="botom")


def test_ulmfit_unfreezes_a_layer_at_a_time_at_rates_that_fall_by_2_6():
    """Howard & Ruder 2018, sections 3.2 and 3.3: eta of layer l-1 is eta of layer l / 2.6."""
    options = {"from_layer": 0, "by": "layer", "factor": 2.6}
    found = made("gradual_unfreezing", **options).phases
    assert [len(phase.trained) for phase in found] == [1, 2, 3, 4, 5, 6, 7]
    assert multipliers(found[-1]) == pytest.approx([2.6**-n for n in range(6, -1, -1)])


def test_a_pool_below_the_head_is_no_group_of_its_own():
    found = make_plan("gradual_unfreezing", NAMES, new=NEW, weightless=["pool"], options=OPTIONS)
    assert [phase.name for phase in found.phases][1] == "unfreeze_stage3"
    assert found.phases[1].multipliers["stage3_block1"] == 1 / 4


@pytest.mark.parametrize(
    ("block", "wanted"),
    [
        ("stage1", ("stage1_block1", "stage1_block2")),
        ("stage1_block2", ("stage1_block2",)),
        ("stem:stage1_block1", ("stem", "stage1_block1")),
        ("stage1:stage2", ("stage1_block1", "stage1_block2", "stage2_block1")),
    ],
)
def test_a_block_is_a_layer_a_stage_or_a_range(block, wanted):
    assert made("one_block", block=block).phases[1].trained == (*wanted, "head")


def test_blocks_that_are_none_are_refused():
    with pytest.raises(UserError, match="unknown block 'stage9'"):
        made("one_block", block="stem:stage9")
    with pytest.raises(UserError, match="ends below its beginning"):
        made("one_block", block="stage2:stem")


def test_a_plan_that_says_which_leaves_learn_takes_no_others():
    with pytest.raises(UserError, match="leave tune.leaves empty"):
        made("norms_only", tune=dataclasses.replace(TUNE, leaves="kernel$"))


@given(share=st.floats(0, 0.99), count=st.integers(2, 12))
def test_a_share_of_the_layers_stays_frozen(share, count):
    names = (*(f"stage{number}" for number in range(count - 1)), "head")
    below = min(round(share * count), count - 1)
    for said in (share, f"{share:.20f}".rstrip("0").rstrip(".") if share else "0"):
        (phase,) = made("fine_tune_top", names, from_layer=said).phases
        assert phase.trained == names[below:]


@pytest.mark.parametrize("share", [0.99, "0.99"])
def test_a_share_near_one_leaves_the_last_layer_to_learn(share):
    """Of 7 layers 0.99 rounds to 7."""
    (phase,) = made("fine_tune_top", from_layer=share).phases
    assert phase.trained == ("head",)
    assert made("discriminative", from_layer=share).phases[1].trained == ("head",)


@pytest.mark.parametrize("share", [1.0, -0.1, 2])
def test_other_shares_are_refused(share):
    with pytest.raises(UserError, match="a share from 0 to below 1; got"):
        made("fine_tune_top", from_layer=share)


def test_unknown_plans_and_layers_are_refused_with_the_near_miss():
    with pytest.raises(UserError, match="unknown plan 'head_onyl'; did you mean 'head_only'"):
        made("head_onyl")
    for name in ("head_then_fine_tune", "fine_tune_top", "discriminative"):
        with pytest.raises(UserError, match="unknown layer 'stage2_blok1'; did you mean 'stage2_"):
            made(name, from_layer="stage2_blok1")


@pytest.mark.parametrize(
    ("name", "missing", "message"),
    [
        ("head_only", ["train_head"], "plan 'head_only' needs train_head$"),
        ("fine_tune_top", ["from_layer"], "plan 'fine_tune_top' needs from_layer$"),
        ("discriminative", ["train_head", "tune"], "'discriminative' needs train_head, tune$"),
    ],
)
def test_what_a_plan_asks_for_must_be_there(name, missing, message):
    there = {k: v for k, v in OPTIONS.items() if k not in missing}
    for options in (there, there | dict.fromkeys(missing), there | dict.fromkeys(missing, "")):
        with pytest.raises(UserError, match=message):
            make_plan(name, NAMES, new=NEW, options=options)


def test_what_has_a_default_may_be_missing():
    there = {k: v for k, v in OPTIONS.items() if k != "factor"}
    found = make_plan("discriminative", NAMES, new=NEW, options=there)
    assert found == made("discriminative", factor=3.0)


def test_a_strategy_of_ones_own_is_a_function():
    def twice(names, *, tune, times=2):
        rates = dict.fromkeys(names, 1.0)
        return Plan("twice", tuple(Phase(f"round{n}", rates, tune) for n in range(times)))

    assert [p.name for p in make_plan(twice, NAMES, new=NEW, options=OPTIONS).phases] == [
        "round0", "round1"
    ]  # fmt: skip
    assert len(make_plan(twice, NAMES, new=NEW, options=OPTIONS | {"times": 3}).phases) == 3


def test_what_a_plan_does_not_ask_for_may_be_missing():
    assert make_plan("full", NAMES, new=NEW, options={"tune": TUNE}) == made("full")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adam"}, "unknown optimizer 'adam'; did you mean 'adamw'"),
        ({"schedule": "onecycle"}, "unknown schedule 'onecycle'; did you mean 'one_cycle'"),
        ({"batch_norm": "freeze"}, "unknown batch_norm 'freeze'; did you mean 'frozen'"),
        ({"views": "flipped"}, "unknown views 'flipped'; did you mean 'flip' or 'flips'"),
        ({"epochs": 0}, "epochs >= 1 and a finite learning_rate > 0; got 0 and 0.001"),
        ({"learning_rate": 0.0}, "epochs >= 1 and a finite learning_rate > 0; got 10 and 0.0"),
        ({"learning_rate": -1.0}, "learning_rate > 0"),
        ({"learning_rate": float("nan")}, "a finite learning_rate > 0; got 10 and nan"),
        ({"learning_rate": float("inf")}, "a finite learning_rate > 0; got 10 and inf"),
        ({"weight_decay": -1e-4}, "must not be negative"),
        ({"weight_decay": float("nan")}, "must not be negative"),
        ({"clip": -1.0}, "must not be negative"),
        ({"patience": -1}, "must not be negative"),
        ({"blend": 0.0}, "blend is a share above 0 and up to 1; got 0.0"),
        ({"blend": 1.5}, "blend is a share"),
        ({"accumulate": 0}, "accumulate is at least 1 part of a batch; got 0"),
        ({"remat": "block("}, r"remat='block\(' is no pattern"),
        ({"leaves": "(bias"}, r"leaves='\(bias' is no pattern"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        Settings(**changes)
    with pytest.raises(UserError, match=message):
        dataclasses.replace(HEAD, **({"epochs": 10} | changes))


def test_planning_needs_no_arrays_and_no_optimizer():
    modules = "{'jax', 'optax', 'flax'} & sys.modules.keys()"
    code = f"import sys, tl_jax.plans.strategies; print({modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_plan_has_phases():
    with pytest.raises(UserError, match="'none' has no phases"):
        Plan("none", ())
