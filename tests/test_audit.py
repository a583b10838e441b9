"""What a task's data are like: evenness, near copies, doubtful labels, and what suits them."""

import collections
import dataclasses

import numpy as np
import PIL.Image
import pytest

from tl_jax.data.tasks.arrays import digits, from_arrays
from tl_jax.errors import UserError
from tl_jax.measure.audit import contents, copies, doubts, relation
from tl_jax.measure.features import LayerFeatures


def task_of(images, *, seed=0, labels=None):
    labels = np.arange(len(images)) % 2 if labels is None else labels
    return from_arrays("arrays", images, labels, seed=seed, val=0.2, test=0.3)


def drawn(rng, count, *, dimension=6):
    """Images (count, 32, 32) that vary smoothly in so many directions."""
    directions = np.random.default_rng(0).uniform(-1, 1, (dimension, 6, 6))
    low = np.tensordot(rng.uniform(-1, 1, (count, dimension)), directions, 1)
    large = [PIL.Image.fromarray(x.astype(np.float32)).resize((32, 32)) for x in low]
    return np.stack([np.asarray(x) for x in large]).clip(-2.5, 2.5) * 40 + 110


def test_evenness_of_classes_by_hand():
    labels = np.repeat([0, 1, 2], [8, 4, 4])
    found = contents.balance(task_of(np.zeros((16, 4, 4), np.uint8), labels=labels))
    assert sum(found.counts.values()).tolist() == [8, 4, 4] and found.imbalance == 2
    assert found.effective_classes == pytest.approx(2**1.5)  # the entropy is 3/2 bits


def test_one_pass_tells_sizes_kinds_and_pixels_that_are_the_same(tmp_path):
    task = task_of(np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8))
    first = task.image(0)
    first.save(tmp_path / "a.png")
    first.save(tmp_path / "b.bmp")
    first.convert("RGB").resize((9, 12)).save(tmp_path / "c.jpg")
    ids = ("a.png", "b.bmp", "c.jpg")
    opened = {"folder": str(tmp_path), "open": lambda i: PIL.Image.open(tmp_path / ids[i])}
    seen = contents.contents(dataclasses.replace(task, ids=ids, truth={}, **opened))
    assert seen.kinds == ("PNG L", "BMP L", "JPEG RGB")
    assert {side: sizes.tolist() for side, sizes in seen.sizes.items()} == {
        "width": [8, 8, 9],
        "height": [8, 8, 12],
    }
    assert seen.digests[0] == seen.digests[1] != seen.digests[2]


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_copies_with_other_brightness_are_found_and_nothing_else(share):
    """Also where every image has a copy, so that distances to the nearest are all small."""
    rng = np.random.default_rng(1)
    images = drawn(rng, 300)
    chosen = np.sort(rng.permutation(300)[: int(300 * share)])
    altered = images[chosen] * 0.8 + 20 + rng.normal(0, 1, images[chosen].shape)
    both = np.concatenate([images, altered]).round().clip(0, 255).astype(np.uint8)
    task = task_of(both)
    found = copies.near(contents.contents(task).points, task)
    planted = {(int(a), 300 + b) for b, a in enumerate(chosen)}
    pairs = set(map(tuple, found.pairs.tolist()))
    assert len(planted & pairs) >= 0.85 * len(planted)
    assert len(pairs - planted) <= 3  # one is expected
    split_of = {int(i): split for split, rows in task.splits.items() for i in rows}
    assert found.across.tolist() == [split_of[a] != split_of[b] for a, b in found.pairs.tolist()]
    assert found.across.tolist() == sorted(found.across.tolist(), reverse=True)


def test_different_digits_are_no_copies():
    """The same writers drew them on the same grid, but each is a drawing of its own."""
    task = digits(seed=0)
    assert len(copies.near(contents.contents(task).points, task).pairs) <= 3


def test_the_dimension_is_that_of_the_points():
    rng = np.random.default_rng(0)
    for dimension in (1, 3, 6):
        points = rng.uniform(size=(2000, dimension))
        apart = np.sort(np.linalg.norm(points[:200, None] - points, axis=2), axis=1)
        estimate = copies._dimension(apart[:, 1 : 1 + copies.NEIGHBOURS])
        assert estimate == pytest.approx(dimension, rel=0.25)


@pytest.mark.parametrize("level", [0, 255])
def test_where_all_images_are_alike_every_one_is_a_copy(level):
    task = task_of(np.full((12, 8, 8), level, np.uint8))
    found = copies.near(contents.contents(task).points, task)
    assert set(found.pairs.ravel().tolist()) == set(range(12)) and not found.distances.any()


def by_the_book(probabilities, labels):
    """The confident joint of Northcutt et al. 2021, equation 1, example by example."""
    classes = probabilities.shape[1]
    usual = [np.mean([p[c] for p in probabilities[labels == c]]) for c in range(classes)]
    counts, wrong = collections.Counter(), []
    for i, (p, label) in enumerate(zip(probabilities, labels, strict=True)):
        reached = [c for c in range(classes) if p[c] >= usual[c]]
        if reached:
            best = max(reached, key=lambda c: p[c])
            counts[int(label), best] += 1
            if best != label:
                margin = p[label] - max(p[c] for c in range(classes) if c != label)
                wrong.append((margin, i, best))
    return counts, sorted(wrong)


def test_doubtful_labels_are_those_of_the_confident_joint():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    probabilities = rng.dirichlet(np.full(4, 0.5), 200) + 0.5 * np.eye(4)[labels]
    probabilities /= probabilities.sum(1, keepdims=True)
    found = doubts.confident(probabilities, labels)
    counts, wrong = by_the_book(probabilities, labels)
    assert {k: n for k, n in np.ndenumerate(found.counts) if n} == counts
    assert found.examples.tolist() == [i for _, i, _ in wrong]
    assert found.suggested.tolist() == [best for *_, best in wrong]
    np.testing.assert_allclose(found.margins, [margin for margin, *_ in wrong])


def test_planted_label_errors_are_found():
    """5 % of the digits' labels are changed. A list as long, drawn at random, has 5 % of them."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    rng, count = np.random.default_rng(0), len(labels) // 20
    planted = rng.permutation(len(labels))[:count]
    noisy = labels.copy()
    noisy[planted] = (labels[planted] + rng.integers(1, 10, count)) % 10
    found = doubts.confident(doubts.held_out(pixels, noisy, 10), noisy)
    hits = np.isin(found.examples, planted)
    precision, recall = hits.mean(), hits.sum() / count
    assert precision > 0.85 and recall > 0.65  # 0.96 and 0.76 were measured
    right = found.suggested[hits] == labels[found.examples[hits]]
    assert right.mean() > 0.95
    assert found.share == pytest.approx(0.05, abs=0.015)


def test_no_probe_has_seen_the_examples_that_it_judges():
    """Features that only the example itself has say nothing of it, so a fold has one answer."""
    labels = np.random.default_rng(0).integers(0, 2, 60)
    probabilities = doubts.held_out(np.eye(60), labels, 2)
    folds = doubts._folds(labels, 0)
    for fold in range(doubts.FOLDS):
        assert np.ptp(probabilities[folds == fold], axis=0).max() < 1e-6
    with pytest.raises(UserError, match="class 2 has 1 examples"):
        doubts.held_out(np.eye(60), np.append(labels[:-1], 2), 3)


def test_a_lower_layer_that_suits_better_is_a_gap():
    rng, labels = np.random.default_rng(0), np.arange(90) % 3
    task = task_of(rng.integers(0, 256, (90, 4, 4), dtype=np.uint8), labels=labels)
    good = np.eye(3)[labels].astype(np.float32)
    noise = rng.normal(size=(90, 3)).astype(np.float32)
    features = {name: LayerFeatures(rows, (3,), (3,)) for name, rows in (("a", good), ("b", noise))}
    found = relation.suits(features, task)
    assert found.layers == ("a", "b") and found.accuracy[0] == 1
    assert found.gap == pytest.approx(1 - found.accuracy[1]) and found.gap > 0.3
    assert found.alignment[0] == pytest.approx(1) and abs(found.alignment[1]) < 0.3
    turned = relation.suits(dict(reversed(features.items())), task)
    assert turned.gap == 0 and turned.logme > found.logme


def test_a_source_apart_is_farther_than_half_of_the_task_from_the_other():
    rng = np.random.default_rng(0)
    ours, alike, apart = rng.normal(size=(3, 80, 4)) + np.array([0, 0, 6])[:, None, None]
    near, chance = relation.distance(ours, alike)
    assert near < 0.8 and chance < 0.8
    assert relation.distance(ours, apart) == (2, chance)
