"""Advice on new tasks from tables of scenarios, and the judgement of advice."""

import csv
import itertools

import numpy as np
import programs
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from tl_jax.advice import advisor, rules
from tl_jax.advice.grid import Scenario, grid_of, landmarks
from tl_jax.advice.judge import judge, said
from tl_jax.errors import UserError
from tl_jax.stats.regret import regret, summarised
from tl_jax.studies.scenarios import table

CHEAP = ("logistic", "pixels_svm")
PLANS = ("head_only", "top", "full", "from_scratch")
BUDGETS = (5, 20, 80, 320)


def row(task, budget, seed, plan, test, *, val=None, base="b", classes=4, **more):
    sizes = {"n_train": budget * classes, "n_classes": classes}
    about = {"task": task, "base": base, "budget": budget, "seed": seed, "plan": plan, **sizes}
    return about | {"val": test if val is None else val, "test": test, "error": None} | more


def rows_of(truth, *, tasks=8, budgets=BUDGETS, seeds=4, noise=0.01, draw=0):
    """Rows whose accuracies are truth(task number, budget, plan) and noise."""
    random = np.random.default_rng(draw)
    cells = itertools.product(range(tasks), budgets, range(seeds), CHEAP + PLANS)
    rows = []
    for task, budget, seed, plan in cells:
        test, val = truth(task, budget, plan) + noise * random.normal(size=2)
        rows.append(row(f"t{task}", budget, seed, plan, test, val=val))
    return rows


def grid(rows):
    return grid_of(rows, cheap=CHEAP, column="test")


def crossing(task, budget, plan):
    """The head wins below some 40 labels a class, all layers above; tasks differ in difficulty."""
    slope = {"full": 0.06, "head_only": -0.06, "from_scratch": 0.04}.get(plan, 0.0)
    level = {"from_scratch": 0.3, "pixels_svm": 0.35, "logistic": 0.45}.get(plan, 0.5)
    return level + 0.02 * task + slope * np.log(budget / 40)


def equal(task, budget, plan):
    return 0.5 + 0.02 * task + 0.05 * np.log(budget / 40)


# Regret


def test_regret_by_hand():
    """The best plan is found on one seed and scored on the other, both ways."""
    swapped = np.array([[0.8, 0.6], [0.7, 0.9]])  # best on seed 0 scores 0.7, on seed 1 0.6
    assert regret(swapped, np.array([1.0, 0.0])) == pytest.approx(0.65 - 0.75)
    stable = np.array([[0.9, 0.5], [0.8, 0.4]])
    assert regret(stable, np.array([1.0, 0.0])) == pytest.approx(0)
    assert regret(stable, np.array([0.0, 1.0])) == pytest.approx(0.4)
    assert regret(stable, np.array([0.5, 0.5])) == pytest.approx(0.2)


def test_plans_that_tie_stand_for_each_other():
    tied = np.array([[0.8, 0.8], [0.6, 0.4]])  # 0.8 twice: scores 0.5; then 0.6: scores 0.8
    assert regret(tied, np.array([1.0, 0.0])) == pytest.approx((0.5 + 0.8) / 2 - 0.7)


def test_of_plans_worth_the_same_none_has_a_regret_although_the_best_of_noise_looks_better():
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.05, (3000, 6, 8))
    choice = np.eye(8)[3]
    found = np.array([regret(accuracies, choice) for accuracies in noise])
    error = found.std() / np.sqrt(len(found))
    assert abs(found.mean()) < 4 * error
    naive = noise.mean(1).max(1) - noise.mean(1)[:, 3]
    assert naive.mean() > 20 * error


def test_regrets_in_a_few_numbers_by_hand():
    regrets = {"fixed": np.array([0.2, 0.0]), "advice": np.array([0.0, 0.1])}
    own = summarised(regrets, fixed="fixed", tasks=["a", "b"])["advice"]
    assert own.mean == pytest.approx(0.05) and own.worst == pytest.approx(0.1)
    assert own.saved == pytest.approx(0.05) and own.closed == pytest.approx(0.5)
    # Two draws of two tasks: a twice, b twice, or both.
    assert (own.low, own.high) == pytest.approx((0, 0.1))
    assert (own.saved_low, own.saved_high) == pytest.approx((-0.1, 0.2))


def test_the_interval_is_over_tasks_not_over_their_scenarios():
    values = np.repeat([0.0, 0.1, 0.2, 0.3], 50)
    tasks = np.repeat(["a", "b", "c", "d"], 50)
    few = summarised({"fixed": values}, fixed="fixed", tasks=tasks)["fixed"]
    many = summarised({"fixed": values}, fixed="fixed", tasks=range(200))["fixed"]
    assert few.high - few.low > 4 * (many.high - many.low)


# Landmarks and grids


def test_landmarks_by_hand():
    rows = [
        row("t", 20, 0, "logistic", 0.9, val=0.6),
        row("t", 20, 1, "logistic", 0.9, val=0.8),
        row("t", 20, 0, "pixels_svm", 0.9, val=0.5),
        row("t", 20, 1, "pixels_svm", None, val=None, error="ValueError: no"),
    ]
    ((scenario, found),) = landmarks(rows, CHEAP).items()
    assert scenario == Scenario("t", "b", 20)
    assert found == pytest.approx([np.log(20), 1 / 4, 0.7, 0.5])


def test_a_grid_has_the_plans_of_all_scenarios_and_seeds_in_which_they_finished(caplog):
    rows = rows_of(equal, tasks=2, budgets=(5,), seeds=3)
    rows += [row("t0", 5, seed, "lora", 0.5) for seed in range(3)]
    rows += [row("t2", 5, 0, plan, 0.5) for plan in CHEAP + PLANS]
    failed = next(one for one in rows if (one["task"], one["plan"]) == ("t1", "top"))
    failed |= {"error": "ValueError: no", "test": None}
    found = grid(rows)
    assert found.plans == CHEAP + PLANS
    assert [len(accuracies) for accuracies in found.test] == [3, 2]
    top = [one["test"] for one in rows if (one["task"], one["plan"]) == ("t0", "top")]
    assert found.test[0][:, found.plans.index("top")] == pytest.approx(top)
    assert [record.getMessage() for record in caplog.records] == [
        "left out, plans that some scenario lacks: lora",
        "left out, scenarios with fewer than two seeds: t2 from b, 5 labels a class",
    ]


@pytest.mark.parametrize(
    ("changed", "cheap", "line"),
    [
        (lambda rows: rows + rows[:1], CHEAP, "two rows are of one cell"),
        (
            lambda rows: rows,
            ("logistics",),
            "cheap plan of t0 from b, 5 labels a class: 'logistics'; did you mean 'logistic'",
        ),
        (lambda rows: rows, (), "cheap takes a list of one or more"),
        (lambda rows: rows[:1], CHEAP, "1 scenarios that share 1 plans"),
        (lambda rows: [r for r in rows if r["seed"] == 0], CHEAP, "no scenario has two seeds"),
        (lambda rows: [r | {"n_classes": None} for r in rows], CHEAP, "how many classes t0 has"),
    ],
)
def test_rows_that_are_no_grid_are_refused(changed, cheap, line):
    with pytest.raises(UserError, match=line):
        grid_of(changed(rows_of(equal, tasks=1)), cheap=cheap, column="test")


# Advice


def expected(known, landmarks):
    """A cheap plan's own accuracy on validation, and for the others the mean of the two."""
    two = landmarks[:, 2:4]
    of_plan = {"logistic": two[:, 0], "pixels_svm": two[:, 1]}
    return np.stack([of_plan.get(plan, two.mean(1)) for plan in known.plans], axis=1)


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_predictions_are_those_of_a_gaussian_process(noise):
    """scikit-learn's, of every plan's error less their mean, with the same kernel."""
    known = grid(rows_of(crossing, tasks=4))
    new = known.landmarks[:3] + [0.4, 0.05, -0.1, 0.1]
    errors = known.means - expected(known, known.landmarks)
    scale = np.maximum(known.landmarks.std(0), advisor.LEAST_SCALE)
    scaled = known.landmarks / scale
    apart = np.array([np.square(a - b).sum() for a, b in itertools.permutations(scaled, 2)])
    kernel = RBF(np.sqrt(np.median(apart) / 2), "fixed")
    process = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None)
    process.fit(scaled, errors - errors.mean(0))
    mean, deviation = process.predict(new / scale, return_std=True)
    predicted, spread = advisor.predict(known, noise, new)
    wanted = expected(known, new) + mean + errors.mean(0)
    np.testing.assert_allclose(predicted, wanted, atol=1e-10)
    np.testing.assert_allclose(spread, np.sqrt(deviation[:, 0] ** 2 + noise), rtol=1e-8)


def test_a_plan_that_wins_with_few_labels_and_one_that_wins_with_many_are_told_apart():
    judged = judge(grid(rows_of(crossing)))
    chosen = [judged.grid.plans[best] for best in judged.shares["advice"].argmax(1)]
    wanted = ["head_only" if s.budget < 40 else "full" for s in judged.grid.scenarios]
    assert chosen == wanted
    np.testing.assert_allclose(judged.regrets["advice"], 0, atol=0.02)
    assert judged.summary["advice"].closed > 0.9
    assert judged.told == len(chosen)
    assert "Advice beats the best fixed plan" in said(judged, "advice")
    assert "Always everything does not beat" in said(judged, "always everything")


def test_what_is_clear_is_recommended_with_its_gain():
    found = advisor.fit(grid(rows_of(crossing)))
    for budget, best in {5: "head_only", 320: "full"}.items():
        at = np.array([np.log(budget), 0.25, *(crossing(3, budget, plan) for plan in CHEAP)])
        advice = advisor.advise(found, at)
        first, over = advice.ranked[0], crossing(3, budget, "logistic")
        assert (first.plan, advice.choice, advice.reference) == (best, best, "logistic")
        assert (advice.verdict, advice.settle) == ("recommend", ())
        assert first.gain.low <= crossing(3, budget, best) - over <= first.gain.high


def test_of_plans_worth_the_same_hardly_any_is_recommended():
    said_of = []
    for draw in range(40):
        found = advisor.fit(grid(rows_of(equal, tasks=6, budgets=(5, 80), noise=0.03, draw=draw)))
        advice = advisor.advise(found, found.grid.landmarks[1])
        said_of.append(advice.verdict)
        if advice.verdict == "cannot tell":
            assert advice.choice == advice.reference == advice.settle[0]
            assert len(advice.settle) == 3
    assert said_of.count("recommend") <= 2  # 5 %


def test_a_task_unlike_all_others_has_the_mean_gains_and_the_widest_interval():
    known = grid(rows_of(crossing))
    found = advisor.fit(known)
    assert np.isfinite(found.noise)
    far = np.array([np.log(1e6), 0.9, 5.0, 5.0])
    (gains,), (spread,) = advisor.predict(known, found.noise, far[None])
    np.testing.assert_allclose(gains, 5 + (known.means - expected(known, known.landmarks)).mean(0))
    _, others = advisor.predict(known, found.noise, known.landmarks)
    assert spread > others.max()
    near, far = (advisor.advise(found, at).ranked[0].gain for at in (known.landmarks[0], far))
    assert far.half > 1.05 * near.half


def test_intervals_hold_the_gains_of_new_tasks_as_often_as_they_say():
    """Plans differ from task to task at random: landmarks say nothing of it."""
    covered = []
    for draw in range(12):
        own = np.random.default_rng(1000 + draw).normal(0, 0.05, (8, len(PLANS)))

        def truth(task, budget, plan, own=own):
            return 0.5 + (own[task][PLANS.index(plan)] if plan in PLANS else 0)

        covered.append(judge(grid(rows_of(truth, budgets=(5,), draw=draw))).covered)
    assert 0.9 < np.mean(covered) < 0.99


def test_advice_does_not_see_the_test_split_of_its_task():
    rows = rows_of(crossing, tasks=3)
    other = [r | {"test": 1 - r["test"]} if r["task"] == "t1" else r for r in rows]
    own = [scenario.task == "t1" for scenario in grid(rows).scenarios]
    one, two = judge(grid(rows)), judge(grid(other))
    for name, shares in one.shares.items():
        if name == rules.BEST_FIXED:  # known in hindsight
            continue
        np.testing.assert_array_equal(shares[own], two.shares[name][own])
    assert not np.array_equal(one.regrets["advice"][own], two.regrets["advice"][own])


def test_few_tasks_recommend_nothing_and_a_single_one_has_no_interval():
    four = advisor.fit(grid(rows_of(crossing, tasks=4)))
    assert advisor.advise(four, four.grid.landmarks[0]).verdict == "cannot tell"
    one = advisor.fit(grid(rows_of(crossing, tasks=1)))
    advice = advisor.advise(one, one.grid.landmarks[0])
    assert advice.verdict == "cannot tell" and len(advice.settle) == 3
    assert np.isnan(advice.ranked[0].gain.half)
    with pytest.raises(UserError, match="the single task t0"):
        judge(one.grid)


def test_advice_that_saves_nothing_says_so():
    judged = judge(grid(rows_of(equal, noise=0.03)))
    assert "Advice does not beat the best fixed plan" in said(judged, "advice")
    assert abs(judged.summary["random"].mean) < 0.01
    assert judged.told <= 2
    few = judge(grid(rows_of(crossing, tasks=3)))
    assert "on 3 tasks cannot be told" in said(few, "advice")


# Rules


@pytest.mark.parametrize(
    ("budget", "features", "plans"),
    [
        (20, 0.9, {"000": "head_only", "003": "top", "004": "head_only"}),
        (20, 0.4, {"000": "best fixed", "003": "pixels_svm", "004": "head_only"}),
        (320, 0.9, {"000": "top", "003": "full", "004": "full"}),
        (320, 0.4, {"000": "full", "003": "from_scratch", "004": "full"}),
    ],
)
def test_the_lectures_tables(budget, features, plans):
    seen = grid(rows_of(lambda task, budget, plan: 0.6 if plan == "logistic" else 0.5))
    assert seen.best_fixed == "logistic"
    new = np.array([[np.log(budget), 0.25, features, 0.5]])
    for name, rule in rules.rules(seen).items():
        for number, plan in plans.items():
            if number in name:
                chosen = seen.plans[rule(seen, new)[0].argmax()]
                assert chosen == plan.replace("best fixed", "logistic"), name


def test_rules_need_the_plans_that_they_speak_of():
    rows = [r for r in rows_of(equal, tasks=2) if r["plan"] not in ("from_scratch", "full")]
    known = rules.rules(grid(rows))
    assert "always head" in known and "always everything" not in known
    assert not [name for name in known if name.startswith("lecture")]


# The program


def write(path, rows):
    """A table of scenarios as the study of scenarios writes it."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, table.COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(row | {"version": table.VERSION, "seconds": 0.5} for row in rows)
    return path


@pytest.mark.slow
def test_the_judgement_of_advice_from_tables(tmp_path):
    rows = [row | {"test_weighted": row["test"]} for row in rows_of(crossing, tasks=6, seeds=2)]
    twin = {"pixels_svm": "class_means", "logistic": "cnn_svm"}
    rows += [row | {"plan": twin[row["plan"]]} for row in rows if row["plan"] in twin]
    tables = [
        write(tmp_path / f"{own}.csv", [r for r in rows if (r["task"] in ("t0", "t1")) == own])
        for own in (False, True)
    ]
    workdir = tmp_path / "judged"
    flags = f"--tables={tables[0]},{tables[1]}", f"--workdir={workdir}"
    ended = programs.run("advise", "--judge", *flags)
    assert ended.returncode == 0
    assert "Advice beats the best fixed plan: it saves" in ended.stdout
    page = (workdir / "report.html").read_text()
    assert "full for everything" in page and "cannot judge" not in page
    with open(workdir / "choices.csv", newline="") as file:
        chosen = {(r["task"], int(r["budget"])): r["advice"] for r in csv.DictReader(file)}
    assert len(chosen) == 24 and chosen["t1", 320] == "full"

    ended = programs.run("advise", "--judge", "--tables=")
    assert ended.returncode == 2
    assert "advice is judged on tables of scenarios" in programs.error_line(ended.stderr)
