"""Yosinski's treatments, against steps written by hand and cases worked out by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tl_jax.chain.heads import Classifier
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.chain.variables import select
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.data.subset import ClassSubset, group
from tl_jax.data.tasks.arrays import from_arrays
from tl_jax.errors import UserError
from tl_jax.models import alexnet_small, resnet_small
from tl_jax.models.alexnet import build as alexnet
from tl_jax.models.layers import Conv, FullyConnected, MaxPool
from tl_jax.studies.layer_transfer.published import (
    PUBLISHED,
    PUBLISHED_BASE,
    PUBLISHED_DISSIMILAR,
    PUBLISHED_DISSIMILAR_BASE,
)
from tl_jax.studies.layer_transfer.resident import Images, Transfer, transferred
from tl_jax.studies.layer_transfer.subsets import halves
from tl_jax.studies.layer_transfer.tables import Tables, decomposition
from tl_jax.studies.layer_transfer.treatments import TREATMENTS, beginning, cuts, place
from tl_jax.train.fit import Run, batches
from tl_jax.train.together import stacked, together

SIZE = 8
PREPROCESSING = Preprocessing(size=SIZE, crop=1.0, mean=100.0, std=60.0, channels=1)
CHAIN = Network(
    (
        Layer("conv1", alexnet_small.PatchConv(4, 3, 1)),
        Layer("pool1", alexnet_small.HalvingPool()),
        Layer("fc2", FullyConnected(8, side=4)),
        Layer("head", Classifier(2)),
    )
)
SETTINGS = {"epochs": 3, "batch_size": 8, "optimizer": "sgd", "schedule": "cosine", "clip": 1.0}
STATIC = {"chain": CHAIN, "preprocessing": PREPROCESSING, **SETTINGS}


@functools.cache
def task(classes: int = 4, examples: int = 120):
    """Noise in which a row, by class, is brighter."""
    rng = np.random.default_rng(0)
    labels = np.arange(examples) % classes
    images = rng.integers(0, 150, (examples, SIZE, SIZE))
    images[np.arange(examples), labels] += 90
    return from_arrays(
        "rows", images.astype(np.uint8), labels, classes=tuple("abcdefgh"[:classes]), seed=0
    )


def images() -> Images:
    pixels = np.stack([np.asarray(task().open(i)) for i in range(120)])[..., None]
    return Images(jnp.asarray(pixels), jnp.asarray(task().labels))


def fresh(seed: int):
    return CHAIN.init(seed, (1, SIZE, SIZE, 1))


def training(subset: ClassSubset, variables, stop, seed: int = 0) -> Transfer:
    below = () if stop is None else CHAIN.cut(stop).names
    rows = subset.rows("train", per_class=16)
    above = [n for n in CHAIN.names if n not in below]
    run = Run(select(variables, above), seed, 0.1, 1e-3, rows, np.ones(len(rows)))
    judged = {split: subset.rows(split) for split in ("val", "test")}
    return Transfer(select(variables, below), run, subset.class_numbers, **judged)


A, B = ClassSubset(task(), ("a", "c")), ClassSubset(task(), ("d", "b"))


def trained_by(given: Transfer, stop, **options):
    """The one training, through `together`."""
    done = together(transferred, stacked([given]), images(), stop=stop, **STATIC, **options)
    return jax.tree.map(lambda leaf: leaf[0], done)


@functools.partial(jax.jit, static_argnames="total")
def step(params, state, frozen, inputs, targets, total):
    """Of optax's parts, put together anew."""

    def loss(params):
        logits = CHAIN.apply({"params": {**frozen, **params}}, inputs).output
        return optax.softmax_cross_entropy(logits, targets).mean()

    updates, state = optimizer(total).update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state


def optimizer(total: int):
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.trace(0.9, nesterov=True),
        optax.add_decayed_weights(1e-3, mask=lambda p: jax.tree.map(lambda a: a.ndim > 1, p)),
        optax.scale_by_learning_rate(optax.cosine_decay_schedule(0.1, total)),
    )


def by_hand(variables, trained, rows, *, seed: int):
    """The same training as loops over epochs and batches."""
    x = (jnp.asarray(images().pixels, jnp.float32) - 100) / 60
    targets = jnp.eye(2)[B.class_numbers[task().labels]]
    frozen = {n: v for n, v in variables["params"].items() if n not in trained}
    params = {n: variables["params"][n] for n in trained}
    total = SETTINGS["epochs"] * (len(rows) // SETTINGS["batch_size"])
    state = optimizer(total).init(params)
    for epoch in range(SETTINGS["epochs"]):
        for chosen in batches(seed, epoch, len(rows), SETTINGS["batch_size"]):
            batch = x[rows[chosen]], targets[rows[chosen]]
            params, state = step(params, state, frozen, *batch, total)
    logits = CHAIN.apply({"params": {**frozen, **params}}, x[B.rows("test")]).output
    right = logits.argmax(1) == B.class_numbers[task().labels[B.rows("test")]]
    return params, int(right.sum())


@pytest.mark.parametrize("name", TREATMENTS)
def test_treatments_are_what_loops_by_hand_give(name):
    donors = {"A": fresh(1), "B": fresh(2), None: fresh(3)}
    treatment = TREATMENTS[name]
    begun, below = beginning(CHAIN, "pool1", donor=donors[treatment.donor], fresh=fresh(3))
    assert below == ("conv1", "pool1")
    stop = "pool1" if treatment.frozen else None
    given = training(B, begun, stop)
    done = trained_by(given, stop)
    trained = ("fc2", "head") if treatment.frozen else ("conv1", "fc2", "head")
    assert set(done.variables["params"]) == set(trained)
    params, right = by_hand(begun, trained, given.run.examples, seed=0)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-5),
        done.variables["params"],
        params,
    )
    assert int(done.test) == right


def test_below_is_the_donors_and_above_is_fresh_to_the_bit():
    begun, _ = beginning(CHAIN, "pool1", donor=fresh(1), fresh=fresh(3))
    np.testing.assert_array_equal(
        begun["params"]["conv1"]["kernel"], fresh(1)["params"]["conv1"]["kernel"]
    )
    for layer in ("fc2", "head"):
        jax.tree.map(
            np.testing.assert_array_equal, begun["params"][layer], fresh(3)["params"][layer]
        )


def test_with_no_layer_transferred_all_treatments_are_the_bases_own_training():
    begun, below = beginning(CHAIN, None, donor=fresh(1), fresh=fresh(3))
    assert below == ()
    jax.tree.map(np.testing.assert_array_equal, begun, fresh(3))


@pytest.mark.slow
def test_several_together_are_each_alone():
    given = [training(B, fresh(seed), "pool1", seed) for seed in range(3)]
    several = together(transferred, stacked(given), images(), stop="pool1", **STATIC)
    lock_step = together(transferred, stacked(given), images(), stop="pool1", way="vmap", **STATIC)
    alone = stacked([trained_by(g, "pool1") for g in given])
    jax.tree.map(np.testing.assert_array_equal, several, alone)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), lock_step, alone
    )


def test_rows_that_fill_up_are_not_judged():
    given = training(B, fresh(0), "pool1")
    filled = given._replace(test=np.pad(given.test, (0, 5), constant_values=-1))
    assert int(trained_by(filled, "pool1").test) == int(trained_by(given, "pool1").test)


def test_patches_and_reshaping_are_convolution_and_pooling():
    x = np.random.default_rng(0).normal(size=(2, 9, 9, 3)).astype(np.float32)
    pairs = (
        (alexnet_small.PatchConv(4, 5, 2), Conv(4, 5, 2, activation=jax.nn.relu)),
        (alexnet_small.PatchConv(4, 3, 1), Conv(4, 3, 1, activation=jax.nn.relu)),
        (alexnet_small.HalvingPool(), MaxPool(2, 2)),
    )
    for ours, stock in pairs:
        variables = stock.init(jax.random.key(0), x)
        np.testing.assert_allclose(
            ours.apply(variables, x), stock.apply(variables, x), rtol=1e-5, atol=1e-5
        )


# Cuts, halves, groups


def test_alexnet_is_cut_at_seven_layers_as_in_the_paper():
    assert cuts(alexnet("alexnet", "torchvision"), (1, 224, 224, 3)) == {
        **{"conv1": "pool1", "conv2": "pool2", "conv3": "conv3", "conv4": "conv4"},
        **{"conv5": "pool5", "fc6": "fc6", "fc7": "fc7"},
    }


def test_the_small_net_is_cut_at_five():
    found = cuts(alexnet_small.build(10), (1, 28, 28, 1))
    assert list(found) == ["conv1", "conv2", "conv3", "conv4", "fc5"]
    assert list(found.values()) == ["conv1", "pool2", "conv3", "pool4", "fc5"]


def test_the_small_residual_net_has_he_et_als_stages_and_is_cut_at_seven():
    chain, shape = resnet_small.build(10), (1, 28, 28, 1)
    variables, _ = chain.shapes(shape)
    sides = {name: chain.cut(name).shapes(shape)[1][name].shape[1:] for name in chain.names[:7]}
    assert sides == {
        **{"stem": (28, 28, 16), "stage1_block1": (14, 14, 16), "stage1_block2": (14, 14, 16)},
        **{"stage2_block1": (7, 7, 32), "stage2_block2": (7, 7, 32)},
        **{"stage3_block1": (4, 4, 64), "stage3_block2": (4, 4, 64)},
    }
    assert list(cuts(chain, shape)) == list(sides)
    assert cuts(chain, shape)["stage3_block2"] == "pool"

    def convolutions(*of):  # inputs, outputs, side of the kernel; two numbers of each norm
        return sum(i * o * k * k + 2 * o for i, o, k in of)

    count = convolutions((1, 16, 3)) + 64 * 10 + 10
    for inputs, width in ((16, 16), (16, 32), (32, 64)):
        count += convolutions((inputs, width, 3), (inputs, width, 1), *3 * ((width, width, 3),))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count


def test_one_layer_has_nothing_to_transfer():
    with pytest.raises(UserError, match="nothing to transfer"):
        cuts(Network((Layer("head", Classifier(2)),)), (1, 4))


@given(st.integers(4, 40), st.integers(0, 99))
def test_halves_share_no_class_and_are_of_one_size(count, seed):
    names = [f"class {i}" for i in range(count)]
    a, b = halves(names, seed)
    assert len(a) == len(b) == count // 2
    assert len({*a, *b}) == 2 * len(a) and {*a, *b} <= set(names)


def test_too_few_classes_to_halve_and_groups_that_are_none():
    with pytest.raises(UserError, match="3 classes cannot be halved"):
        halves("abc", 0)
    with pytest.raises(UserError, match="unknown class 'Sandel'; did you mean 'Sandal'"):
        group(("Sandal", "Bag"), ("Sandel", "Bag"))
    for wrong in (("Bag",), ("Bag", "Bag")):
        with pytest.raises(UserError, match="at least two classes, each once"):
            group(("Sandal", "Bag"), wrong)


def test_a_half_alone_is_the_same_examples_with_labels_of_its_own():
    alone = B.alone(per_class=5)
    assert alone.classes == ("d", "b")
    for split in ("train", "val", "test"):
        theirs = B.rows(split, per_class=5 if split == "train" else 0)
        assert set(task().labels[theirs]) == {1, 3}
        assert len(theirs) == len(alone.splits[split])
        for mine, row in zip(alone.splits[split], theirs, strict=True):
            assert alone.ids[mine] == task().ids[row]
            np.testing.assert_array_equal(alone.open(mine), task().open(row))
            assert alone.classes[alone.labels[mine]] == task().classes[task().labels[row]]
            assert alone.targets[mine].tolist() == np.eye(2)[alone.labels[mine]].tolist()
    assert np.bincount(alone.labels[alone.splits["train"]]).tolist() == [5, 5]
    assert alone.fingerprint != task().fingerprint != A.alone().fingerprint


# What came of it


def test_decomposition_by_hand():
    base = np.array([0.9, 0.8])
    accuracy = {
        "BnB": np.array([[0.85, 0.8]]),
        "AnB": np.array([[0.7, 0.75]]),
        "BnB+": np.array([[0.9, 0.7]]),
        "AnB+": np.array([[0.95, 0.9]]),
    }
    parts = decomposition(base, accuracy)
    np.testing.assert_allclose(parts["co-adaptation"], [[0.05, 0.0]], atol=1e-12)
    np.testing.assert_allclose(parts["specificity"], [[0.15, 0.05]])
    np.testing.assert_allclose(parts["generalisation"], [[0.05, 0.2]])
    drop = parts["co-adaptation"] + parts["specificity"]
    np.testing.assert_allclose(drop, base - accuracy["AnB"])


def test_intervals_are_students_unless_splits_overlap():
    values = np.array([0.1, 0.25, 0.3, 0.7, 1.3])
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    assert planted().interval(("a", "b"), values) == pytest.approx((values.mean(), low, high))
    mean, low_too, high_too = planted(overlap=0.4).interval(("a", "b"), values)
    assert (high_too - mean) / (high - mean) == pytest.approx(np.sqrt(1 + 5 * 0.4))
    assert high_too - mean == pytest.approx(mean - low_too)


def test_the_published_curves_give_the_figures_that_the_paper_states():
    gain = np.array(PUBLISHED["AnB+"]) - PUBLISHED_BASE
    assert gain.mean() == pytest.approx(0.016, abs=1e-3)  # "1.6 %"
    assert gain[4:].mean() == pytest.approx(0.021, abs=1e-3)  # "2.1 %", five layers or more
    assert PUBLISHED_BASE - PUBLISHED["AnB"][-1] == pytest.approx(0.08, abs=5e-3)  # "8 %"
    for name, values in PUBLISHED_DISSIMILAR.items():  # "25 %"
        assert PUBLISHED_DISSIMILAR_BASE[name] - values[-1] == pytest.approx(0.25, abs=5e-3)


def planted(*, overlap: float = 0.0, seeds: int = 5, **gaps: tuple[float, float]) -> Tables:
    """Three layers, five seeds: by treatment the gap to the base, at the first and last n."""
    noise = np.random.default_rng(0).normal(0, 0.002, (10, 3, 5))
    cells = []
    for seed in range(seeds):
        of = {"budget": 0, "seed": seed}
        base = 0.8 + 0.01 * seed
        cells.append({"arm": "b", "treatment": "base", "n": 0, "test": base, **of})
        for k, name in enumerate(TREATMENTS):
            for n, gap in enumerate(np.linspace(*gaps.get(name, (0, 0)), 3), 1):
                test = base + gap + noise[k, n - 1, seed]
                arm = place(("a", "b"), TREATMENTS[name])
                cells.append({"arm": arm, "treatment": name, "n": n, "test": test, **of})
    cuts = [(n, f"l{n}") for n in (1, 2, 3)]
    return Tables(cells, [("a", "b")], (0,), cuts, [overlap])


def test_findings_say_what_was_planted_and_no_more():
    gaps = {"AnB": (0, -0.1), "AnB+": (0.02, 0.02), "random": (-0.1, -0.5)}
    held = {f["statement"]: f["held"] for f in planted(**gaps).findings}
    assert held == {
        "BnB+ is about base B": "yes",
        "AnB+ is above base B": "yes",
        "AnB+ is above BnB+": "yes",
        "AnB is below BnB": "yes",
        "random is below all others at the last n": "yes",
        "AnB falls from the first n to the last": "yes",
        "BnB is lower in the middle than at its ends": "cannot tell",
    }
    opposite = {
        "AnB": (0.05, 0.1),
        "AnB+": (-0.05, -0.05),
        "BnB+": (0.05, 0.05),
        "random": (0, 0.2),
    }
    held = {f["statement"]: f["held"] for f in planted(**opposite).findings}
    assert [s for s, h in held.items() if h == "no"] == [
        "BnB+ is about base B",
        "AnB+ is above base B",
        "AnB+ is above BnB+",
        "AnB is below BnB",
        "random is below all others at the last n",
        "AnB falls from the first n to the last",
    ]


def test_four_seeds_can_tell_nothing_and_an_overlap_less():
    gaps = {"AnB": (0, -0.1), "AnB+": (0.02, 0.02), "random": (-0.1, -0.5)}
    few = planted(seeds=4, **gaps).findings
    assert {f["held"] for f in few} == {"cannot tell"}
    small = {"AnB": (-0.01, -0.01)}
    held = [
        {f["statement"]: f["held"] for f in planted(overlap=ratio, **small).findings}
        for ratio in (0, 20)
    ]
    assert [one["AnB is below BnB"] for one in held] == ["yes", "cannot tell"]
