"""Heads, objectives and answers of detectors: by hand, beside a loop in NumPy, and end to end."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from absl import flags
from absl.testing import flagsaver
from hypothesis import given, settings
from hypothesis import strategies as st

import tl_jax
from experiments import cli, predict
from tl_jax import ops
from tl_jax.chain import answers, heads
from tl_jax.chain.detectors import PROPOSALS
from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import BEFORE, Known, Layer
from tl_jax.data import augment, proposals
from tl_jax.data.boxes.found import Found
from tl_jax.data.images import size_at
from tl_jax.errors import UserError
from tl_jax.report import found as pictures
from tl_jax.runs import pose
from tl_jax.runs import settings as of_runs
from tl_jax.studies.lsda.shift import nearest, shifted
from tl_jax.train.objective import Now, mean
from tl_jax.train.objectives import FCOS, FastRCNN
from tl_jax.train.objectives.detection import Objects, image_precision
from tl_jax.train.objectives.fast_rcnn import recall
from tl_jax.train.objectives.fcos import assigned

SIDE = 32
TRUTH = {
    "boxes": np.float32([[[4, 4, 20, 20], [0, 0, 0, 0]], [[8, 2, 30, 14], [2, 16, 14, 30]]]),
    "classes": np.int32([[0, -1], [1, 2]]),
    "ignored": np.zeros((2, 2), bool),
}


@pytest.fixture(scope="module")
def base():
    """A small one, up to maps of 4 x 4."""
    untrained = tl_jax.load_base("efficientnet_lite0", "random:0")
    return untrained.resized(SIDE).cut("stage2_block1")


def objects(boxes, classes, ignored=None):
    classes = jnp.asarray(classes)
    ignored = jnp.zeros(classes.shape, bool) if ignored is None else jnp.asarray(ignored)
    return Objects(jnp.float32(boxes), classes, (classes >= 0) & ~ignored, ignored)


def test_a_layer_reads_the_one_before_among_other_places():
    own = (Layer("a", nn.Dense(2)), Layer("b", nn.Dense(2), (BEFORE, "image")))
    assert [layer.reads for layer in Network(own).layers] == [("image",), ("a", "image")]


def test_further_inputs_have_the_shapes_that_their_readers_say(base):
    chain = base.with_head(3, head="fast_rcnn").chain
    assert chain.inputs == ("image", PROPOSALS)
    found = chain.input_shapes((2, SIDE, SIDE, 3))
    assert {name: leaf.shape for name, leaf in found.items()} == {
        "image": (2, SIDE, SIDE, 3),
        PROPOSALS: (2, 1, 4),
    }


def loss_of(head, objective):
    """Terms, detections and gradients of a batch of two, on maps of 4 x 4 of one convolution."""
    trunk = (Layer("low", nn.Conv(4, (4, 4), 4)), Layer("high", nn.Conv(4, (2, 2), 2)))
    network = Network(trunk).with_layers(*heads.make(head, 3))
    variables = network.init(0, (1, SIDE, SIDE, 3))
    images = np.random.default_rng(0).normal(size=(2, SIDE, SIDE, 3)).astype(np.float32)
    near = (TRUTH["boxes"][:, ::-1] + 1) / SIDE
    batch = {"inputs": Known(image=images, **{PROPOSALS: near}), **TRUTH}

    @jax.jit
    def total(params, batch):
        net = Net(network, params, {})
        loss = objective.loss(net, batch, (), Now(jax.random.key(1), 0.0, ""))
        found = objective.predict(net, batch, ())[0]
        return sum(map(mean, loss.terms.values())), (loss.terms, found)

    (_, found), slopes = jax.value_and_grad(total, has_aux=True)(variables["params"], batch)
    return *found, slopes


@pytest.mark.parametrize(
    ("head", "objective"),
    [
        ("fcos(also='low', depth=1, features=8)", FCOS()),
        ("fast_rcnn", FastRCNN(sampled=8)),
        ("fast_rcnn", FastRCNN(whole=True)),
    ],
)
def test_a_fresh_head_has_the_loss_that_its_zeros_say(head, objective):
    terms, detections, slopes = loss_of(head, objective.framed(SIDE))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(slopes["head"]))
    if head == "fast_rcnn":  # all classes are as likely, and no box is moved
        count = 3 if objective.whole else 4
        np.testing.assert_allclose(mean(terms["classes"]), np.log(count), rtol=1e-5)
    else:
        # Of the 8 x 8 positions 4, 6 and 6 are near the centres of the boxes, and inside them. Each
        # of 3 classes has p = 0.01: the focal loss is -a (1 - p)^2 log p for the class of a box,
        # and -(1 - a) p^2 log(1 - p) for the others.
        positive = 16 * 0.25 * 0.99**2 * -np.log(0.01)
        negative = (2 * 64 * 3 - 16) * 0.75 * 0.01**2 * -np.log(0.99)
        wanted = (positive + negative) / 16
        np.testing.assert_allclose(mean(terms["classes"]), wanted, rtol=1e-5)
        # Cross entropy of the logit 0, whatever the centre-ness
        np.testing.assert_allclose(mean(terms["centre"]), np.log(2), rtol=1e-5)
    assert detections["boxes"].shape == (2, 100, 4)


def test_classes_held_out_get_no_gradient():
    objective = FastRCNN(sampled=8, _hidden=(1,)).framed(SIDE)
    _, _, slopes = loss_of("fast_rcnn", objective)
    slope = np.abs(slopes["head"]["classes_of"]["kernel"]).sum(0)
    assert slope[1] == 0 and (slope[[0, 2, 3]] > 0).all()
    boxes = np.abs(slopes["head"]["boxes_of"]["kernel"]).sum(0).reshape(3, 4).sum(1)
    assert boxes[1] == 0 and boxes[0] > 0


def test_positions_belong_to_the_smallest_box_whose_centre_is_near():
    points = (jnp.stack(jnp.meshgrid(jnp.arange(4), jnp.arange(4)), -1).reshape(-1, 2) + 0.5) / 4
    boxes = [[0, 0, 1, 1], [0.5, 0.5, 1, 1], [0, 0.75, 0.25, 1], [0, 0, 0, 0]]
    found = jax.jit(assigned)(points, objects(boxes, [0, 1, 2, -1], [False, False, True, False]))
    positive = np.asarray(found.positive).reshape(4, 4)
    assert positive.astype(int).tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]
    classes = np.where(found.positive, found.classes, -1).reshape(4, 4)
    assert classes[2].tolist() == [-1, 0, 1, 1] and classes[1].tolist() == [-1, 0, 0, -1]
    assert np.flatnonzero(~np.asarray(found.counts)).tolist() == [12]  # the ignored corner
    # At (3/8, 3/8) of the whole: sqrt(3/5 * 3/5)
    np.testing.assert_allclose(found.centre[5], 0.6, rtol=1e-5)


def test_the_precision_of_an_image_by_hand():
    truth = objects([[0, 0, 4, 4], [10, 10, 14, 14], [20, 20, 24, 24], [0, 0, 0, 0]],
                    [0, 0, 1, -1], [False, False, True, False])  # fmt: skip
    boxes = jnp.float32([[0, 0, 4, 4], [0, 0, 4, 4.1], [20, 20, 24, 24], [10, 10, 14, 15]])
    # right, found before, in an ignored region, right: precisions 1 and 2/3 of two objects
    precision = jax.jit(image_precision)
    found = precision(boxes, jnp.array([0, 0, 1, 0]), truth)
    np.testing.assert_allclose(found, (1 + 2 / 3) / 2, rtol=1e-6)
    assert precision(boxes, jnp.array([1, 1, 0, -1]), truth) == 0


def iou(box, other):
    """Of two boxes, in NumPy."""
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    shared = np.prod(np.maximum(high - low, 0))
    return shared / (np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - shared)


DETECTIONS = jax.jit(answers.make("boxes(least=0.3, overlap=0.4, most=20)"))
SAMPLE = jax.jit(FastRCNN(sampled=16, low=0.1).sample)


def greedy(scores, boxes, least, overlap, most):
    """Detections of one image as a loop in NumPy says them."""
    found = []
    for flat in np.argsort(-scores.reshape(-1), kind="stable"):
        place, number = divmod(int(flat), scores.shape[1])
        box = boxes[place, number if boxes.shape[1] > 1 else 0]
        close = (iou(box, other) > overlap for _, other, n in found if n == number)
        if scores[place, number] >= least and not any(close):
            found.append((scores[place, number], box, number))
    return found[:most]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**16), own=st.booleans())
def test_detections_are_those_of_a_loop(seed, own):
    draw = np.random.default_rng(seed)
    scores = draw.uniform(size=(6, 2)).astype(np.float32)
    corners = draw.uniform(0, 0.5, (6, 2 if own else 1, 2))
    boxes = np.concatenate([corners, corners + draw.uniform(0.1, 0.5, corners.shape)], -1)
    boxes = boxes.astype(np.float32)
    found = DETECTIONS({"scores": scores[None], "boxes": boxes[None]})
    found = {name: np.asarray(array[0]) for name, array in found.items()}
    wanted = greedy(scores, boxes, 0.3, 0.4, 20)
    count = len(wanted)
    assert found["classes"].tolist() == [n for *_, n in wanted] + [-1] * (20 - count)
    np.testing.assert_allclose(found["scores"][:count], [s for s, *_ in wanted], rtol=1e-6)
    np.testing.assert_allclose(found["boxes"][:count], [b for _, b, _ in wanted], rtol=1e-6)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_a_quarter_of_a_sample_is_of_objects_at_most(seed):
    draw = np.random.default_rng(seed)
    corners = draw.uniform(0, 0.6, (40, 2))
    boxes = np.float32(np.concatenate([corners, corners + draw.uniform(0.1, 0.4, (40, 2))], -1))
    boxes[30:] = 0  # are none
    truth = objects(boxes[:3], [2, 0, -1])
    sample = jax.tree.map(np.asarray, SAMPLE(jax.random.key(seed), boxes, truth))
    with np.errstate(invalid="ignore"):
        best = np.array([max(iou(one, boxes[0]), iou(one, boxes[1])) for one in sample.boxes])
    of_objects, counts = sample.classes >= 0, sample.counts
    assert 1 <= of_objects.sum() <= 4 and (best[of_objects] >= 0.5).all()
    background = counts & ~of_objects
    assert (best[background] < 0.5).all() and (best[background] >= 0.1).all()
    assert counts[of_objects].all() and not (sample.boxes[counts] == 0).all(1).any()


def test_the_recall_of_proposals_by_hand():
    truth = objects([[[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]]], [[0, 1]])
    near = jnp.float32([[[0, 0, 0.5, 0.4], [0.9, 0.9, 1, 1], [0, 0, 0, 0]]])
    assert recall(near, truth) == 0.5


def test_windows_cover_the_image():
    finder = proposals.make("windows(sides=(0.5,), ratios=(1,))")
    found = finder.find(np.zeros((8, 8, 3), np.uint8))
    assert finder.most == 9 and finder.version() == ""
    assert found.tolist()[0] == [0, 0, 4, 4] and found.tolist()[-1] == [4, 4, 8, 8]
    assert len(found) == 9


def test_selective_search_finds_what_stands_out_and_is_the_same_each_time():
    pytest.importorskip("cv2")
    image = np.full((64, 64, 3), 40, np.uint8)
    image[10:30, 20:50] = (200, 60, 60)
    finder = proposals.make("selective_search(most=50)")
    found = finder.find(image)
    assert np.array_equal(found, finder.find(image)) and 0 < len(found) <= finder.most == 50
    assert finder.version()
    padded = proposals.found_in(image[None], finder)
    assert padded.shape == (1, 50, 4) and not padded[0, len(found) :].any()
    np.testing.assert_allclose(padded[0, : len(found)] * 64, found)
    thing = np.float32([[20, 10, 50, 30]])
    assert float(ops.iou(found, thing).max()) > 0.7


def test_a_shift_is_the_mean_of_the_nearest_classes():
    before = np.float32([[1, 1, 0, 1], [0, 0.1, 1, 0]])  # (D, C + 1): 1 is near 0, and not near 2
    after = before + np.float32([[5, 0, 7, 1], [6, 0, 8, 1]])
    boxes = np.arange(2 * 12, dtype=np.float32).reshape(2, 12)

    def of(kernel):
        head = {"classes_of": {"kernel": kernel, "bias": kernel[0]},
                "boxes_of": {"kernel": boxes, "bias": boxes[0]}}  # fmt: skip
        return {"params": {"head": head}}

    assert nearest(before, [1], [0, 2], 1).tolist() == [[0]]
    head = shifted(of(before), of(after), [1], k=1)["params"]["head"]
    np.testing.assert_allclose(head["classes_of"]["kernel"][:, 1], before[:, 1] + [5, 6])
    np.testing.assert_allclose(head["boxes_of"]["kernel"][:, 4:8], boxes[:, :4])
    both = shifted(of(before), of(after), [1], k=2)["params"]["head"]["classes_of"]["kernel"]
    np.testing.assert_allclose(both[:, 1], before[:, 1] + [6, 7])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"objective": "fcos", "head": "cosine"}, "FCOS does not train head=cosine"),
        ({"objective": "cross_entropy", "head": "fcos"}, "does not train head=fcos"),
        ({"objective": "fcos", "head": "fcos(also='steam')"}, "stem"),
        ({"objective": "fcos(least=2)"}, "least"),
        ({"objective": "fcos(least='a')"}, "least= takes a number"),
        ({"objective": "fcos(most=2.5)"}, "most= takes a whole number"),
        ({"objective": "fcos(alpha='x')"}, "alpha= takes a number"),
        ({"objective": "fcos(gamma=-1)"}, "gamma="),
        ({"objective": "fcos(_side=3)"}, "unknown option of objective 'fcos' '_side'"),
        ({"objective": "fast_rcnn(_hidden=(1,))"}, "unknown option"),
        ({"objective": "fast_rcnn(held_out=3)"}, "held_out= takes names"),
        ({"objective": "fast_rcnn(proposals='wndows')"}, "did you mean 'windows'"),
        ({"objective": "fast_rcnn(low=0.5)"}, "low"),
    ],
)
def test_settings_that_do_not_go_together(base, given, said):
    with pytest.raises(UserError, match=said):
        pose.check(base, *of_runs.divided({"plan": "head_only", **given}))


def test_proposals_are_mirrored_with_their_images():
    truth = {name: jnp.asarray(array) for name, array in TRUTH.items()}
    images = jnp.arange(2 * SIDE * SIDE * 3, dtype=jnp.float32).reshape(2, SIDE, SIDE, 3) % 255
    known = Known(image=images, **{PROPOSALS: truth["boxes"] / SIDE})
    flip = FastRCNN().framed(SIDE).augmented(augment.make("flip(1.0)"))
    moved = jax.jit(flip)(jax.random.key(0), {"inputs": known, **truth})
    np.testing.assert_array_equal(moved["inputs"]["image"], images[:, :, ::-1])
    np.testing.assert_allclose(moved["inputs"][PROPOSALS] * SIDE, moved["boxes"])
    assert moved["boxes"][0].tolist() == [[12, 4, 28, 20], [0, 0, 0, 0]]


WINDOWS = ["windows(sides=())", "windows(sides=(0.01,))", "windows(sides=3)", "wndows"]


@pytest.mark.parametrize("spec", WINDOWS)
def test_proposals_that_cannot_be(spec):
    with pytest.raises(UserError, match="sides|at most 2000|did you mean 'windows'"):
        proposals.make(spec)
    with pytest.raises(UserError):
        FastRCNN(proposals=spec)


@pytest.mark.parametrize(
    "options", ["most='x'", "most=10000000000", "most=2.5", "least='a'", "overlap=2", "proposals=3"]
)
def test_answers_of_a_file_that_cannot_be(options):
    with pytest.raises(UserError, match=options.split("=")[0]):
        answers.make(f"boxes({options})")


HOW = {"plan": "head_only", "batch_size": 4, "dropout": 0.0, "train_head": {"epochs": 2}}
PYRAMID = {"objective": "fcos", "head": "fcos(also='stage1_block1', features=8, depth=1)"}
REGIONS = {
    "objective": "fast_rcnn(sampled=8, proposals='windows')",
    "head": "fast_rcnn(hidden=16)",
}


@pytest.fixture(scope="module")
def scenes():
    return tl_jax.load_task("composed:digits", seed=0, count=24, size=40)


@pytest.fixture(scope="module")
def run(base, scenes, tmp_path_factory):
    """Of Fast R-CNN, with what is stored."""
    top = tmp_path_factory.mktemp("detector")
    kept = {"workdir": top / "run", "cache": top / "cache"}
    done = tl_jax.transfer(base, scenes, **kept, **HOW, **REGIONS)
    assert done.test == tl_jax.transfer(base, scenes, **kept, **HOW, **REGIONS).test
    return done


def test_stored_maps_and_proposals_give_what_images_give(base, scenes, run):
    uncached = tl_jax.transfer(base, scenes, cache=None, **HOW, **REGIONS)
    columns = ("train_classes", "train_boxes", "val_image_ap")
    for own, other in zip(run.history, uncached.history, strict=True):
        values = ([row[name] for name in columns] for row in (own, other))
        np.testing.assert_allclose(*values, rtol=1e-4)
    assert 0 <= run.test["map"] <= 1 and 0 < run.test["proposal_recall"] <= 1
    assert run.report.exists()


def test_what_a_base_finds_lies_in_the_photograph(run, tmp_path, capsys):
    photo, drawn = tmp_path / "photo.png", tmp_path / "drawn"
    noise = np.random.default_rng(0).integers(0, 255, (30, 50, 3), np.uint8)
    PIL.Image.fromarray(noise).save(photo)
    every = run.base.answers.replace("least=0.05", "least=0")
    (found,) = dataclasses.replace(run.base, answers=every).detect(photo)
    assert len(found.boxes) and (found.boxes >= 0).all() and (found.boxes <= [50, 30, 50, 30]).all()
    assert (np.diff(found.scores) <= 0).all()
    with pytest.raises(UserError, match="finds boxes"):
        run.base.predict(photo)
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(run=str(run.workdir), json=True, pictures=str(drawn)):
        assert cli.status(predict.main, ["predict", str(photo)]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["path"] == str(photo) and all(len(one["box"]) == 4 for one in said["objects"])
    with PIL.Image.open(next(drawn.glob("*_photo_*.png"))) as picture:
        assert picture.size == (50, 30)


def test_pictures_of_photographs_of_the_same_name_stay_apart(tmp_path):
    nothing = Found(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    paths = ["a/img/1.jpg", "b/img/1.jpg", "b/img/1.png", f"b/img/{'x' * 250}.png"]
    for width, path in [*enumerate(paths, 10)] * 2:
        image = PIL.Image.new("L", (width, 8))
        pictures.keep(tmp_path / path, image, (), nothing, tmp_path / "drawn")
    widths = [size_at(path)[0] for path in (tmp_path / "drawn").iterdir()]
    assert sorted(widths) == [10, 11, 12, 13]


def test_what_a_base_of_tiles_finds_lies_in_the_whole_photograph(run):
    expects = dataclasses.replace(run.base.preprocessing, tile=40)
    every = run.base.answers.replace("least=0.05", "least=0").replace("most=100", "most=20")
    base = dataclasses.replace(run.base, answers=every)
    tiled = dataclasses.replace(base, preprocessing=expects)
    photo = np.random.default_rng(0).integers(0, 255, (40, 80, 3), np.uint8)
    (found,) = tiled.detect(photo)
    parts = base.detect([photo[:, :40], photo[:, 40:]])  # side by side: nothing is suppressed
    assert all(len(part.boxes) == 20 for part in parts)
    moved = np.concatenate([parts[0].boxes, parts[1].boxes + np.float32([40, 0, 40, 0])])
    scores = np.concatenate([part.scores for part in parts])
    best = np.argsort(-scores, kind="stable")[:20]
    assert 0 < (moved[best][:, 0] >= 40).sum() < 20
    np.testing.assert_allclose(found.scores, scores[best])
    np.testing.assert_allclose(found.boxes, moved[best], atol=1e-4)
    # Tiles that overlap see the same things: none is found twice.
    (found,) = tiled.detect(photo[:, :50])
    close = np.asarray(ops.iou(found.boxes, found.boxes)) > 0.5
    same = found.classes[:, None] == found.classes[None]
    assert len(found.boxes) and not (close & same & ~np.eye(len(close), dtype=bool)).any()


@pytest.mark.slow
def test_a_pyramid_reads_two_layers_and_comes_back_from_its_file(base, scenes, tmp_path):
    done = tl_jax.transfer(base, scenes, workdir=tmp_path, cache=None, **HOW, **PYRAMID)
    assert "head_merge" in done.base.layers and np.isfinite(done.history[-1]["train_loss"])
    image = scenes.open(0)
    (found,), (again,) = (b.detect(image) for b in (done.base, tl_jax.load_base(tmp_path)))
    jax.tree.map(np.testing.assert_array_equal, found, again)
