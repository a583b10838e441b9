"""The learning-rate finder: its rule on curves that are known, and a sweep of a small network."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from hypothesis import given
from hypothesis import strategies as st

from experiments import config_flag
from tl_jax.runs.config import load_config
from tl_jax.train import rates
from tl_jax.train.inputs import for_plan
from tl_jax.train.objective import Loss, Term
from tl_jax.train.objectives.cross_entropy import CrossEntropy
from tl_jax.train.rates import Sweep

GRID = np.geomspace(1e-6, 10, 100)


def test_rates_rise_by_the_same_factor_from_the_lowest_to_the_highest():
    rate = rates.Rising(1e-6, 100)(10.0, 999)
    np.testing.assert_allclose([rate(step) for step in range(100)], GRID, rtol=1e-9)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=20))
def test_a_running_mean_weighs_each_loss_by_how_long_ago_it_was(losses):
    ages = np.arange(len(losses))[::-1]
    wanted = np.average(losses, weights=0.9**ages)
    assert rates.smoothed(np.array(losses))[-1] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("smooth", "said"),
    [([2.0, 1.0, 3.9], False), ([2.0, 1.0, 4.1], True), ([2.0, 1.0, np.nan], True),
     ([-1.0], False), ([-1.0, -2.0, -1.0], False), ([0.5, -1.0, 4.0], True), ([np.nan], True)],
)  # fmt: skip
def test_a_loss_that_may_be_negative_diverges_too(smooth, said):
    assert rates.diverged(np.array(smooth)) == said


@pytest.mark.parametrize("noise", [0.0, 0.03])
@pytest.mark.parametrize("turns", [1e-3, 1e-1])
def test_a_tenth_of_where_the_loss_begins_to_rise_is_suggested(turns, noise):
    """The loss falls from 2 to 1 by 1e-4, stays, and rises beyond `turns`."""
    losses = 2 - np.clip((np.log10(GRID) + 5.5) / 1.5, 0, 1) + np.maximum(GRID / turns - 1, 0)
    losses += noise * np.random.default_rng(0).normal(size=100)
    assert turns / 10 <= rates.suggested(Sweep(GRID, losses)) <= 4 * turns / 10


@pytest.mark.parametrize("losses", [np.linspace(1, 2, 100), np.full(100, np.nan)])
def test_nothing_is_suggested_where_the_loss_never_falls(losses):
    assert rates.suggested(Sweep(GRID, losses)) is None


def test_a_sweep_trains_until_the_loss_diverges_and_leaves_the_weights_alone():
    mine = small.problem("head_only")
    inputs_for = for_plan(mine, test_views="none", cache=None, dtype="float32")
    variables = small.variables()
    before = jax.tree.map(np.copy, variables)
    inputs = inputs_for(mine.plan.phases[0], variables)
    found = rates.sweep(mine, 0, variables, inputs, lowest=1e-5, highest=100.0, steps=60)
    jax.tree.map(np.testing.assert_array_equal, variables, before)
    assert found.rates.shape == found.losses.shape and 10 < len(found.rates) < 60
    np.testing.assert_allclose(found.rates, np.geomspace(1e-5, 100, 60)[: len(found.rates)])
    smooth = rates.smoothed(found.losses)
    assert smooth[-1] >= rates.DIVERGED * smooth.min()
    assert 1e-4 < rates.suggested(found) < 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Epochs(CrossEntropy):
    """Its loss is the number of refreshes."""

    def begin(self, net, batch):
        return jnp.zeros(())

    def refresh(self, fold, memory, epoch):
        return memory + 1

    def loss(self, net, batch, memory, now):
        return Loss({"loss": Term(memory + 0 * net(batch["inputs"], "head").sum())}, memory)


def test_a_sweep_refreshes_the_memory_before_each_epoch():
    mine, variables = small.problem("head_only", objective=Epochs()), small.variables()
    inputs_for = for_plan(mine, test_views="none", cache=None, dtype="float32")
    inputs = inputs_for(mine.plan.phases[0], variables)
    found = rates.sweep(mine, 0, variables, inputs, lowest=1e-5, highest=1e-4, steps=6)
    assert found.losses.tolist() == [1, 1, 1, 1, 2, 2]  # four steps an epoch


@pytest.mark.slow
def test_the_program_suggests_a_rate_for_each_phase(tmp_path):
    config = load_config("configs/digits.py")
    changes = {"weights": "random:0", "size": 16, "cut": "stage1_block1", "task.per_class": 8}
    changes |= {"from_layer": "stage1_block1", "train_head.epochs": 1, "cache": str(tmp_path / "c")}
    config.update_from_flattened_dict(changes)
    result = config_flag.run("learning_rate", config, tmp_path / "run", "name")
    assert [phase["name"] for phase in result["phases"]] == ["head", "fine_tune"]
    for phase in result["phases"]:
        assert len(phase["rates"]) == len(phase["losses"]) == len(phase["smoothed"])
        lines = (tmp_path / "run" / f"sweep_{phase['name']}.csv").read_text().splitlines()
        assert len(lines) == len(phase["rates"]) + 1
    assert "test" not in result and (tmp_path / "run" / "report.html").exists()
