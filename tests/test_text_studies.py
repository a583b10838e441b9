"""Studies and programs on texts: they show texts where they show pictures of images."""

import csv
import json

import hypothesis.extra.numpy as hnp
import jax
import numpy as np
import programs
import pytest
import texts
from absl import flags
from absl.testing import flagsaver
from hypothesis import given
from hypothesis import strategies as st

from experiments import audit, cli, search
from tl_jax.advice.answer import advise
from tl_jax.base import sources
from tl_jax.base.load import load_base, outline
from tl_jax.data.tasks import load_task
from tl_jax.data.texts import lengths
from tl_jax.data.texts.preprocessing import TextPreprocessing
from tl_jax.errors import UserError
from tl_jax.measure.audit import contents, copies
from tl_jax.measure.features import of_layers
from tl_jax.runs.config import load_config
from tl_jax.runs.judge import judged
from tl_jax.studies import run as studies
from tl_jax.train import evaluate

COPIED = "The actors were very good, and we saw it twice"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """62 texts, good or bad: one is there twice, a bit otherwise, and mislabelled."""
    path, rng = tmp_path_factory.mktemp("table") / "mine.csv", np.random.default_rng(0)
    letters = list("abdefgiklmnoprstu")
    words = ["".join(rng.choice(letters, rng.integers(3, 8))) for _ in range(150)]
    labels = ["bad", "good"] * 30
    rows = [(" ".join([label, *rng.choice(words, 7)]), label) for label in labels]
    rows += [(COPIED, "good"), (f"{COPIED} !", "bad")]
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    texts.base()  # registers it
    return path


def run(program, *arguments, **settings) -> int:
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(**{"base": "bert_of_tests", "weights": "random:0"} | settings):
        return cli.status(program.main, ["program", *arguments])


def config_of(name, table, cache, **changes):
    config = load_config(f"configs/{name}.py")
    with config.unlocked():
        config.update({"base": "bert_of_tests", "weights": "random:0", "size": 0, "crop": 0.0})
        config.task.update({"name": "text", "path": str(table), "targets": ""})
        config.cache = str(cache)
        for key, value in changes.items():
            config[key] = value
    return config


def test_a_text_finds_itself_first(table, tmp_path, capsys):
    found = {"gallery": f"text:{table}", "cache": str(tmp_path)}
    assert run(search, query=COPIED, top=3, sheet=str(tmp_path / "s.png"), **found) == 0
    first, second, _ = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert first[0] == "1.0000" and first[2] == COPIED and float(second[0]) <= 1
    assert not (tmp_path / "s.png").exists()
    assert run(search, layer=["pool"], **found) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["pool", "16"]


def test_copies_and_doubts_of_texts_are_shown_in_their_words(table, tmp_path, capsys):
    assert run(audit, f"text:{table}", workdir=str(tmp_path)) == 0
    assert "62 texts in 2 classes of 31" in capsys.readouterr().out
    result = json.loads((tmp_path / "result.json").read_text())
    task = load_task(f"text:{table}")
    assert result["words"][-1] == max(len(text.split()) for text in task.texts)
    with open(tmp_path / "copies.csv", encoding="utf-8") as file:
        pairs = {(row["begins"], row["the other"]): row for row in csv.DictReader(file)}
    assert pairs[COPIED, f"{COPIED} !"]["same text"] == "no"
    with open(tmp_path / "doubts.csv", encoding="utf-8") as file:
        doubts = list(csv.DictReader(file))
    assert len(doubts) == len(result["doubts"]["examples"]) > 0
    places = dict(zip(task.ids, task.texts, strict=True))
    assert all(row["begins"] == places[row["text"]] for row in doubts)
    page = (tmp_path / "report.html").read_text()
    assert COPIED in page and "Thumbnails" not in page and "pixels" not in page


def test_trigrams_are_those_of_the_text():
    """Whatever capitals and spaces there are; a short text has its own."""
    one, same, other, short = copies.points_of_texts(["Ab abc", " ab\n ABC ", "abc ab", "x"])
    np.testing.assert_array_equal(one, same)
    np.testing.assert_allclose(np.linalg.norm([one, other, short], axis=1), 1, rtol=1e-6)
    grams = [{f" {text}  "[i : i + 3] for i in range(len(text) + 1)} for text in ("ab abc", "x")]
    assert [np.count_nonzero(row) for row in (one, short)] == [len(set_) for set_ in grams]
    sizes = contents.of_texts(["Ab abc"]).sizes
    assert (sizes["words"].item(), sizes["characters"].item()) == (2, 6)


def test_layers_and_their_similarity(table, tmp_path):
    changes = {"seeds": (0,), "budgets": (1.0,), "probes": ("ridge",)}
    config = config_of("layer_probes_text", table, tmp_path / "cache", **changes)
    result, _ = studies.run("layer_probes", config, tmp_path / "probes", name="probes")
    assert result["layers"]["block1"] == {"shape": [8, 16], "pooled": [16]}
    config = config_of("similarity", table, tmp_path / "cache", others={})
    result, _ = studies.run("similarity", config, tmp_path / "alike", name="alike")
    np.testing.assert_allclose(np.diag(result["comparisons"][0]["cka"]), 1, atol=1e-5)
    with pytest.raises(UserError, match="views=flip are of images, and the task has texts"):
        of_layers(texts.base(), texts.task(), views="flip", cache=None)


@pytest.mark.slow
def test_scores_of_bases_beside_their_accuracies(table, tmp_path):
    config = config_of("score_vs_accuracy", table, tmp_path / "cache", seeds=(0,), resamples=0)
    bases = {
        f"bert{seed}": {"base": "bert_of_tests", "weights": f"random:{seed}", "cuts": ("pool",)}
        for seed in range(3)
    }
    with config.unlocked():
        config.task.per_class, config.from_layer = 0, "block2"
        config.bases = {"bert0": bases["bert0"]}
        config.head.epochs = config.tune.epochs = 1
    with pytest.raises(UserError, match="a ranking takes 3 candidates, bases cut at layers; got 1"):
        studies.run("score_vs_accuracy", config, tmp_path / "scores", name="scores")
    with config.unlocked():
        config.bases = bases
    result, _ = studies.run("score_vs_accuracy", config, tmp_path / "scores", name="scores")
    assert [row["base"] for row in result["candidates"]] == list(bases)
    assert all("LEEP" in row["scores"] for row in result["candidates"])  # a base with a classifier


def scenarios_of(table, cache, plans, bases=("bert_of_tests",)):
    config = load_config("configs/scenarios_texts.py")
    with config.unlocked():
        own = {"name": "text", "path": str(table), "val": 0.2, "test": 0.3}
        config.tasks, config.plans = {"mine": own}, plans
        config.bases = {base: {**config.bases.minilm, "base": base, "size": 0} for base in bases}
        for base in config.bases.values():
            base.weights = "random:0"
        config.reference, config.budgets = next(iter(plans)), (5,)
        config.seeds, config.draws, config.cache = 1, 1, str(cache)
    return config


@pytest.mark.slow
def test_scenarios_of_texts(table, tmp_path, monkeypatch):
    plans = {"logistic": {"probe": "logistic"}, "head": {"plan": "head_only"}}
    config = scenarios_of(table, tmp_path / "cache", plans)
    result, _ = studies.run("scenarios", config, tmp_path / "grid", name="grid")
    assert [row["error"] for row in result["rows"] if row.get("error")] == []
    assert {row["plan"]: 0 <= row["test"] <= 1 for row in result["rows"]} == dict.fromkeys(plans, 1)
    tested = result["rows"][1]["n_test"]
    monkeypatch.setattr(evaluate, "MOST", tested * 2 * 4 - 1)  # numbers of four bytes for 2 classes
    result, _ = studies.run("scenarios", config, tmp_path / "full", name="full")
    wrong = {row["plan"]: row.get("error") for row in result["rows"]}
    assert not wrong["logistic"]
    assert f"predictions (2,) of {tested} examples take" in wrong["head"]


@pytest.mark.parametrize(
    ("plan", "bases", "why"),
    [
        ({"features": "pixels"}, ("bert_of_tests",), "features=pixels are of images, and bert_of"),
        ({"features": "hog"}, ("bert_of_tests",), "features=hog are of images"),
        ({"views": "flip"}, ("bert_of_tests",), "views=flip are of images"),
        ({"probe": "", "plan": "head_only", "test_views": "flip"}, ("bert_of_tests",),
         "test_views=flip are of images"),
        ({}, ("bert_of_tests", "alexnet_small"), "some bases read images, others texts"),
    ],
)  # fmt: skip
def test_scenarios_that_are_of_images_are_refused(table, tmp_path, plan, bases, why):
    own = {name: value for name, value in ({"probe": "logistic"} | plan).items() if value}
    config = scenarios_of(table, tmp_path, {"one": own}, bases)
    with pytest.raises(UserError, match=why):
        studies.run("scenarios", config, tmp_path / "grid", name="grid")


@pytest.mark.parametrize("study", ["look", "layer_transfer"])
def test_studies_of_pictures_are_refused(table, tmp_path, study):
    with pytest.raises(UserError, match="bert_of_tests reads texts, and this"):
        config = config_of(study, table, tmp_path / "cache")
        studies.run(study, config, tmp_path / study, name=study)


def test_advice_is_of_images(table, tmp_path):
    with pytest.raises(UserError, match="bert_of_tests reads texts, and what is advised rests on"):
        advise(f"text:{table}", workdir=tmp_path, bases=["bert_of_tests"])


def test_a_base_is_judged_on_texts():
    base, task = texts.base().with_head(2), texts.task()
    rows = task.splits["test"]
    right = base.predict([task.texts[row] for row in rows]).argmax(1) == task.labels[rows]
    assert judged(base, task, "test")["accuracy"] == pytest.approx(right.mean())


def test_random_weights_read_what_the_published_ones_do(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "fetched", lambda *package, member: tmp_path / "model.safetensors")
    described = texts.vocabulary(tmp_path, texts.WORDS)
    assert load_base("minilm_l6", "random:0").preprocessing.tokenizer == described


def test_a_language_model_is_no_classifier():
    base = outline("awd_lstm_small")
    assert not base.classifies and not base.cut("lstm3").classifies
    with pytest.raises(UserError, match="ends at 'decode': it has no classifier"):
        base.predict("a text")


@given(
    hnp.arrays(
        np.int32, st.tuples(st.integers(1, 9), st.integers(1, 70)), elements=st.integers(0, 2)
    ),
    st.integers(1, 4),
)
def test_batches_have_every_text_once_without_its_padding(tokens, size):
    numbers, parts = zip(*lengths.batches(tokens, pad=0, size=size), strict=True)
    assert sorted(np.concatenate(numbers).tolist()) == list(range(len(tokens)))
    assert max(map(len, parts)) <= size
    for rows, part in zip(numbers, parts, strict=True):
        np.testing.assert_array_equal(part, tokens[rows, : part.shape[1]])
        assert not tokens[rows, part.shape[1] :].any()
        assert part.shape[1] in {16, 32, 64, 128, tokens.shape[1]}


def test_answers_do_not_depend_on_the_texts_beside(monkeypatch):
    monkeypatch.setattr(lengths, "LEAST", 4)
    base, said = texts.base().with_head(2), list(texts.task().texts)
    probabilities = jax.nn.softmax(base(base.preprocessing(said)))
    np.testing.assert_allclose(base.predict(said), probabilities, atol=1e-6)


def test_a_tasks_texts_are_tokenized_once(monkeypatch):
    expects, task, asked = texts.base().preprocessing.resized(7), texts.task(), []
    call = TextPreprocessing.__call__
    monkeypatch.setattr(
        TextPreprocessing, "__call__", lambda own, given: asked.append(own) or call(own, given)
    )
    found = [expects.of_task(task)[1].arrays["tokens"] for _ in range(2)]
    other = expects.resized(3).of_task(task)[1].arrays["tokens"]
    assert len(asked) == 2 and found[0] is found[1] and not found[0].flags.writeable
    np.testing.assert_array_equal(found[0], call(expects, list(task.texts)))
    assert other.shape == (60, 3)


def test_a_file_is_named_as_a_task(table, capsys):
    assert run(search, gallery=str(table), query="good") == 2
    assert f"a table of texts is 'text:{table}'" in programs.error_line(capsys.readouterr().err)
