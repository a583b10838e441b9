"""How advice and its judgement are shown: lines for the terminal, and a page."""

import pathlib
from collections.abc import Sequence

from tl_jax.advice.advisor import RECOMMEND, Advice
from tl_jax.advice.grid import Scenario
from tl_jax.advice.judge import Judgement, said
from tl_jax.advice.rules import (
    ADVICE,
    BEST_FIXED,
    FIRST_RANKED,
    LECTURES,
    SMALL,
    stand_ins,
)
from tl_jax.report import study, text
from tl_jax.runs.results import provenance
from tl_jax.stats.paired import Estimate

COLUMNS = ("rule", "regret", "low", "high", "worst", "saved", "from", "to", "closed")
UNLIKE = 0.1  # likeness below which landmarks say next to nothing
POINTS = dict.fromkeys(COLUMNS[1:-1], "points") | {"closed": "%"}


def advised(scenario: Scenario, advice: Advice) -> str:
    """Return what is advised for a scenario: the verdict, and every plan's expected gain."""
    first = advice.ranked[0]
    if advice.verdict == RECOMMEND:
        verdict = f"recommended is {advice.choice}"
    else:
        runs = ", ".join(advice.settle[1:])
        verdict = f"take {advice.choice}; cannot tell whether another is better, runs would: {runs}"
    if advice.likeness < UNLIKE:
        verdict += "\nnothing like it was measured, or landmarks do not help: these are mean gains"
    width = max(len(one.plan) for one in advice.ranked)
    lines = [
        f"{one.plan:{width}}  {_points(one.gain)}"
        + "  (reference)" * (one.plan == advice.reference)
        for one in advice.ranked
    ]
    head = f"expected gain over {advice.reference} in points; tasks measured: {first.gain.count}"
    return "\n".join([f"{text.visible(str(scenario))}: {verdict}", head, *lines])


def _points(gain: Estimate) -> str:
    mean = f"{100 * gain.mean:+6.1f}"
    if not text.there(gain.half):
        return f"{mean}   no interval"
    return f"{mean}   {100 * gain.low:+6.1f} to {100 * gain.high:+6.1f}"


def judged(judgement: Judgement) -> str:
    """Return a line for each rule, and whether advice beats the best fixed plan."""
    table = _regrets(judgement)
    names = ("mean", "95 % interval", "worst tenth", "gap closed")
    head = "{:26}{:>7}{:>16}{:>13}{:>12}".format("regret, points", *names)
    lines = [
        f"{name:26}{100 * mean:7.1f}{f'{100 * low:.1f} to {100 * high:.1f}':>16}"
        f"{100 * worst:13.1f}{text.percent(closed):>12}"
        for name, mean, low, high, worst, *_, closed in table.rows
    ]
    return "\n".join([head, *lines, *_verdicts(judgement), _covered(judgement)])


def write(workdir: pathlib.Path, judgement: Judgement) -> pathlib.Path:
    """Write the page of a judgement and its tables as CSV; return the page."""
    grid = judgement.grid
    tasks = len(set(grid.tasks))
    return study.write(
        workdir,
        title="Is the advice any good?",
        lead=" ".join([*_verdicts(judgement), _covered(judgement)]),
        sections=sections(judgement),
        facts={
            "scenarios": f"{len(grid.scenarios)} of {tasks} tasks",
            "plans": ", ".join(grid.plans),
            "landmarks": f"examples a class, chance level, validation of {', '.join(grid.cheap)}",
        },
        result=provenance("advise"),
    )


def sections(judgement: Judgement) -> list[study.Section]:
    """Return the tables of a judgement: regrets by rule, and what was chosen where."""
    names = stand_ins(judgement.grid.plans)
    missing = [name for name in LECTURES if name not in judgement.summary]
    told = (
        "Regret: test accuracy of the best plan less that of the plan chosen, where all scenarios "
        "of the task were left out. The best plan is found on one half of the seeds and scored on "
        "the other, both ways. Intervals are a bootstrap over tasks. Worst: the mean of the worst "
        "tenth of the scenarios. Saved: the regret of the best fixed plan less this one's. Closed: "
        "that as a share of the best fixed plan's. This plan is the best on average over all "
        "tasks, the one left out among them: a rule has to beat what is known in hindsight.\n\n"
        "Advice takes the cheap plan that is best on validation where it cannot tell that another "
        "is better. Where a lecture names no plan, the best fixed plan stands in. The "
        f"lectures give no numbers: here small is below {SMALL} training examples a class, and "
        "similar is where a probe on the base's features does better on validation than one on "
        "pixels. These plans stand for their words: "
        f"{', '.join(f'{plan} for {role}' for role, plan in names.items())}."
    )
    if missing:
        told += f" Tables without the plans that they name cannot judge {', '.join(missing)}."
    chosen = (
        "Regrets below zero are luck: in these runs the choice did better than what was best on "
        "the other half of the seeds."
    )
    return [
        study.Section("Regret by rule", told, (), (_regrets(judgement),)),
        study.Section("What was chosen where", chosen, (), (_choices(judgement),)),
    ]


def _regrets(judgement: Judgement) -> study.Table:
    rows = [(name, *own) for name, own in judgement.summary.items()]
    return study.Table("regrets", "Regret by rule", COLUMNS, rows, POINTS)


def _choices(judgement: Judgement) -> study.Table:
    grid = judgement.grid
    best = [grid.plans[row.argmax()] for row in grid.means]
    rows = []
    for number, scenario in enumerate(grid.scenarios):
        row: list = [*scenario]
        for name in (ADVICE, BEST_FIXED):
            row.append(grid.plans[judgement.shares[name][number].argmax()])
            row.append(float(judgement.regrets[name][number]))
        rows.append((*row, best[number]))
    columns = ("task", "base", "budget", ADVICE, "regret", BEST_FIXED, "its regret",
               "best in these runs")  # fmt: skip
    points = {"regret": "points", "its regret": "points"}
    return study.Table("choices", "Choices where the task was left out", columns, rows, points)


def _verdicts(judgement: Judgement) -> Sequence[str]:
    return [said(judgement, rule) for rule in (ADVICE, FIRST_RANKED)]


def _covered(judgement: Judgement) -> str:
    scenarios = len(judgement.grid.scenarios)
    told = f"Advice recommends a plan in {judgement.told} of {scenarios} scenarios."
    if not text.there(judgement.covered):
        return f"{told} No gain has an interval: that needs three tasks."
    share = text.percent(judgement.covered)
    return f"{told} {share} of the measured gains lie in their 95 % intervals."
