"""Methods of many kinds through the one step, on digits: each learns what its paper says."""

import dataclasses
import functools
import pathlib

import digits
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from devices import on_eight

import tl_jax
from tl_jax import models
from tl_jax.chain import adapters
from tl_jax.chain.heads import Classifier
from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Known
from tl_jax.chain.variables import flat, merged
from tl_jax.engine.parallel import Parallel
from tl_jax.errors import UserError
from tl_jax.plans.plan import Phase, Plan
from tl_jax.train import fold
from tl_jax.train.inputs import asked, for_plan
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives import (
    BYOL,
    OBJECTIVES,
    Averaged,
    ClassConfusion,
    CrossEntropy,
    Discrepancy,
    DomainAdversarial,
    PCGrad,
    Tasks,
)
from tl_jax.train.objectives.common import jointly, reversed_gradient
from tl_jax.train.objectives.cross_entropy import Classification, entropy
from tl_jax.train.objectives.pcgrad import projected
from tl_jax.train.saving import Saver
from tl_jax.train.work import PhaseRun

SEEDS = (0, 1, 2)
PLAIN = digits.network()
DOMAINS = digits.network(domain=Classifier(1))
HEADS = digits.network(second=Classifier(10))
TASKS = digits.network(parity=Classifier(2))
VIEWS = PLAIN.with_layers(*BYOL(hidden=64, width=16).tails(PLAIN))
PARITY = (("parity", 2),)
RANDOM = "crop(0.5) + jitter(0.4, 0.4, 0, 0)"
DANN = DomainAdversarial(ceiling=0.1)

close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
same = np.testing.assert_array_equal


@functools.cache
def trained(seed: int = 0):
    """The network trained on the source alone."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        mine = digits.problem(CrossEntropy(), PLAIN, seed=seed, epochs=8, schedule="cosine")
        return digits.run(mine, digits.begun(PLAIN, seed=seed), pathlib.Path(folder))[0]


@functools.cache
def unadapted(seed: int) -> float:
    """Accuracy on the target of what was trained on the source alone."""
    on_target = digits.problem(CrossEntropy(), PLAIN, task=digits.target(), seed=seed)
    return digits.scores(on_target, trained(seed))["accuracy"]


# From one domain to another


@pytest.mark.parametrize("seed", SEEDS)
def test_statistics_of_the_target_alone_adapt(seed):
    mine = digits.problem(CrossEntropy(), PLAIN, task=digits.target(), seed=seed)
    phase, found = mine.plan.phases[0], trained(seed)
    inputs = for_plan(mine, test_views="none", cache=None, dtype="float32")(phase, found)
    again = fold.with_statistics(PhaseRun(mine, phase, 0, inputs, found), found)
    jax.tree.map(same, again["params"], found["params"])
    assert digits.scores(mine, again)["accuracy"] > unadapted(seed) + 0.1


def test_sources_of_the_same_size_are_shown_in_orders_of_their_own():
    """Else examples that are sorted alike would meet, and a batch tell the target's classes."""
    mine = digits.problem(DANN, DOMAINS, adapted=True)
    phase, first = mine.plan.phases[0], digits.begun(DOMAINS)
    inputs = for_plan(mine, test_views="none", cache=None, dtype="float32")(phase, first)
    for epoch in range(2):
        pairs = [
            (batch["source"]["targets"].argmax(-1), batch["target"]["targets"].argmax(-1))
            for batch in PhaseRun(mine, phase, 0, inputs, first).batches(epoch)
        ]
        one, other = map(np.concatenate, zip(*pairs, strict=True))
        assert len(one) > 1000 and np.mean(one == other) < 0.2


ADAPTED = {"dann": (DANN, DOMAINS), "mcd": (Discrepancy(), HEADS)}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("method", ADAPTED)
def test_features_are_adapted(tmp_path, method, seed):
    objective, network = ADAPTED[method]
    settings = {"adapted": True, "epochs": 6, "schedule": "cosine"}
    mine = digits.problem(objective, network, seed=seed, **settings)
    start = digits.begun(network, trained(seed), seed=seed)
    found, progress, _ = digits.run(mine, start, tmp_path)
    assert digits.scores(mine, found)["accuracy"] > unadapted(seed) + 0.1


def test_the_gradient_is_reversed_more_and_more():
    gradient = jax.grad(lambda x: (3 * reversed_gradient(x, 0.5)).sum())(jnp.ones(2))
    same(gradient, [-1.5, -1.5])
    assert reversed_gradient(jnp.float32(2), 0.5) == 2
    moments = [Now(jax.random.key(0), p, "all", 20_000) for p in (0.0, 0.1, 1.0)]
    said = [float(DANN.coefficient(now)) for now in moments]
    assert said == pytest.approx([0, 0.1 * np.tanh(0.5), 0.1 * np.tanh(5)])


def test_batches_of_any_size_are_joined_and_split_where_they_were():
    images = np.random.default_rng(0).uniform(size=(9, 8, 8, 1)).astype(np.float32)

    @jax.jit
    def both(variables, images):
        params, stats = variables["params"], variables["batch_stats"]
        whole, parted = (Net(PLAIN, params, stats, norm=PLAIN.names) for _ in range(2))
        wanted = "feature", "head"
        parts = [Known(image=part) for part in jnp.split(images, [2, 5])]
        return whole(Known(image=images), wanted), jointly(parted, parts, wanted)

    wanted, found = both(digits.begun(PLAIN), images)
    assert [len(logits) for _, logits in found] == [2, 3, 4]
    for number, whole in enumerate(wanted):
        same(np.concatenate([part[number] for part in found]), whole)


# Several tasks


def test_a_gradient_loses_what_is_against_another():
    key = jax.random.key(0)
    without_conflict = jax.jit(projected)
    found = without_conflict(jnp.array([[1.0, 0.0], [-1.0, 1.0]]), key)
    close(found, [[0.5, 0.5], [0.0, 1.0]])  # by hand: g1 + g2 / 2, g2 + g1
    agreeing = jnp.array([[1.0, 0.0], [1.0, 1.0]])
    same(without_conflict(agreeing, key), agreeing)
    same(without_conflict(jnp.array([[1.0, 0.0], [0.0, 0.0]]), key), [[1.0, 0.0], [0.0, 0.0]])


@pytest.mark.slow
def test_two_tasks_are_learnt_at_once(tmp_path):
    settings = {"epochs": 8, "schedule": "cosine"}
    mine = digits.problem(PCGrad(others=PARITY), TASKS, task=digits.with_parity(), **settings)
    found, progress, _ = digits.run(mine, digits.begun(TASKS), tmp_path)
    scores = digits.scores(mine, found)
    assert scores["accuracy"] > 0.8 and scores["parity_accuracy"] > 0.9
    assert {"train_head", "train_parity", "val_parity_accuracy"} <= progress.history[0].keys()


def test_four_parts_of_a_batch_are_the_batch(tmp_path):
    settings = {"optimizer": "sgd", "batch_norm": "frozen", "weight_decay": 0.1, "epochs": 1}
    weights = np.random.default_rng(0).integers(0, 3, len(digits.source().ids))
    task = digits.with_parity().with_truth(weights=np.float32(weights))  # parts weigh unequally
    found, learning = [], ("feature", "parity", "head")
    for parts in (1, 4):
        mine = digits.problem(
            Tasks(others=PARITY), TASKS, learning, task=task, accumulate=parts, clip=0.0, **settings
        )
        variables, progress, _ = digits.run(mine, digits.begun(TASKS), tmp_path / str(parts))
        found.append((variables, progress.history[0]["train_loss"]))
    jax.tree.map(close, *found)


# Few parameters


def lora(*layers: str) -> Network:
    """The network with adapters of rank 2."""
    return adapters.with_lora(PLAIN, trained()["params"], layers, rank=2)


@pytest.mark.slow
def test_adapters_alone_learn_and_the_base_stays(tmp_path):
    network = lora("conv2", "feature")
    assert network.names == ("conv1", "conv2_lora", "conv2", "feature_lora", "feature", "head")
    start = digits.begun(network, trained())
    learning = ("conv2_lora", "feature_lora")
    mine = digits.problem(
        CrossEntropy(), network, learning, task=digits.target(), batch_norm="frozen", epochs=5
    )
    before = digits.scores(mine, start)["accuracy"]
    assert before == unadapted(0)  # it begins as the identity
    found, _, inputs = digits.run(mine, start, tmp_path)
    assert digits.scores(mine, found)["accuracy"] > before + 0.1
    assert inputs.start == "conv1"
    for name in PLAIN.names:
        jax.tree.map(same, found["params"].get(name), trained()["params"].get(name))
    jax.tree.map(same, found["batch_stats"], trained()["batch_stats"])
    sizes = {name: sum(a.size for a in jax.tree.leaves(found["params"][name])) for name in learning}
    assert sizes == {"conv2_lora": 2 * (9 * 12 + 24), "feature_lora": 2 * (24 + 32)}


@pytest.mark.parametrize("spec", ["lora(rank=2)", "parallel"])
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_adapters_begin_as_the_identity_are_few_and_can_be_merged(name, spec):
    """Of any net: nothing changes at the start, and the merged kernels give what the ties do."""
    family = models.family(name)
    network = family.build(name, family.forms(name)[0]).cut("stage2_block1")
    start = network.init(0, (1, 32, 32, 3))
    adapted = adapters.make(spec, network, start["params"], network.names)
    added = [layer for layer in adapted.names if layer not in network.names]
    assert added and not set(network.names) - set(adapted.names)
    fresh = adapted.init(0, (1, 32, 32, 3), added)
    whole = merged(start, fresh)
    x = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    same(adapted.apply(whole, x).output, network.apply(start, x).output)
    rng = np.random.default_rng(0)
    moved = jax.tree.map(lambda a: 0.1 * rng.normal(size=a.shape).astype("f"), fresh)
    params = adapted.combine(merged(start, moved)["params"])
    plain = {"params": {n: params[n] for n in network.names if n in params},
             "batch_stats": start["batch_stats"]}  # fmt: skip
    wanted = adapted.apply(merged(start, moved), x).output
    close(network.apply(plain, x).output, wanted)
    assert not np.allclose(wanted, network.apply(start, x).output)
    kernels = {p: a.shape for p, a in flat(start["params"]).items() if p.endswith("/kernel")}
    if spec == "parallel":
        count = sum(s[2] * s[3] for s in kernels.values() if s[0] > 1)
    else:
        count = sum(2 * (s[0] * s[1] * s[2] + s[3]) for s in kernels.values()
                    if s[0] == 1 or s[2] > 1)  # fmt: skip
    assert sum(a.size for a in jax.tree.leaves(fresh["params"])) == count


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("lorra", "unknown adapters 'lorra'; did you mean 'lora'"),
        ("lora(rank=0)", "rank= takes a whole number, at least 1"),
        ("parallel", "none of these layers has a kernel"),
    ],
)
def test_adapters_that_cannot_be_are_refused(spec, said):
    with pytest.raises(UserError, match=said):
        adapters.make(spec, PLAIN, trained()["params"], ["head"])


def test_a_transfer_by_adapters_gives_a_plain_base(tmp_path):
    base = tl_jax.load_base("efficientnet_lite0", "random:0").cut("stage2_block1").resized(16)
    task = tl_jax.load_task("digits", per_class=5)
    options = {"train_head": {"epochs": 1}, "tune": {"epochs": 2, "learning_rate": 1e-2}}
    run = base.transfer(task, plan="adapters_only", adapters="lora(rank=2)", batch_size=25,
                        workdir=tmp_path, cache=None, **options)  # fmt: skip
    assert run.base.layers == (*base.layers, "head")
    rows = task.splits["val"]
    found = run.base.predict([task.open(int(row)) for row in rows])
    loss = -np.log(found[np.arange(len(rows)), task.labels[rows]]).mean()
    assert loss == pytest.approx(run.val["loss"], rel=1e-4)  # which the ties gave
    old, new = (one.variables["params"]["stem"] for one in (base, run.base))
    assert not np.array_equal(old["kernel"], new["kernel"])
    jax.tree.map(same, old["norm"], new["norm"])
    phase = run.result["plan"]["phases"][1]
    assert phase["trained_parameters"] < run.result["base"]["parameters"] / 2


def test_frozen_adapters_are_part_of_what_is_stored(tmp_path):
    """A second phase reads the feature of the adapted base; the same weights as from pixels."""
    network = lora("conv2", "feature")
    start = digits.begun(network, trained())
    first, second = (
        digits.problem(
            CrossEntropy(), network, names, task=digits.target(), batch_norm="frozen", epochs=epochs
        )
        for names, epochs in ((("conv2_lora", "feature_lora"), 1), (("head",), 3))
    )
    phases = [Phase(n, one.plan.phases[0].multipliers, one.plan.phases[0].settings)
              for n, one in (("adapters", first), ("head", second))]  # fmt: skip
    mine = dataclasses.replace(first, plan=Plan("two", tuple(phases)))
    found, progress, inputs = digits.run(mine, start, tmp_path / "stored")
    assert [one["prefix"] for one in progress.inputs] == ["conv1", "feature"]
    pixels, *_ = digits.run(mine, start, tmp_path / "pixels", stored=False)
    jax.tree.map(close, found, pixels)


def test_biases_and_the_head_alone_learn(tmp_path):
    mine = digits.problem(
        CrossEntropy(), PLAIN, task=digits.target(), leaves="bias$|^head/", batch_norm="frozen"
    )
    found, _, _ = digits.run(mine, digits.begun(PLAIN, trained()), tmp_path)
    before, after = (flat(v["params"]) for v in (trained(), found))
    moved = {path for path in before if (before[path] != after[path]).any()}
    learning = {path for path in before if path.endswith("bias") or path.startswith("head/")}
    assert moved == learning and len(learning) < len(before)
    jax.tree.map(same, found["batch_stats"], trained()["batch_stats"])
    assert digits.scores(mine, found)["accuracy"] > unadapted(0) + 0.1


@pytest.mark.parametrize("since", [0.0, 0.5, 0.9])
def test_the_average_of_the_last_steps_is_what_is_handed_on(tmp_path, monkeypatch, since):
    states, offer = [], Saver.offer

    def spied(self, progress, variables, state, best, **options):
        states.append(jax.device_get(state.params))
        offer(self, progress, variables, state, best, **options)

    monkeypatch.setattr(Saver, "offer", spied)
    mine = digits.problem(Averaged(rate=0.0, since=since), PLAIN, epochs=1)
    found, progress, _ = digits.run(mine, digits.begun(PLAIN), tmp_path)
    steps = states[: progress.history[0]["step"]]
    assert len(steps) == len(digits.source().splits["train"]) // 64
    last = steps[round(since * len(steps)) :]
    jax.tree.map(lambda *a: close(a[0], np.mean(a[1:], 0)), found["params"], *last)


@pytest.mark.parametrize("steps", [1, 3])
def test_each_phase_has_an_average_of_its_own(steps):
    """Whatever number of steps the run made before: the rate is 1 over those of the phase."""
    now = Now(jax.random.key(0), jnp.float32((steps - 1) / 8), "", 8)
    assert float(Averaged(rate=0.0).average(now)) == pytest.approx(1 / steps)


@pytest.mark.parametrize(
    ("options", "said"), [({"rate": 1.5}, "rate is from 0"), ({"since": 1.0}, "since is a share")]
)
def test_averages_that_cannot_be_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        Averaged(**options)


# What each may read from the store

TOP = ("feature", "head")
PLACES = {
    "head": (CrossEntropy(), PLAIN, ("head",), {}, "feature"),
    "top": (CrossEntropy(), PLAIN, TOP, {}, "conv2"),
    "average": (Averaged(), PLAIN, TOP, {}, "conv2"),
    "dann": (DANN, DOMAINS, (*TOP, "domain"), {"adapted": True}, "conv2"),
    "mcc head": (ClassConfusion(), PLAIN, ("head",), {"adapted": True}, "feature"),
    "mcd": (Discrepancy(), HEADS, (*TOP, "second"), {"adapted": True}, "conv2"),
    "pcgrad": (PCGrad(others=PARITY), TASKS, ("head", "parity"), {"task": "parity"}, "feature"),
    "byol": (BYOL(), VIEWS, ("projected", "predicted"), {"augment": RANDOM}, None),
    "lora head": (CrossEntropy(), "head", ("head_lora",), {}, "feature"),
    "lora feature": (CrossEntropy(), "feature", ("feature_lora",), {}, "conv2"),
    "bitfit": (CrossEntropy(), PLAIN, (), {"leaves": "bias$"}, None),
}


@pytest.mark.parametrize("case", PLACES)
def test_what_a_method_reads(case):
    objective, network, names, options, wanted = PLACES[case]
    network = lora(network) if isinstance(network, str) else network
    options = options | ({"task": digits.with_parity()} if "task" in options else {})
    mine = digits.problem(objective, network, names, **options)
    places = asked(mine, mine.plan.phases[0], digits.begun(network)).places
    assert next(iter(places.found), None) == wanted
    assert ("asks for 'image'" in places.why) == (case == "byol")


@pytest.mark.parametrize("case", ["dann", "mcc head"])
def test_the_store_gives_the_weights_that_pixels_give(tmp_path, case):
    objective, network, names, options, place = PLACES[case]
    mine = digits.problem(objective, network, names, optimizer="sgd", epochs=1, **options)
    start = digits.begun(network, trained())
    found, progress, inputs = digits.run(mine, start, tmp_path / "stored")
    assert inputs.start == place and {i.start for i in inputs.others.values()} == {place}
    pixels, *_ = digits.run(mine, start, tmp_path / "pixels", stored=False)
    jax.tree.map(close, found, pixels)


# Eight devices are one


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coral(Classification):
    """Of one's own: covariances of features are to be alike (Sun & Saenko 2016, 1607.01719)."""

    coupled = True
    judges = "target"

    def loss(self, net, batch, memory, now):
        """Cross entropy on the source, and the squared distance of the covariances."""
        both = batch["source"]["inputs"], batch["target"]["inputs"]
        (f, logits), (g, _) = jointly(net, both, ("feature", "head"))
        gap = ((jnp.cov(f.T) - jnp.cov(g.T)) ** 2).sum() / (4 * f.shape[1] ** 2)
        source = entropy(logits, batch["source"]["targets"], batch["source"]["weights"])
        return Loss({"loss": source, "coral": Term(gap)}, memory)


def on_devices(folder: pathlib.Path):
    """Variables and losses of an epoch on however many devices."""
    settings = {"optimizer": "sgd", "epochs": 1, "adapted": True}
    mine = digits.problem(Coral(), PLAIN, PLAIN.names[1:], **settings)
    variables, progress, _ = digits.run(mine, digits.begun(PLAIN), folder)
    row = progress.history[0]
    return jax.device_get(variables), np.array([row["train_loss"], row["val_loss"]])


def main(folder: pathlib.Path):
    """In the other process: what is compared."""
    return on_devices(folder), jax.device_count(), refused()


def refused() -> str:
    """What is said of parts of a batch on several devices."""
    mine = digits.problem(Coral(), PLAIN, adapted=True)
    try:
        dataclasses.replace(mine, parallel=Parallel("pmap"))
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.slow
def test_eight_devices_give_what_one_gives(tmp_path):
    # Quicker to compile; the numbers stay the same.
    eight, count, said = on_eight("test_methods", tmp_path, JAX_DISABLE_MOST_OPTIMIZATIONS="1")
    assert (count, jax.device_count()) == (8, 1)
    assert "Coral couples the examples of a batch" in said and "parallel=jit" in said
    jax.tree.map(close, eight, on_devices(tmp_path / "one"))


def test_every_objective_has_a_name():
    for kind in (Averaged, BYOL, CrossEntropy, Discrepancy, DomainAdversarial, PCGrad, Tasks):
        assert kind in OBJECTIVES.values()
