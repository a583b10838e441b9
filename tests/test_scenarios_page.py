"""What the page of a study of scenarios says, of rows made by hand."""

import copy

import pytest
from test_report import Page

from tl_jax.runs.results import provenance
from tl_jax.studies.scenarios import page
from tl_jax.studies.scenarios.verdicts import against_reference

CONFIG = {
    "tasks": {"cells": {}}, "bases": {"lite0": {}}, "budgets": (5, 0), "seeds": 5,
    "plans": {"scratch": {}, "good": {}, "bad": {}, "noise": {}}, "reference": "scratch",
    "draws": 2, "least_steps": 0, "settings": {}, "metric": "weighted_accuracy", "margin": 0.0,
}  # fmt: skip
GAIN = {"scratch": 0.0, "good": 0.2, "bad": -0.2, "noise": 0.0}
COST = {"scratch": 40, "good": 30, "bad": 20, "noise": 10}  # parameters


def rows(task="cells", base="lite0", budgets=(5, 0)):
    """By validation `noise` is best; `good` is, by test; at all labels `bad` fails in a seed."""
    found = []
    for budget in budgets:
        for plan, gain in GAIN.items():
            for seed in range(5):
                wobble = (0.001 if plan != "noise" else 0.1) * (-1) ** seed
                row = {"task": task, "base": base, "seed": seed, "budget": budget, "plan": plan}
                if plan == "bad" and budget == 0 and seed == 3:
                    found.append({**row, "error": "OSError: the disk is gone"})
                    continue
                found.append(
                    {
                        **row,
                        "val": 0.95 if plan == "noise" else 0.5 + gain,
                        "test": 0.1,
                        "test_weighted": 0.6 + gain + wobble,
                        "n_test": 100,
                        "n_val": 30,
                        "n_all": 1000,
                        "test_split": str(seed),
                        "trained_parameters": COST[plan],
                        "seconds": 2.0 + seed,
                    }
                )
    return found


def result(found=None, **changes):
    config, found = {**CONFIG, **changes}, rows() if found is None else found
    verdicts = against_reference(found, config)
    return {"config": config, "rows": found, "verdicts": verdicts, **provenance("scenarios")}


def test_the_summary_counts_verdicts_and_says_where():
    """With all labels `bad` has four seeds, too few for a verdict."""
    said = page.summary(result())
    assert "Beside scratch at the same budget: helps 2, hurts 1, cannot tell 3." in said
    assert "Helps: good at 5 a class (+20.0 points); good at all labels (+20.0 points)." in said
    assert "Hurts: bad at 5 a class (-20.0 points)." in said
    assert said.endswith("1 of 40 cells failed; --retry tries them again.")


def test_of_several_tasks_and_bases_the_summary_says_which():
    both = [*rows("cells", "lite0", (5,)), *rows("digits", "lite1", (5,))]
    said = page.summary(result(both, tasks={"cells": {}, "digits": {}}))
    assert "good at 5 a class of cells (+20.0 points); good at 5 a class of digits" in said
    said = page.summary(result(both, bases={"lite0": {}, "lite1": {}}))
    assert "good at 5 a class from lite0 (+20.0 points)" in said


def test_the_page_names_the_best_on_validation_with_its_test(tmp_path):
    shown = result()
    page.write(tmp_path, shown)
    text = Page((tmp_path / "report.html").read_text()).text
    assert "noise at 5 a class (62.0 % on test, chosen by 30 examples); noise at all" in text
    assert "labels (62.0 % on test, chosen by 30 examples)." in text
    assert "OSError: the disk is gone" in text
    assert (tmp_path / "test_cells_lite0.csv").read_text().splitlines()[1].startswith("good,0.8")
    cost = (tmp_path / "cost_cells_lite0.csv").read_text().splitlines()
    assert {"scratch,40,4.0,4.0", "bad,20,4.0,3.5"} < set(cost)
    assert cost[1].startswith("good,")  # the best mean first
    columns = (tmp_path / "verdicts.csv").read_text().splitlines()[0]
    assert columns.endswith("pairs,verdict,seeds to settle")


def test_the_page_says_how_many_settings_each_plan_had():
    grid = {"space": [{"dropout": 0.1}, {"dropout": 0.2}, {"dropout": 0.3}]}
    drawn = {"space": {"dropout": "uniform(0, 0.5)"}}
    best = "; the best on validation tested once"
    for plans, said in (
        (
            {"some": drawn, "b": {"probe": "ridge"}},
            "each plan 2 draws of its own settings, probes choose their penalty",
        ),
        ({"sweep": grid}, "sweep a grid of 3 settings"),
        (
            {"sweep": grid, "b": drawn},
            "sweep a grid of 3 settings, each other plan 2 draws of its own settings",
        ),
    ):
        assert page._tuning({"plans": plans, "draws": 2}) == said + best


def test_a_plan_without_all_seeds_is_not_the_best_on_validation():
    """At all labels `bad` lacks a seed."""
    lucky = copy.deepcopy(rows())
    for row in lucky:
        if row["plan"] == "bad" and "val" in row:
            row["val"] = 1.0
    said = page._chosen([row for row in lucky if "error" not in row], CONFIG)
    assert "bad at 5 a class" in said and "noise at all labels" in said


@pytest.mark.parametrize("reason", ["reference", "all", "one seed"])
def test_studies_of_which_much_failed_have_a_page(tmp_path, reason):
    """Without a reference, without any figure, and with a single seed: no verdict, no warning."""
    found = rows()
    for row in found:
        if reason == "all" or (reason == "reference" and row["plan"] == "scratch"):
            row["error"] = "OSError: the disk is gone"
    found = [row for row in found if reason != "one seed" or row["seed"] == 0]
    shown = result(found)
    page.write(tmp_path, shown)
    word = "cannot tell" if reason == "one seed" else "nothing to compare"
    assert word in page.summary(shown) and (tmp_path / "report.html").exists()


def test_names_of_tasks_and_bases_make_different_files(tmp_path):
    both = [*rows("a/b", "c", (5,)), *rows("a", "b_c", (5,))]
    names = {"tasks": {"a/b": {}, "a": {}}, "bases": {"c": {}, "b_c": {}}}
    page.write(tmp_path, result(both, **names))
    assert (tmp_path / "test_a_b_c.csv").exists() and (tmp_path / "test_a_b_c_1.csv").exists()
