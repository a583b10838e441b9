"""How a study of one's own images is shown: the answer, what it rests on, and the data."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from tl_jax.advice import judged, rules
from tl_jax.advice.advisor import RECOMMEND
from tl_jax.advice.found import Found, Ran
from tl_jax.advice.judge import said as judgement_said
from tl_jax.advice.plans import CHEAP, in_grid
from tl_jax.advice.stages import MODEL
from tl_jax.report import figures, study, text
from tl_jax.runs.results import provenance
from tl_jax.runs.subject import named_task, task_name
from tl_jax.stats.paired import Estimate, corrected, overlap_of_rows, paired
from tl_jax.stats.verdict import CANNOT_TELL, LEAST_PAIRS, verdicts
from tl_jax.studies.audit import page as audit_page
from tl_jax.studies.layer_probes import page as layers_page

WORDS: Mapping[str, str] = {
    "pixels_svm": "an SVM on raw pixels: no transfer",
    "cnn_svm": "a linear SVM on the base's features",
    "logistic": "logistic regression on the base's features",
    "class_means": "the nearest class mean of the base's features",
    "head2toe": "logistic regression on chosen features of all layers",
    "head_only": "a new head, trained on the frozen base",
    "top": "a new head, then the upper 70 % of the layers fine-tuned",
    "full": "a new head, then all layers fine-tuned",
    "from_scratch": "all layers from fresh weights: no transfer",
}


def said(found: Found) -> str:
    """Return the answer in a few lines."""
    return "\n".join([*_answer(found), *_why(found)])


def write(workdir: pathlib.Path, found: Found) -> pathlib.Path:
    """Write the page, its tables and its figures; return the page."""
    task = named_task(found.subject.task, found.look["config"]["seed"])
    name = task_name(found.subject.task)
    sections = [*_runs(found), _advice(found), _bases(found), layers_page.depth(found.layers)]
    return study.write(
        workdir,
        title=f"What to do with {name}?",
        lead="\n\n".join(_answer(found)),
        sections=[*sections, *audit_page.sections(found.look, task)],
        facts={
            "task": f"{name}, {len(task.ids):,} images, {len(task.classes):,} classes",
            "labels": f"{len(task.splits['train']):,} to learn from, {len(task.splits['val']):,} "
            f"to choose by, {len(task.splits['test']):,} to test",
            "bases": ", ".join(found.subject.effort.bases),
            "input": f"{found.subject.effort.size} pixels",
            "model": f"python -m experiments.predict --run={workdir / MODEL} photo.png"
            if found.model
            else "none was kept",
        },
        result=provenance("study"),
    )


def _answer(found: Found) -> list[str]:
    """What to do, how sure that is, and what was kept; a sentence or two each."""
    told = _best(found.base, found.ran) if found.ran else [_advised(found)]
    if found.ran and found.model:
        accuracy = text.percent(found.model["test"]["weighted_accuracy"])
        plan, _ = found.ran.kept()
        told.append(
            f"The network in the folder {MODEL} is of {plan}, of the plans that train one the best "
            f"on validation. It was trained on the first split and has {accuracy} on its test."
        )
    return told


def _best(base: str, ran: Ran) -> list[str]:
    """Sentences on the plan that is best on validation, and on the others beside it."""
    best, *others = ran.plans
    splits = len(ran.of_plan(best))
    told = [
        f"Take {base}, and {WORDS[best]} ({best}): {_interval(ran.test(best))} on test, the mean "
        f"of {splits} splits, and the best of {len(ran.plans)} plans on validation."
    ]
    for verdict, words in (("hurts", "It is better than"), ("helps", "On test it is worse than")):
        if names := [plan for plan in others if _verdict(ran, plan) == verdict]:
            told.append(f"{words} {_beside(ran, names)}.")
    if open_ := [plan for plan in others if _verdict(ran, plan) == CANNOT_TELL]:
        few = "" if splits >= LEAST_PAIRS else f" (a verdict takes {LEAST_PAIRS})"
        told.append(f"{splits} splits cannot tell it from {_beside(ran, open_)}{few}.")
    if ran.failed:
        told.append(f"Runs failed of {', '.join(ran.failed)}: the same command tries them again.")
    return told


def _verdict(ran: Ran, plan: str) -> str | None:
    return ran.verdicts[plan]["verdict"] if plan in ran.verdicts else None


def _beside(ran: Ran, plans: Sequence[str]) -> str:
    """The plans, each with its test accuracy less that of the best."""
    words = [f"{plan} ({100 * ran.verdicts[plan]['difference']:+.1f} points)" for plan in plans]
    return ", ".join(words)


def _advised(found: Found) -> str:
    """A sentence on what advice recommends, where nothing was run."""
    advice, known = found.known.advice, found.known
    if advice is None:
        plans = dict.fromkeys(own.plan for own in known.lectures if own.plan)
        return (
            "There is no table of scenarios to learn from, so only the lectures' rules are left. "
            f"They name {', '.join(plans)}: --settle runs them."
        )
    taken = f"{advice.choice} from {found.base}: {WORDS[advice.choice]}"
    if advice.verdict == RECOMMEND:
        return f"Recommended is {taken}."
    runs = ", ".join(advice.settle[1:])
    return (
        f"Take {taken}, which is best on validation of the plans that cost little. Advice cannot "
        f"tell whether another is better: runs of {runs} would settle it (--settle)."
    )


def _why(found: Found) -> list[str]:
    """What the terminal shows below the answer."""
    known = found.known
    lines = [
        "",
        *audit_page.summary(found.look).splitlines(),
        "",
        _base(found),
        _cut(found),
        _kind(found),
    ]
    lines += [f"{own.name}: {own.words} ({own.plan or 'names no plan'})" for own in known.lectures]
    if known.advice:
        lines += ["", judged.advised(known.scenario, known.advice)]
    return [*lines, *_judgement(found)]


def _kind(found: Found) -> str:
    """Where the task stands in the lectures' tables, and why."""
    known = found.known
    size = "small" if known.small else "large"
    alike = "similar to" if known.similar else "different from"
    features, pixels = (
        text.percent(_mean(found, found.base, plan, "val").mean)
        for plan in (rules.FEATURES, rules.PIXELS)
    )
    return (
        f"By the lectures' tables the task is {size} (they give no number; here, small is below "
        f"{rules.SMALL} training examples a class) and {alike} what {found.base} was trained on (a "
        f"probe has {features} on its features and {pixels} on pixels, on validation)."
    )


def _judgement(found: Found) -> list[str]:
    """Sentences on how good advice was on the tasks that it learnt from."""
    judgement = found.known.judgement
    if judgement is None:
        return ["Advice was not judged: that takes tables of two tasks or more."]
    return [judgement_said(judgement, rule) for rule in (rules.ADVICE, rules.FIRST_RANKED)]


def _runs(found: Found) -> list[study.Section]:
    if found.ran is None:
        return []
    ran, rows, series = found.ran, [], {}
    for plan in ran.plans:
        test, own = ran.test(plan), ran.of_plan(plan)
        seconds = float(np.mean([row["seconds"] for row in own]))
        val = float(np.mean([row["val"] for row in own]))
        rows.append((plan, WORDS[plan], val, test.mean, *_ends(test), len(own), seconds))
        series[plan] = [(test.mean, test.half if text.there(test.half) else 0.0)]
    columns = ("plan", "what it does", "validation", "test", "low", "high", "splits", "seconds")
    percents = dict.fromkeys(columns[2:6], "%")
    picture = figures.by_plan([found.base], series, reference=ran.plans[0], label="test accuracy")
    words = (
        "Every plan has the same splits and labels. Accuracies are weighted where examples have "
        "weights. Intervals are 95 %, and allow "
        "for splits that overlap (Nadeau & Bengio 2003). The plan was chosen by validation: its "
        "test accuracy is that of plans chosen so."
    )
    return [
        study.Section(
            "What was run",
            words,
            (study.Picture("runs", "Accuracy on test by plan", picture),),
            (study.Table("runs", "Runs", columns, rows, percents),),
        )
    ]


def _advice(found: Found) -> study.Section:
    known = found.known
    lectures = [(own.name, own.words, own.plan or "none") for own in known.lectures]
    tables = [study.Table("lectures", "Lectures", ("lecture", "its words", "plan"), lectures)]
    if known.advice:
        gains = [
            (one.plan, WORDS[one.plan], one.gain.mean, one.gain.low, one.gain.high)
            for one in known.advice.ranked
        ]
        columns = ("plan", "what it does", "gain", "low", "high")
        points = dict.fromkeys(columns[2:], "points")
        caption = f"Expected gain over {known.advice.reference}, the best cheap plan on validation"
        tables.append(study.Table("advice", caption, columns, gains, points))
    words = [_kind(found), *_judgement(found)]
    if known.advice:
        tasks = known.advice.ranked[0].gain.count
        words.append(
            f"Tasks that the expected gains rest on: {tasks}. The more alike a task is in the "
            "number of labels and in what the cheap plans reach, the more it counts."
        )
    return study.Section("What to expect, before any run", "\n\n".join(words), (), tuple(tables))


def _bases(found: Found) -> study.Section:
    rows = []
    for base in found.subject.effort.bases:
        for plan in CHEAP:
            test = _mean(found, base, plan, "test_weighted")
            val = _mean(found, base, plan, "val").mean
            rows.append((base, plan, WORDS[plan], val, test.mean, *_ends(test)))
    columns = ("base", "plan", "what it does", "validation", "test", "low", "high")
    words = f"Plans that train no network. {_base(found)}\n\n{_cut(found)}"
    table = study.Table("bases", "Bases", columns, rows, dict.fromkeys(columns[3:], "%"))
    return study.Section("Which base", words, (), (table,))


def _base(found: Found) -> str:
    """A sentence on the base that is chosen, and how sure that is."""
    told = f"The base is chosen by logistic regression on validation: {found.base}"
    others = [base for base in found.subject.effort.bases if base != found.base]
    if not others:
        return f"{told}, the only one."
    val = {
        base: {row["seed"]: row["val"] for row in _rows(found, base, rules.FEATURES)}
        for base in found.subject.effort.bases
    }
    ratio = overlap_of_rows(found.landmarks["rows"])
    over = [paired(val[found.base], val[other], ratio=ratio) for other in others]
    sure = {"helps": "better than", CANNOT_TELL: "not told from"}
    beside = [
        f"{sure[word]} {other} ({100 * one.mean:+.1f} points)"
        for other, one, word in zip(others, over, verdicts(over, margin=0.0), strict=True)
    ]
    return f"{told}, {', '.join(beside)}."


def _cut(found: Found) -> str:
    """A sentence on the layer at which the base is cut."""
    cut, gain = found.cut, found.cut.gain
    bottleneck = list(found.layers["layers"])[-1]
    if cut.layer == bottleneck:
        return f"Cut: {bottleneck}, the bottleneck, where a probe is best on validation."
    told = f"{100 * gain.mean:+.1f} points on validation, 95 % interval "
    told += f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}"
    if cut.told:
        return f"Cut: {cut.layer}, where a probe is better than at the bottleneck ({told})."
    return (
        f"Cut: {bottleneck}, the bottleneck. A probe is best at {cut.layer}, but {gain.count} "
        f"splits cannot tell it from the bottleneck ({told}, before correction for all layers)."
    )


def _mean(found: Found, base: str, plan: str, column: str) -> Estimate:
    rows = _rows(found, base, plan)
    return corrected([row[column] for row in rows], ratio=overlap_of_rows(rows))


def _rows(found: Found, base: str, plan: str) -> list[dict]:
    cell = in_grid(base), plan
    return [row for row in found.landmarks["rows"] if (row["base"], row["plan"]) == cell]


def _ends(estimate: Estimate) -> tuple[float | None, float | None]:
    if not text.there(estimate.half):
        return None, None
    return max(estimate.low, 0.0), min(estimate.high, 1.0)


def _interval(estimate: Estimate) -> str:
    low, high = _ends(estimate)
    if low is None or high is None:
        return text.percent(estimate.mean)
    return f"{text.percent(estimate.mean)} (95 % interval {100 * low:.1f} to {100 * high:.1f})"
