"""The study of scenarios: spaces, cells, verdicts."""

import copy
import json
import pathlib
import sys

import numpy as np
import programs
import pyarrow.parquet
import pytest
import tiny_study
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.datasets import load_digits

from tl_jax.base.load import load_base
from tl_jax.data.tasks import load_task
from tl_jax.errors import UserError
from tl_jax.interrupt import Interrupted
from tl_jax.measure import handmade
from tl_jax.plans.plan import Phase, Plan, Settings, lengthened
from tl_jax.runs.config import load_config, nested
from tl_jax.runs.results import failures
from tl_jax.runs.space import candidates, drawn
from tl_jax.runs.transfer import transfer
from tl_jax.stats import paired
from tl_jax.stats.paired import overlap_of_rows
from tl_jax.studies import run as studies
from tl_jax.studies.scenarios import cells, study, table, trained
from tl_jax.studies.scenarios.study import of_table
from tl_jax.studies.scenarios.verdicts import against_reference

# Spaces


@given(st.integers(0, 1000))
def test_draws_lie_in_their_space_and_follow_from_the_seed(seed):
    space = {
        "tune": {"learning_rate": "log(1e-4, 1e-2)", "epochs": "one_of((3, 6))"},
        "dropout": "uniform(0.1, 0.5)",
    }
    values = drawn(space, seed=(seed, 1))
    assert values == drawn(space, seed=(seed, 1)) != drawn(space, seed=(seed, 2))
    assert 1e-4 <= values["tune.learning_rate"] <= 1e-2 and 0.1 <= values["dropout"] <= 0.5
    assert values["tune.epochs"] in (3, 6)


def test_a_logarithmic_space_is_even_by_the_logarithm():
    rates = [drawn({"r": "log(1e-4, 1)"}, seed=(n,))["r"] for n in range(400)]
    assert stats.kstest(np.log10(rates), stats.uniform(-4, 4).cdf).pvalue > 0.001


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("log(1e-2, 1e-4)", "is empty: 0 < low < high"),
        ("uniform(1, 1)", "is empty"),
        ("one_of(())", "needs values"),
        ("lg(1, 2)", "unknown space of tune.learning_rate: 'lg'; did you mean 'log'"),
    ],
)
def test_spaces_that_are_empty_are_refused(spec, said):
    with pytest.raises(UserError, match=said):
        drawn({"tune": {"learning_rate": spec}}, seed=(0,))


def test_a_grid_is_tried_whole_and_is_the_same_for_every_seed():
    points = ({"tune": {"learning_rate": 0.1, "epochs": 2}}, {"dropout": 0.5})
    for seed in (0, 7):
        tried = candidates(points, draws=3, seed=seed, plan="full")
        assert tried == [{"tune.learning_rate": 0.1, "tune.epochs": 2}, {"dropout": 0.5}]


@pytest.mark.parametrize("space", [(), "log(1, 2)", ("log(1, 2)",), (0.1, 0.2)])
def test_what_is_neither_a_space_nor_a_grid_is_refused(space):
    with pytest.raises(UserError, match="the plan 'p': a space is settings to draw, or a list of"):
        candidates(space, draws=2, seed=0, plan="p")


# The grid of cells


def config(**changes):
    found = load_config("configs/scenarios_digits.py")
    with found.unlocked():
        for key, value in changes.items():
            found[key] = value
    return found.to_dict()


def test_cells_that_share_splits_are_next_to_each_other():
    every = cells.cells(config(seeds=2, first_seed=3))
    assert len(every) == len(set(every)) == 2 * 2 * 5
    groups = [(cell.seed, cell.budget) for cell in every]
    assert list(dict.fromkeys(groups)) == [(3, 5), (3, 20), (4, 5), (4, 20)]
    assert sorted(groups) == groups


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budgets": ()}, "needs budgets"),
        ({"reference": "from_scrach"}, "unknown reference 'from_scrach'; did you mean 'from_scr"),
        (
            {"tasks": {"mine": {"name": "digits", "per_class": 10}}},
            "'mine' has per_class=10, and here budgets= .* set budgets to \\(10,\\)",
        ),
        ({"budgets": (5, 5)}, "budgets= takes a list of one or more, each once"),
        ({"budgets": (-5, 20)}, "a budget takes a whole number, at least 0"),
        ({"draws": 0}, "draws= takes a whole number, at least 1"),
        ({"first_seed": -1}, "first_seed= takes a whole number, at least 0"),
        ({"metric": "acuracy"}, "unknown metric 'acuracy'; did you mean 'accuracy'"),
        ({"margin": 1.0}, "margin= takes a share of accuracy below 1"),
        ({"settings": {"seed": 3}}, "the study itself sets seed; leave it out"),
        ({"settings": {"test_views": "flp"}}, "unknown views 'flp'; did you mean 'flip'"),
        ({"plans": {"from_scratch": {"plan": "full", "space": {}}}}, "empty space of settings"),
        ({"plans": {"from_scratch": {"probe": "svm"}}}, "unknown probe of the plan 'from_scratch'"),
        (
            {"plans": {"from_scratch": {"probe": "ridge", "features": "pixles"}}},
            "unknown features .* 'pixles'; did you mean 'pixels'",
        ),
        (
            {"plans": {"from_scratch": {"probe": "ridge", "features": "hog", "layer": "stem"}}},
            "features made by hand have no layer",
        ),
    ],
)
def test_what_is_no_grid_is_refused_before_anything_is_computed(changes, said):
    with pytest.raises(UserError, match=said):
        cells.require(config(**changes))


@pytest.mark.parametrize("name", ["digits", "elpv", "folder", "regularised"])
def test_our_own_studies_are_grids(name):
    """Fashion's bases are runs of one's own."""
    cells.require(load_config(f"configs/scenarios_{name}.py").to_dict())


def test_every_value_that_may_be_drawn_is_looked_at_before_anything_is_computed():
    """Of 10 draws for 5 seeds about a third are the objective that there is not."""
    objectives = "one_of(('cross_entropy', 'delta', 'detla'))"
    plans = {"from_scratch": {"plan": "full", "space": {"objective": objectives}}}
    with pytest.raises(UserError, match="unknown objective 'detla'; did you mean 'delta'"):
        cells.require(config(plans=plans))


def test_layers_are_looked_at_once_for_draws_that_differ_in_numbers_alone(monkeypatch):
    """And a wrong number is found in whichever draw it is."""
    checked, check = [], trained.pose.check
    monkeypatch.setattr(
        trained.pose, "check", lambda *given: checked.append(given) or check(*given)
    )
    points = [{"tune": {"learning_rate": 10.0**-n, "epochs": n}} for n in range(1, 9)]
    points += [{"from_layer": "stage3_block1"}, {"tune": {"leaves": "bias$"}}]
    plan = {"plan": "head_then_fine_tune", "from_layer": "stage2_block1", "space": points}
    cells.require(config(plans={"from_scratch": plan}))
    assert len(checked) == 3
    for wrong, said in (
        ({"tune": {"learning_rate": -1.0}}, "finite learning_rate > 0"),
        ({"from_layer": "stage9"}, "unknown layer 'stage9'"),
    ):
        plan["space"] = [*points, wrong]
        with pytest.raises(UserError, match=said):
            cells.require(config(plans={"from_scratch": plan}))


def test_hog_without_its_package_is_said_before_anything_is_computed(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    plans = {"from_scratch": {"probe": "ridge", "features": "hog"}}
    with pytest.raises(UserError, match=r"HOG needs scikit-image: pip install 'tl_jax\[studies\]'"):
        cells.require(config(plans=plans))


def test_later_settings_stand_over_earlier_ones():
    shared = {"tune": {"epochs": 3, "clip": 0.0}, "dropout": 0.2}
    merged = nested([shared, {"tune": {"epochs": 4}}, {"tune.learning_rate": 0.1}])
    assert merged == {"tune": {"epochs": 4, "clip": 0.0, "learning_rate": 0.1}, "dropout": 0.2}
    assert shared["tune"]["epochs"] == 3


def test_a_layer_that_is_none_is_said_before_anything_is_computed():
    plans = {"from_scratch": {"plan": "one_block", "block": "stage9", "space": {
        "dropout": "uniform(0, 0.5)"}}}  # fmt: skip
    with pytest.raises(UserError, match="unknown block 'stage9'"):
        cells.require(config(plans=plans))


def test_every_plan_makes_the_least_number_of_steps():
    """Of 6 an epoch, 40 steps in two phases are 20 each: 4 epochs. A phase of 5 keeps them."""
    phases = [
        Phase(name, {"a": 1.0}, Settings(epochs=epochs)) for name, epochs in (("x", 1), ("y", 5))
    ]
    longer = lengthened(Plan("p", tuple(phases)), 40, steps=6)
    assert [phase.settings.epochs for phase in longer.phases] == [4, 5]
    assert lengthened(longer, 0, steps=6) == longer


# Verdicts


def rows(differences, *, fixed=False, n_test=250, n_all=1000):
    """Of one scenario, a plan that is so much above the reference, by seed."""
    found = []
    for seed, difference in enumerate(differences):
        own = {"task": "t", "base": "b", "budget": 5, "seed": seed, "n_test": n_test,
               "n_all": n_all, "test_split": "same" if fixed else str(seed)}  # fmt: skip
        found.append({**own, "plan": "from_scratch", "test": 0.5 + 0.01 * seed})
        found.append({**own, "plan": "plan", "test": 0.5 + 0.01 * seed + difference})
    return found


PLANS = {"plans": {"from_scratch": {}, "plan": {}}, "reference": "from_scratch",
         "metric": "accuracy", "margin": 0.0}  # fmt: skip


def test_a_verdict_is_of_differences_paired_by_seed():
    differences = np.array([0.1, 0.12, 0.11, 0.09, 0.1])
    (found,) = against_reference(rows(differences), PLANS)
    assert found["verdict"] == "helps" and found["pairs"] == 5
    assert found["difference"] == pytest.approx(differences.mean())
    half = 2.776445 * differences.std(ddof=1) * np.sqrt(1 / 5 + 250 / 750)
    assert found["high"] - found["difference"] == pytest.approx(half, rel=1e-5)
    assert "seeds_to_settle" not in found
    (found,) = against_reference(rows(-differences), PLANS)
    assert found["verdict"] == "hurts"


def test_a_test_split_of_the_datas_own_needs_no_widening():
    assert overlap_of_rows(rows([0.1] * 5, fixed=True)) == 0
    assert overlap_of_rows(rows([0.1] * 5)) == pytest.approx(250 / 750)


def test_cells_that_failed_are_in_no_pair():
    broken = rows([0.1] * 6)
    broken[1] = {key: broken[1][key] for key in ("task", "base", "budget", "seed", "plan")}
    broken[1]["error"] = "ValueError: no"
    (found,) = against_reference(broken, PLANS)
    assert found["pairs"] == 5


def null(rng, seeds=5, plans=8, n_test=250, n_all=1000):
    """Rows of plans that are all worth the same: each test example is right or wrong at random.

    Splits are drawn from one set of examples, so that seeds share them, as in a study.
    """
    right = rng.random((plans + 1, n_all)) < 0.8
    found = []
    for seed in range(seeds):
        test = rng.permutation(n_all)[:n_test]
        own = {"task": "t", "base": "b", "budget": 5, "seed": seed, "n_test": n_test,
               "n_all": n_all, "test_split": str(seed)}  # fmt: skip
        for plan in range(plans + 1):
            flips = rng.random(n_test) < 0.1  # of training anew
            found.append({**own, "plan": str(plan), "test": (right[plan][test] ^ flips).mean()})
    return found


def test_of_plans_that_are_worth_the_same_few_are_said_to_help_or_hurt():
    """In at most 5 % of studies any verdict at all: 8 verdicts each, 300 studies."""
    rng = np.random.default_rng(0)
    given = {**PLANS, "plans": {str(n): {} for n in range(9)}, "reference": "0"}
    alarms = sum(
        any(one["verdict"] != "cannot tell" for one in against_reference(null(rng), given))
        for _ in range(300)
    )
    assert alarms / 300 <= 0.05


@given(st.integers(5, 20), st.floats(0, 1), st.floats(0.5, 3), st.sampled_from([0.95, 0.999]))
def test_so_many_seeds_settle_it(count, ratio, mean, level):
    values = mean + np.random.default_rng(0).normal(size=count)
    estimate = paired.corrected(values, ratio=ratio)
    needed = paired.seeds_to_settle(estimate, margin=0.1, ratio=ratio, level=level)
    deviation = values.std(ddof=1)

    def half(seeds):
        return stats.t.ppf((1 + level) / 2, seeds - 1) * deviation * np.sqrt(1 / seeds + ratio)

    beyond = abs(values.mean()) - 0.1
    if needed is None:
        assert half(1000) >= beyond
    else:
        assert half(needed) < beyond and (needed == 2 or half(needed - 1) >= beyond)


def test_seeds_that_settle_one_verdict_settle_it_among_others():
    """So many seeds of the same mean and spread do give a verdict, beside eight of nothing."""
    differences = np.array([0.03, -0.01, 0.02, 0.0, 0.03])

    def among(differences, others=8):
        plans = rows(differences, fixed=True)
        for other in range(others):
            noise = np.random.default_rng(other).normal(0, 0.1, len(differences))
            nothing = rows(noise - noise.mean(), fixed=True)[1::2]
            plans += [{**row, "plan": str(other)} for row in nothing]
        names = dict.fromkeys(["from_scratch", "plan", *map(str, range(others))], {})
        return against_reference(plans, {**PLANS, "plans": names})[0]

    verdict = among(differences)
    assert verdict["verdict"] == "cannot tell"
    needed = verdict["seeds_to_settle"]
    again = np.resize(differences - differences.mean(), needed)
    again = (again - again.mean()) * differences.std(ddof=1) / again.std(ddof=1)
    assert among(again + differences.mean())["verdict"] == "helps"
    assert among(differences, others=0)["seeds_to_settle"] < needed


# The whole study


@pytest.fixture
def tiny(tmp_path):
    """Two plans on pixels, which need no training: the reference, and nearest class means."""
    return tiny_study.config(tmp_path / "cache")


def test_a_cell_that_fails_is_tried_again_on_request(tiny, tmp_path, monkeypatch):
    whole, features = tmp_path / "study", handmade.features
    calls = []

    def once_broken(task, kind, **where):
        calls.append(kind)
        if len(calls) == 2:
            raise OSError("the disk is gone")
        return features(task, kind, **where)

    monkeypatch.setattr(handmade, "features", once_broken)
    result, _ = studies.run("scenarios", tiny, whole, name="tiny")
    (failed,) = failures(result)
    assert failed["error"] == "OSError: the disk is gone" and len(calls) == 4
    assert "1 of 4 cells failed" in studies.summary("scenarios", result)
    again, before = studies.run("scenarios", tiny, whole, name="tiny")
    assert before and again == result and len(calls) == 4
    mended, before = studies.run("scenarios", tiny, whole, name="tiny", retry=True)
    assert not before and not failures(mended) and len(calls) == 5
    assert [row["test"] for row in mended["rows"] if row != failed] and len(mended["rows"]) == 4
    lines = (whole / "cells.csv").read_text().splitlines()
    assert len(lines) == 5 and lines[0].startswith("version,given,task,base,")


def test_a_budget_that_a_class_has_not_is_said_at_once(tiny, tmp_path):
    tiny.budgets = (5, 500)
    with pytest.raises(UserError, match="class '.' has .* examples, but 500 are needed"):
        studies.run("scenarios", tiny, tmp_path / "study", name="tiny")


def test_a_signal_is_no_failure_of_a_cell(tiny, tmp_path, monkeypatch):
    def stopped(task, kind, **where):
        raise Interrupted(15)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(handmade, "features", stopped)
        studies.run("scenarios", tiny, tmp_path / "study", name="tiny")
    result, _ = studies.run("scenarios", tiny, tmp_path / "study", name="tiny")
    assert len(result["rows"]) == 4 and not failures(result)


# With trainings

HOW = {"learning_rate": 1e-2, "best_by": "last", "epochs": 20}
SETTINGS = {"train_head": HOW, "tune": {**HOW, "batch_norm": "batch"}, "cut": "stage1_block1"}


def grid(tmp_path, base, *plans, **changes):
    """A study of digits at 16 pixels, whose plans are tuned by no draws."""
    found = load_config("configs/scenarios_digits.py")
    with found.unlocked():
        found.bases = {"base": {"weights": "", "crop": 1.0, "channels": 0, "size": 16, **base}}
        found.plans = {plan: {"plan": plan} for plan in plans}
        found.update({"budgets": (20,), "draws": 1, "settings": SETTINGS, **changes})
        found.cache = str(tmp_path / "cache")
    return found


@pytest.mark.slow
def test_a_base_that_learned_noise_hurts(tmp_path):
    """Its features are of shuffled labels, and a head on them is far below training anew."""
    digits = load_digits()
    images = (15.9 * digits.images).astype(np.uint8)
    noise = load_task((images, np.random.default_rng(0).permutation(digits.target)), per_class=30)
    fresh = load_base("efficientnet_lite0", "random:0").resized(16, 1.0)
    given = {"plan": "from_scratch", "cache": tmp_path / "cache", **SETTINGS}
    transfer(fresh, noise, workdir=tmp_path / "noise", **given)
    config = grid(tmp_path, {"base": str(tmp_path / "noise")}, "head_only", "from_scratch")
    with config.unlocked():
        del config.settings.cut
    result, _ = studies.run("scenarios", config, tmp_path / "study", name="noise")
    (found,) = result["verdicts"]
    assert found["verdict"] == "hurts" and found["high"] < -0.1, found


@pytest.mark.slow
def test_a_base_that_learned_nothing_neither_helps_nor_hurts(tmp_path):
    config = grid(
        tmp_path, {"base": "efficientnet_lite0", "weights": "random:7"}, "full", "from_scratch"
    )
    result, _ = studies.run("scenarios", config, tmp_path / "study", name="nothing")
    (found,) = result["verdicts"]
    assert found["verdict"] == "cannot tell" and abs(found["difference"]) < 0.1, found


def test_only_the_draw_that_validation_chose_is_tested(tmp_path, monkeypatch):
    config = grid(
        tmp_path, {"base": "efficientnet_lite0", "weights": "random:0"}, "head_only", draws=3,
        reference="head_only", seeds=1,
    )  # fmt: skip
    with config.unlocked():
        config.plans.head_only.space = {"train_head": {"learning_rate": "log(1e-3, 1e-1)"}}
        config.settings.train_head.epochs, config.cache = 2, ""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    splits, judged = [], trained.transfer.judged

    def noted(problem, variables, inputs, split, **how):
        splits.append(split)
        return judged(problem, variables, inputs, split, **how)

    monkeypatch.setattr(trained.transfer, "judged", noted)
    (row,) = cells.cells(config.to_dict())
    found = cells.row(config.to_dict(), row)
    assert splits == ["val", "val", "val", "test"]
    best = max(found["tried"], key=lambda one: one["val"])
    assert found["chosen"] == best["settings"] and found["val"] == best["val"]
    assert len({one["settings"]["train_head.learning_rate"] for one in found["tried"]}) == 3
    assert not list(pathlib.Path().iterdir())  # without a cache nothing is kept


def test_a_draw_that_diverges_is_not_chosen(tmp_path):
    config = grid(tmp_path, {"base": "efficientnet_lite0", "weights": "random:0"}, "head_only")
    with config.unlocked():
        config.settings.train_head.epochs = 2
        config.reference, config.seeds, config.draws, config.cache = "head_only", 1, 4, ""
        config.plans.head_only.space = {"train_head": {"learning_rate": "one_of((1e-2, 1e38))"}}
    (cell,) = cells.cells(config.to_dict())
    row = cells.row(config.to_dict(), cell)
    tried = {draw["settings"]["train_head.learning_rate"]: draw for draw in row["tried"]}
    assert row["chosen"] == {"train_head.learning_rate": 1e-2} and len(row["tried"]) == 4
    assert row["val"] == tried[1e-2]["val"] and tried[1e38]["val"] is None
    assert "the loss is not finite" in tried[1e38]["error"]
    with config.unlocked():
        config.plans.head_only.space.train_head.learning_rate = "one_of((1e38,))"
    with pytest.raises(UserError, match="all draws diverged: the loss is not finite"):
        cells.row(config.to_dict(), cell)


# Tables


@pytest.fixture
def table_of(tiny, tmp_path):
    studies.run("scenarios", tiny, tmp_path / "study", name="tiny")
    return tmp_path / "study" / "cells.csv"


def test_a_table_gives_the_same_verdicts_without_computing(tiny, table_of, tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "row", None)
    shown = studies.shown("scenarios", tiny, tmp_path / "shown", name="tiny", table=table_of)
    whole = json.loads((tmp_path / "study" / "result.json").read_text())
    assert shown["verdicts"] == whole["verdicts"]
    for own, other in zip(shown["rows"], whole["rows"], strict=True):
        assert {name: own[name] for name in other} == other
    again = (tmp_path / "shown" / "cells.csv").read_text()
    assert again == table_of.read_text()


def test_parquet_has_what_csv_has(table_of):
    lines = pyarrow.parquet.read_table(table_of.with_suffix(".parquet")).to_pylist()
    for line, row in zip(lines, table.read(table_of), strict=True):
        plain = {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()}
        assert line == {**plain, "version": 1}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("version,", "vrsion,", "is no table of scenarios: it is cells.csv"),
        ("\n1,", "\n0,", "is a table of version 0, and this reads version 1"),
        (",rbf,", ",rbff,", "unknown plan in .*'rbff'; did you mean 'rbf'"),
        ("digits,lite0,1,", "digits,lite0,7,", "another config, which has the cell task digits"),
        ("digits,lite0,1,", "digits,lite0,0,", "has a cell twice: task digits"),
        ("digits,lite0,1,", "digits,lite0,one,", "line [0-9]+: invalid literal"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tiny, table_of, old, new, said):
    table_of.write_text(table_of.read_text().replace(old, new))
    with pytest.raises(UserError, match=said):
        of_table(tiny, table_of)


def test_a_table_of_other_settings_is_refused(tiny, table_of):
    tiny.least_steps = 7
    with pytest.raises(UserError, match="another config: other settings of task digits"):
        of_table(tiny, table_of)


def test_a_table_is_shown_without_flags_that_compute(tmp_path):
    own = ("--config=configs/scenarios_digits.py", f"--workdir={tmp_path / 'shown'}")
    computing = ("--workers=1", "--cluster=local", "--retry", "--reuse=cells.csv")
    ended = programs.run("scenarios", *own, "--table=cells.csv", *computing)
    line = programs.error_line(ended.stderr)
    assert ended.returncode == 2 and not (tmp_path / "shown").exists()
    assert line.endswith("leave out --workers, --cluster, --retry, --reuse")


def test_more_seeds_reuse_the_cells_that_are_there(tiny, table_of, tmp_path, monkeypatch):
    whole = copy.deepcopy(tiny)
    whole.seeds = 3
    fresh, _ = studies.run("scenarios", whole, tmp_path / "fresh", name="tiny")
    computed, row = [], cells.row
    monkeypatch.setattr(
        study, "row", lambda config, cell: computed.append(cell) or row(config, cell)
    )
    longer, _ = studies.run("scenarios", whole, tmp_path / "more", name="tiny", reuse=table_of)
    assert {cell.seed for cell in computed} == {2} and len(computed) == 2
    for own, other in zip(longer["rows"], fresh["rows"], strict=True):
        assert own | {"seconds": 0} == other | {"seconds": 0}
