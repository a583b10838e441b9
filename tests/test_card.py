"""The card of a finished run, and under which licence data and weights come."""

import copy
import json
import pathlib

import pytest

from tl_jax import models
from tl_jax.base import sources
from tl_jax.data import licences
from tl_jax.data.tasks import corpora, packaged
from tl_jax.report import card

ROOT = pathlib.Path(__file__).parent.parent
HOSTILE = "a\n# b <script>|[x](y)"


@pytest.fixture
def result():
    """What a run with three classes found: 8 of 10 test examples are right."""
    return {
        "name": "mine",
        "seed": 3,
        "date": "2026-11-29",
        "base": {
            "name": "resnet18",
            "weights": "torchvision:IMAGENET1K_V1",
            "parameters": 11_178_051,
            "cut": "pool",
            "preprocessing": {"size": 224},
        },
        "task": {
            "name": "elpv",
            "classes": ["bar", "disc", "square"],
            "sizes": {"train": 30, "val": 5, "test": 10},
            "class_counts": {"train": {"bar": 4, "disc": 20, "square": 6}},
            "skipped": 2,
        },
        "plan": {"name": "head_only"},
        "val": {"accuracy": 1.0, "loss": 0.1, "ece": 0.02},
        "test": {
            "accuracy": 0.8,
            "loss": 0.4,
            "ece": 0.25,
            "confusion": [[3, 0, 0], [2, 4, 0], [0, 0, 1]],
        },
        "calibration": {"temperature": 0.5, "test": {"ece": 0.05, "loss": 0.3}},
    }


def test_it_says_what_was_measured_and_where_it_fails(result):
    text = card.card(result)
    assert "| accuracy | 100.0 % | 80.0 % |" in text
    # Wilson 1927 for 8 of 10, as R's binom.confint(8, 10, method = "wilson") has it
    assert "95 % interval of the test accuracy (Wilson score): 49.0 % to 94.3 %" in text
    assert "- “disc” is taken for “bar”: 2 of 6." in text
    assert "off by 25.0 % on average (ECE); by 5.0 % with its logits divided by 0.5" in text
    assert "2 unreadable files were left out" in text and "4 to 20." in text
    assert "CC BY-NC-SA 4.0" in text and "research only" in text
    assert text.startswith("---\nlibrary_name: tl_jax\n")


@pytest.mark.parametrize(
    ("asks", "call", "tag"),
    [
        ("classes", 'base.classes, base.predict(["photo.jpg"])', "image-classification"),
        ("boxes", 'base.classes, base.detect(["photo.jpg"])', "object-detection"),
        ("captions", 'base.captions(["photo.jpg"])', "image-to-text"),
    ],
)
def test_its_example_asks_what_the_base_answers(result, asks, call, tag):
    result["task"]["asks"] = asks
    lines = card.card(result).splitlines()
    assert f"print({call})" in lines and f"tags: [transfer-learning, jax, {tag}]" in lines


@pytest.mark.parametrize(
    ("weights", "told"),
    [("/home/me/secret/v7.pth", "v7.pth"), ("hf:me/model",) * 2, ("random:0",) * 2],
)
def test_it_says_no_path_of_this_machine(result, weights, told):
    result["base"]["weights"] = weights
    text = card.card(result)
    assert f"Weights: {told};" in text and "/home/me" not in text


def test_names_from_outside_stay_text(result):
    hostile = copy.deepcopy(result)
    hostile["task"]["classes"][1] = hostile["name"] = hostile["task"]["name"] = HOSTILE
    lines, before = (card.card(one).splitlines() for one in (hostile, result))
    assert len(lines) == len(before)
    assert not any("<script>" in line or "[x](y)" in line for line in lines)


def test_what_is_not_known_is_asked(result):
    result["base"]["weights"], result["task"]["name"] = "mine.pth", "my_photos"
    result["calibration"], result["test"]["confusion"] = None, None
    text = card.card(result)
    assert text.count("licence: *(to be filled in)*") == 2
    assert "Wilson" not in text and "temperature" not in text


def test_a_run_writes_its_card(done):
    text = (done / card.NAME).read_text()
    test = json.loads((done / "result.json").read_text())["test"]
    assert f"| {100 * test['accuracy']:.1f} % |" in text
    assert 'tl_jax.load_base("model.safetensors")' in text


def test_every_source_in_the_registries_has_a_licence():
    published = [row for name in models.names() for row in models.published(name)]
    texts = [row for name in models.names("tokens") for row in models.published(name)]
    for weights in {*published, *texts, *sources.PACKAGES, *sources.FETCHED}:
        assert licences.of_weights(weights), weights
    sets = {**packaged.PACKAGED, **packaged.IMAGES, **corpora.CORPORA}
    for name, source in sets.items():
        assert licences.of_set(name), name
        if package := getattr(source, "package", None):
            assert licences.SETS[name] == package
    assert {"digits", "elpv", "fashion_mnist"} <= licences.SETS.keys()


def test_the_notice_says_the_same():
    _, *rows = (ROOT / "NOTICE").read_text().split("\n\n")
    shown = [line for row in rows for line in row.splitlines()]
    wanted = []
    for name in sorted(licences.LICENCES, key=str.lower):
        one = licences.LICENCES[name]
        wanted += [name, f"    {one.name}", f"    said in: {one.where}"]
    assert shown == wanted
