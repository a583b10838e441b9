"""Language models from a config: streams, words kept, texts continued, then a classifier."""

import dataclasses
import json

import jax
import ml_collections
import numpy as np
import pytest
import texts
from test_train import Killed, ended

import tl_jax
from configs import language_small, text_small
from tl_jax.base import attribution, generation
from tl_jax.base.load import load_base
from tl_jax.data.texts import stream
from tl_jax.data.texts.preprocessing import of_words
from tl_jax.data.texts.rules import SPECIALS
from tl_jax.errors import UserError
from tl_jax.models import awd_lstm
from tl_jax.models.awd_lstm import Shape
from tl_jax.runs import language, subject, transfer

WORDS = (*SPECIALS, "the", "film", "was", "good")  # 9 to 12


def test_a_stream_has_every_token_once_and_what_comes_next():
    task, expects = texts.task(), of_words(WORDS, size=8)
    whole = stream.of_texts(task, expects, window=4, seed=0)
    assert whole.ordered and not whole.texts
    for split, rows in whole.splits.items():
        inputs, targets = whole.arrays["tokens"][rows], whole.truth["targets"][rows]
        real = whole.truth["weights"][rows].astype(bool)
        tokens = np.concatenate([inputs.reshape(-1)[:1], targets[real]])
        np.testing.assert_array_equal(tokens[:-1], inputs[real])
        own = np.concatenate(expects.rows([task.texts[row] for row in task.splits[split]]))
        np.testing.assert_array_equal(np.sort(tokens), np.sort(own))
        assert (tokens == SPECIALS.index("xxbos")).sum() == len(task.splits[split])
        assert (~real).sum() < 4 and (targets[~real] == expects.pad).all()


def test_tokens_are_written_as_a_text():
    words = "xxbos xxmaj it 's , i 'd say , n't xxup ok ! a b".split()
    assert generation.written(words) == "It's, i'd say,n't OK! a b"


def test_paragraphs_of_a_file_are_texts(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("one\nline\n\ntwo\n\n\n\nthree\n\nfour\n", encoding="utf-8")
    task = tl_jax.load_task(f"plain:{path}", val=0.25, test=0.25)
    assert task.texts == ("one\nline", "two", "three", "four")
    assert {split: len(rows) for split, rows in task.splits.items()} == {
        "train": 2, "val": 1, "test": 1,
    }  # fmt: skip
    path.write_text("one\n\ntwo\n", encoding="utf-8")
    with pytest.raises(UserError, match="'book' has 2 texts, and three splits need three"):
        tl_jax.load_task(f"plain:{path}")


def config(**changes):
    """A smaller one than language_small's, on the sentences of the tests."""
    found = language_small.get_config().unlock()
    found.task.name, found.words, found.least = "digits", 100, 1
    found.window, found.batch_size, found.tune.epochs = 5, 4, 4
    found.cache = ""
    found.update(changes)
    return found


@pytest.fixture(scope="module", autouse=True)
def smaller():
    """The small language model is smaller yet, and has two recurrent layers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(awd_lstm.VARIANTS, "awd_lstm_small", Shape(features=16, hidden=24, depth=2))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder, mine = tmp_path_factory.mktemp("language"), config()
    result = language.work(subject.base_of(mine), texts.task(), folder, mine, name="small")
    return result, folder


def test_it_learns_and_gives_a_base(trained):
    result, folder = trained
    assert json.loads(json.dumps(result)) == result
    base = load_base(folder)
    own = {w for row in texts.task().splits["train"] for w in texts.task().texts[row].split()}
    assert base.preprocessing.words()[:9] == SPECIALS and {*base.preprocessing.words()[9:]} == own
    first, last = result["history"][0], result["history"][-1]
    assert last["val_loss"] < first["val_loss"] < np.log(base.architecture.words)
    assert result["test"]["perplexity"] == pytest.approx(np.exp(result["test"]["loss"]))
    characters = sum(len(texts.task().texts[row]) for row in texts.task().splits["test"])
    tokens = sum(len(r) for r in base.preprocessing.rows(
        [texts.task().texts[row] for row in texts.task().splits["test"]])) - 1  # fmt: skip
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"perplexity is {result['test']['perplexity']:.1f}" in page
    assert (folder / "loss.svg").exists()
    bits = result["test"]["loss"] / np.log(2) * tokens / characters
    assert result["test"]["bits_per_character"] == pytest.approx(bits, rel=1e-6)


def test_fresh_ones_have_the_usual_words_whole_and_cut():
    base = load_base("awd_lstm_small", "random:0")
    tokens = np.int32([[2, 59_999, 5]])
    assert base(tokens).shape == (1, 3, 60_000)
    np.testing.assert_array_equal(base.cut("lstm1")(tokens), base(tokens, layer="lstm1"))


def test_it_goes_on_from_a_prompt_as_its_probabilities_say(trained):
    base = load_base(trained[1])
    sure = generation.continued(base, "The film", tokens=6, temperature=1e-3, seed=1)
    assert sure.startswith("The film ")  # although it does not know the word
    assert sure == generation.continued(base, "The film", tokens=6, temperature=1e-3, seed=2)
    words, tokens = base.preprocessing.words(), base.preprocessing.rows(["The film"])[0]
    logits = np.array(base(tokens[None]))[0, -1]
    logits[[words.index(word) for word in generation.NEVER]] = -np.inf
    assert sure.split()[2] == generation.written([words[logits[: len(words)].argmax()]])
    assert "xx" not in generation.continued(base, "", tokens=30, temperature=5.0)
    with pytest.raises(UserError, match="no language model"):
        generation.continued(texts.base(), "the")


def test_another_vocabulary_keeps_the_vectors_of_the_words_that_it_knows(trained):
    base, seen = load_base(trained[1]), texts.task()
    other = seen.texts[:30] + tuple(f"{text} zebra" for text in seen.texts[30:])
    ready = language.with_vocabulary(
        base, dataclasses.replace(seen, texts=other), most=100, least=1, seed=0
    )
    old, new = base.preprocessing.words(), ready.preprocessing.words()
    before, after = (b.variables["params"]["embed"]["table"] for b in (base, ready))
    for word in ("the", "film", "good"):
        if word in old:
            np.testing.assert_array_equal(after[new.index(word)], before[old.index(word)])
    np.testing.assert_allclose(after[new.index("zebra")], before.mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_it_becomes_a_classifier(trained, tmp_path):
    base = load_base(trained[1])
    run = tl_jax.transfer(
        base.resized(16), texts.task(), cut="lstm2", head="ulmfit", batch_size=8,
        plan="gradual_unfreezing", from_layer="lstm2", by="layer", factor=2.6, cache=tmp_path,
        train_head={"epochs": 1, "learning_rate": 3e-2, "batch_norm": "batch"},
        tune={"epochs": 1, "schedule": "slanted_triangular", "batch_norm": "batch"},
    )  # fmt: skip
    phases = run.result["plan"]["phases"]
    assert [phase["name"] for phase in phases] == ["head", "unfreeze_lstm2"]
    assert [phase["prefix"] for phase in phases] == ["lstm2", "lstm1"]
    assert run.base.predict(["the film was good"]).shape == (1, 2)
    table = tl_jax.probe(base.resized(16), texts.task(), cache=tmp_path)
    assert [row.layer for row in table.rows] == ["embed", "lstm1", "lstm2", "dropped"]


def test_a_backward_one_reads_from_the_end(tmp_path, trained):
    task, fresh = texts.task(), load_base("awd_lstm_small", "random:0")
    base = language.with_vocabulary(fresh, task, most=100, least=1, seed=0, backward=True)
    base.save(tmp_path / "back.safetensors")
    base = load_base(tmp_path / "back.safetensors")
    expects, text = base.preprocessing, "the film was good"
    forward = dataclasses.replace(expects, backward=False)
    np.testing.assert_array_equal(expects.rows([text])[0], forward.rows([text])[0][::-1])
    shown, spans = expects.spans(text)
    assert [shown[slice(*span)] for span in spans] == [*text.split()[::-1], "xxbos"]
    head = base.with_head(2, cut="lstm2", head="ulmfit").resized(16)
    assert [word.strip() for word, _ in attribution.word_weights(head, text, 0)] == shown.split()
    before = generation.continued(base, "was good", tokens=3, seed=1)
    assert before.endswith(" was good") and len(before.split()) >= 3
    again = language.with_vocabulary(base, task, most=100, least=1, seed=0)
    assert again.preprocessing.backward
    with pytest.raises(UserError, match="this base reads forward"):
        language.with_vocabulary(
            load_base(trained[1]), task, most=100, least=1, seed=0, backward=True
        )


@pytest.mark.slow  # make test kills the loop itself: test_language
def test_a_killed_one_goes_on_with_its_states(tmp_path, monkeypatch):
    book = tmp_path / "book.txt"
    book.write_text("\n\n".join(f"{text} ." for text in texts.task().texts), "utf-8")
    mine = config(checkpoint_seconds=0.0)
    mine.tune.epochs = 2
    mine.task.name = f"plain:{book}"
    whole, _ = language.by_config(mine, tmp_path / "whole", name="mine")
    for offers in (3, 9):  # an epoch has more
        with monkeypatch.context() as patch:
            ended(patch, offers, "killed")
            with pytest.raises(Killed):
                language.by_config(mine, tmp_path / "killed", name="mine")
    again, before = language.by_config(mine, tmp_path / "killed", name="mine")
    assert not before and again["test"] == whole["test"] and again["sample"] == whole["sample"]
    bases = (load_base(tmp_path / run).variables for run in ("whole", "killed"))
    jax.tree.map(np.testing.assert_array_equal, *bases)
    with pytest.raises(UserError, match="another config .batch_size 4, not 8"):
        other = ml_collections.ConfigDict({**mine.to_dict(), "batch_size": 8})
        language.by_config(other, tmp_path / "killed", name="mine")


def stages_of(**task):
    """A transfer's config whose base is made in two stages, the second from the task's texts."""
    mine = text_small.get_config().unlock()
    mine.base, mine.weights, mine.size, mine.cache = "awd_lstm_small", "random:0", 8, ""
    mine.cut, mine.seed, mine.task.per_class = "lstm2", 3, 4
    mine.task.name, mine.task.path = "text", task["path"]
    mine.plan, mine.train_head.epochs = "head_only", 1
    mine.language = ml_collections.ConfigDict()
    mine.language.general = config()
    mine.language.general.tune.epochs = 1
    mine.language.general.task.name = f"plain:{task['general']}"
    mine.language.target = config(words=50)
    mine.language.target.tune.epochs = 1
    mine.language.target.task.name = ""
    return mine


@pytest.mark.slow
def test_a_transfer_trains_its_language_models_first(tmp_path):
    task, general, table = texts.task(), tmp_path / "general.txt", tmp_path / "mine.csv"
    general.write_text("\n\n".join(["the film was good and long", "a bad one"] * 9), "utf-8")
    rows = [
        f"{text},{task.classes[label]}" for text, label in zip(task.texts, task.labels, strict=True)
    ]
    table.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    mine = stages_of(path=str(table), general=general)
    result, before = transfer.by_config(mine, tmp_path / "run", name="mine")
    assert not before
    general, target = (load_base(tmp_path / "run/language" / n) for n in ("general", "target"))
    assert "long" in general.preprocessing.words() and "dull" not in general.preprocessing.words()
    words = load_base(tmp_path / "run").preprocessing.words()
    assert words == target.preprocessing.words() and {"dull", "long"} < {*words}
    # The language model sees all training texts, not those of four labels a class.
    config_of = json.loads((tmp_path / "run/language/target/config.json").read_text())
    assert "per_class" not in config_of["task"] and config_of["seed"] == 3
    seen = json.loads((tmp_path / "run/language/target/result.json").read_text())["task"]["texts"]
    assert seen["train"] > 30 > 8 == result["task"]["sizes"]["train"]
    # By hand, one after the other, it is the same.
    later = dict(base=str(tmp_path / "run/language/target"), weights="", language={})
    by_hand, _ = transfer.by_config(
        ml_collections.ConfigDict({**mine.to_dict(), **later}), tmp_path / "hand", name="mine"
    )
    assert by_hand["test"] == result["test"]
    with pytest.raises(UserError, match="trained first .general, target. by experiments.transfer"):
        subject.base_of(mine)


@pytest.mark.parametrize(
    ("base", "task", "why"),
    [
        (lambda: texts.base(), texts.task, "is no language model: take awd_lstm"),
        (lambda: load_base("awd_lstm_small", "random:0").cut("lstm1"), texts.task, "no language"),
        (lambda: load_base("awd_lstm_small", "random:0"), lambda: tl_jax.load_task("digits"),
         "'digits' has none"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(base, task, why):
    with pytest.raises(UserError, match=why):
        language.with_vocabulary(base(), task(), most=100, least=1, seed=0)
