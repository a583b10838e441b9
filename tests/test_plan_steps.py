"""What each plan trains, at what rate, at which step: real runs on a loss whose slope is 1."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
import steps

from tl_jax.chain.variables import flat
from tl_jax.plans.strategies import STRATEGIES, make_plan
from tl_jax.train import loop
from tl_jax.train.inputs import for_plan
from tl_jax.train.objective import Loss, Term

STEPS = 4  # an epoch: 72 examples in batches of 16
HEAD, TUNE = 0.125, 0.5  # rates, at the peak


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slope(steps.Quiet):
    """The sum of all parameters: by plain SGD each loses its rate at every step."""

    def loss(self, net, batch, memory, now):
        """The sum."""
        total = sum(leaf.sum() for leaf in jax.tree.leaves(net.params))
        return Loss({"loss": Term(total)}, memory)

    def predict(self, net, batch, carry):
        """Zeros, one an example."""
        return jnp.zeros(len(batch["inputs"]["image"])), carry


def slanted(step: int, total: int, cut: float = 0.1, ratio: float = 32.0) -> float:
    """Howard & Ruder 2018, equation 3, as it is written."""
    end = math.floor(total * cut)
    share = step / end if step < end else 1 - (step - end) / (end * (1 / cut - 1))
    return (1 + share * (ratio - 1)) / ratio


# 10 epochs, so that the rise has steps
SLANTED = TUNE * sum(slanted(step, 10 * STEPS) for step in range(10 * STEPS))
LAYERS = ("stem", "stage1_block1", "stage1_block2", "stage2_block1", "head")
BOTH = HEAD * STEPS + SLANTED
# By plan, what each layer's parameters lose; head_only's phase has one epoch at a constant rate
LOST = {
    "head_only": (0, 0, 0, 0, HEAD * STEPS),
    "head_then_fine_tune": (0, 0, 0, SLANTED, BOTH),
    "fine_tune_top": (0, 0, 0, SLANTED, SLANTED),
    "discriminative": (0, SLANTED / 16, SLANTED / 16, SLANTED / 4, BOTH),
    "gradual_unfreezing": (
        *(0, SLANTED / 16, SLANTED / 16, 2 * SLANTED / 4, HEAD * STEPS + 2 * SLANTED),
    ),
    "one_block": (0, SLANTED, SLANTED, 0, BOTH),
    "chain_thaw": (2 * SLANTED,) * 4 + (BOTH,),
    "norms_only": (SLANTED,) * 4 + (BOTH,),
    "biases_only": (SLANTED,) * 4 + (BOTH,),
    "features_only": (0, 0, 0, SLANTED, 0),
    "full": (SLANTED,) * 5,
    "full_discriminative": (*(SLANTED / 64, SLANTED / 16, SLANTED / 16, SLANTED / 4, SLANTED),),
    "from_scratch": (SLANTED,) * 5,
    "redrawn": (SLANTED,) * 5,
}
FROM = {"discriminative": "stage1_block1", "gradual_unfreezing": "stage1_block1"}
LEAVES = {"norms_only": ("norm/scale", "norm/bias"), "biases_only": ("bias",)}


@pytest.mark.parametrize("name", LOST)
def test_each_parameter_loses_what_its_rates_add_up_to(name):
    plain = {"optimizer": "sgd(momentum=0.0, nesterov=False)", "weight_decay": 0.0, "clip": 0.0}
    head = small.settings(epochs=1, learning_rate=HEAD, best_by="last", **plain)
    tune = small.settings(
        epochs=10, learning_rate=TUNE, schedule="slanted_triangular", best_by="last", **plain
    )
    options = {"train_head": head, "tune": tune, "from_layer": FROM.get(name, "stage2_block1")}
    options |= {"factor": 4.0, "block": "stage1"}
    plan = make_plan(name, small.NAMES, new=("head",), weightless=("pool",), options=options)
    problem = dataclasses.replace(small.problem("full"), plan=plan, objective=Slope())
    inputs_for = for_plan(problem, test_views="none", cache=None, dtype="float32")
    first = small.variables()
    after, *_ = loop.run(problem, first, inputs_for, workdir=None)
    for layer, lost in zip(LAYERS, LOST[name], strict=True):
        before = flat(first["params"][layer])
        for path, leaf in flat(after["params"][layer]).items():
            learns = layer == "head" or path.endswith(LEAVES.get(name, ("",)))
            expected = before[path] - (lost if learns else 0)
            np.testing.assert_allclose(leaf, expected, atol=2e-4, err_msg=f"{layer}/{path}")


def test_every_plan_is_here_but_the_one_of_adapters():
    assert {*LOST, "adapters_only"} == set(STRATEGIES)
