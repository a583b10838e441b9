"""Objectives without labels: losses against numpy, what they read, and what they learn."""

import functools

import digits
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.neighbors

from tl_jax.chain.places import Known
from tl_jax.data import augment
from tl_jax.data.augment import TwoFrames, TwoViews
from tl_jax.errors import UserError
from tl_jax.stats import representation
from tl_jax.stats.slow_features import slow_features
from tl_jax.train import evaluate, objectives
from tl_jax.train.inputs import asked
from tl_jax.train.objective import Now, mean
from tl_jax.train.objectives import (
    BYOL,
    DINO,
    BarlowTwins,
    Exemplar,
    Jigsaw,
    Masked,
    MoCo,
    Rotation,
    SimCLR,
    SimSiam,
    Slowness,
    VICReg,
    barlow_twins,
    dino,
    jigsaw,
    masked,
    moco,
    simclr,
    vicreg,
)

PLAIN = digits.network()
TAIL = {"hidden": 32, "width": 16}
EVERY = {
    "barlow_twins": BarlowTwins(**TAIL),
    "byol": BYOL(**TAIL, rate=0.02),
    "dino": DINO(**TAIL, prototypes=20),
    "exemplar": Exemplar(),
    "jigsaw": Jigsaw(grid=2, permutations=24, hidden=16),
    "masked": Masked(patch=2, hidden=32),
    "moco": MoCo(**TAIL, queue=128),
    "rotation": Rotation(),
    "simclr": SimCLR(**TAIL),
    "simsiam": SimSiam(**TAIL, narrow=8),
    "slowness": Slowness(**TAIL, step=1),
    "vicreg": VICReg(**TAIL),
}
NOW = Now(jax.random.key(0), 0.0, "all")
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
rng = np.random.default_rng(0)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def two(count=6, width=5):
    """Embeddings of two views."""
    return np.float32(np.random.default_rng(1).normal(size=(2, count, width)) + 0.3)


def task():
    """The digits, each training image with its number."""
    source = digits.source()
    numbers = np.zeros(len(source.ids), np.int32)
    numbers[source.splits["train"]] = np.arange(len(source.splits["train"]))
    return source.with_truth(example=numbers)


class Answers:
    """Stands for a network: gives the values of a function of what is known, by place; its average
    those of what is known backwards.
    """

    def __init__(self, **functions):
        self.functions = functions

    def __call__(self, known, wanted, *, train=True):
        if isinstance(wanted, str):
            return self.functions[wanted](known)
        return tuple(self.functions[place](known) for place in wanted)

    def at(self, view):
        assert view == "average"
        return Answers(
            **{n: lambda known, f=f: backwards(f(known)) for n, f in self.functions.items()}
        )


def backwards(z):
    return z[:, ::-1]


# Losses


def test_nt_xent_is_the_cross_entropy_of_the_other_view():
    a, b = two()
    z, losses = unit(np.concatenate([a, b])), []
    for i in range(12):
        others = [j for j in range(12) if j != i]
        logits = z[others] @ z[i] / 0.5
        losses.append(scipy.special.logsumexp(logits) - z[(i + 6) % 12] @ z[i] / 0.5)
    close(mean(jax.jit(simclr.nt_xent)(a, b, 0.5)), np.mean(losses))


def test_info_nce_and_the_queue():
    a, b = two()
    queue = unit(np.float32(np.random.default_rng(2).normal(size=(4, 5))))
    averaged = unit(backwards(b))
    logits = np.concatenate([(unit(a) * averaged).sum(1, keepdims=True), unit(a) @ queue.T], 1)
    wanted = (scipy.special.logsumexp(logits / 0.2, axis=1) - logits[:, 0] / 0.2).mean()
    close(mean(moco.info_nce(unit(a), averaged, queue, 0.2)), wanted)
    net = Answers(projected=lambda known: known["z"])
    batch = {"a": Known(z=a), "b": Known(z=b)}
    loss = MoCo(queue=4).loss(net, batch, queue, NOW)
    close(mean(loss.terms["loss"]), wanted)
    close(loss.memory, averaged[-4:])
    long = MoCo(queue=9).loss(net, batch, np.zeros((9, 5), np.float32), NOW)
    close(long.memory, np.concatenate([np.zeros((3, 5)), averaged]))


@pytest.mark.parametrize(("objective", "scale"), [(BYOL(), 1.0), (SimSiam(), 0.0)])
def test_predictions_of_the_other_view(objective, scale):
    a, b = two()
    net = Answers(projected=lambda known: known["z"], predicted=lambda known: 2 * known["z"] - 1)
    how = jax.jit(lambda batch: objective.loss(net, batch, (), NOW).terms)
    terms = how({"a": Known(z=a), "b": Known(z=b)})
    averaged = backwards if scale else lambda z: z  # SimSiam has no average
    pairs = (unit(2 * x - 1) * unit(averaged(y)) for x, y in ((a, b), (b, a)))
    cosines = [pair.sum(1) for pair in pairs]
    wanted = 2 - 2 * np.mean(cosines) if scale else -np.mean(cosines)
    close(mean(terms["loss"]), wanted)


def test_no_gradient_reaches_what_is_predicted():
    a, b = two()
    net = Answers(projected=lambda known: known["z"], predicted=lambda known: jnp.ones_like(a))

    def loss(z):
        return mean(SimSiam().loss(net, {"a": Known(z=z), "b": Known(z=z)}, (), NOW).terms["loss"])

    close(jax.grad(loss)(a), np.zeros_like(a))


def test_the_terms_of_vicreg():
    a, b = two(count=50)
    terms = VICReg().compared(jnp.asarray(a), jnp.asarray(b))
    close(mean(terms["invariance"]), ((a - b) ** 2).mean())
    spread = [np.maximum(0, 1 - np.sqrt(z.var(0, ddof=1) + 1e-4)).mean() for z in (a, b)]
    close(mean(terms["variance"]), np.mean(spread))
    covariances = (np.cov(z.T) for z in (a, b))
    close(
        mean(terms["covariance"]),
        sum((c**2).sum() - (np.diag(c) ** 2).sum() for c in covariances) / 5,
    )
    assert [float(terms[n].scale) for n in terms] == [25, 25, 1]
    together = jnp.ones((8, 3))  # all at one point
    close(vicreg.repulsion(together), (1 - 0.01, 0))


def test_the_correlations_of_barlow_twins():
    a, b = two(count=50)
    found = barlow_twins.correlation(a, b)
    close(found, np.corrcoef(a.T, b.T)[:5, 5:], atol=1e-3)
    close(barlow_twins.redundancy(np.float32([[0.5, 2], [1, 1]])), (0.25, 5))


def test_the_teacher_of_dino_is_centred_and_sharp():
    cosines, centre = np.float32([[0.2, 0.1], [0.3, 0.1]]), np.float32([0.25, 0.1])
    close(dino.targets(cosines, centre, 0.05), scipy.special.softmax((cosines - centre) / 0.05, 1))
    a, b = two(width=4)
    net = Answers(projected=lambda known: known["z"], cosines=lambda known: known["z"])
    batch = {"a": Known(z=a), "b": Known(z=b)}
    loss = DINO(prototypes=4, temperature=0.5).loss(net, batch, jnp.ones(4), NOW)
    teacher = scipy.special.softmax((backwards(np.concatenate([b, a])) - 1) / 0.5, 1)
    student = scipy.special.log_softmax(np.concatenate([a, b]) / 0.1, 1)
    close(mean(loss.terms["loss"]), -(teacher * student).sum(1).mean())
    close(loss.memory, 0.9 + 0.1 * backwards(np.concatenate([a, b])).mean(0))


def test_averages_move_by_their_rates():
    """MoCo's by the same all the time; BYOL's and DINO's end at rest, by half the rate half way."""
    moments = [Now(jax.random.key(0), progress, "all") for progress in (0.0, 0.5, 1.0)]
    for objective, rates in (
        (MoCo(rate=0.02), (0.02, 0.02, 0.02)),
        (BYOL(rate=0.02), (0.02, 0.01, 0.0)),
        (DINO(rate=0.02), (0.02, 0.01, 0.0)),
    ):
        close([objective.average(now) for now in moments], rates, atol=1e-8)


def test_all_four_turns_of_an_image_are_there():
    images = np.zeros((3, 4, 4, 1), np.float32)
    images[:, 0, 3] = 1  # the upper right corner, which turns to the left

    def corner(known):
        x = known["image"][..., 0]
        return jnp.stack([x[:, 0, 3], x[:, 0, 0], x[:, 3, 0], x[:, 3, 3]], 1)

    loss = Rotation().loss(Answers(rotation=corner), {"inputs": Known(image=images)}, (), NOW)
    assert mean(loss.logs["told"]) == 1 and loss.terms["loss"].weight == 12


def test_orders_are_far_apart():
    chosen = jigsaw.far_apart(9, 64)
    assert len({tuple(order) for order in chosen}) == 64
    assert all(sorted(order) == list(range(9)) for order in chosen.tolist())
    apart = [(p != q).sum() for n, p in enumerate(chosen) for q in chosen[:n]]
    at_random = [rng.permutation(9) for _ in range(64)]
    near = [(p != q).sum() for n, p in enumerate(at_random) for q in at_random[:n]]
    assert min(apart) >= 7 and np.mean(apart) > np.mean(near)
    assert len(jigsaw.far_apart(4, 24)) == 24


def test_tiles_lie_in_their_cells_and_do_not_tell_their_brightness():
    rows = np.arange(12, dtype=np.float32)
    image = np.broadcast_to(20 * rows[:, None, None], (12, 12, 1))
    tiles = jax.jit(jigsaw.tiles, static_argnums=2)
    numbers = np.arange(144, dtype=np.float32).reshape(12, 12, 1)
    found = tiles(jax.random.key(0), np.stack([image, 2 * image + 7, numbers]), 3)
    assert found.shape == (3, 9, 3, 3, 1)
    close(found.mean((2, 3, 4)), 128, rtol=1e-4)
    assert (np.abs(found.std((2, 3, 4)) - 64) < 7).all()
    own = np.asarray(found)[2, ..., 0]
    steps = own - own[:, :1, :1]  # rows are 12 numbers apart, columns 1, whatever the cell
    close(steps[:, 2, 0] / steps[:, 0, 2], 12, rtol=1e-4)


def test_a_sum_over_slots_is_a_layer_on_all_side_by_side():
    x, kernel = rng.normal(size=(6, 3, 4)), rng.normal(size=(3, 4, 5))  # of 6 wholes, 3 parts
    placed = np.einsum("bsd,tdh->bsth", x, kernel).reshape(18, 3, 5)
    close(jigsaw.side_by_side(placed, 3), x.reshape(6, 12) @ kernel.reshape(12, 5))


def test_an_order_is_told_by_whoever_knows_the_tiles():
    """Images of four brightness ramps: the ramp of a tile says which one it is."""
    ramps = np.stack([np.add.outer(np.arange(8) * p, np.arange(8) * q) for p, q in
                      ((1, 0), (0, 1), (1, 2), (2, 1))])  # fmt: skip
    image = np.block([[ramps[0], ramps[1]], [ramps[2], ramps[3]]])[None, ..., None]
    seen = []
    net = Answers(
        placed=lambda known: seen.append(known["image"]) or jnp.zeros((4, 4, 2)),
        order=lambda known: jnp.zeros((1, 24)),
    )
    how = Jigsaw(grid=2, permutations=24, hidden=2)
    how.loss(net, {"inputs": Known(image=np.float32(image))}, (), NOW)
    tiles = np.asarray(seen[0])[..., 0]
    slopes = [(t[1, 0] - t[0, 0] > 1, t[0, 1] - t[0, 0] > 1) for t in tiles]
    steep = [t[1, 0] - t[0, 0] > t[0, 1] - t[0, 0] for t in tiles]
    known = {(True, False, True): 0, (False, True, False): 1, (True, True, False): 2,
             (True, True, True): 3}  # fmt: skip
    order = [known[(*map(bool, s), bool(p))] for s, p in zip(slopes, steep, strict=True)]
    _, for_orders = jax.random.split(NOW.key)
    number = int(jax.random.randint(for_orders, (1,), 0, 24)[0])
    assert order == jigsaw.far_apart(4, 24)[number].tolist()


def test_hidden_patches_alone_are_judged():
    images = np.float32(rng.uniform(0, 255, (3, 8, 8, 2)))
    how, seen = Masked(patch=4, share=0.5), []
    net = Answers(decoded=lambda known: seen.append(known["image"]) or jnp.zeros(images.shape))
    loss = how.loss(net, {"inputs": Known(image=images)}, (), NOW)
    hidden = np.asarray(how.mask(NOW.key, images))[..., 0]
    cells = hidden.reshape(3, 2, 4, 2, 4).mean((2, 4))
    assert (cells.sum((1, 2)) == 2).all() and set(cells.ravel()) == {0, 1}
    wanted = masked.standardised(images, 4)
    own = images.reshape(3, 2, 4, 2, 4, 2)
    close(np.asarray(wanted).reshape(own.shape).mean((2, 4)), 0, atol=1e-4)
    close(np.asarray(wanted).reshape(own.shape).std((2, 4)), 1, rtol=1e-2)
    close(mean(loss.terms["loss"]), (np.asarray(wanted)[hidden] ** 2).mean())
    close(seen[0][~hidden], images[~hidden])
    for image, mask, shown in zip(images, hidden, seen[0], strict=True):
        close(shown[mask], np.broadcast_to(image[~mask].mean(0), (mask.sum(), 2)), rtol=1e-4)


def test_a_frame_shows_the_image_further_on():
    images = np.float32(rng.uniform(0, 255, (40, 8, 8, 1)))
    batch = jax.jit(TwoFrames(2))(jax.random.key(0), {"inputs": Known(image=images)})
    a, b = (np.asarray(batch[name]["image"]) for name in "ab")
    close(a, images)
    assert set(np.unique(batch["motion"])) == set(range(9))
    for number, motion in enumerate(np.asarray(batch["motion"])):
        down, right = 2 * (motion // 3 - 1), 2 * (motion % 3 - 1)
        close(b[number, 2:6, 2:6], images[number, 2 + down : 6 + down, 2 + right : 6 + right])


# What each asks for, and learns


def problem(name, **settings):
    """A problem of the small network that such an objective trains without its head."""
    objective = EVERY[name].fitted(task())
    network = PLAIN.cut("feature")
    network = network.with_layers(*objective.tails(network))
    usual = {"augment": "crop(0.5)+jitter(0.4, 0.4, 0, 0)"} | settings
    return digits.problem(objective, network, task=task(), **usual)


@pytest.mark.parametrize("name", EVERY)
def test_each_trains_every_layer_and_reads_images(name):
    mine = problem(name)
    found = asked(mine, mine.plan.phases[0], digits.begun(mine.chain))
    assert set(found.survey.layers) == set(mine.chain.names) and not found.places.found
    assert found.survey.scores == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["byol", "moco"])
def test_digits_of_a_kind_come_together(tmp_path, name):
    epochs = 8 if name == "byol" else 4
    mine = problem(name, epochs=epochs, learning_rate=1e-2)
    start = digits.begun(mine.chain)
    found, progress, inputs = digits.run(mine, start, tmp_path, stored=False)
    before, after = (
        mine.objective.watch(functools.partial(evaluate.predictions, mine, v, inputs), mine.task)
        for v in (start, found)
    )
    last = progress.history[-1]
    assert {n: last[f"val_{n}"] for n in after} == after
    assert after["knn"] > before["knn"] + 0.02
    assert last["train_spread"] > 0.3  # no collapse


def test_two_views_differ_and_the_image_stays():
    images = np.float32(rng.uniform(0, 255, (4, 8, 8, 1)))
    views = TwoViews(augment.make("crop"))
    found = jax.jit(views)(jax.random.key(0), {"inputs": Known(image=images)})
    close(found["inputs"]["image"], images)
    assert not np.allclose(found["a"]["image"], found["b"]["image"])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: problem("simclr", augment=""), "SimCLR learns what random augmentation leaves"),
        (lambda: problem("exemplar", augment=""), "take augment=crop"),
        (lambda: EVERY["moco"].__class__(queue=2000).fitted(task()), "a queue of 2000 is longer"),
        (lambda: objectives.make("simclr(width=0)"), "width= takes a whole number, at least 1"),
        (lambda: objectives.make(EVERY["dino"].__class__(prototypes=0)), "prototypes= takes"),
        (lambda: Jigsaw(grid=4), "jigsaw: grid takes a whole number, at least 2 and at most 3"),
        (lambda: Jigsaw(grid=2), "jigsaw: permutations takes .* at most 24"),
        (lambda: Masked(share=1), "masked: share takes a share above 0"),
        (lambda: Masked(patch=3).mask(NOW.key, np.zeros((1, 8, 8, 1))), "take a patch= that"),
    ],
)
def test_what_cannot_be_is_refused(make, said):
    def do():
        made = make()
        if hasattr(made, "plan"):
            asked(made, made.plan.phases[0], digits.begun(made.chain))

    with pytest.raises(UserError, match=said):
        do()


# What features tell


def test_spread_and_rank_say_when_features_collapse():
    x = np.random.default_rng(0).normal(size=(4000, 8))
    assert representation.spread(x) == pytest.approx(1, abs=0.02)
    assert representation.effective_rank(x) == pytest.approx(8, abs=0.05)
    same = np.ones((50, 8))
    assert representation.spread(same) == pytest.approx(0, abs=1e-6)
    assert representation.effective_rank(same) == 0
    line = np.outer(np.arange(50.0), np.arange(8)) + 3
    assert representation.effective_rank(line) == pytest.approx(1)


def test_neighbours_vote_as_in_scikit_learn():
    features, labels = rng.normal(size=(300, 6)), rng.integers(0, 4, 300)
    features[:, 0] += labels
    bank, queries = slice(0, 200), slice(200, 300)
    theirs = sklearn.neighbors.KNeighborsClassifier(
        20, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
    )
    theirs.fit(features[bank], labels[bank])
    found = representation.neighbour_accuracy(
        features[queries], labels[queries], features[bank], labels[bank]
    )
    assert found == pytest.approx(theirs.score(features[queries], labels[queries]), abs=0.011)
    assert 0.3 < found < 0.9


def test_a_slow_sine_is_found_in_a_mixture():
    t = np.linspace(0, 1, 2000)
    noise = np.random.default_rng(0)
    slow, fast = np.sin(2 * np.pi * 2 * t), np.sin(2 * np.pi * 31 * t)
    sources = np.stack([slow, fast, noise.normal(size=2000), noise.normal(size=2000)], 1)
    mixed = sources @ noise.normal(size=(4, 4)) + 5
    mixed = np.concatenate([mixed, mixed[:, :1] - mixed[:, 1:2]], 1)  # one dimension too many
    found = slow_features(mixed)
    assert found.features.shape == (2000, 4)
    assert abs(np.corrcoef(found.features[:, 0], slow)[0, 1]) > 0.99
    assert abs(np.corrcoef(found.features[:, 1], fast)[0, 1]) > 0.99
    close(found.features.mean(0), 0)
    close(np.cov(found.features.T, ddof=0), np.eye(4))
    close((np.diff(found.features, axis=0) ** 2).mean(0), found.delta)
    assert (np.diff(found.delta) > 0).all()
    close((mixed - found.mean) @ found.weights, found.features)
    assert slow_features(mixed, 2).weights.shape == (5, 2)


def test_quadratic_slow_features_find_what_no_linear_one_does():
    t = np.arange(3000)
    rate = np.sin(2 * np.pi * t / 1500)
    carrier = np.cumsum(0.9 + 0.5 * np.random.default_rng(0).normal(size=3000))
    x = (2 + rate)[:, None] * np.stack([np.cos(carrier), np.sin(carrier)], 1)
    linear = slow_features(x).features[:, 0]
    squares = np.stack([x[:, 0], x[:, 1], x[:, 0] ** 2, x[:, 1] ** 2, x[:, 0] * x[:, 1]], 1)
    quadratic = slow_features(squares).features[:, 0]
    assert abs(np.corrcoef(linear, rate)[0, 1]) < 0.3
    assert abs(np.corrcoef(quadratic, rate)[0, 1]) > 0.95


@pytest.mark.parametrize(
    ("signal", "options", "said"),
    [
        (np.zeros((2, 3)), {}, "3 moments or more"),
        (np.ones((9, 3)), {}, "does not change"),
        (rng.normal(size=(9, 3)), {"count": 4}, "at least 1 and at most 3"),
    ],
)
def test_signals_without_slow_features_are_refused(signal, options, said):
    with pytest.raises(UserError, match=said):
        slow_features(signal, **options)
