"""What an objective asks for, and so where its phases may begin: found by one abstract trace."""

import dataclasses
import logging

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
import steps

from tl_jax.chain.network import Network, chain
from tl_jax.chain.places import Known, Tie, Unreachable
from tl_jax.engine import prefix
from tl_jax.errors import UserError
from tl_jax.train import evaluate
from tl_jax.train import loop as train
from tl_jax.train.inputs import asked, for_plan
from tl_jax.train.objective import Loss, Term
from tl_jax.train.objectives.cross_entropy import CrossEntropy
from tl_jax.train.survey import places, survey

CUT = "stage1_block2"
BELOW_CUT = (CUT, "stage1_block1", "stem")


def low_features(net, batch):
    """The size of what a low layer gives."""
    low = net(batch["inputs"], "stage1_block1")
    return {"low": Term((low**2).mean((1, 2, 3)).sum(), len(low), 0.1)}


def from_anchor(net, batch):
    """How far the features have moved from what they were (Li et al. 2019, DELTA)."""
    known = batch["inputs"]
    moved = net(known, "pool") - net.at("anchor")(known, "pool", train=False)
    return {"moved": Term((moved**2).mean(-1).sum(), len(moved), 10.0)}


def inverted(key, batch):
    """Negatives of half the images, at random."""
    pixels = batch["inputs"]["image"]
    chosen = jax.random.bernoulli(key, 0.5, (len(pixels), 1, 1, 1))
    return {**batch, "inputs": Known(image=jnp.where(chosen, 255 - pixels, pixels))}


def of_labels(key, batch):
    """Smoother targets, whatever the inputs."""
    return {**batch, "targets": batch["targets"] * 0.9 + 0.1 / 3}


def found(plan="fine_tune_top", phase=-1, **changes):
    mine = small.problem(plan, **changes)
    return asked(mine, mine.plan.phases[phase], small.variables())


def test_cross_entropy_reads_the_highest_frozen_place():
    assert found("head_only").places[:2] == (("pool", "stage2_block1", *BELOW_CUT), "")
    assert found("fine_tune_top").places[:2] == (BELOW_CUT, "")
    assert found("full").places == ((), "", None, {})
    assert found("fine_tune_top", from_layer="stem").places.found == ()


def test_a_survey_says_what_is_run_and_what_is_logged():
    mine = found("head_only").survey  # from the highest place that it may read
    assert mine.layers == ("head",) and not mine.anchor and not mine.streams
    assert found("full").survey.layers == small.NAMES
    assert mine.terms == mine.minimised == ("loss",) and mine.memory == ()
    assert mine.scores == ("loss", "accuracy", "weighted_accuracy")
    other = found(objective=CrossEntropy(also=(low_features, from_anchor))).survey
    assert other.anchor and other.terms == ("loss", "low", "moved")


def test_what_a_loss_asks_of_a_lower_layer_is_where_it_begins():
    mine = found("head_only", objective=CrossEntropy(also=(low_features,))).places
    assert mine.found == ("stage1_block1", "stem")
    assert mine.why == "it asks for 'image', which 'pool' is computed from"


def test_shapes_of_variables_do_as_well():
    mine = small.problem("fine_tune_top")
    given = mine, mine.plan.phases[0], jax.eval_shape(small.variables)
    assert asked(*given) == found("fine_tune_top")


def inputs_of(mine, folder):
    inputs_for = for_plan(mine, test_views="none", cache=folder, dtype="float32")
    return inputs_for(mine.plan.phases[-1], small.variables())


def test_an_augmentation_of_images_forces_raw_inputs_and_the_log_says_why(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    mine = small.problem("head_only", head=small.settings(augment=inverted))
    inputs = inputs_of(mine, tmp_path)
    assert inputs.start is None and inputs.place == "image"
    (line,) = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert line.startswith("phase 'head' reads raw inputs in every step: it asks for 'image'")
    assert "run for 144 random images; views=flip" in line  # 2 epochs of 72
    assert "for 144, once" in line


def test_an_augmentation_of_labels_forces_nothing(tmp_path, caplog):
    mine = small.problem("head_only", head=small.settings(augment=of_labels))
    assert inputs_of(mine, tmp_path).start == "pool"
    assert not [r for r in caplog.records if r.levelno == logging.WARNING]


def test_a_lower_place_is_said_too(tmp_path, caplog):
    mine = small.problem("head_only", objective=CrossEntropy(also=(low_features,)))
    assert inputs_of(mine, tmp_path).start == "stage1_block1"
    (line,) = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert line == (
        "phase 'head' reads the stored output of 'stage1_block1' in every step: "
        "it asks for 'image', which 'pool' is computed from"
    )


def run(mine, workdir, cache):
    inputs_for = for_plan(mine, test_views="none", cache=cache, dtype="float32")
    return train.run(mine, small.variables(), inputs_for, workdir=workdir)


@pytest.mark.parametrize(
    ("also", "start"),
    [
        ((low_features,), "stage1_block1"),
        ((from_anchor,), CUT),
        ((low_features, from_anchor), None),
    ],
)
def test_from_what_is_stored_a_run_is_that_from_pixels(tmp_path, also, start):
    start = start or "stage1_block1"
    tune = small.settings(batch_norm="batch", learning_rate=1e-3, optimizer="sgd")
    objective = CrossEntropy(also=also)
    mine = small.problem("fine_tune_top", tune=tune, objective=objective)
    variables, progress, inputs = run(mine, tmp_path / "stored", tmp_path / "cache")
    plain, wanted, pixels = run(mine, tmp_path / "plain", None)
    assert (inputs.start, pixels.start) == (start, None)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), variables, plain
    )
    for row, other in zip(progress.history, wanted.history, strict=True):
        for name in [n for n in row if n.startswith(("train_", "val_")) and "seconds" not in n]:
            assert row[name] == pytest.approx(other[name], rel=1e-4, abs=1e-6), name
        assert {f"train_{function.__name__}" for function in also} <= {
            name.replace("low", "low_features").replace("moved", "from_anchor") for name in row
        }


def test_an_augmented_run_draws_others_in_every_step_and_the_same_again(tmp_path):
    mine = small.problem("fine_tune_top", tune=small.settings(augment=inverted))
    variables, progress, _ = run(mine, tmp_path / "a", tmp_path / "cache")
    again, same, _ = run(mine, tmp_path / "b", None)
    jax.tree.map(np.testing.assert_array_equal, variables, again)
    plain, wanted, _ = run(small.problem("fine_tune_top"), tmp_path / "c", None)
    assert progress.history[0]["train_loss"] == same.history[0]["train_loss"]
    assert progress.history[0]["train_loss"] != wanted.history[0]["train_loss"]


# Other networks: two inputs, a tied decoder.


class Sum(nn.Module):
    def __call__(self, a, b):
        return a + b


TIED = Network(
    (
        *chain("x", code=nn.Dense(4), decoded=nn.Dense(6)),
        *chain("y", other=nn.Dense(4)),
        *chain(("code", "other"), sum=Sum(), head=nn.Dense(3)),
    ),
    (Tie("decoded/kernel", ("code",), lambda p: p["code/kernel"].T),),
)
X, Y = np.ones((4, 6), np.float32), np.ones((4, 2), np.float32)
BATCH = {"inputs": Known(x=X, y=Y)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Of(steps.Quiet):
    """The outputs at some places."""

    wanted: tuple[str, ...] = ("head",)

    def loss(self, net, batch, memory, now):
        out = net(batch["inputs"], self.wanted)
        return Loss({name: Term(a.sum(), 4.0) for name, a in zip(self.wanted, out, strict=True)})


def places_of(trained, **objective):
    of = steps.recipe(TIED, Of(**objective), trained)
    variables = steps.shapes(TIED.init(0, {"x": X, "y": Y}))
    batch = steps.shapes(BATCH)
    return places(of, variables, batch, {**batch, "real": steps.shapes(np.ones(4, np.float32))})


def test_a_layer_above_a_trained_one_reads_it_or_is_tied_to_it():
    assert places_of(["head"]).found == ("sum", "other", "code")
    assert places_of(["other"]).found == ("code",)
    assert places_of(["code"]).found[0] == "other"
    # What is tied to a trained layer is no frozen place, although it reads none.
    assert "decoded" not in places_of(["code"], wanted=("decoded",)).found
    assert places_of(["other"], wanted=("decoded",)).found[0] == "decoded"


def test_inputs_that_are_asked_for_beside_a_place_stay():
    assert places_of(["head"], wanted=("head", "other")).found[0] != "sum"
    found = places_of(["head"], wanted=("head", "decoded"))
    assert "'decoded'" in found.why or "'x'" in found.why or "'code'" in found.why


def test_what_no_input_gives_is_an_error_that_says_so():
    of = steps.recipe(TIED, Of())
    batch = steps.shapes({"inputs": Known(x=X)})
    single = {**batch, "real": steps.shapes(np.ones(4, np.float32))}
    with pytest.raises(Unreachable, match="'y' cannot be computed: known are x"):
        survey(of, steps.shapes(TIED.init(0, {"x": X, "y": Y})), batch, single)


# Ties below and above what is stored.


def adapted(p):
    return p["stage1_block1/conv/kernel"] * p["stem/norm/scale"].mean()


ADAPTED = Network(
    small.chain().layers, (Tie("stage1_block1/conv/kernel", ("stem",), adapted, whole=False),)
)


def test_stored_outputs_of_a_network_with_ties_are_its_outputs(tmp_path):
    mine = small.problem("head_only", chain=ADAPTED)
    variables, progress, inputs = run(mine, tmp_path / "stored", tmp_path / "cache")
    plain, wanted, pixels = run(mine, tmp_path / "plain", None)
    assert (inputs.start, pixels.start) == ("pool", None)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), variables, plain
    )
    test = mine.task.splits["test"]
    np.testing.assert_allclose(
        evaluate.predictions(mine, variables, inputs, test),
        evaluate.predictions(mine, variables, pixels, test),
        rtol=1e-4,
    )
    other = small.problem("head_only")
    assert inputs.key != run(other, tmp_path / "other", tmp_path / "cache")[2].key


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"leaves": "biass$"}, "phase 'head': no parameter .* matches leaves='biass\\$'"),
        ({"remat": "stgae"}, "remat='stgae' fits no layer; there are stem, "),
        ({"accumulate": 3}, "phase 'head': a batch of 16 .* 3 parts"),
        ({"best_by": "val_acuracy"}, "unknown best_by 'val_acuracy'; did you mean 'val_accuracy'"),
        ({"best_by": "train_los"}, "unknown best_by 'train_los'; did you mean 'train_loss'"),
    ],
)
def test_what_a_phase_cannot_do_is_said_before_it_begins(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        mine = small.problem("head_only", head=small.settings(**settings))
        run(mine, tmp_path, tmp_path)
    assert not list(tmp_path.glob("*/data")), "after minutes of computing what is frozen"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coupled(CrossEntropy):
    coupled = True


def test_an_objective_that_compares_examples_is_not_run_in_parts():
    assert small.problem("full", objective=Coupled())
    with pytest.raises(UserError, match="Coupled couples the examples of a batch.*accumulate=1"):
        small.problem("full", objective=Coupled(), tune=small.settings(accumulate=2))


def test_pixels_are_prepared_as_the_base_says():
    value = prefix.prepared(
        small.PREPROCESSING, "bfloat16", "image", np.uint8([[[[180, 110, 40]]]])
    )
    np.testing.assert_array_equal(np.float32(value), [[[[1, 0, -1]]]])
    assert value.dtype == "bfloat16"
    tokens = {"a": jnp.int32([3]), "b": jnp.float32([1.5])}
    kept = prefix.prepared(small.PREPROCESSING, "bfloat16", "tokens", tokens)
    assert (kept["a"].dtype, kept["b"].dtype) == ("int32", "bfloat16")
