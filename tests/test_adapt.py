"""The study of adaptation: what a method may see, what rules choose, and what is refused."""

import csv
import signal

import numpy as np
import programs
import pytest
import small  # noqa: F401 (keeps what is compiled)
from scipy import stats

import tl_jax
from tl_jax import interrupt
from tl_jax.base.load import load_base
from tl_jax.data.tasks import load_task
from tl_jax.errors import UserError
from tl_jax.measure import features, validators
from tl_jax.measure.validators import Outputs
from tl_jax.runs.config import load_config
from tl_jax.runs.results import failures
from tl_jax.studies import run as studies
from tl_jax.studies.adapt import cells, choices, study
from tl_jax.studies.adapt.cells import Cell, unlabelled

CONFIG = "configs/adapt_digits.py"


def tiny(cache, **changes):
    """Four methods, one of which asks for the target's labels; an epoch, a draw, two seeds."""
    config = load_config(str(programs.ROOT / CONFIG))
    with config.unlocked():
        config.tasks.source = {"name": "digits", "val": 0.2, "test": 0.2, "per_class": 20}
        config.tasks.target = {"name": "rendered", "nuisance": 0.1, "count": 300, "val": 0.2}
        config.settings.cut = "stem"
        config.settings.tune = {"epochs": 2, "batch_norm": "batch", "learning_rate": 0.02}
        for name in ("shot", "dann", "class_confusion"):
            del config.methods[name]
        for name in ("source_only", "target_only"):
            config.methods[name].space = {}
        config.methods.cheat = {"objective": "cross_entropy", "plan": "full"}
        config.validators = ("source_accuracy", "infomax", "class_ami")
        config.draws, config.seeds, config.cache = 1, (0, 1), str(cache)
        for name, value in changes.items():
            config[name] = value
    return config


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Folder and result of a study that a signal stopped after two cells, and that went on."""
    folder = tmp_path_factory.mktemp("adapt")
    config, seen = tiny(folder / "cache"), []
    row = cells.row

    def stopping(*given):
        seen.append(given[-1])
        if len(seen) == 3:
            signal.raise_signal(signal.SIGTERM)
            interrupt.check()
        return row(*given)

    with pytest.MonkeyPatch.context() as patch, interrupt.caught():
        patch.setattr(cells, "row", stopping)
        with pytest.raises(interrupt.Interrupted):
            studies.run("adapt", config, folder / "run", name="tiny")
    kept = (folder / "run" / "cells.jsonl").read_text().splitlines()
    result, before = studies.run("adapt", config, folder / "run", name="tiny")
    assert not before and len(kept) == 2
    assert (folder / "run" / "cells.jsonl").read_text().splitlines()[:2] == kept
    return folder / "run", result


def test_a_method_that_asks_for_labels_of_the_target_fails_alone(done):
    _, result = done
    failed = [(row["method"], row["seed"]) for row in failures(result)]
    assert failed == [("cheat", 0), ("cheat", 1)]
    assert all("not finite" in row["error"] for row in failures(result))
    assert len(result["rows"]) == 8
    task = load_task("rendered", count=60)
    erased = unlabelled(task)
    assert np.isnan(erased.targets[task.splits["train"]]).all()
    test = task.splits["test"]
    np.testing.assert_array_equal(erased.targets[test], task.targets[test])
    assert not erased.labels[task.splits["val"]].any()


def test_a_row_says_what_its_arrays_say(done):
    folder, result = done
    row = next(r for r in result["rows"] if (r["method"], r["seed"]) == ("source_only", 1))
    arrays = np.load(folder / "outputs" / "source_only_1_0.npz")
    right = arrays["test_probabilities"].argmax(1) == arrays["test_labels"]
    assert row["target_test"] == right.mean() and len(right) == row["n_test"] == 75
    outputs = Outputs(**{name: arrays[name] for name in Outputs._fields})
    for name, said in row["validators"].items():
        assert said == pytest.approx(validators.score(name, outputs))
    # The kept model itself, on images that it is shown one by one.
    base = load_base(folder / "source_only" / "1_0")
    target = load_task("rendered", seed=1, nuisance=0.1, count=300, val=0.2)
    rows = target.splits["test"][:20]
    seen = base.predict([target.open(int(row)) for row in rows])
    np.testing.assert_allclose(seen, arrays["test_probabilities"][:20], atol=1e-4)
    stored = features.of_layers(base, target, layers=[base.bottleneck], cache=None)
    own = stored[base.bottleneck].rows[target.splits["val"]]
    np.testing.assert_allclose(own, arrays["target_features"], atol=1e-5)


def test_a_method_goes_on_from_the_source_trained_model_as_a_transfer_would(done):
    folder, result = done
    row = next(r for r in result["rows"] if (r["method"], r["seed"]) == ("adabn", 0))
    base = load_base(folder / "source_only" / "0_0")
    target = load_task("rendered", seed=0, nuisance=0.1, count=300, val=0.2)
    tune = {"epochs": 1, "batch_norm": "recalibrate"}
    how = {"plan": "full", "head": "kept", "tune": tune, "batch_size": 64, "cache": None}
    run = tl_jax.transfer(base, target, objective="adabn", **how)
    assert run.test["accuracy"] == pytest.approx(row["target_test"])
    arrays = np.load(folder / "outputs" / "adabn_0_0.npz")
    before = np.load(folder / "outputs" / "source_only_0_0.npz")
    assert np.abs(arrays["test_features"] - before["test_features"]).max() > 0.1


def test_the_page_has_four_columns_for_each_method(done):
    folder, result = done
    with open(folder / "methods.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["method"] for line in lines] == ["source_only", "adabn", "any method"]
    by_method = {
        name: [r["target_test"] for r in result["rows"] if r["method"] == name]
        for name in ("source_only", "adabn", "target_only")
    }
    for column, name in (("source only", "source_only"), ("chosen without labels", "adabn")):
        assert float(lines[1][column]) == pytest.approx(np.mean(by_method[name]))
    target = float(lines[1]["trained on target labels"])
    assert target == pytest.approx(np.mean(by_method["target_only"]))
    page = (folder / "report.html").read_text()
    assert "2 cells failed; --retry tries them again" in page
    assert studies.summary("adapt", result).startswith("Test accuracy on the target: source only")


# What is chosen, from rows by hand

RULES = ("source_accuracy", "entropy")
RULED = {"methods": ["source_only", "one", "other", "target_only"], "validators": RULES}
RULED |= {"seeds": range(5), "rule": "entropy"}


def by_hand(method: str, seed: int, draw: int, *, val: float, test: float, entropy: float) -> dict:
    said = {"source_accuracy": 0.5 + draw / 10, "entropy": entropy}
    reached = {"source_val": 0.5 - draw / 10, "target_val": val, "target_test": test}
    sizes = {"n_test": 20, "n_all": 100, "test_split": str(seed)}
    key = {"method": method, "seed": seed, "draw": draw}
    return key | reached | sizes | {"validators": said}


@pytest.fixture
def rows():
    found = []
    for seed in range(5):
        luck = seed / 1000
        for draw in (0, 1):
            own = {"val": 0.5, "test": 0.50 + luck, "entropy": -1.0}
            found.append(by_hand("source_only", seed, draw, **own))
            # The oracle takes draw 1, and both rules draw 0, or the later one
            better = {"val": 0.6 + draw / 10, "test": 0.60 + draw / 10 + 2 * luck}
            found.append(by_hand("one", seed, draw, **better, entropy=-0.5 - draw))
            worse = {"val": 0.4, "test": 0.30, "entropy": -0.1 * draw}
            found.append(by_hand("other", seed, draw, **worse))
            found.append(by_hand("target_only", seed, draw, val=0.9, test=0.95, entropy=0.0))
    return found


def test_four_columns_by_hand(rows):
    lines = {(x["method"], x["rule"]): x for x in choices.table(rows, RULED)}
    one = lines["one", "entropy"]
    assert one["source"][2] == pytest.approx(0.502) and one["target"][2] == 0.95
    assert one["chosen"][2] == pytest.approx(0.604) and one["oracle"][2] == pytest.approx(0.704)
    assert lines["one", "source_accuracy"]["chosen"][2] == pytest.approx(0.704)
    either = lines["any method", "entropy"]  # falls for the surest
    assert set(either["picked"].values()) == {"other"} and either["chosen"][2] == 0.3
    assert either["oracle"] == one["oracle"]


def test_verdicts_are_paired_by_seed_and_corrected_together(rows):
    found = choices.judged(choices.table(rows, RULED), rows, "entropy")
    said = {one["method"]: one for one in found}
    assert {name: one["verdict"] for name, one in said.items()} == {
        "one": "helps", "other": "hurts", "any method": "hurts"
    }  # fmt: skip
    gaps = [0.1 + seed / 1000 for seed in range(5)]
    error = np.std(gaps, ddof=1) * np.sqrt(1 / 5 + 20 / 80)
    half = stats.t.ppf(0.975, 4) * error
    assert said["one"]["difference"] == pytest.approx(np.mean(gaps))
    assert said["one"]["high"] == pytest.approx(np.mean(gaps) + half)
    four = [row for row in rows if row["seed"] < 4]
    found = choices.judged(choices.table(four, RULED), four, "entropy")
    assert {one["verdict"] for one in found} == {"cannot tell"}


def test_rules_are_judged_by_rank_and_regret(rows):
    lines = choices.table(rows, RULED)
    by_rule = {line["rule"]: line for line in choices.of_rules(lines, rows, RULED)}
    entropy = by_rule["entropy"]
    assert entropy["regret"] == pytest.approx(np.mean([0.4 + 2 * s / 1000 for s in range(5)]))
    assert (entropy["below_source"], entropy["seeds"]) == (5, 5)
    first = [r for r in rows if r["seed"] == 0 and r["method"] != "target_only"]
    pairs = [(r["validators"]["entropy"], r["target_test"]) for r in first]
    expected = stats.spearmanr(*zip(*pairs, strict=True)).statistic
    assert entropy["rank_correlation"] == pytest.approx(expected)
    negative = {line["method"]: line for line in choices.negative(rows, RULED)}
    assert negative["other"]["below_source"] == 10 and negative["one"]["below_source"] == 0
    assert negative["other"]["lowest"] == 0.3


def test_cells_that_failed_are_chosen_by_nobody(rows):
    failed = [r | {"error": "Diverged"} if r["method"] == "one" and r["draw"] else r for r in rows]
    lines = {(x["method"], x["rule"]): x for x in choices.table(failed, RULED)}
    assert lines["one", "entropy"]["oracle"][2] == pytest.approx(0.604)
    gone = [row for row in rows if row["method"] != "target_only"]
    assert all(not line["chosen"] for line in choices.table(gone, RULED))
    assert choices.judged(choices.table(gone, RULED), gone, "entropy") == []


# What is refused


def refusal(config) -> str:
    with pytest.raises(UserError) as error:
        study.check(config)
        study.data(config)
    return str(error.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"validators": ("infomx",)}, "unknown validator 'infomx'; did you mean 'infomax'"),
        ({"rule": "dev", "validators": ("bnm",)}, "rule among the validators 'dev'; known: bnm"),
        ({"seeds": (0, 0)}, "seeds= takes a list of one or more, each once"),
        ({"draws": 2}, "'source_only' has 1 settings to try instead of draws=2"),
        ({"methods.one.objective": "shto"}, "unknown objective 'shto'; did you mean 'shot'"),
        ({"methods.one.start": "source"}, "unknown start of the method 'one' 'source'; "),
        ({"methods.one.plan": "ful"}, "unknown plan 'ful'; did you mean 'full'"),
        ({"methods.one.seed": 1}, "the method 'one': the study itself sets seed"),
        ({"methods.one.tune": {"best_by": "val_loss"}}, "every method ends with its last epoch"),
        ({"methods.one.objective": "shot"}, "take head=kept instead of head=linear"),
        ({"methods.one.objective": "ordinal"}, "answers otherwise than with a probability of each"),
        (
            {
                **{f"tasks.{domain}.only": ("0", "1") for domain in ("source", "target")},
                **{"tasks.target.count": 40, "validators": ("source_accuracy", "devn")},
            },
            "devn needs 5 examples in val of each domain, and the target has 2",
        ),
        ({"methods.target_only.objective": "mmd"}, "is a reference, and trains on one task"),
        ({"tasks.source.only": ("0", "1", "2")}, "the source lacks 3, 4, 5 and 4 more, which is"),
        ({"tasks.target.only": ("0", "1")}, "which is partial adaptation"),
        ({"tasks.target.count": 1}, "has 1 examples, but 3 are needed"),
    ],
)
def test_what_is_refused(tmp_path, changes, line):
    config = tiny(tmp_path)
    with config.unlocked():
        del config.methods.cheat
        if any("methods.one" in name for name in changes):
            config.methods.one = {"objective": "domain_adversarial", "plan": "full"}
        for name, value in changes.items():
            *above, last = name.split(".")
            level = config
            for part in above:
                level = level[part]
            level[last] = value
    assert line in refusal(config)


def test_references_are_there(tmp_path):
    config = tiny(tmp_path)
    with config.unlocked():
        del config.methods.target_only
    assert "lack 'target_only', a reference" in refusal(config)


def test_source_only_comes_before_what_starts_from_it(tmp_path):
    first, others = cells.waves(tiny(tmp_path).to_dict())
    assert first == [Cell("source_only", 0, 0), Cell("source_only", 1, 0)]
    assert {cell.method for cell in others} == {"adabn", "cheat", "target_only"}


def test_the_program_shows_what_is_done_and_that_cells_failed(done, tmp_path):
    folder, _ = done
    path = tmp_path / "tiny.py"
    kept = (folder / "config.json").read_text()
    path.write_text(
        "import json\n\nimport ml_collections\n\n\ndef get_config():\n"
        f"    return ml_collections.ConfigDict(json.loads({kept!r}))\n"
    )
    ended = programs.run("adapt", f"--config={path}", f"--workdir={folder}")
    assert ended.returncode == 1 and "done before: " in ended.stdout
    assert "2 cells failed; --retry tries them again" in ended.stdout
