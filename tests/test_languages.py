"""Labels across languages: the study on two languages that are made up."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from test_report import Page

from tl_jax.data.tasks import packaged
from tl_jax.data.tasks.text import Example
from tl_jax.errors import UserError
from tl_jax.models import awd_lstm
from tl_jax.models.awd_lstm import Shape
from tl_jax.runs.config import load_config
from tl_jax.studies import run as studies
from tl_jax.studies.languages import study, tasks

WORDS = {  # a word of each class in two languages, and one that both have
    "en": {"games": "playing", "net": "network", "text": "letters"},
    "de": {"games": "spielen", "net": "netz", "text": "buchstaben"},
}


def examples(name, *, language):
    """60 sources of two packages each; in German some lack, and a section is too rare."""
    found = []
    for row in range(120):
        label = sorted(WORDS["en"])[row // 2 % 3]
        filler = f"{'the a' if language == 'en' else 'das ein'} {label} {row}"
        text = f"{filler} {WORDS[language][label]}"
        found.append(Example(f"p{row}", text, label, document=f"source{row // 2}"))
    if language == "de":
        return tuple(found[20:])
    return (*found, Example("rare", "rare", "rare", document="source"))


@pytest.fixture(scope="module")
def config():
    found = load_config("configs/languages.py").unlock()
    found.languages, found.classes, found.budgets, found.seeds = ("en", "de"), 3, (0, 2), (0, 1)
    found.size, found.layer, found.cache, found.most = 16, "lstm2", "", 30
    found.model.words, found.model.least, found.model.window = 70, 1, 5
    found.model.batch_size, found.model.tune.epochs = 4, 1
    return found


@pytest.fixture(scope="module")
def done(config, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(awd_lstm.VARIANTS, "awd_lstm_small", Shape(features=16, hidden=24, depth=2))
        patch.setattr(packaged, "examples", examples)
        workdir = tmp_path_factory.mktemp("languages")
        result, before = studies.run("languages", config, workdir, name="languages")
        again, stood = studies.run("languages", config, workdir, name="languages")
        assert (before, stood) == (False, True) and again["cells"] == result["cells"]
        yield result, workdir, study.data(config)


@pytest.mark.slow
def test_a_package_is_in_one_split_in_all_languages(done):
    _, _, known = done
    place = {}
    for task in known.values():
        assert task.classes == ("games", "net", "text")
        for split, rows in task.splits.items():
            for row in rows:
                place.setdefault(f"source{int(task.ids[row][1:]) // 2}", set()).add(split)
    assert len(place) > 40 and all(len(splits) == 1 for splits in place.values())
    mixed = tasks.together(known)
    assert mixed.classes == ("de", "en") and len(mixed.ids) == 2 * 3 * 30
    for split, rows in mixed.splits.items():
        for row in rows:
            assert place[f"source{int(mixed.ids[row].split('/p')[1]) // 2}"] == {split}


@pytest.mark.slow
def test_every_way_is_examined_and_labels_of_the_language_suffice_here(done):
    result, workdir, _ = done
    found = {(c["budget"], c["labels"], c["features"]) for c in result["cells"]}
    assert len(found) == 3 * (2 + 1)  # without labels there is no "own", and one answer
    assert len(result["cells"]) == 3 * (2 * 2 + 1)
    assert {labels for budget, labels, _ in found if not budget} == {"own and source"}
    for cell in result["cells"]:
        assert 0 <= cell["macro_f1"] <= 1 and 0 <= cell["accuracy"] <= 1
        if (cell["features"], cell["budget"]) == ("pieces", 2):
            assert cell["accuracy"] == 1  # a word says it all
    page = Page((workdir / "report.html").read_text("utf-8"))
    assert "language model" in " ".join(page.words)
    table = (workdir / "languages.csv").read_text("utf-8").splitlines()
    assert len(table) == 1 + 9 and "de" in studies.summary("languages", result)


@pytest.mark.slow
def test_features_are_in_the_same_units_and_centred_where_that_is_said(done, config):
    _, workdir, known = done
    base = study.language_model(config, known, workdir)
    found = study.standardised(base, known, layer="lstm2", cache=None)
    for kind in ("model", "centred"):
        parts = [found[kind][name][task.splits["train"]] for name, task in known.items()]
        np.testing.assert_allclose(np.concatenate(parts).mean(0), 0, atol=1e-6)
        if kind == "centred":
            np.testing.assert_allclose([part.mean(0) for part in parts], 0, atol=1e-6)
    lengths = np.sqrt(study.tf_idf(base, known)["de"].power(2).sum(1))
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_what_cannot_be_studied_is_refused(config):
    for changes, why in (
        ({"languages": ("en", "dee")}, "unknown language 'dee'"),
        ({"languages": ("en",)}, "two or more"),
        ({"budgets": (-1,)}, "a budget takes"),
    ):
        with pytest.raises(UserError, match=why):
            study.check(ConfigDict({**config.to_dict(), **changes}))
    with pytest.raises(UserError, match="3 sections are in all languages"):
        tasks.sections({name: examples("", language=name) for name in WORDS}, 4)
